"""Methods side by side: complete runs are not repeated, mistakes come before anything is run."""

import json
import subprocess
import sys

import pytest
import reports
import toy
from conftest import ROOT

from ltjax.compare import sweep
from ltjax.errors import UserError
from ltjax.run.console import own_console
from ltjax.run.divergence import Diverged

CONFIG = dict(
    network={"name": "tiny"},
    augment={"name": "none"},
    schedule={"name": "step", "lr": 0.05},
    num_experts=2,
    batch_size=16,
    num_epochs=2.0,
)


def compare(folder, methods, seeds=(0,), **changes):
    return sweep.compare(CONFIG | changes, methods, list(seeds), str(folder), toy.splits())


def finished(folder, variant, seed=0, **changes):
    """A run of a comparison in a folder, made by hand."""
    made = reports.report(variant, seed, config=CONFIG | changes)
    return reports.save(folder / f"{variant.replace(':', '-x')}-{seed}", made)


def written(folder):
    """When each file below a folder was written, but for the products of a comparison."""
    runs = [path for path in folder.rglob("*") if "comparison." not in path.name]
    return {path: path.stat().st_mtime_ns for path in runs if path.is_file()}


def test_methods_are_run_over_seeds_and_tabulated(tmp_path, capsys):
    rows = compare(tmp_path, ["drw"], [0, 1])
    assert [row["method"] for row in rows] == ["drw"]
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["drw-0", "drw-1"]
    page = (tmp_path / "comparison.md").read_text()
    runs = [json.loads((tmp_path / name / "report.json").read_text()) for name in folders]
    found = [run["splits"]["test"]["average"]["accuracy"] for run in runs]
    assert rows[0]["test"]["accuracy"] == found
    assert f"| {100 * sum(found) / 2:.2f} ±" in page
    held = json.loads((tmp_path / "comparison.json").read_text())
    assert held == {"format": 1, "rows": rows, "against_best": []} and runs[0]["format"] == 1

    before = written(tmp_path)
    (tmp_path / "comparison.json").write_text("not read back")
    assert compare(tmp_path, ["drw"], [1, 0]) == rows
    assert written(tmp_path) == before  # nothing was trained again
    assert json.loads((tmp_path / "comparison.json").read_text()) == held

    (tmp_path / "drw-1" / "report.json").unlink()  # the remedy for one that is damaged
    assert compare(tmp_path, ["drw"], [0, 1])[0]["test"] == rows[0]["test"]
    assert "Resuming from" in capsys.readouterr().out


@pytest.mark.slow
def test_variants_have_experts_and_options_of_their_own(tmp_path):
    name = "focal+loss.gamma=2+sampler.name=power+sampler.q=0.5:1"
    one, two = compare(tmp_path, ["focal", name])
    assert (one["method"], two["method"]) == (name, "focal")  # in the order of folders
    assert (two["num_experts"], one["num_experts"]) == (2, 1)
    report = json.loads((tmp_path / "focal-0" / "report.json").read_text())
    assert two["disagreement"] == [report["splits"]["test"]["disagreement"][0][1]]
    assert one["disagreement"] == [None]
    assert two["parameters"] == 2 * one["parameters"]
    assert two["config"]["loss"] == {"name": "focal"}
    assert one["config"]["loss"] == {"name": "focal", "gamma": 2}
    assert one["config"]["sampler"] == {"name": "power", "q": 0.5}
    assert one["config"]["method"] == {"name": "focal"}
    page = (tmp_path / "comparison.md").read_text()
    assert "Experts: 2, or as after the colon" in page
    report = (tmp_path / f"{name.replace(':', '-x')}-0" / "report.md").read_text()
    assert "focal (loss.gamma=2, sampler.name=power, sampler.q=0.5), one expert, tiny" in report


