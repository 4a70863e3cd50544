"""Samplers: which training examples an expert sees at a step. NumPy only.

A sampler is a pure function of (seed, phase, expert) and the step, through a counter-based
generator: resuming needs no iterator state, every host computes the same small table, and every
expert draws its own order. Only raw bits of the generator are used, because NumPy promises those
never to change.
"""

from collections.abc import Callable

import numpy as np

from ltjax.errors import UserError

Stream = tuple[int, ...]  # (seed, phase, expert)
Draw = Callable[[Stream, int], np.ndarray]  # (stream, step) -> i64[B], positions in the labels


def instance_balanced(labels: np.ndarray, batch_size: int) -> Draw:
    """Every image equally often: shuffled epochs, end to end, without replacement.

    Batches are cut from one endless row of shuffles. The authors' loaders instead end each epoch
    with a smaller batch (LDAM-DRW) or drop it (Decoupling); here it is filled up from the next
    shuffle, so all batches are full and no image is dropped.
    """
    size = len(labels)
    last: dict[tuple, np.ndarray] = {}  # the shuffle that the previous batch came from

    def shuffle(stream, epoch):
        key = (*stream, epoch)
        if key not in last:
            for old in [old for old in last if old[:-1] == stream and old[-1] < epoch]:
                del last[old]
            last[key] = np.argsort(_bits(key, size), kind="stable")
        return last[key]

    def draw(stream, step):
        row = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs = row // size
        out = np.empty(batch_size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = shuffle(stream, int(epoch))[row[here] % size]
        return out

    return draw


def power(labels: np.ndarray, batch_size: int, *, q: float) -> Draw:
    """Draw class j with p_j = n_j^q / sum_i n_i^q, then one of its images, with replacement.

    The family of Kang et al., ICLR 2020, section 3.1: q = 1 is instance-balanced, q = 1/2
    square-root, q = 0 class-balanced sampling; q < 0 favours the tail.
    """
    if not -2 <= q <= 2:
        raise UserError(f"config.sampler.q is {q}; it must be between -2 and 2.")
    class_counts = np.bincount(labels)
    by_class = np.argsort(labels, kind="stable")
    first = np.concatenate([[0], np.cumsum(class_counts)[:-1]])
    edges = np.cumsum(class_probabilities(class_counts, q))

    def draw(stream, step):
        u = _uniform((*stream, step), 2 * batch_size)
        label = np.minimum(np.searchsorted(edges, u[:batch_size], side="right"), len(edges) - 1)
        within = (u[batch_size:] * class_counts[label]).astype(np.int64)
        return by_class[first[label] + within]

    return draw


SAMPLERS = {"instance_balanced": instance_balanced, "power": power}


def class_probabilities(class_counts: np.ndarray, q: float) -> np.ndarray:
    """n_j^q / sum_i n_i^q, f64[C]; a class without images has probability 0."""
    counts = np.asarray(class_counts, np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** q, 0)
    return weights / weights.sum()


def _bits(key: tuple[int, ...], num: int) -> np.ndarray:
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(num)


def _uniform(key: tuple[int, ...], num: int) -> np.ndarray:
    """f64[num] in [0, 1)."""
    return (_bits(key, num) >> np.uint64(11)) * 2.0**-53
