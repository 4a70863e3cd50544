"""Measures ltjax on a GPU, in one command of 8 minutes.

    OUT=gpu-results TFDS_DATA_DIR=/where/cifar100/is python benchmarks/gpu.py

Needs neither internet nor TensorFlow: CIFAR-100 must lie prepared in TFDS_DATA_DIR, a folder that
can be written to. PyTorch is compared with where it is installed. Into $OUT, by default
./gpu-results, go the output of each part and summary.json, all text. A part that fails or takes too
long does not stop the others; what comes last may not fit into --minutes, and is named as left out.
"""

import argparse
import importlib.util
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
EPOCHS, EPOCH = 200, 85 * 3 * 128  # of configs/cifar100.py; an epoch is so many images
DTYPES = ("float32", "bfloat16")
FORMS = {  # name: options of the expert forms
    "unroll": ("--convolution", "plain", "--experts-over", "unroll"),
    "vmap": ("--convolution", "plain", "--experts-over", "vmap"),
    "blocks": ("--convolution", "blocks", "--experts-over", "vmap"),
}
DEVICE = """
import jax, jaxlib, platform
print(f"Python {platform.python_version()}, JAX {jax.__version__}, jaxlib {jaxlib.__version__}")
print(*(f"{device.device_kind} ({device.platform})" for device in jax.devices()))
"""


class Parts:
    """Commands run one after another, each with its limit, until the time is up."""

    def __init__(self, out: pathlib.Path, minutes: float, patience: float = 1.0):
        self._out, self._end = out, time.monotonic() + 60 * minutes
        self._patience = patience
        self.summary = {"parts": {}}

    def run(self, name: str, command: list[str], limit: float) -> str | None:
        """Run a command for at most `limit` seconds, or `patience` times that, where it was given.

        Returns:
          Its output, or None if it failed.
        """
        left = min(limit * self._patience, self.left())
        began, output, end = time.monotonic(), "", "left out, the time was up"
        if left >= 5:
            try:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=left,
                )
                output, end = done.stdout.decode(errors="replace"), f"exit code {done.returncode}"
            except subprocess.TimeoutExpired as error:
                output, end = (error.stdout or b"").decode(errors="replace"), f"over {left:.0f} s"
            except OSError as error:
                end = str(error)
            (self._out / f"{name}.txt").write_text(output)
        seconds = round(time.monotonic() - began, 1)
        self.summary["parts"][name] = {"end": end, "seconds": seconds}
        self.note("parts", self.summary["parts"])
        print(f"{name}: {end}, {seconds} s", flush=True)
        return output if end == "exit code 0" else None

    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def note(self, name: str, value: Any) -> None:
        """Add to the summary, and keep it."""
        self.summary[name] = value
        (self._out / "summary.json").write_text(json.dumps(self.summary, indent=2) + "\n")


def main() -> None:
    """Run all parts, the most telling first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="in all; 8")
    parser.add_argument("--tiny", action="store_true", help="try this script out, on any machine")
    args = parser.parse_args()
    out = pathlib.Path(os.environ.get("OUT", "gpu-results")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    parts = Parts(out, args.minutes, patience=10.0 if args.tiny else 1.0)  # with a CPU
    python = sys.executable
    small = ["--network", "resnet8", "--batch-size", "4"] if args.tiny else []

    parts.run("device", [python, "-c", DEVICE], 60)
    if shutil.which("nvidia-smi"):
        parts.run("nvidia-smi", ["nvidia-smi"], 20)
    check = ["--json", str(out / "check.json"), *(("--batch-size", "4") if args.tiny else ())]
    parts.run("check", [python, "-m", "ltjax.bench", "check", *check], 150)

    def bench(form, dtype, num_experts, *more):
        options = ["--experts", str(num_experts), "--dtype", dtype, *FORMS[form], *small, *more]
        options += ["--rounds", "1" if args.tiny else "20"]
        name = "-".join(["bench", str(num_experts), form, dtype, *more]).replace("---", "-")
        said = parts.run(name, [python, "-m", "ltjax.bench", *options], 90)
        row = re.search(rf"^ *{num_experts} +([\d.,]+)", said or "", re.MULTILINE)
        if row:  # the first number after E is that of milliseconds a step
            milliseconds = float(row[1].replace(",", ""))
            parts.note("ms_per_step", {**parts.summary.get("ms_per_step", {}), name: milliseconds})
        return milliseconds if row else float("inf")

    three = {form: bench(form, "bfloat16", 3) for form in FORMS}
    best, with_torch = min(three, key=three.get), importlib.util.find_spec("torch")
    if with_torch:
        bench(best, "bfloat16", 3, "--against", "torch")
    train(parts, out, best, args.tiny)
    for form in FORMS:
        file = str(out / f"launches-{form}.json")
        options = ["--json", file, *FORMS[form], "--dtype", "bfloat16", *small]
        parts.run(f"launches-{form}", [python, "-m", "ltjax.bench", "launches", *options], 60)
    for count in ("1", "64"):
        bench(best, "bfloat16", 3, "--steps-per-call", count)
    for form in FORMS:
        bench(form, "float32", 3)
    if with_torch:
        bench(best, "float32", 3, "--against", "torch")
    for num_experts in () if args.tiny else (8, 1, 4, 2):
        for dtype, form in itertools.product(reversed(DTYPES), FORMS):
            bench(form, dtype, num_experts)


def train(parts: Parts, out: pathlib.Path, form: str, tiny: bool) -> None:
    """Train for 20 epochs, and for all 200 if by their rate these fit into what time is left."""
    if not tiny and not os.environ.get("TFDS_DATA_DIR"):
        parts.note("training", "left out, TFDS_DATA_DIR is not set")
        return
    convolution, over = FORMS[form][1::2]
    fields = {"convolution": convolution, "experts_over": over, "dtype": "bfloat16"}
    compute = [f"--config.compute.{name}={value}" for name, value in fields.items()]
    config = "digits" if tiny else "cifar100"

    def run(epochs, limit):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch, "run")
            command = [sys.executable, "-m", "ltjax.main", "--config", f"configs/{config}.py"]
            command += ["--workdir", str(folder), f"--config.num_epochs={epochs}", *compute]
            command += [f"--config.data.dir={scratch}"] if tiny else []
            said = parts.run(f"train-{epochs:g}", command, limit)
            for name in ("report.md", "report.json", "log.jsonl"):
                if (folder / name).exists():
                    shutil.copy(folder / name, out / f"train-{epochs:g}-{name}")
            return json.loads((folder / "report.json").read_text()) if said else None

    report = run(6.0 if tiny else 20.0, 180)
    if not report:
        return
    rate = report["cost"]["train_images_per_second"]
    known = {
        "form": form,
        "epochs": report["epochs"],
        "train_seconds": report["cost"]["train_seconds"],
        "images_per_second": rate,
    }
    if rate and not tiny:
        whole = known["seconds_of_200_epochs_by_this_rate"] = EPOCHS * EPOCH / rate
    parts.note("training", known)
    if rate and not tiny and whole + 60 < parts.left() - 60:  # to start and save; for what follows
        run(float(EPOCHS), parts.left() - 60)


if __name__ == "__main__":
    main()
