"""No output of the original authors' code goes uncompared without a reason."""

import re

import numpy as np
import pytest
from conftest import ROOT, SHARED
from golden_keys import INPUT, KEYS, OMITTED
from golden_reads import compared_by, patterns_of, said_of


@pytest.fixture(scope="module")
def keys():
    """The keys of each golden file."""
    paths = sorted((SHARED / "golden").glob("*.npz"))
    if not paths:
        pytest.skip("no golden vectors (set LTJAX_SHARED)")
    return {path.stem: np.load(path).files for path in paths}


def test_every_key_is_an_input_or_compared_or_has_a_reason_why_not(keys):
    for name in keys:
        for key in keys[name]:
            said_of(name, key)  # that one pattern matches


def test_every_file_and_pattern_is_of_some_key(keys):
    for file in KEYS:
        assert any(re.fullmatch(file, name) for name in keys), file
    for name in keys:
        for pattern, _ in patterns_of(name):
            assert any(re.fullmatch(pattern, key) for key in keys[name]), (name, pattern)


def test_tests_that_compare_exist_and_reasons_are_given():
    for patterns in KEYS.values():
        for said in patterns:
            if said.startswith(OMITTED):
                assert len(said) > len(OMITTED)
            elif said != INPUT:
                file, test = said.split("::")
                text = (ROOT / "tests" / file).read_text()
                assert f"\ndef {test}(" in text, said


def test_the_page_has_every_file_with_its_tests_and_every_reason(keys):
    page = (ROOT / "docs/golden.md").read_text()
    compared, omitted = (rows_of(page, title) for title in ("What is", "What is not"))
    for name in keys:
        assert len([row for row in compared if name in names_in(row, keys)]) == 1, name
        for _, said in patterns_of(name):
            if said.startswith(OMITTED):
                reasons = [row[-1] for row in omitted if name in names_in(row, keys)]
                assert said.removeprefix(OMITTED) in reasons, (name, said)
    for row in compared:
        tests = set().union(*(compared_by(name) for name in names_in(row, keys)))
        assert set(re.findall(r"`(test_\w+\.py)`", row[3])) == {
            test.split("::")[0] for test in tests
        }
    for row in omitted:
        said = {said for name in names_in(row, keys) for _, said in patterns_of(name)}
        assert OMITTED + row[-1] in said, row


def rows_of(page, title):
    """The cells of each row of the table in a section, without its head."""
    (section,) = re.findall(rf"\n## {title} compared\n(.*?)(?:\n## |\Z)", page, flags=re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names_in(row, keys):
    """The files that the first cell of a row names; * stands for any letters."""
    names = [one.replace("*", ".*") for one in re.findall(r"`([\w*]+)`", row[0])]
    return [name for name in keys if any(re.fullmatch(one, name) for one in names)]
