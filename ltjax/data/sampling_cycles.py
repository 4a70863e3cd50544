"""Samplers that go through each class in cycles: all its images before one comes again.

Rows of ltjax.data.sampling.SAMPLERS; NumPy only.
"""

from typing import Annotated

import numpy as np

from ltjax.data.rng import Draw, end_to_end, shuffle, uniform
from ltjax.limits import at_least, at_most


def class_aware(
    labels: np.ndarray,
    batch_size: int,
    num_steps: int,
    *,
    images_per_class: Annotated[int, at_least(1), at_most(1000)] = 4,
) -> Draw:
    """Class after class in shuffled order, a few images of each from a cycle of its own.

    Shen et al., ECCV 2016, as Kang et al. (Decoupling), ICLR 2020, use it for re-training: all
    classes are visited before one comes again, and all images of a class before one comes again.
    """
    del num_steps
    counts, cycle = np.bincount(labels), _cycles(labels)
    classes = np.flatnonzero(counts)

    def visit(*key):
        *stream, number = key
        turns = range(number * images_per_class, (number + 1) * images_per_class)
        return np.array(
            [
                cycle(stream, i // counts[label], label)[i % counts[label]]
                for label in classes[shuffle(key, len(classes))]
                for i in turns
            ]
        )

    return end_to_end(batch_size, len(classes) * images_per_class, visit)


def class_cycle(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """A class, each equally likely, then the next image from a shuffled cycle of its own.

    The class-balanced sampling of Wang et al. (RIDE), ICLR 2021: classes come by chance, but all
    images of a class before one comes again.
    """
    del num_steps
    size, counts, cycle = len(labels), np.bincount(labels), _cycles(labels)
    classes = np.flatnonzero(counts)
    seen: dict[tuple, tuple[int, np.ndarray]] = {}  # (epoch, draws of each class before it)

    def drawn(stream, number):
        return classes[(uniform((*stream, number), size) * len(classes)).astype(np.int64)]

    def before(stream, number):
        first, draws = seen.get(stream, (0, 0))
        first, draws = (first, draws) if first <= number else (0, 0)
        for earlier in range(first, number):
            draws = draws + np.bincount(drawn(stream, earlier), minlength=len(counts))
        seen[stream] = number, draws
        return draws + np.zeros(len(counts), np.int64)

    def epoch(*key):
        *stream, number = key
        label, turn = drawn(stream, number), before(tuple(stream), number)
        rows = np.empty(size, np.int64)
        for c in classes:
            places = np.flatnonzero(label == c)
            turns = turn[c] + np.arange(len(places))
            for again in np.unique(turns // counts[c]).tolist():
                here = turns // counts[c] == again
                rows[places[here]] = cycle(stream, again, c)[turns[here] % counts[c]]
        return rows

    return end_to_end(batch_size, size, epoch)


def _cycles(labels):
    """(stream, number, label) -> the images of a class in the order of its n-th cycle."""
    counts = np.bincount(labels)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    latest: dict[tuple, tuple[int, np.ndarray]] = {}

    def cycle(stream, number, label):
        held = latest.get((*stream, label))
        if held is None or held[0] != number:
            order = by_class[label][shuffle((*stream, number, 2, label), counts[label])]
            latest[*stream, label] = held = number, order
        return held[1]

    return cycle
