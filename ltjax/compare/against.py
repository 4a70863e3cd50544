"""Whether rows of a table differ by more than their test images explain, by their predictions."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltjax.analysis import significance
from ltjax.analysis.ensembles import average
from ltjax.compare.rows import Run
from ltjax.errors import UserError, plain
from ltjax.run.predictions import load


def against_best(named: Sequence[tuple[str, Run]]) -> list[dict[str, Any]]:
    """Each row against the most accurate one, over the same test images.

    Args:
      named: (name of the row, run) pairs, as ltjax.compare.rows.named gives them.

    Returns:
      A dict for each other row, the most accurate first: 'method', 'than', 'estimate', 'low',
      'high' (fractions; a 95 % interval), 'p' (of ltjax.analysis.significance.p_value; by Holm's
      method, for all pairs of rows, as the best is chosen by the same images) and 'seeds', how many
      of each. Of a row that cannot be tested, 'method' and 'untested', the reason.
    """
    runs: dict[str, dict[int, Run]] = {}
    for name, run in named:
        runs.setdefault(name, {}).setdefault(run.report["config"]["seed"], run)
    accuracy = {
        name: statistics.mean(
            run.report["splits"]["test"]["average"]["accuracy"] for run in of.values()
        )
        for name, of in runs.items()
    }
    if len(runs) < 2:
        return []
    best, *others = sorted(runs, key=lambda name: -accuracy[name])
    label, theirs = _right(runs[best])
    if isinstance(theirs, str):
        return [{"method": plain(best), "untested": f"the best row, of which {theirs}"}]
    found = []
    for name in others:
        own, ours = _right(runs[name])
        if not isinstance(ours, str) and not np.array_equal(own, label):
            ours = "its test images are others"
        if isinstance(ours, str):
            found.append({"method": plain(name), "untested": ours})
            continue
        found.append(
            {
                "method": plain(name),
                "than": plain(best),
                **significance.difference(ours, theirs)._asdict(),
                "p": significance.p_value(ours, theirs),
                "seeds": [len(ours), len(theirs)],
            }
        )
    tested = [one for one in found if "p" in one]
    pairs = [min(1.0, one["p"] * len(runs) / 2) for one in tested]
    for one, p in zip(tested, significance.holm(pairs), strict=True):
        one["p"] = p
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The differences in words: what they are, and a line each."""
    tested = [one for one in found if "p" in one]
    said = []
    if tested:
        best = tested[0]["than"]
        said.append(
            f"Against {best}, the difference in accuracy in points, its 95 % interval over test "
            f"images and p (McNemar's exact test, of several seeds flipped signs of images; by "
            f"Holm's method for all pairs of rows):"
        )
    said += [
        f"{one['method']}: {100 * one['estimate']:+.2f} ({100 * one['low']:+.2f} to "
        f"{100 * one['high']:+.2f}), p {_p(one['p'])}"
        for one in tested
    ]
    reasons: dict[str, list[str]] = {}
    for one in found:
        if "untested" in one:
            reasons.setdefault(one["untested"], []).append(one["method"])
    return said + [
        f"Not tested against the best row: {', '.join(names)} ({why})."
        for why, names in reasons.items()
    ]


def _right(runs):
    """The labels, and bool[seeds, N], where the average is right; or why that is not known."""
    label, right = None, []
    for seed, run in sorted(runs.items()):
        try:
            test = load(run.folder)["test"]
        except UserError:
            return None, f"there are no predictions of seed {seed}"
        if label is not None and not np.array_equal(label, test.label):
            return None, "test images differ from seed to seed"
        label = test.label
        said = average(test.logits, run.report["config"].get("combine", "probs"))
        right.append(said.argmax(-1) == label)
    return label, np.stack(right)


def _p(value):
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
