"""Working through a planned table: what fails, is cut short, or is claimed by another process."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from reports import report

from ltjax.compare import __main__ as command
from ltjax.compare import plan as plans
from ltjax.compare import work
from ltjax.compare.grid import grid, page
from ltjax.config.settings import as_dict
from ltjax.errors import UserError
from ltjax.recipes import settings_of

PLAN = """
title = "Digits"
base = "digits"
seeds = [0, 1]
mean_expert = true
best_published = true
[for_all]
num_epochs = 2.0
num_experts = 1
schedule.warmup_epochs = 0
[[columns]]
name = "twenty"
data.imbalance_factor = 20.0
[[rows]]
recipe = "classifier"
[[rows]]
recipe = "drw"
"""


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    return plans.read(str(tmp_path / "plan.toml"))


def finish(folder, cell, accuracy=0.5, seconds=90.0):
    """What a run of the cell leaves."""
    made = report(accuracy=accuracy)
    made["config"] = as_dict(settings_of(cell.config))
    made["cost"]["train_seconds"] = seconds
    place = folder / cell.folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(made["config"]))
    (place / "report.json").write_text(json.dumps(made))


@pytest.fixture
def started(monkeypatch, tmp_path, plan):
    """The cells that are run, as fakes that finish them; a test may let one fail."""
    cells, fates = [], {}

    def run(config, place, tell, claim):
        (cell,) = (one for one in plan.cells if place == tmp_path / "runs" / one.folder)
        assert config.exists() and not claim.closed
        cells.append(cell)
        fate = fates.get((cell.row, cell.seed))
        if isinstance(fate, Exception):
            raise fate
        if fate is None:
            finish(tmp_path / "runs", cell)
        return fate

    monkeypatch.setattr(work, "_run", run)
    return cells, fates


def test_cells_are_run_once_and_one_that_fails_stops_no_other(plan, tmp_path, started):
    cells, fates = started
    fates["classifier", 1] = "Loss is not finite."
    said = []
    left = work.work(plan, tmp_path / "runs", said.append)
    assert [(cell.row, cell.seed) for cell in cells] == [
        ("classifier", 0), ("classifier", 1), ("drw", 0), ("drw", 1),
    ]  # fmt: skip
    assert list(left.failed.values()) == ["Loss is not finite."] and left.elsewhere == []
    assert said[0] == "classifier, twenty, seed 0: 0 of 4 cells are finished."
    assert said[1].endswith("1 of 4 cells are finished, about 4 min left on one such machine.")
    assert said[2] == "classifier, twenty, seed 1 failed: Loss is not finite."
    fates.clear()
    assert work.work(plan, tmp_path / "runs", said.append) == ({}, [])
    assert [(cell.row, cell.seed) for cell in cells[4:]] == [("classifier", 1)]


def test_a_cell_that_another_process_has_is_left_to_it(plan, tmp_path, started):
    cells, _ = started
    locks = tmp_path / "runs" / ".locks"
    locks.mkdir(parents=True)
    by_hand = tmp_path / "runs" / plan.cells[2].folder
    by_hand.mkdir(parents=True)
    with (
        (locks / "twenty--classifier-0.lock").open("a") as one,
        (by_hand / ".lock").open("a") as other,
    ):
        for file in (one, other):
            fcntl.flock(file, fcntl.LOCK_EX)
        left = work.work(plan, tmp_path / "runs", lambda text: None)
        assert left.elsewhere == [plan.cells[0], plan.cells[2]]
        assert cells == [plan.cells[1], plan.cells[3]]
    # the locks of processes that ended are free
    assert work.work(plan, tmp_path / "runs", lambda text: None).elsewhere == []
    assert len(work.finished(plan, tmp_path / "runs")) == 4


def test_a_worker_stops_though_its_run_just_ended(plan, tmp_path, monkeypatch):
    class Ends:
        """A run that is finished when the signal arrives."""

        stderr = ()

        def __init__(self, *words, **options):
            os.kill(os.getpid(), signal.SIGTERM)

        send_signal = wait = staticmethod(lambda *number: 0)

    monkeypatch.setattr(work.subprocess, "Popen", Ends)
    with pytest.raises(work.Stopped) as stopped:
        work.work(plan, tmp_path / "runs", lambda text: None)
    assert stopped.value.exit_code == 143


def test_no_two_cells_share_a_lock_or_a_config(tmp_path):
    """A file's name has the column, two dashes and the row."""
    text = PLAN.replace('"twenty"', '"a"').replace('"drw"', '"drw"\nname = "b--c"')
    text += '[[columns]]\nname = "a--b"\n[[rows]]\nrecipe = "crt"\nname = "c"\n'
    (tmp_path / "plan.toml").write_text(text)
    cells = plans.read(str(tmp_path / "plan.toml")).cells
    configs = [work.write_config(cell, tmp_path) for cell in cells]
    assert len(set(configs)) == len(cells) == 2 * 3 * 2


