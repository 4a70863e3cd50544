"""What is restored is what was saved: a checkpoint is read as it was, or not used at all."""

import json
import random
import shutil

import jax
import numpy as np
import pytest
import toy

from ltjax import runtime, train
from ltjax.errors import UserError
from ltjax.run import checkpoint
from ltjax.run.checkpoint import Damaged, Position, read_position, read_state
from ltjax.run.digest import digests
from ltjax.run.saving import Checkpoints
from ltjax.storage import NotWritten

pytestmark = pytest.mark.xdist_group("checkpoint")  # one run is read by all
CONFIG = toy.RUN | dict(
    method={"name": "classifier"},
    augment={"name": "none"},
    save_every_epochs=0.8,  # 4 steps
)


def run(folder, **changed):
    return train.run(CONFIG | changed, str(folder), splits=toy.splits())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(folder)
    return folder


@pytest.fixture
def own(finished, tmp_path):
    """A copy of a finished run, with checkpoints 8 and 10."""
    return shutil.copytree(finished, tmp_path / "own")


def damages(content, rng):
    """What may become of a file: flipped bits, cut short, emptied, longer."""
    for _ in range(3):
        flipped = bytearray(content)
        place = rng.randrange(len(content))
        flipped[place] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
    yield content[: len(content) // 2]
    yield content[:-1]
    yield b""
    yield content + b"x"


def test_digests_are_those_of_the_numbers_wherever_they_lie(finished):
    state = read_state(finished)
    expected = digests(state)
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("expert", "data"))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("expert"))
    assert digests(jax.device_put(state, spread)) == expected
    assert len(set(expected)) == 2
    state["variables"]["params"]["head"]["bias"][1, 0] += 1e-7
    same = [a == b for a, b in zip(digests(state), expected, strict=True)]
    assert same == [True, False]


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_checkpoint_is_read_as_it_was_saved_or_refused(own, finished, every):
    """Files of the newest one, damaged in every way."""
    rng, outcomes = random.Random(0), {"refused": 0, "the same": 0}
    expected, position = read_state(finished), read_position(finished)
    files = sorted(path for path in (own / "checkpoints" / "10").rglob("*") if path.is_file())
    files = files[3::every] if every > 1 else files  # from the position on
    for path in files:
        content = path.read_bytes()
        for damaged in [*damages(content, rng), None] if content else [None]:
            path.unlink() if damaged is None else path.write_bytes(damaged)
            try:
                found = read_state(own), read_position(own)
            except Damaged as error:
                assert "\n" not in str(error) and len(str(error)) < 400
                outcomes["refused"] += 1
            else:  # a part that nothing is read of
                toy.assert_trees_equal(found[0], expected)
                assert found[1] == position
                outcomes["the same"] += 1
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    toy.assert_trees_equal(read_state(own), expected)
    assert outcomes["refused"] > len(files)


def damage(folder, number):
    """Flip a bit among the numbers of a checkpoint, where it is read of."""
    files = (folder / "checkpoints" / str(number) / "state" / "ocdbt.process_0" / "d").iterdir()
    for path in sorted(files, key=lambda path: -path.stat().st_size):
        content = path.read_bytes()
        for part in (0.3, 0.5, 0.7, 0.9):
            flipped = bytearray(content)
            flipped[int(part * len(content))] ^= 1
            path.write_bytes(bytes(flipped))
            try:
                checkpoint._read(path.parents[3])
            except Damaged:
                return
        path.write_bytes(content)
    raise AssertionError("nothing is read of any file")


def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_resumed(own, finished, capsys):
    damage(own, 10)
    with pytest.raises(Damaged):
        read_state(own)
    run(own)  # it was complete
    said = capsys.readouterr().out
    assert "is of checkpoint 10, which is missing or damaged. Training resumes." in said
    assert "checkpoints/10 is damaged" in said and "Resuming from step 8 " in said
    toy.assert_trees_equal(read_state(own), read_state(finished))
    assert (own / "checkpoints" / "damaged-1-10").is_dir()
    run(own)
    assert "This run is complete" in capsys.readouterr().out


def test_where_no_checkpoint_is_good_nothing_begins_anew(own):
    for number in (8, 10):
        damage(own, number)
    (own / "report.json").unlink()
    log = (own / "log.jsonl").read_bytes()
    with pytest.raises(UserError, match="damaged.*there is no other.*give another --workdir"):
        run(own)
    assert (own / "log.jsonl").read_bytes() == log
    assert {path.name for path in (own / "checkpoints").iterdir()} == {"8", "10"}


def test_a_run_without_its_last_checkpoint_is_not_complete(own, finished, capsys):
    shutil.rmtree(own / "checkpoints" / "10")
    run(own)
    said = capsys.readouterr().out
    assert "complete" not in said and "Resuming from step 8 " in said
    toy.assert_trees_equal(read_state(own), read_state(finished))


def test_a_run_whose_checkpoints_were_deleted_says_so(own, capsys):
    shutil.rmtree(own / "checkpoints")
    run(own)
    said = capsys.readouterr().out
    assert "has no checkpoint" in said and "This run is complete" in said


