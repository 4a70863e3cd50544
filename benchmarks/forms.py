"""Trains one expert on CIFAR-100-LT with each form of convolution, from the same seed.

    python benchmarks/forms.py --folder runs/forms

Writes losses.csv and losses.png into the folder: the curves lie on one another if the forms differ
by rounding only. Needs CIFAR-100 prepared, and matplotlib.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

FORMS = ("plain", "direct", "winograd")
EVERY = 10  # steps


def main() -> None:
    """Train, and draw what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=float, default=4.0, help="of 85 steps; 4")
    args = parser.parse_args()
    losses = {form: train(form, args.folder / form, args.epochs) for form in FORMS}

    steps = sorted(losses["plain"])
    with open(args.folder / "losses.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", *FORMS])
        rows.writerows([step, *(losses[form][step] for form in FORMS)] for step in steps)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    styles = {"plain": ("-", 4.0, 0.35), "direct": ("-", 1.5, 1.0), "winograd": ("--", 1.5, 1.0)}
    for form, (line, width, alpha) in styles.items():
        values = [losses[form][step] for step in steps]
        axes.plot(steps, values, line, linewidth=width, alpha=alpha, label=form)
    axes.set(xlabel="step", ylabel="training loss of a batch", title="One seed, three forms")
    axes.legend()
    figure.savefig(args.folder / "losses.png", dpi=120)


def train(form: str, folder: pathlib.Path, epochs: float) -> dict[int, float]:
    """{step: loss}."""
    command = [sys.executable, "-m", "ltjax.main", "--config", "configs/cifar100.py"]
    fields = {
        "num_experts": 1,
        "num_epochs": epochs,
        "schedule.warmup_epochs": 1,
        "eval_every_epochs": 0.0,
        "log_every_steps": EVERY,
        "compute.convolution": form,
    }
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    subprocess.run([*command, "--workdir", str(folder), *options], check=True)
    events = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {event["step"]: event["train/loss"][0] for event in events if "train/loss" in event}


if __name__ == "__main__":
    main()
