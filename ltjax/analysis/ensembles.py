"""Averages of any experts of any runs, and accuracy by the number of experts."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

MOST_SUBSETS = 200  # of one size; of more, so many are drawn


def average(logits: np.ndarray, combine: str = "probs") -> np.ndarray:
    """Log-probabilities of the average of experts.

    Args:
      logits: f[E, N, C].
      combine: 'probs' averages softmax outputs, 'logits' what they are made of.

    Returns:
      f64[N, C].
    """
    logits = np.asarray(logits, np.float64)
    if combine == "logits":
        return log_softmax(logits.mean(0), axis=-1)
    return logsumexp(log_softmax(logits, axis=-1), axis=0) - math.log(len(logits))


class ByNumber(NamedTuple):
    """Accuracy of averages of so many experts."""

    number: int  # of experts, k
    mean: float  # over subsets
    deviation: float | None  # the standard deviation over them; None for one
    subsets: int  # how many there were, or were drawn


def by_number(
    logits: np.ndarray, label: np.ndarray, combine: str = "probs", seed: int = 0
) -> list[ByNumber]:
    """Accuracy of the average of k experts, over subsets of k of them, for k = 1..E.

    Subsets overlap, so that their deviation is no standard error; `disjoint` has independent
    ensembles.

    Args:
      logits: f[E, N, C].
      label: i[N].
      combine: see `average`.
      seed: of the subsets that are drawn where there are more than MOST_SUBSETS.
    """
    logits = np.asarray(logits)
    # means of any subset are sums: softmax outputs, or logits, are enough
    values = np.exp(log_softmax(logits, axis=-1)) if combine == "probs" else logits
    found = []
    for number in range(1, len(logits) + 1):
        right = [
            float((values[list(subset)].mean(0).argmax(-1) == label).mean())
            for subset in subsets(len(logits), number, seed)
        ]
        deviation = float(np.std(right, ddof=1)) if len(right) > 1 else None
        found.append(ByNumber(number, float(np.mean(right)), deviation, len(right)))
    return found


def subsets(count: int, size: int, seed: int = 0) -> Iterator[tuple[int, ...]]:
    """All subsets of `size` of `count` experts, or MOST_SUBSETS different ones."""
    if math.comb(count, size) <= MOST_SUBSETS:
        yield from itertools.combinations(range(count), size)
        return
    rng, seen = np.random.default_rng((seed, count, size)), set()
    while len(seen) < MOST_SUBSETS:
        subset = tuple(sorted(rng.choice(count, size, replace=False).tolist()))
        if subset not in seen:
            seen.add(subset)
            yield subset


def disjoint(count: int, size: int) -> list[Sequence[int]]:
    """Experts in groups of `size` that share none: independent ensembles, count // size of them."""
    return [range(start, start + size) for start in range(0, count - size + 1, size)]
