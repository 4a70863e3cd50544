"""`python -m ltjax.analysis RUN ...`: what the predictions of finished runs say, after training."""

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ltjax import storage
from ltjax.analysis.summary import analysed
from ltjax.analysis.tables import markdown, tables
from ltjax.errors import UserError, shown
from ltjax.report.narrow import Continued
from ltjax.run.files import DATA, REPORT, load_report, read_data
from ltjax.run.predictions import PREDICTIONS, Predictions, load
from ltjax.terminal import Interrupts, Parser, console, fail, finish, say


def main(argv: Sequence[str]) -> int:
    """Print the tables of each run, or of all as one ensemble; returns the exit code."""
    parser = Parser(
        "python -m ltjax.analysis",
        description="What the predictions of finished runs say: other averages, other class "
        "frequencies, calibration, sets of classes. Nothing is trained.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="the folder of a finished run")
    add("--together", action="store_true", help="all experts of all runs as one ensemble")
    add("--bins", type=int, default=15, help="of the calibration errors; 15")
    add(
        "--prior",
        type=pathlib.Path,
        metavar="FILE",
        help="a further test prior: a text file with one number a class",
    )
    add("--json", type=pathlib.Path, metavar="FILE", help="write all numbers, too")
    add("--markdown", type=pathlib.Path, metavar="FILE", help="write the tables as a page, too")
    given = parser.parse_args(argv)
    try:
        if not 1 <= given.bins <= 1000:
            raise UserError(f"--bins is {given.bins}; it must be 1 to 1,000.")
        found = _of(given)
        if given.json:
            storage.write_json(given.json, found)
        if given.markdown:
            storage.write_text(given.markdown, markdown(found))
    except UserError as error:
        return fail(str(error))
    out = console()
    for name, one in found.items():
        say(out, name)
        for part in tables(one):
            out.print(Continued(part) if isinstance(part, Table) else part, "", highlight=False)
    return 0


def _of(given) -> dict[str, Any]:
    """{the run: what it says}, or of all runs together."""
    runs, places = {}, set()
    for folder in given.runs:
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder. Give the folder of a finished run.")
        if not (folder / REPORT).exists():
            raise UserError(f"{folder} has no {REPORT}: it is not a finished run.")
        if folder.resolve() in places:
            raise UserError(f"{folder} is given twice.")
        places.add(folder.resolve())
        counts, splits = _counts(folder), load(folder)
        if any(one.logits.shape[-1] != len(counts) for one in splits.values()):
            raise UserError(f"{folder}: its {PREDICTIONS} and {DATA} differ in their classes.")
        runs[str(folder)] = load_report(folder / REPORT), counts, splits
    if given.together:
        _check_alike(runs)
        report, counts, first = next(iter(runs.values()))
        splits = {
            split: _joined([splits[split] for *_, splits in runs.values()])
            for split in first
            if all(split in splits for *_, splits in runs.values())
        }
        runs = {" + ".join(runs): (report, counts, splits)}
    found = {}
    for name, (report, counts, splits) in runs.items():
        prior = _prior(given.prior, len(counts)) if given.prior else None
        combine = report["config"].get("combine", "probs")
        found[name] = analysed(splits, counts, combine, given.bins, prior)
        if prior is not None and "own" not in found[name]["priors"]:
            raise UserError(f"--prior: {name} has no test image of some class of this prior.")
    return found


def _counts(folder):
    info = read_data(folder)
    if info is None:
        raise UserError(f"{folder} has no {DATA}. Delete {REPORT} and repeat the run's command.")
    return info.class_counts


def _check_alike(runs):
    """Refuse runs whose test images are not the same."""
    (name, (report, counts, splits)), *others = runs.items()
    for other, (its_report, its_counts, its_splits) in others:
        same = np.array_equal(splits["test"].label, its_splits["test"].label)
        ours, theirs = report["config"]["data"]["name"], its_report["config"]["data"]["name"]
        if ours != theirs or not same:
            raise UserError(f"--together: {other} is of other test images than {name}.")
        if not np.array_equal(counts, its_counts):
            raise UserError(f"--together: {other} was trained on other class counts than {name}.")
        average, its_average = (one["config"].get("combine") for one in (report, its_report))
        if average != its_average:
            raise UserError(f"--together: {other} averages {its_average}, {name} {average}.")
        if "validation" in splits and "validation" in its_splits:
            where = ("imbalance", "imbalance_factor", "seed", "validation")
            held = [[one["config"]["data"][x] for x in where] for one in (report, its_report)]
            if held[0] != held[1]:
                raise UserError(f"--together: {other} held out other images than {name}.")


def _joined(parts: Sequence[Predictions]) -> Predictions:
    logits = np.concatenate([one.logits for one in parts])
    return Predictions(logits, parts[0].label, np.arange(1, len(logits) + 1))


def _prior(path, num_classes):
    try:
        prior = np.array(path.read_text().split(), float)
    except OSError as error:
        raise UserError(f"--prior {path} cannot be read ({storage.reason(error)}).") from error
    except ValueError as error:
        raise UserError(
            f"--prior {path} is no text of numbers, one a class, between blanks."
        ) from error
    fits = prior.shape == (num_classes,) and np.isfinite(prior.sum()) and (prior >= 0).all()
    if not fits or not prior.sum():
        raise UserError(
            f"--prior {path} has {shown(prior.tolist())}; it must have {num_classes} numbers, one "
            f"a class, not negative and not all 0."
        )
    return prior / prior.sum()


if __name__ == "__main__":
    Interrupts().after = "Repeat the command."
    finish(main(sys.argv[1:]))