@pytest.mark.parametrize(
    "methods, seeds, change, words",
    [
        (["classifier", "ldm"], [0], {}, ["--compare is 'ldm'", "did you mean 'ldam'"]),
        (["classifier"], [0, 0], {}, ["--seeds is [0, 0]", "different"]),
        (["classifier"], [0, 2**32], {}, ["config.seed is 4294967296"]),
        (["drw", "drw"], [0], {}, ["--compare is drw,drw", "once"]),
        (["drw", "drw:2"], [0], {}, ["names drw and drw:2, which are the same"]),
        ([""], [0], {}, ["--compare names no method", "classifier,ride"]),
        (["lfme"], [0], {"schedule": {"name": "step"}}, ["config.schedule.lr is missing"]),
        (["drw:0"], [0], {}, ["--compare is 'drw:0'", "drw:3"]),
        (["focal+loss.gamma"], [0], {}, ["'focal+loss.gamma'", "focal+loss.gamma=1.0"]),
        (["focal", ""], [0], {}, ["--compare names no method"]),
        (["focal+loss.gamma=1e+3+loss.gamma=2"], [0], {}, ["which sets loss.gamma twice"]),
        (["focal+loss.gamma={[]}"], [0], {}, ["config.loss.gamma is '{[]}'", "a number"]),
        (["focal+loss.gamma=a/b"], [0], {}, ["names a folder", "no slash"]),
        (["focal+loss.gamma=" + 200 * "1"], [0], {}, ["at most 200 characters"]),
        (["focal+gamma=2"], [0], {}, ["as in focal+loss.gamma=1.0, not by 'gamma=2'"]),
        (["ride+method.name=bbn"], [0], {}, ["not by method.name"]),
        (["drw+network.name=toy"], [0], {}, ["not by network.name", "--config."]),
        (["drw+method.rout=1"], [0], {}, ["config.method.rout"]),
        (["focal+loss.gamma=-2"], [0], {}, ["config.loss.gamma is -2"]),
        (["drw:few"], [0], {}, ["--compare is 'drw:few'", "drw:3"]),
        (
            ["classifier", "ldam"],
            [0],
            {"loss": {"name": "focal"}},
            ["'ldam' sets config.loss.name='ldam'", "'focal'"],
        ),
        (
            ["classifier", "cam"],
            [0],
            {"schedule": {"name": "cosine", "lr": 0.05}},
            ["config.schedule.name is 'cosine'"],
        ),
    ],
)
def test_mistakes_are_said_before_anything_is_run(methods, seeds, change, words, tmp_path):
    with pytest.raises(UserError) as caught:
        compare(tmp_path / "all", methods, seeds, **change)
    assert all(word in str(caught.value) for word in words)
    assert not (tmp_path / "all").exists()


def test_other_methods_stay_in_the_table_if_they_are_comparable(tmp_path):
    finished(tmp_path, "ldam", log_every_steps=1)
    finished(tmp_path, "focal:3")
    (tmp_path / "notes").mkdir()
    rows = compare(tmp_path, ["drw"])
    assert [row["method"] for row in rows] == ["drw", "focal:3", "ldam"]
    assert "| ldam " in (tmp_path / "comparison.md").read_text()
    # a folder is what it holds: a run that is added is added, one that is gone is gone
    finished(tmp_path, "bbn")
    for path in (tmp_path / "ldam-0").iterdir():
        path.unlink()
    assert [row["method"] for row in compare(tmp_path, ["drw"])] == ["bbn", "drw", "focal:3"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"num_epochs": 3.0}, r"drw, ldam:1 with another .*num_epochs was 2.0, is 3.0\). Restore"),
        ({"num_experts": 1}, r"compares drw with another config \(num_experts was 2, is 1\)"),
        (
            {"sampler": {"name": "class_aware"}},
            "sampler.name was instance_balanced, is class_aware",
        ),
        ({"data": {"validation": 0.2}}, "data.validation was 0.0, is 0.2"),
        ({"loss": {"name": "focal"}}, "loss.name was ldam, is focal"),
    ],
)
def test_runs_of_another_config_are_refused(change, words, tmp_path):
    finished(tmp_path, "drw")
    finished(tmp_path, "ldam:1")
    before = written(tmp_path)
    with pytest.raises(UserError, match=words):
        compare(tmp_path, ["classifier"], **change)
    with pytest.raises(UserError, match=f"{words}|loss.name was cross_entropy, is focal"):
        compare(tmp_path, ["drw"], **change)  # its own run, before another is made
    assert written(tmp_path) == before


