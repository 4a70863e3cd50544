"""A standard output that is gone, or shows few characters, stops nothing."""

import errno
import io
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from rich.console import Console

from ltjax.terminal import Output, say


class Gone(io.StringIO):
    """A stream that breaks after some writes."""

    def __init__(self, writes, error):
        super().__init__()
        self.left, self.error = writes, error

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)

    def flush(self):
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, ""), ValueError()])
def test_a_stream_that_breaks_is_not_written_to_again(error):
    stream = Gone(2, error)
    console = Console(file=Output(stream), width=80)
    for i in range(5):
        say(console, f"line {i}")
    shown = stream.getvalue()
    assert shown.startswith("line 0") and "line 4" not in shown
    assert stream.left == -1  # tried once


def test_characters_that_it_lacks_are_replaced():
    raw = io.BytesIO()
    output = Output(io.TextIOWrapper(raw, encoding="ascii"))
    say(Console(file=output, width=80), "29.74 ± 0.26")
    output.flush()
    assert raw.getvalue() == b"29.74 ? 0.26\n"


COMMAND = [
    *(sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py")),
    *("--config.num_epochs=0.5", "--config.num_experts=1", "--config.schedule.name=step"),
    *("--config.network.name=resnet8", "--config.log_every_steps=1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["| head -n 2", "> /dev/full", "2>&1 | true", ">&-"])
def test_a_run_whose_output_is_gone_from_outside_is_finished(tmp_path, data_dir, end):
    words = [*COMMAND, f"--config.data.dir={data_dir}", "--workdir", str(tmp_path / "run")]
    line = f"set -o pipefail; {' '.join(words)} {end}"
    found = subprocess.run(
        ["bash", "-c", line], stderr=subprocess.PIPE, text=True, env=os.environ, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr
    assert not found.stderr
    assert (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_help_may_be_read_in_part(option):
    line = f"set -o pipefail; {sys.executable} -m ltjax.main {option} | head -n 1"
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert (found.returncode, found.stderr) == (0, "")
