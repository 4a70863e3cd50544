import json
import struct

from tensorboardX.proto import event_pb2

from ltjax.config.settings import as_dict, settings_from
from ltjax.run import folder as rundir


def tensorboard(folder):
    """{(tag, step): value} of all event files, read by their framing: length, crc, event, crc."""
    found = {}
    for path in sorted((folder / "tensorboard").glob("events.*")):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            data = data[16 + size :]
    return found


def test_the_log_has_a_line_an_event_and_a_scalar_an_expert(tmp_path):
    with rundir.Log(tmp_path, number=0) as log:
        log.write(10, phase="train", **{"train/loss": [1.5, 2.5], "images_per_second": 8.0})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "number": 10,
        "phase": "train",
        "train/loss": [1.5, 2.5],
        "images_per_second": 8.0,
    }
    assert tensorboard(tmp_path) == {
        ("train/loss/expert1", 10): 1.5,
        ("train/loss/expert2", 10): 2.5,
        ("images_per_second", 10): 8.0,
    }


def test_what_a_killed_run_wrote_after_its_checkpoint_is_dropped(tmp_path):
    with rundir.Log(tmp_path, number=0) as log:
        for number in (10, 20, 30):
            log.write(number, loss=float(number))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"number": 40, "lo')  # killed in the middle of a line
    with rundir.Log(tmp_path, number=20) as log:
        log.write(30, loss=31.0)
        assert [event["loss"] for event in log.read()] == [10.0, 20.0, 31.0]


def test_the_default_folder_follows_what_decides_the_result(monkeypatch):
    def folder(**fields):
        return rundir.default(as_dict(settings_from(fields)), "classifier")

    assert folder() == folder(log_every_steps=7, data={"dir": "elsewhere"})
    assert len({folder(), folder(seed=1), folder(num_experts=4), folder(combine="logits")}) == 4
