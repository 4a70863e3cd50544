"""Whether two runs differ by more than the choice of test images explains.

Images are what is drawn here: both runs saw the same ones, so all comparisons are paired. Nothing
here speaks of other seeds of training: several seeds are averaged for each image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 9999


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """The exact two-sided p-value of McNemar's test (Psychometrika 1947).

    Args:
      right: bool[N], whether one run is right on each image.
      other: bool[N], of the other run.
    """
    right, other = np.asarray(right, bool), np.asarray(other, bool)
    only, others_only = int((right & ~other).sum()), int((other & ~right).sum())
    if not only + others_only:
        return 1.0
    return float(stats.binomtest(only, only + others_only).pvalue)


def difference(right: np.ndarray, other: np.ndarray, seed: int = 0) -> Interval:
    """The difference of two accuracies, with a percentile bootstrap over images.

    Args:
      right: bool[R, N], of R seeds of one method; all numbers of an image are drawn together.
      other: bool[S, N], of S seeds of the other method, on the same images.
      seed: of the bootstrap.
    """
    return interval(_per_image(right, other), seed)


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of one number an image, f[N], with a percentile bootstrap over images."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if not np.ptp(values):
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def p_value(right: np.ndarray, other: np.ndarray, seed: int = 0) -> float:
    """Of one seed each, McNemar's; of several, of flipping signs of images' mean differences.

    Args:
      right: bool[R, N].
      other: bool[S, N].
      seed: of the flips.
    """
    if len(right) == len(other) == 1:
        return mcnemar(right[0], other[0])
    values = _per_image(right, other)
    values = values[values != 0]
    if not len(values):
        return 1.0
    rng, extreme = np.random.default_rng(seed), 1  # the signs as they are count, too
    observed = abs(values.sum()) * (1 - 1e-12)
    batch = max(1, 2_000_000 // len(values))
    for start in range(0, RESAMPLES, batch):
        count = min(batch, RESAMPLES - start)
        signs = rng.integers(0, 2, (count, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return extreme / (RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, Scandinavian Journal of Statistics 1979)."""
    order, adjusted, largest = np.argsort(p_values), [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def _per_image(right, other):
    return np.mean(np.asarray(right, np.float64), 0) - np.mean(np.asarray(other, np.float64), 0)