def test_leftovers_of_a_killed_process_are_removed(own):
    (own / "report.json").unlink()
    place = own / "checkpoints"
    shutil.copytree(place / "8", place / "4")
    shutil.rmtree(place / "4" / "state")  # killed while it was deleted
    (place / "12.orbax-checkpoint-tmp-1").mkdir()
    run(own)
    assert {path.name for path in place.iterdir()} == {"8", "10"}


def test_a_checkpoint_of_an_earlier_version_is_read(own):
    path = own / "checkpoints" / "10" / "position" / "metadata"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({name: entries[name] for name in ("phase", "step", "seconds")}))
    assert read_position(own) == Position(0, 10, entries["seconds"])
    assert checkpoint.is_good(own)


def test_a_checkpoint_of_another_form_is_refused_in_a_line(own):
    """As one of an earlier version whose networks or phases were others."""
    (own / "report.json").unlink()
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"network": {"name": "tiny"}}))
    with pytest.raises(UserError, match="not of this version's form .* that wrote it, or give"):
        run(own, network={"name": "tiny"})


def test_a_run_that_is_resumed_elsewhere_says_so(own, monkeypatch, capsys):
    (own / "report.json").unlink()
    shutil.rmtree(own / "checkpoints" / "10")
    before = runtime.device()
    monkeypatch.setattr(runtime, "device", lambda: "an abacus")
    said = f"device was {before}, is an abacus"
    report = run(own)
    assert said in capsys.readouterr().out and said in (own / "report.md").read_text()
    assert [one["device"] for one in report["surroundings"]] == [before, "an abacus"]


def test_a_checkpoint_of_a_later_version_is_refused(own):
    path = own / "checkpoints" / "10" / "position" / "metadata"
    later = {"format": checkpoint.FORMAT + 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | later))
    with pytest.raises(UserError, match="has format 3.*reads formats up to 2"):
        read_state(own)


def test_a_changed_position_is_noticed(own):
    path = own / "checkpoints" / "10" / "position" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 9}))
    with pytest.raises(Damaged, match="position"):
        read_position(own)


def test_a_checkpoint_under_another_number_is_noticed(own):
    place = own / "checkpoints"
    (place / "10").rename(place / "12")
    with pytest.raises(Damaged, match="position"):
        read_position(own)


def test_a_save_that_cannot_begin_ends_at_once(tmp_path, finished):
    state = read_state(finished)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, Position(0, 1, 0.0))
    checkpoints.wait()
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(NotWritten, match="checkpoints cannot be written"), checkpoints:
        checkpoints.save(2, state, Position(0, 2, 0.0))
    assert checkpoints.kept() == "its checkpoints are not there any more"


def test_a_report_is_written_after_the_checkpoint_it_speaks_of(tmp_path, monkeypatch):
    """The last save fails in its thread: the run must not be called complete."""
    wait = Checkpoints.wait

    def failing(self):
        saving = self._saving
        wait(self)
        if saving and saving[0] == 10:
            raise NotWritten(tmp_path, "No space left on device")

    monkeypatch.setattr(Checkpoints, "wait", failing)
    with pytest.raises(NotWritten, match=r"state of step .* is kept"):
        run(tmp_path)
    assert not (tmp_path / "report.json").exists()


CONTENTS = [
    "{",
    *(pytest.param(text, marks=pytest.mark.slow) for text in ("", "{}", "[" * 100_000)),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda text: text[:2])
def test_a_damaged_report_is_written_again(own, finished, capsys, content):
    (own / "report.json").write_text(content)
    run(own)
    assert "report.json is damaged. It is written again." in capsys.readouterr().out
    ours, theirs = (json.loads((of / "report.json").read_text()) for of in (own, finished))
    assert ours["splits"]["test"]["average"] == theirs["splits"]["test"]["average"]
    assert ours["checkpoint"] == 10


def log_without(own, finished, change, capsys):
    """Resume from checkpoint 8 with a changed log; what is said of it."""
    (own / "report.json").unlink()
    shutil.rmtree(own / "checkpoints" / "10")
    path = own / "log.jsonl"
    path.write_bytes(change(path.read_bytes()))
    run(own)
    kept = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    return capsys.readouterr().out, kept


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda text: text[: text.index(b"\n") + 1], [1, 9, 10]),  # cut after the first line
        pytest.param(lambda text: b"\xff" + text, [*range(2, 11)], marks=pytest.mark.slow),
        pytest.param(lambda text: b"", [9, 10], marks=pytest.mark.slow),
        (lambda text: text.replace(b'"epoch": 0.4', b'"epoch": 0.5'), [*range(1, 11)]),
        (lambda text: text.replace(b'"number": 3', b'"numbre": 3'), [1, 2, *range(4, 11)]),
    ],
)
def test_a_damaged_log_is_kept_and_said_so(own, finished, change, kept, capsys):
    said, numbers = log_without(own, finished, change, capsys)
    assert "log.jsonl is damaged" in said and "damaged-1-log.jsonl" in said
    assert numbers == kept and (own / "damaged-1-log.jsonl").exists()


def test_a_log_that_was_cut_at_its_end_by_a_kill_is_not_damaged(own, finished, capsys):
    said, numbers = log_without(own, finished, lambda text: text[:-3], capsys)
    assert "damaged" not in said and numbers == [*range(1, 11)]
