"""For samplers: streams of random numbers, and batches cut from them. NumPy only.

Only raw bits of a counter-based generator are used, because NumPy promises those never to change.
"""

from collections.abc import Callable

import numpy as np

Stream = tuple[int, ...]  # (seed, phase, expert)
Draw = Callable[[Stream, int], np.ndarray]  # (stream, step) -> i64[B], positions in the labels


def end_to_end(batch_size, size, epoch) -> Draw:
    """Batches cut from one endless row of epochs, epoch(*stream, number) -> i64[size]."""
    latest: dict[tuple, tuple[int, np.ndarray]] = {}

    def draw(stream, step):
        row = np.arange(step * batch_size, (step + 1) * batch_size)
        out = np.empty(batch_size, np.int64)
        for number in np.unique(row // size).tolist():
            if latest.get(stream, (None,))[0] != number:
                latest[stream] = number, epoch(*stream, number)
            here = row // size == number
            out[here] = latest[stream][1][row[here] % size]
        return out

    return draw


def shuffle(key: tuple[int, ...], size: int) -> np.ndarray:
    """0..size - 1 in a random order, i64[size]."""
    return np.argsort(bits(key, size), kind="stable")


def bits(key: tuple[int, ...], num: int) -> np.ndarray:
    """u64[num]; any of the numbers in `key` gives others."""
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(num)


def uniform(key: tuple[int, ...], num: int) -> np.ndarray:
    """f64[num] in [0, 1)."""
    return (bits(key, num) >> np.uint64(11)) * 2.0**-53
