"""Samplers: which training examples an expert sees at a step. NumPy only.

A row of SAMPLERS makes a Draw: a pure function of (seed, phase, expert) and the step, through a
counter-based generator. So resuming needs no iterator state, every host computes the same small
table, and every expert draws its own order.

There are two families. Some go through epochs, shuffled and cut into batches end to end, so that
all batches are full and no image is dropped. (The authors' loaders end each epoch with a smaller
batch, as LDAM-DRW's, or drop it, as Decoupling's.) The others draw a class by its probability, then
one of its images, with replacement. An epoch of training is ceil(N / B) steps with any of them, so
that all train equally long.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from ltjax.data.rng import Draw, end_to_end, shuffle, uniform
from ltjax.data.sampling_cycles import class_aware, class_cycle
from ltjax.limits import at_least, at_most, below, one_of
from ltjax.losses import reweighting


def instance_balanced(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """Every image equally often: shuffled epochs, without replacement."""
    del num_steps
    size = len(labels)
    return end_to_end(batch_size, size, lambda *key: shuffle(key, size))


def power(
    labels: np.ndarray,
    batch_size: int,
    num_steps: int,
    *,
    q: Annotated[float, at_least(-2), at_most(2)],
) -> Draw:
    """Draw class j with p_j = n_j^q / sum_i n_i^q, then one of its images, with replacement.

    The family of Kang et al. (Decoupling), ICLR 2020, section 3.1: q = 1 is instance-balanced,
    q = 1/2 square-root, q = 0 class-balanced sampling; q < 0 favours the tail.
    """
    del num_steps
    probabilities = class_probabilities(np.bincount(labels), q)
    return _by_class(labels, batch_size, lambda step: probabilities)


def square_root(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """Power sampling with q = 1/2, between instance- and class-balanced.

    Mahajan et al., ECCV 2018, as in Kang et al. (Decoupling), ICLR 2020.
    """
    return power(labels, batch_size, num_steps, q=0.5)


def class_balanced(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """Every class equally often, power sampling with q = 0.

    As Kang et al. (Decoupling), ICLR 2020, define it and the code of Zhang et al. (Bag of Tricks),
    AAAI 2021, draws it: class and image both with replacement.
    """
    return power(labels, batch_size, num_steps, q=0.0)


def reversed_(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """Class j in proportion to 1 / n_j, power sampling with q = -1.

    Zhou et al. (BBN), CVPR 2020, equation 4: the reversed sampler of its re-balancing branch.
    """
    return power(labels, batch_size, num_steps, q=-1.0)


def effective_number(
    labels: np.ndarray,
    batch_size: int,
    num_steps: int,
    *,
    beta: Annotated[float, at_least(0), below(1)] = 0.9999,
) -> Draw:
    """Re-sample by the effective number of examples: p_j in proportion to n_j / E(n_j).

    The "Resample" rule of Cao et al. (LDAM-DRW), NeurIPS 2019, whose published code builds this
    sampler and then trains without it; E(n) = (1 - beta^n) / (1 - beta) (Cui et al., CVPR 2019).
    """
    del num_steps
    counts = np.bincount(labels)
    # a class without images has probability 0
    weights = counts * reweighting.effective_number(np.maximum(counts, 1), beta=beta)
    return _by_class(labels, batch_size, lambda step: weights / weights.sum())


def progressively_balanced(
    labels: np.ndarray,
    batch_size: int,
    num_steps: int,
    *,
    convention: Annotated[str, one_of("decoupling", "bag_of_tricks")] = "decoupling",
) -> Draw:
    """From instance-balanced to class-balanced: p_j = (1 - t) n_j / N + t / C, epoch by epoch.

    Kang et al. (Decoupling), ICLR 2020, equation 2. In epoch e = 1..T of the phase, t is
    (e - 1) / (T - 1) in the authors' code ("decoupling") and e / T in that of Zhang et al., AAAI
    2021 ("bag_of_tricks").
    """
    counts = np.bincount(labels)
    per_epoch = -(-len(labels) // batch_size)
    epochs = -(-num_steps // per_epoch)

    def probabilities(step):
        epoch = min(step // per_epoch + 1, epochs)
        from_zero = (epoch - 1) / max(epochs - 1, 1)
        t = from_zero if convention == "decoupling" else epoch / epochs
        return progressive_probabilities(counts, t)

    return _by_class(labels, batch_size, probabilities)


def over_sampling(labels: np.ndarray, batch_size: int, num_steps: int) -> Draw:
    """Random over-sampling: epochs in which every class has as many images as the largest.

    Each image once, and random duplicates, drawn again in each epoch, as padding; shuffled. The
    textbook method (Japkowicz and Stephen, 2002); no code of the field defines it more closely.
    """
    del num_steps
    counts = np.bincount(labels)
    missing = np.repeat(np.arange(len(counts)), np.where(counts > 0, counts.max() - counts, 0))
    pick, size = _picker(labels), len(labels) + len(missing)

    def epoch(*key):
        rows = np.concatenate(
            [np.arange(len(labels)), pick(missing, uniform((*key, 1), len(missing)))]
        )
        return rows[shuffle(key, size)]

    return end_to_end(batch_size, size, epoch)


def under_sampling(
    labels: np.ndarray, batch_size: int, num_steps: int, *, anew: bool = False
) -> Draw:
    """Random under-sampling: epochs in which every class has as few images as the smallest.

    Every expert keeps a random choice of its own, without replacement; with `anew` it is drawn
    again for each epoch. Japkowicz and Stephen, 2002; several experts with their own choices are
    Liu et al., "Exploratory Undersampling for Class-Imbalance Learning", 2009, EasyEnsemble.
    """
    del num_steps
    counts = np.bincount(labels)
    smallest = counts[counts > 0].min()
    size = int(smallest * (counts > 0).sum())

    def epoch(*key):
        *stream, _ = key
        order = shuffle((*key, 1) if anew else (*stream, 0, 1), len(labels))
        order = order[np.argsort(labels[order], kind="stable")]  # by class, shuffled within
        rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
        return order[rank < smallest][shuffle(key, size)]

    return end_to_end(batch_size, size, epoch)


SAMPLERS = {
    "instance_balanced": instance_balanced,
    "power": power,
    "square_root": square_root,
    "class_balanced": class_balanced,
    "class_aware": class_aware,
    "class_cycle": class_cycle,
    "progressively_balanced": progressively_balanced,
    "reversed": reversed_,
    "effective_number": effective_number,
    "over_sampling": over_sampling,
    "under_sampling": under_sampling,
}


def in_order(size: int, batch_size: int) -> Draw:
    """All images in order, repeated, the same for every expert.

    -1 pads the last batch of each pass.
    """
    per_pass = -(-size // batch_size)

    def draw(stream, step):
        del stream
        rows = step % per_pass * batch_size + np.arange(batch_size)
        return np.where(rows < size, rows, -1)

    return draw


def among(rows: np.ndarray, draw: Draw) -> Draw:
    """A sampler of a part of the images: rows i64[n] are the positions that `draw` numbers."""
    return lambda stream, step: rows[draw(stream, step)]


def each_class(labels: np.ndarray, batch_size: int) -> Draw:
    """One random image of every class, then of the first classes again until the batch is full."""
    pick = _picker(labels)
    classes = np.resize(np.flatnonzero(np.bincount(labels)), batch_size)
    return lambda stream, step: pick(classes, uniform((*stream, step), batch_size))


def of_each_expert(draws: Sequence[Draw]) -> Draw:
    """A sampler for each expert, taken in turn: expert e draws by the one of number e mod K."""

    def draw(stream, step):
        _, _, expert, *_ = stream
        return draws[expert % len(draws)](stream, step)

    return draw


def deferred(draw: Draw, until_then: Draw, start: int) -> Draw:
    """`draw` from step `start` on: deferred re-sampling (DRS), Zhang et al., AAAI 2021."""
    return lambda stream, step: (draw if step >= start else until_then)(stream, step)


def class_probabilities(class_counts: np.ndarray, q: float) -> np.ndarray:
    """n_j^q / sum_i n_i^q, f64[C]; a class without images has probability 0."""
    counts = np.asarray(class_counts, np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1) ** q, 0)
    return weights / weights.sum()


def progressive_probabilities(class_counts: np.ndarray, t: float) -> np.ndarray:
    """(1 - t) n_j / N + t / C, f64[C], t in [0, 1]."""
    instance, balanced = (class_probabilities(class_counts, q) for q in (1, 0))
    return (1 - t) * instance + t * balanced


def _by_class(labels, batch_size, probabilities) -> Draw:
    """A class by probabilities(step), then one of its images, with replacement."""
    pick = _picker(labels)

    def draw(stream, step):
        u = uniform((*stream, step), 2 * batch_size)
        edges = np.cumsum(probabilities(step))
        label = np.minimum(np.searchsorted(edges, u[:batch_size], side="right"), len(edges) - 1)
        return pick(label, u[batch_size:])

    return draw


def _picker(labels):
    """(label i64[K], u f64[K] in [0, 1)) -> an image of each label, i64[K]."""
    counts = np.bincount(labels)
    by_class = np.argsort(labels, kind="stable")
    first = np.cumsum(counts) - counts

    def pick(label, u):
        return by_class[first[label] + (u * counts[label]).astype(np.int64)]

    return pick
