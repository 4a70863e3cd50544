"""What is shown of rows that are made by hand, and the command that shows them."""

import io
import json
import subprocess
import sys

import pytest
from conftest import ROOT
from reports import CIFAR, report, save
from rich.console import Console

from ltjax.compare import __main__ as command
from ltjax.compare.rows import COLUMNS, Run, rows
from ltjax.compare.tables import machines, notes, page, table
from ltjax.methods import METHODS
from ltjax.report.tables import as_markdown


def row(name, config=CIFAR, method=None, **changes):
    (found,) = rows([(method or name, Run(None, report(name, config=config)))])
    return found | changes


def shown(rows, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(rows, width))
    return console.file.getvalue()


def test_options_and_what_is_measured_are_said_below_the_table():
    config = CIFAR | {"mixing": {"name": "mixup"}}
    routed = [
        {"heads_used": [2.5, 2.7], "multiply_adds_used": [1e6, 2e6]},
        {"heads_used": [2.6, 2.6], "multiply_adds_used": [2e6, 3e6]},
    ]
    found = notes(
        [
            row("sade+method.aggregate=True", config, "sade", adapted=True),
            row("sade+method.aggregate=True", config),
            row("focal+mixing.name=remix", config),
            row("focal+loss.gamma=1.0", config, "focal"),
            row("ldam", config),
            row("ride:2", config, measures=routed, multiply_adds=8_000_000),
            row("tau_norm", config, measures=[{"tau": [0.7, 0.5]}]),
        ]
    )
    assert found == [
        "sade: method.aggregate=True; adapted to the test images without their labels.",
        "focal: loss.gamma=1.0.",
        "ride:2: heads used 2.6; multiply-adds used 4,000,000 (50.0 % of all).",
        "tau_norm: tau 0.6.",
    ]


def test_the_page_says_what_all_have_in_common():
    config = CIFAR | {"mixing": {"name": "mixup"}}
    config["data"] = config["data"] | {"validation": 0.2}
    text = page([row("drw:1", config), row("ldam", config)])
    assert "# Methods compared on cifar10, exp, imbalance factor 100, selection seed 0\n" in text
    assert "20 % of the training images held out. For all: mixing.name=mixup.\n" in text
    assert "Experts: 1, or as after the colon; seeds: 0." in text
    assert "fewer than 20 training images" in text and "parameters" in text
    longer = row("crt", config | {"num_epochs": 20.0}, "crt+num_epochs=20.0", seeds=[0, 1])
    text = page([row("drw", config), longer])
    assert "epochs of 128 images" not in text and "seeds: 0 of drw; 0, 1 of crt+num" in text


def test_the_table_fits_80_columns_whole():
    longest = max(METHODS, key=len)
    wide = row("classifier", method=longest) | {
        "test": {name: [1.0, 0.9] for name in COLUMNS},
        "multiply_adds": 12_345_678_901,
        "epochs": 420.0,
        "train_seconds": [60_000.0],
    }
    text = shown([wide])
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    for part in (longest, "95.00 ± 7.07", "1,000", "12.3G"):
        assert part in text
    assert "parameters" not in text and "published" not in text

    named = wide | {"method": "ride+method.distill=True+method.teacher_heads=6+loss.name=ldam:3"}
    text = shown([named])
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text and "95.00 ± 7.07" in text
    (line,) = as_markdown(table([named])).splitlines()[2:]
    assert named["method"] in line  # in Markdown the rest of a name would be a row


