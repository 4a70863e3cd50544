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
      named: (name of the row, run) pairs, as ltjax.compare.rows.named gives them. Runs without
        predictions are left out, and so are those of other test images than the best row's.

    Returns:
      A dict for each other row, the most accurate first: 'method', 'than', 'estimate', 'low',
      'high' (fractions; a 95 % interval), 'p' (of ltjax.analysis.significance.p_value, by Holm's
      method for the number of rows) and 'seeds', how many of each.
    """
    right: dict[str, dict[int, np.ndarray]] = {}
    labels = {}
    for name, run in named:
        try:
            test = load(run.folder)["test"]
        except UserError:
            continue
        said = average(test.logits, run.report["config"].get("combine", "probs")).argmax(-1)
        labels.setdefault(name, test.label)
        right.setdefault(name, {}).setdefault(run.report["config"]["seed"], said == test.label)
    ranked = sorted(
        right, key=lambda name: -statistics.mean(of.mean() for of in right[name].values())
    )
    found = []
    for name in ranked[1:]:
        if not np.array_equal(labels[name], labels[ranked[0]]):
            continue
        ours, best = (np.stack(list(right[one].values())) for one in (name, ranked[0]))
        found.append(
            {
                "method": plain(name),
                "than": plain(ranked[0]),
                **significance.difference(ours, best)._asdict(),
                "p": significance.p_value(ours, best),
                "seeds": [len(ours), len(best)],
            }
        )
    for one, p in zip(found, significance.holm([one["p"] for one in found]), strict=True):
        one["p"] = p
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """The differences in words: what they are, and a line each."""
    if not found:
        return []
    best = found[0]["than"]
    return [
        f"Against {best}, the difference in accuracy in points, its 95 % interval over test images "
        f"and p (McNemar's exact test, of several seeds flipped signs of images; Holm's method):",
        *(
            f"{one['method']}: {100 * one['estimate']:+.2f} ({100 * one['low']:+.2f} to "
            f"{100 * one['high']:+.2f}), p {_p(one['p'])}"
            for one in found
        ),
    ]


def _p(value):
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
