"""Rows of reports that are made by hand."""

import json

import pytest
from reports import CIFAR, report, save

from ltjax.compare import rows
from ltjax.compare.rows import Run
from ltjax.errors import UserError
from ltjax.run.files import load_report


def runs(*reports):
    return [Run(None, one) for one in reports]


def test_a_row_has_one_value_a_seed():
    first, second = report("classifier:3", 4, 0.5), report("classifier:3", 0, 0.25)
    (row,) = rows.rows([("classifier:3", run) for run in runs(first, second)])
    assert row["seeds"] == [0, 4] and row["num_experts"] == 3
    assert row["test"]["accuracy"] == [0.25, 0.5]
    assert "few" not in row["test"]  # there is no such class
    assert row["mean_expert"] == pytest.approx([0.23, 0.48])
    assert row["disagreement"] == [0.25, 0.25]
    assert row["train_seconds"] == [90.0, 90.0]
    assert "seed" not in row["config"] and row["options"] == {}
    assert json.loads(json.dumps(row)) == row


def test_a_row_has_the_options_that_its_method_does_not_mean():
    (row,) = rows.rows([("x", *runs(report("drw+mixing.name=remix")))])
    assert row["options"] == {"mixing.name": "remix"}
    assert row["disagreement"] == [None]


def test_what_all_rows_have_is_told_from_what_one_has():
    config = CIFAR | {"mixing": {"name": "mixup"}}
    names = ["mixup", "drw", "focal+loss.gamma=1.0"]
    found = rows.rows([(name, *runs(report(name, config=config))) for name in names])
    assert rows.in_common(found) == {"mixing.name": "mixup"}
    assert rows.in_common(found[2:]) == {"mixing.name": "mixup"}


def test_a_comparison_is_the_run_folders_below_it(tmp_path):
    for name, variant, seed in (("b-0", "bbn", 0), ("drw-x3-1", "drw:3", 1), ("drw-2", "drw", 2)):
        save(tmp_path / name, report(variant, seed))
    save(tmp_path / "copy of drw", report("drw", 2))
    (tmp_path / "drw-3").mkdir()
    (tmp_path / "drw-3" / "config.json").write_text("{}")
    found = [(name, run.report["config"]["seed"]) for name, run in rows.comparison(tmp_path)]
    assert found == [("b", 0), ("drw", 2), ("drw:3", 1)]


def test_runs_are_found_in_and_below_folders(tmp_path):
    for name in ("a/drw-0", "b/c/focal-1"):
        save(tmp_path / name, report())
    save(tmp_path / "b/c/focal-1/checkpoints", report())  # not a run: in one
    (tmp_path / "b/d").mkdir()
    (tmp_path / "b/d/config.json").write_text("{}")
    found, unfinished = rows.find([tmp_path / "b", tmp_path, tmp_path / "a/drw-0/report.json"])
    assert [run.folder.name for run in found] == ["focal-1", "drw-0"]
    assert [folder.name for folder in unfinished] == ["d"]
    with pytest.raises(UserError, match=r"d: no finished run in or below this folder"):
        rows.find([tmp_path / "b/d"])
    with pytest.raises(UserError, match=r"e: no such folder"):
        rows.find([tmp_path / "e"])


def names(*reports):
    return [name for name, _ in rows.named([Run(folder, one) for folder, one in reports])]


def test_runs_of_one_comparison_have_its_names(tmp_path):
    variants = ["classifier", "classifier:3", "focal+loss.gamma=1.0"]
    found = [
        (tmp_path / f"{name.replace(':', '-x')}-{seed}", report(name, seed))
        for name in variants
        for seed in (0, 1)
    ]
    assert names(*found) == [name for name in variants for _ in (0, 1)]


def test_other_runs_are_named_by_what_differs(tmp_path):
    longer = CIFAR | {"num_epochs": 200.0}
    found = [
        (tmp_path / "a", report("focal", 0)),
        (tmp_path / "b", report("focal", 1)),
        (tmp_path / "c", report("focal+loss.gamma=1.0", 0)),
        (tmp_path / "d", report("focal:3", 0)),
        (tmp_path / "e", report("same_init", 0)),
    ]
    assert names(*found) == [
        "focal:1",
        "focal:1",
        "focal+loss.gamma=1.0:1",
        "focal:3",
        "same_init:1",
    ]
    found = [(tmp_path / "a", report("ldam")), (tmp_path / "b", report("crt", config=longer))]
    assert names(*found) == ["ldam+num_epochs=10.0", "crt+num_epochs=200.0"]
    assert names(found[0]) == ["ldam"]
    # the same names of several comparisons are of different configs
    found = [
        (tmp_path / "x/drw-0", report("drw")),
        (tmp_path / "y/drw-0", report("drw", config=longer)),
    ]
    assert names(*found) == ["drw+num_epochs=10.0", "drw+num_epochs=200.0"]


def without(whole, *path):
    """A report that lacks a field."""
    whole = json.loads(json.dumps(whole))
    part = whole
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return json.dumps(whole)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is damaged: it is not JSON. Delete this file and repeat the command of its run"),
        (json.dumps(report())[:-50], "it is not JSON"),
        ("[1]", "the whole is missing or not what it should be"),
        (without(report(), "config", "data", "name"), "config.data.name is missing"),
        (without(report(), "splits", "test", "average", "few"), "splits.test.average.few"),
        (json.dumps(report(splits={"test": {"experts": []}})), "splits.test.average"),
        (json.dumps(report(epochs="ten")), "epochs"),
        (json.dumps(report(format="1")), "format"),
        (json.dumps(report(format=2)), "has format 2; this version of ltjax reads formats up to 1"),
    ],
)
def test_a_damaged_or_later_report_is_refused_in_a_line(text, words, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_report(path)
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_report_of_before_there_was_a_format_is_read(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(without(report(), "format"))
    assert load_report(path) == json.loads(path.read_text())
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it is not JSON"):
        load_report(path)