@pytest.mark.parametrize("width", [30, 40, 60])
def test_a_narrow_console_has_fewer_columns_and_whole_numbers(width):
    text = shown([row("posthoc_logit_adjustment"), row("classifier")], width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert "50.00" in text and "classifier" in text


def test_published_numbers_stand_beside_ours_where_there_is_room():
    found = [row("classifier:3"), row("ncm"), row("ldam_drw")]
    text = shown(found)
    assert "70.4-73.2" in text and "77.0-77.7" in text
    assert max(map(len, text.splitlines())) <= 80
    text = page(found)
    assert "| ldam_drw | 77.03 (S, LDAM paper); 77.73 (S, BoT) | resnet32, 200 epochs |" in text
    assert "(S, BoT); " in text and "resnet32, 200 epochs, one network |" in text
    assert "| ncm" not in text[text.index("*published*") :]
    assert "published" not in page([row("ncm")])


def test_machines_and_versions_are_those_of_each_row():
    made = [
        {"method": name, "device": device, "versions": {"jax": version}}
        for name, device, version in (("a", "CPU", "1"), ("b", "CPU", "2"), ("c", "CPU", "1"))
    ]
    assert machines(made[:1]) == ["CPU; jax 1."]
    assert machines(made) == ["a, c: CPU; jax 1.", "b: CPU; jax 2."]


RESULTS = sorted((ROOT / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_committed_results_are_shown_as_they_are(path):
    held = json.loads(path.read_text())
    assert held["format"] == 1
    assert path.with_suffix(".md").read_text() == page(held["rows"], held.get("against_best", ()))


def test_the_command_prints_the_table_of_finished_runs(tmp_path, capsys):
    for name, variant, seed in (("drw-0", "drw", 0), ("drw-1", "drw", 1), ("ldam-0", "ldam", 0)):
        save(tmp_path / "a" / name, report(variant, seed, accuracy=0.5 + 0.1 * seed))
    save(tmp_path / "b", report("drw", 1))
    (tmp_path / "a/ldam-1").mkdir()
    (tmp_path / "a/ldam-1/config.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    assert command.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "drw " in said and "55.00 ± 7.07" in said and "50.00" in said
    assert f"{tmp_path / 'b'} is left out: it has the config and seed of" in said
    assert f"{tmp_path / 'a/ldam-1'} is left out: it is not finished." in said
    assert sorted(tmp_path.rglob("*")) == before

    assert command.main([str(tmp_path / "a"), "--markdown", str(tmp_path / "page.md")]) == 0
    assert "| drw " in (tmp_path / "page.md").read_text()


def test_the_command_answers_a_mistake_in_a_line(tmp_path, capsys):
    save(tmp_path / "drw-0", report())
    (tmp_path / "drw-0/report.json").write_text('{"format": ')
    (tmp_path / "empty").mkdir()
    for path, words in (
        ("drw-0", "drw-0/report.json is damaged"),
        ("drw-0/report.json", "drw-0/report.json is damaged"),
        ("empty", "no finished run in or below this folder"),
        ("nowhere", "no such folder"),
    ):
        assert command.main([str(tmp_path / path)]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and words in said.err
    save(tmp_path / "ldam-0", report())
    assert command.main([str(tmp_path / "ldam-0"), "--markdown", str(tmp_path / "x/y.md")]) == 2
    assert "x/y.md cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "--markdwn=x"], ["--nothing", "a"]])
def test_an_option_that_is_missing_or_unknown_is_said_in_a_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert "See python -m ltjax.compare --help." in said.err


def test_a_long_name_is_broken_between_its_choices():
    name = "classifier+loss.name=ldam+reweight.name=cost_sensitive+num_epochs=60.0:3"
    test = {title: [1.0, 0.9] for title in COLUMNS}
    lines = shown([row("classifier") | {"method": name, "test": test}], 80).splitlines()
    assert any("+num_epochs=60.0:3" in line for line in lines), lines


def test_the_command_does_without_jax():
    code = "import sys, ltjax.compare.__main__; print({'jax', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("width", [60, 40, 30])
def test_a_narrow_table_has_whole_numbers_and_says_what_it_leaves_out(width):
    test = {name: [1.0, 0.9] for name in COLUMNS}
    text = shown([row(max(METHODS, key=len)) | {"test": test}], width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert "95.00 ± 7.07" in text
    said = " ".join(text.split())
    assert "Left out for want of width: " in said
    for title in ("few", "min"):
        assert (f"{title}," in said or f"{title}." in said) == (title not in text.splitlines()[0])


def test_a_wide_table_leaves_nothing_out():
    assert "Left out" not in shown([row("classifier")], width=200)
