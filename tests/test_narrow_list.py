"""The list of choices on consoles of any width."""

import io

import pytest
from rich.console import Console

from ltjax import catalogue


@pytest.mark.parametrize("width", [100, 70, 40, 30])
def test_the_list_has_every_name_and_number_whole(width):
    page = Console(file=io.StringIO(), width=width)
    for table in catalogue.tables():
        page.print(table)
    text = page.file.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    words = set(text.split())
    for _, name, about in catalogue.rows():
        assert name in words
        assert {word for word in about.split() if len(word) <= 25} <= words
