"""The scripts that measure an accelerator, tried out without one."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from jax.profiler import ProfileData

from ltjax.bench import __main__ as bench
from ltjax.bench import launches


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_stops_no_other(tmp_path):
    parts = script("gpu").Parts(tmp_path, minutes=1.0)

    def python(name, code, limit=30.0):
        return parts.run(name, [sys.executable, "-c", code], limit)

    assert python("fails", "print('so far', flush=True); raise SystemExit(3)") is None
    assert python("hangs", "print('so far', flush=True); import time; time.sleep(99)", 6) is None
    assert parts.run("missing", ["/no/such/program"], 30) is None
    assert python("works", "print('all')") == "all\n"
    parts._end = 0.0
    assert python("late", "print('never')") is None
    ends = {
        k: v["end"] for k, v in json.loads((tmp_path / "summary.json").read_text())["parts"].items()
    }
    assert ends["fails"] == "exit code 3" and ends["hangs"] == "over 6 s"
    assert "no/such" in ends["missing"] and ends["works"] == "exit code 0"
    assert ends["late"] == "left out, the time was up"
    assert (
        (tmp_path / "hangs.txt").read_text() == (tmp_path / "fails.txt").read_text() == "so far\n"
    )


@pytest.mark.parametrize("command", ["", *bench.COMMANDS])
def test_a_measurement_says_what_it_does_and_names_a_wrong_option(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        bench.main([*command.split(), "--help"])
    assert f"python -m ltjax.bench {command}".strip() in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        bench.main([*command.split(), "--batch-size", "0"])
    said = capsys.readouterr().err
    assert said.startswith(
        "ltjax: Argument --batch-size: '0' must be a whole number, at least 1. See"
    )
    assert said.count("\n") == 1


PROFILE = """
planes {
  name: "/device:GPU:0"
  lines { name: "Stream #7(Compute)"
    events { metadata_id: 1 duration_ps: 3000000 }
    events { metadata_id: 1 duration_ps: 1000000 }
    events { metadata_id: 2 duration_ps: 2000000 } }
  lines { name: "XLA Modules" events { metadata_id: 1 duration_ps: 9000000 } }
  event_metadata { key: 1 value { id: 1 name: "fusion" } }
  event_metadata { key: 2 value { id: 2 name: "MemcpyD2D" } }
}
planes { name: "/host:CPU" }
"""


def test_kernels_are_counted_by_the_step_and_copies_apart():
    profile = ProfileData.from_serialized_xspace(
        ProfileData.text_proto_to_serialized_xspace(PROFILE)
    )
    found = launches.counted(profile, steps=2)
    assert found["kernels_per_step"] == 1.0 and found["copies_per_step"] == 0.5
    assert found["busy_ms_per_step"] == pytest.approx(0.003)
    assert found["longest"][0] == {"name": "fusion", "per_step": 1.0, "ms_per_step": 0.002}


@pytest.mark.slow
def test_the_whole_script_leaves_text_that_says_what_was_done(tmp_path):
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", "--tiny", "--minutes", "30"],
        cwd=ROOT,
        env=os.environ | {"OUT": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {part["end"] for part in summary["parts"].values()} == {"exit code 0"}
    assert len(summary["ms_per_step"]) >= 6 and summary["training"]["epochs"] == 6
    checks = json.loads((tmp_path / "check.json").read_text())["checks"]
    assert len(checks) == 6 and all(check["right"] for check in checks.values())
    assert json.loads((tmp_path / "launches-blocks.json").read_text())["kernels_per_step"] is None
    assert (tmp_path / "train-6-report.md").read_text().startswith("# digits")
