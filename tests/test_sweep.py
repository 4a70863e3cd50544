"""Methods side by side: complete runs are not repeated, mistakes come before anything is run."""

import io
import json
import subprocess
import sys

import pytest
import toy
from conftest import ROOT
from rich.console import Console

from ltjax import train
from ltjax.compare import sweep as comparison
from ltjax.compare.tables import machines, notes
from ltjax.config.settings import as_dict, settings_from
from ltjax.data import datasets
from ltjax.errors import UserError
from ltjax.methods import METHODS
from ltjax.report.tables import as_markdown
from ltjax.run.loop import Diverged

CONFIG = dict(
    network={"name": "tiny"},
    schedule={"name": "step", "lr": 0.05},
    num_experts=2,
    batch_size=16,
    num_epochs=2.0,
)


@pytest.fixture(autouse=True)
def toy_data(monkeypatch):
    monkeypatch.setattr(datasets, "prepare", lambda data, tell: None)
    monkeypatch.setattr(datasets, "load", lambda data: toy.splits())


def test_methods_are_run_over_seeds_and_tabulated(tmp_path, monkeypatch, capsys):
    rows = comparison.compare(CONFIG, ["drw"], [0, 1], str(tmp_path))
    assert [row["method"] for row in rows] == ["drw"]
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["drw-0", "drw-1"]
    page = (tmp_path / "comparison.md").read_text()
    for row in rows:
        reports = [
            json.loads((tmp_path / f"{row['method']}-{seed}" / "report.json").read_text())
            for seed in (0, 1)
        ]
        found = [report["splits"]["test"]["average"]["accuracy"] for report in reports]
        assert row["test"]["accuracy"] == found
        assert f"| {100 * sum(found) / 2:.2f} ±" in page
    assert json.loads((tmp_path / "comparison.json").read_text()) == rows
    capsys.readouterr()

    # nothing may be trained again, nor read by a run: the comparison itself reads once
    monkeypatch.setattr("ltjax.train.Loop", None)
    monkeypatch.setattr("ltjax.train.read", None)
    assert comparison.compare(CONFIG, ["drw"], [0, 1], str(tmp_path)) == rows


def test_a_method_may_have_another_number_of_experts(tmp_path):
    first, second = comparison.compare(CONFIG, ["drw", "drw:1"], [0], str(tmp_path))
    assert (first["num_experts"], second["num_experts"]) == (2, 1)
    report = json.loads((tmp_path / "drw-0" / "report.json").read_text())
    assert first["disagreement"] == [report["splits"]["test"]["disagreement"][0][1]]
    assert second["disagreement"] == [None]
    assert first["parameters"] == 2 * second["parameters"]
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert names == ["drw-0", "drw-x1-0"]
    page = (tmp_path / "comparison.md").read_text()
    assert "Experts: 2, or as after the colon" in page and "| drw:1 " in page
    assert "parameters" in page


def test_a_method_may_have_options_of_its_own(tmp_path):
    name = "focal+loss.gamma=2+sampler.name=power+sampler.q=0.5:1"
    rows = comparison.compare(CONFIG, ["focal", name], [0], str(tmp_path))
    assert [row["method"] for row in rows] == ["focal", name]
    configs = [
        json.loads((tmp_path / folder / "config.json").read_text())
        for folder in ("focal-0", f"{name.replace(':', '-x')}-0")
    ]
    assert configs[0]["loss"] == {"name": "focal"} and configs[0]["num_experts"] == 2
    assert configs[1]["loss"] == {"name": "focal", "gamma": 2}
    assert configs[1]["sampler"] == {"name": "power", "q": 0.5}
    assert configs[1]["method"] == {"name": "focal"} and configs[1]["num_experts"] == 1


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
        (["focal+loss.gamma=1e+3+loss.gamma=2"], [0], {}, ["which gives loss.gamma twice"]),
        (["focal+loss.gamma={[]}"], [0], {}, ["config.loss.gamma is '{[]}'", "a number"]),
        (["focal+loss.gamma=a/b"], [0], {}, ["no folder can be made", "no slash"]),
        (["focal+loss.gamma=" + 200 * "1"], [0], {}, ["it has 217 characters and may have 200"]),
        (["focal+gamma=2"], [0], {}, ["as in focal+loss.gamma=1.0, not 'gamma=2'"]),
        (["ride+method.name=bbn"], [0], {}, ["not method.name"]),
        (["drw+network.name=toy"], [0], {}, ["not network.name", "given as --config.network"]),
        (["drw+method.rout=1"], [0], {}, ["config.method.rout"]),
        (["focal+loss.gamma=-2"], [0], {}, ["config.loss.gamma is -2"]),
        (["drw:few"], [0], {}, ["--compare is 'drw:few'", "drw:3"]),
        (
            ["classifier", "ldam"],
            [0],
            {"loss": {"name": "focal"}},
            ["config.loss.name is 'focal'", "'ldam'"],
        ),
    ],
)
def test_mistakes_are_said_before_anything_is_run(methods, seeds, change, words, tmp_path):
    with pytest.raises(UserError) as caught:
        comparison.compare(CONFIG | change, methods, seeds, str(tmp_path / "all"))
    assert all(word in str(caught.value) for word in words)
    assert not (tmp_path / "all").exists()


