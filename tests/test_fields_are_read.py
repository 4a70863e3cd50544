"""A field of a config that nothing reads would be accepted and do nothing."""

import ast

import pytest
from conftest import ROOT

from ltjax.config.settings import all_fields
from ltjax.recipes import TABLES


def owner(node):
    """What an attribute is of: "settings" in settings.seed, and in run.settings.seed."""
    return getattr(node.value, "attr", getattr(node.value, "id", ""))


READ = {
    (owner(node), node.attr)
    for path in (ROOT / "ltjax").rglob("*.py")
    if path.name != "settings.py"
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
}
# What a group is called where it is read, beside its own name.
CALLED = {"share": {"share", "what"}}


FIELDS = [field.rpartition(".") for field, _ in all_fields() if field.split(".")[0] not in TABLES]


@pytest.mark.parametrize("group, name", [(group, name) for group, _, name in FIELDS])
def test_a_field_is_read(group, name):
    of = CALLED.get(group, {group} if group else {"settings"})
    assert any((owner, name) in READ for owner in of)


@pytest.mark.parametrize("group", TABLES)
def test_a_choice_is_read(group):
    assert ("settings", group) in READ