def test_runs_of_other_seeds_are_refused(tmp_path):
    for seed in (0, 1):
        finished(tmp_path, "drw", seed)
    with pytest.raises(
        UserError, match=r"compares drw over seeds \[0, 1\], not \[0\]. Add the missing"
    ):
        compare(tmp_path, ["drw"])
    with pytest.raises(UserError, match=r"compares drw over seeds \[0, 1\], not \[1, 2\]"):
        compare(tmp_path, ["focal"], [1, 2])
    with pytest.raises(UserError, match=r"not \[0, 1, 2\]. Add drw to --compare, or"):
        compare(tmp_path, ["focal"], [0, 1, 2])
    with pytest.raises(UserError, match="holds a single run"):
        compare(tmp_path / "drw-0", ["focal"])


def test_what_is_not_finished_is_left_out_and_said(tmp_path, capsys):
    finished(tmp_path, "ldam")
    (tmp_path / "ldam-1").mkdir()
    (tmp_path / "ldam-1" / "config.json").write_text("{}")
    finished(tmp_path, "drw", 0)
    finished(tmp_path, "drw", 1)
    rows = compare(tmp_path, ["drw"], [0, 1])
    assert [row["method"] for row in rows] == ["drw"]
    assert "ldam is left out: some of its runs are not finished" in capsys.readouterr().out


def test_a_damaged_report_is_said_before_anything_is_run(tmp_path):
    finished(tmp_path, "drw")
    (tmp_path / "drw-0" / "report.json").write_text('{"format": 1')
    for method in ("drw", "ldam"):
        with pytest.raises(UserError, match=r"drw-0/report.json is damaged: .* Delete this file"):
            compare(tmp_path, [method])
    assert not (tmp_path / "ldam-0").exists()


def test_the_default_folder_belongs_to_the_config():
    first = sweep.default_folder(CONFIG | {"seed": 0})
    assert str(first).startswith("runs/digits-comparison-")
    assert first == sweep.default_folder(CONFIG | {"seed": 1, "log_every_steps": 7})
    assert first != sweep.default_folder(CONFIG | {"num_epochs": 3.0})


def test_where_everything_diverges_that_is_said(tmp_path, capsys):
    diverging = {"schedule": {"name": "step", "lr": 1e30}, "log_every_steps": 1}
    with pytest.raises(Diverged, match="All of drw diverged; there is nothing to tabulate"):
        compare(tmp_path, ["drw"], **diverging)
    assert "drw is left out: " in capsys.readouterr().out
    finished(tmp_path, "balanced_softmax", **diverging)
    with pytest.raises(Diverged, match="All of drw diverged; the table is unchanged"):
        compare(tmp_path, ["drw"], **diverging)
    assert not (tmp_path / "comparison.json").exists()


def test_of_all_methods_those_that_do_not_go_with_the_config_are_left_out(capsys):
    config = CONFIG | {"schedule": {"name": "cosine", "lr": 0.05}}
    found = sweep.that_can_run(config, ["all"], toy.info(), own_console())
    assert {"classifier", "drw", "ride"} < set(found) and "cam" not in found
    said = " ".join(capsys.readouterr().out.split())
    assert "cam is left out: config.schedule.name is 'cosine'" in said


def test_seeds_without_a_comparison_are_refused():
    config = ROOT / "configs" / "digits.py"
    command = [sys.executable, "-m", "ltjax.main", "--config", str(config), "--seeds=0,1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--seeds requires --compare" in done.stderr