def test_other_methods_stay_in_the_table_if_they_are_comparable(tmp_path, monkeypatch, capsys):
    first = comparison.compare(CONFIG, ["drw"], [0], str(tmp_path))
    both = comparison.compare(CONFIG | {"log_every_steps": 1}, ["ldam"], [0], str(tmp_path))
    assert both[0] == first[0] and [row["method"] for row in both] == ["drw", "ldam"]
    assert "| drw " in (tmp_path / "comparison.md").read_text()
    capsys.readouterr()
    again = comparison.compare(CONFIG, ["drw"], [0], str(tmp_path))
    assert [row["method"] for row in again] == ["ldam", "drw"]
    said = capsys.readouterr().out
    assert said.count("complete: test accuracy") == 1 and "what averaging changed" not in said
    monkeypatch.setattr("ltjax.train.Loop", None)  # nothing may be trained
    for change, words in (
        ({"num_epochs": 3.0}, r"num_epochs was 2.0, is 3.0\). Undo that"),
        ({"num_experts": 1}, "num_experts was 2, is 1"),
        (
            {"sampler": {"name": "class_aware"}},
            "sampler.name was instance_balanced, is class_aware",
        ),
        ({"data": {"validation": 0.2}}, "data.validation was 0.0, is 0.2"),
    ):
        with pytest.raises(UserError, match=f"compares ldam, drw by another config .*{words}"):
            comparison.compare(CONFIG | change, ["focal"], [0], str(tmp_path))
    with pytest.raises(UserError, match=r"compares ldam, drw over seeds \[0\], not \[1\]"):
        comparison.compare(CONFIG, ["focal"], [1], str(tmp_path))
    with pytest.raises(UserError, match="holds a single run"):
        comparison.compare(CONFIG, ["focal"], [0], str(tmp_path / "drw-0"))


def test_rows_that_another_process_adds_meanwhile_are_kept(tmp_path, monkeypatch):
    def and_another_adds(config, workdir, brief):
        monkeypatch.setattr(comparison, "run", train.run)
        comparison.compare(CONFIG, ["ldam"], [0], str(tmp_path))
        return train.run(config, workdir)

    monkeypatch.setattr(comparison, "run", and_another_adds)
    rows = comparison.compare(CONFIG, ["drw"], [0], str(tmp_path))
    assert [row["method"] for row in rows] == ["ldam", "drw"]


def test_options_and_what_is_measured_are_said_below_the_table():
    def row(method, options=(), adapted=False, measures=({},)):
        base = as_dict(settings_from(CONFIG | {"mixing": {"name": "mixup"}}))
        own = {"mixing.name": "mixup", **dict(options)}
        more = {"adapted": adapted, "measures": measures, "multiply_adds": 8_000_000}
        return {"method": method, "base": base, "options": own, **more}

    found = notes(
        [
            row("sade", {"method.aggregate": True}, adapted=True),
            row("sade+method.aggregate=True", {"method.aggregate": True}),
            row("focal", {"mixing.name": "remix"}),
            row("ldam"),
            row(
                "ride:2",
                measures=[
                    {"heads_used": [2.5, 2.7], "multiply_adds_used": [1e6, 2e6]},
                    {"heads_used": [2.6, 2.6], "multiply_adds_used": [2e6, 3e6]},
                ],
            ),
            row("tau_norm", measures=[{"tau": [0.7, 0.5]}]),
        ]
    )
    assert found == [
        "sade: method.aggregate=True; adapted to the test images without their labels.",
        "focal: mixing.name=remix.",
        "ride:2: heads used 2.6; multiply-adds used 4,000,000 (50.0 % of all).",
        "tau_norm: tau 0.6.",
    ]


def test_the_page_says_what_all_have_in_common(tmp_path):
    config = CONFIG | {"mixing": {"name": "mixup"}, "data": {"validation": 0.2}}
    comparison.compare(config, ["drw:1"], [3], str(tmp_path))
    page = (tmp_path / "comparison.md").read_text()
    assert "# Methods compared on digits, exp, imbalance factor 1, selection seed 0\n" in page
    assert "20 % of the training images held out. For all: mixing.name=mixup.\n" in page
    assert "seeds: 3." in page and "fewer than 20 training images" in page
    report = (tmp_path / "drw-x1-3" / "report.md").read_text()
    assert "drw (mixing.name=mixup), one expert, tiny, seed 3\n" in report
    assert "\n- mixing: mixup\n" in report and "- re-weighting: effective_number (" in report


