"""Measured numbers in documents come from files of results, and none is typed by hand."""

import json
import re

import pytest
from conftest import ROOT
from reports import CIFAR, report

from ltjax.compare import measured, quoted
from ltjax.compare.rows import Run, as_file, rows
from ltjax.errors import UserError

PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Their tables are of seconds, bytes, or errors of rounding.
OF_OTHER_THINGS = ("speed", "reliability", "augmentation", "independence", "security")


def tables(text):
    """The tables of a page outside the blocks that files are the source of."""
    outside = re.sub(r"<!-- (measured|published):.*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
    return re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_have_the_numbers_of_the_results(page):
    text = page.read_text()
    # python -m ltjax.compare.measured README.md docs/*.md results/README.md renews them
    assert measured.renewed(text, page) == text
    if page.stem in OF_OTHER_THINGS:
        return
    for table in tables(text):
        cells = [cell.strip(" *") for cell in table.split("|")]
        accuracies = [one for one in cells if re.fullmatch(r"\d\d\.\d+( ± \d+\.\d+)?", one)]
        assert len(accuracies) < 3, f"{page.name} has a table typed by hand:\n{table}"


def test_a_block_is_renewed_and_the_rest_is_not(tmp_path):
    runs = [Run(None, report("drw:2", seed, accuracy)) for seed, accuracy in ((0, 0.5), (1, 0.6))]
    found = rows([("drw:2", run) for run in runs] + [("bbn", Run(None, report("bbn")))])
    (tmp_path / "found.json").write_text(json.dumps(as_file(found)))
    block = "<!-- measured: found.json; {} -->\nold 12.3\n<!-- end of measured -->\n"
    page = tmp_path / "page.md"
    page.write_text("a\n" + block.format("accuracy, gain, few, seeds; drw:2 as two of DRW"))
    assert measured.main([str(page)]) == 0
    text = page.read_text()
    assert "| | average | gain | few | seeds |\n|---|---|---|---|---|\n" in text
    assert "| two of DRW | 55.00 ± 7.07 | 1.00 ± 0.00 | none | 2 |" in text and "12.3" not in text
    assert measured.renewed(text, page) == text and text.startswith("a\n")
    every = measured.renewed(block.format("epochs"), page)
    assert "| `drw:2` | 10 |" in every and "| `bbn` | 10 |" in every
    for wrong, words in (
        ("accurracy", "no column 'accurracy'; there are"),
        ("accuracy; cam", "no row 'cam'; there are drw:2, bbn"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            measured.renewed(block.format(wrong), page)
    with pytest.raises(UserError, match="no such file other.json"):
        measured.renewed(block.format("accuracy").replace("found", "other"), page)
    assert measured.main([str(tmp_path / "none.md")]) == quoted.main([str(tmp_path / "no.md")]) == 2


def test_a_column_for_everything_a_row_has():
    (row,) = rows([("drw:2", Run(None, report("drw:2", config=CIFAR)))])
    assert all(isinstance(cell(row), str) for _, cell in measured.COLUMNS.values())