def test_what_was_run_with_another_config_is_refused(plan, tmp_path):
    finish(tmp_path / "runs", plan.cells[0])
    work.check(plan, tmp_path / "runs")
    (tmp_path / "plan.toml").write_text(PLAN.replace("num_epochs = 2.0", "num_epochs = 3.0"))
    other = plans.read(str(tmp_path / "plan.toml"))
    with pytest.raises(UserError, match=r"classifier-0 was run .*num_epochs was 2.0, is 3.0"):
        work.check(other, tmp_path / "runs")


def test_the_grid_has_spread_and_number_and_no_bold_single_seed(plan, tmp_path):
    folder = tmp_path / "runs"
    finish(folder, plan.cells[0], 0.4)
    finish(folder, plan.cells[1], 0.5)
    finish(folder, plan.cells[2], 0.9)
    runs = work.finished(plan, folder)
    failed = {plan.cells[3]: "Disk full."}
    text = page(plan, runs, failed)
    assert "3 of 4 runs are finished" in text and "drw, twenty, seed 1: Disk full." in text
    assert "**45.00 ± 7.07 (n = 2)**" in text  # the only one with two seeds
    assert "90.00 (n = 1)" in text and "## twenty" in text
    nothing = grid(plan, {}, failed)
    assert [cell.plain for cell in nothing.columns[1]._cells] == [
        "not run", "not run", "not run", "failed", "",
    ]  # fmt: skip


def test_a_table_for_choosing_shows_the_held_out_part_alone(tmp_path):
    text = PLAN.replace("mean_expert", "held_out = true\nmean_expert")
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(UserError, match=r"needs data\.validation above 0"):
        plans.read(str(tmp_path / "plan.toml"))
    (tmp_path / "plan.toml").write_text(
        text.replace("[for_all]", "[for_all]\ndata.validation = 0.2")
    )
    chosen = plans.read(str(tmp_path / "plan.toml"))
    for cell, share in zip(chosen.cells, (0.41, 0.43, 0.3, 0.3), strict=True):
        finish(tmp_path / "runs", cell, accuracy=0.99)
        path = tmp_path / "runs" / cell.folder / "report.json"
        made = json.loads(path.read_text())
        own = {"balanced_accuracy": share}
        made["splits"]["validation"] = {"average": own, "experts": [own, own]}
        path.write_text(json.dumps(made))
    said = page(chosen, work.finished(chosen, tmp_path / "runs"), {})
    assert "**42.00 ± 1.41 (n = 2)**" in said and "held-out part" in said
    assert "99" not in said and "published" not in said.replace("best published", "")


def work_on(folder, **options):
    """The command, at work on plan.toml in a folder."""
    words = ["-u", "-m", "ltjax.compare", "--table", "plan.toml", "--workdir", "runs"]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_asked_to_stop_stops(tmp_path, number):
    """While its run still imports modules, and answers no signal itself."""
    (tmp_path / "plan.toml").write_text(PLAN)
    process = work_on(tmp_path)
    for line in process.stdout:
        if line.startswith("$ python"):
            break
    time.sleep(0.3)
    process.send_signal(number)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number, said
    assert "failed" not in said and "Stopped. What is finished is kept." in said


@pytest.mark.slow
def test_a_table_is_killed_resumed_and_finished(tmp_path):
    """The real thing: stopped in the middle of a run, then two workers at once."""
    (tmp_path / "plan.toml").write_text(PLAN.replace("2.0\nnum_experts", "40.0\nnum_experts"))
    process = work_on(tmp_path)
    place = tmp_path / "runs" / "twenty" / "classifier-0"
    for _ in range(600):
        time.sleep(0.2)
        if any(place.glob("checkpoints/[0-9]*")):
            break
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "To resume, repeat the command." in said
    assert not (place / "report.json").exists()
    workers = [work_on(tmp_path), work_on(tmp_path)]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert sum(text.count("$ python") for text in outputs) == 4
    assert sum(text.count("Resuming from step") for text in outputs) == 1
    text = (tmp_path / "runs" / "table.md").read_text()
    assert "4 of 4 runs are finished" in text and "(n = 2)**" in text
    again = work_on(tmp_path).communicate(timeout=60)[0]
    assert "$ python" not in again and "(n = 2)" in again


def test_mistakes_of_the_command_are_said_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(PLAN.replace("20.0", "0.1"))
    for arguments in (["--table", "none"], ["--table", "plan.toml", "--show"]):
        assert command.main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1
    for arguments in (["--table", "quick", "folder"], ["--show"], ["--workdir", "x", "folder"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plan.toml"]


def test_shown_alone_nothing_is_run_or_written(plan, tmp_path, capsys):
    finish(tmp_path / "runs", plan.cells[0])
    before = sorted(tmp_path.rglob("*"))
    words = ["--table", str(tmp_path / "plan.toml"), "--workdir", str(tmp_path / "runs"), "--show"]
    assert command.main(words) == 0
    assert "50.00 (n = 1)" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