def test_the_default_folder_belongs_to_the_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "run", lambda config, workdir, brief: folders.append(workdir))
    monkeypatch.setattr(comparison, "summary", lambda *_: {"method": "x"})
    for shown in ("page", "table", "notes"):
        monkeypatch.setattr(comparison, shown, lambda rows: "shown")
    monkeypatch.setattr(comparison, "_earlier", lambda *_: [])
    monkeypatch.setattr(comparison.rundir, "save_json", lambda *_: None)
    monkeypatch.setattr(comparison.rundir, "write", lambda *_: None)
    folders = []
    for change, seeds in (({}, [0]), ({}, [1]), ({"num_epochs": 3.0}, [0])):
        comparison.compare(CONFIG | change, ["drw"], seeds)
    first, second, other = (folder.rpartition("/")[0] for folder in folders)
    assert first == second != other and first.startswith("runs/digits-comparison-")


def test_where_everything_diverges_that_is_said(tmp_path, monkeypatch):
    def diverges(config, workdir, brief):
        raise Diverged("the loss of expert 1 is not finite")

    monkeypatch.setattr(comparison, "run", diverges)
    with pytest.raises(Diverged, match=r"All of drw, ldam diverged; there is nothing"):
        comparison.compare(CONFIG, ["drw", "ldam"], [0], str(tmp_path))


def test_what_does_not_go_with_the_config_is_left_out_of_all_and_refused_by_name(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("ltjax.train.Loop", None)  # nothing may be trained
    config = CONFIG | {"schedule": {"name": "cosine", "lr": 0.05}}
    with pytest.raises(UserError, match=r"config.schedule.name is 'cosine'"):
        comparison.compare(config, ["classifier", "cam"], [0], str(tmp_path / "all"))
    assert not (tmp_path / "all").exists()
    some = {name: METHODS[name] for name in ("classifier", "cam", "drw")}
    monkeypatch.setattr(comparison, "METHODS", some)
    monkeypatch.setattr(comparison, "run", lambda config, *_, **__: ran.append(config["method"]))
    monkeypatch.setattr(comparison, "_earlier", lambda *_: [])
    monkeypatch.setattr(comparison, "summary", lambda name, common, reports: {"method": name})
    for shown in ("page", "table", "notes"):
        monkeypatch.setattr(comparison, shown, lambda rows: "shown")
    ran = []
    rows = comparison.compare(config, ["all"], [0], str(tmp_path))
    assert [row["method"] for row in rows] == ["classifier", "drw"]
    assert [method["name"] for method in ran] == ["classifier", "drw"]
    said = " ".join(capsys.readouterr().out.split())
    assert "cam is left out: config.schedule.name is 'cosine'" in said


def test_the_table_fits_80_columns_whole():
    longest = max(METHODS, key=len)
    row = {
        "method": longest,
        "test": {name: [1.0, 0.9] for name in comparison.COLUMNS},
        "mean_expert": [1.0, 1.0],
        "parameters": 470_000,
        "multiply_adds": 12_345_678_901,
        "epochs": 420.0,
        "train_seconds": [60_000.0],
    }

    def shown(row):
        console = Console(file=io.StringIO(), width=80)
        console.print(comparison.table([row]))
        return console.file.getvalue()

    text = shown(row)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert (
        "parameters" not in text
        and longest in text
        and "95.00 ± 7.07" in text
        and "1,000" in text
        and "12.3G" in text
    )

    named = row | {"method": "ride+method.distill=True+method.teacher_heads=6+loss.name=ldam:3"}
    text = shown(named)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text and "95.00 ± 7.07" in text
    (line,) = as_markdown(comparison.table([named], narrow=False)).splitlines()[2:]
    assert named["method"] in line  # in Markdown the rest of a name would be a row


def test_machines_and_versions_are_those_of_each_row():
    rows = [
        {"method": name, "device": device, "versions": {"jax": version}}
        for name, device, version in (("a", "CPU", "1"), ("b", "CPU", "2"), ("c", "CPU", "1"))
    ]
    assert machines(rows[:1]) == ["CPU; jax 1."]
    assert machines(rows) == ["a, c: CPU; jax 1.", "b: CPU; jax 2."]


def test_seeds_without_a_comparison_are_refused():
    config = ROOT / "configs" / "digits.py"
    command = [sys.executable, "-m", "ltjax.main", "--config", str(config), "--seeds=0,1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--seeds goes with --compare" in done.stderr
