"""Long-tailed splits: how many training images each class keeps, and which. NumPy only."""

import hashlib

import numpy as np

from ltjax.errors import FieldError, UserError

MANY, FEW = 100, 20  # many: more than 100 training images; few: fewer than 20; medium between


def long_tailed_counts(
    num_classes: int, largest: float, imbalance_factor: float, imbalance: str = "exp"
) -> np.ndarray:
    """Class sizes of a long-tailed training set.

    Cui et al., CVPR 2019, section 5.1, in the form of LDAM-DRW's code (Cao et al. 2019), truncation
    included: with f = 1 / imbalance_factor, 'exp' gives floor(largest * f^(j / (C - 1))) and 'step'
    floor(largest) for the first half of the classes, floor(largest * f) for the rest.

    Args:
      num_classes: C, at least 2.
      largest: images of the largest class before truncation.
      imbalance_factor: largest count / smallest count (before truncation), at least 1.
      imbalance: 'exp' or 'step'.

    Returns:
      i64[C], class 0 the head; truncation may leave the last classes none (see check_counts).
    """
    # The authors' code passes 1 / imbalance_factor, and truncation can tell the two apart.
    f = 1.0 / imbalance_factor
    j = np.arange(num_classes)
    if imbalance == "exp":
        sizes = [largest * f ** (k / (num_classes - 1.0)) for k in j]
    elif imbalance == "step":
        sizes = [largest if k < num_classes / 2 else largest * f for k in j]
    else:
        raise FieldError("data.imbalance", imbalance, "it must be one of exp, step")
    return np.array([int(size) for size in sizes], np.int64)


def check_counts(counts: np.ndarray, imbalance_factor: float) -> None:
    """Refuse class counts with an empty class.

    Raises:
      UserError: naming the first such class and the largest factor that leaves none empty.
    """
    empty = np.flatnonzero(np.asarray(counts) < 1)
    if len(empty):
        why = f"that leaves class {empty[0]} without training images; it can be at most"
        raise FieldError("data.imbalance_factor", imbalance_factor, f"{why} {max(counts)}")


def select(labels: np.ndarray, counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which examples stay: the first counts[j] of class j after a shuffle of its examples.

    LDAM-DRW's code exactly: one stream of NumPy's legacy generator (MT19937) goes through the
    classes in order and shuffles each whole, the head too.

    Args:
      labels: i64[N], in the order of the source's files.
      counts: i64[C], images to keep.
      seed: of the generator ('rand_number' in the authors' code).

    Returns:
      i64[sum(counts)], positions in `labels`, class by class, each in shuffled order.
    """
    generator = np.random.RandomState(seed)
    chosen = []
    for label, count in enumerate(counts):
        positions = np.flatnonzero(labels == label)
        if len(positions) < count:
            raise UserError(f"Class {label} has {len(positions)} images, but {count} are required.")
        generator.shuffle(positions)
        chosen.append(positions[:count])
    return np.concatenate(chosen)


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a validation part from the training set: floor(share * n_j) examples of every class j.

    Args:
      labels: i64[N].
      share: in [0, 1). A class with fewer than 1 / share images gives none.
      seed: of the choice.

    Returns:
      (training, held out): positions in `labels`, both increasing.
    """
    bits = np.random.Philox(seed)  # its raw bits are the same in all versions of NumPy
    held = []
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        order = np.argsort(bits.random_raw(len(positions)), kind="stable")
        held.append(positions[order[: int(share * len(positions))]])
    held = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), held), held


def groups(class_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Which classes are many (> 100 training images), medium (20 to 100) and few (< 20), bool[C].

    Liu et al., CVPR 2019 (OLTR), with the limits of Kang et al., ICLR 2020: 100 and 20 are medium.
    """
    counts = np.asarray(class_counts)
    many, few = counts > MANY, counts < FEW
    return {"many": many, "medium": ~many & ~few, "few": few}


def subsets(class_counts: np.ndarray) -> np.ndarray:
    """Classes of neighbouring size: three parts of a tail, each flatter than the whole.

    Xiang et al. (LFME), ECCV 2020, with the limits of their code, where 100 is many
    and 20 is few (unlike in `groups`). Where a part would have fewer than two classes, so nothing
    to tell apart, as in CIFAR-10-LT, classes are ranked by size and cut into thirds, which is ours.

    Args:
      class_counts: i64[C], C at least 3.

    Returns:
      bool[3, C], the largest classes first; every class is in one part.
    """
    counts = np.asarray(class_counts)
    many, few = counts >= MANY, counts <= FEW
    parts = np.stack([many, ~many & ~few, few])
    if (parts.sum(1) > 1).all():
        return parts
    thirds = np.array_split(np.argsort(-counts, kind="stable"), 3)
    return np.stack([np.isin(np.arange(len(counts)), third) for third in thirds])


def longtailedness(class_counts: np.ndarray) -> dict[str, float]:
    """Four measures of how uneven class sizes are; each grows with the tail.

    By measures of these names Xiang et al. (LFME), ECCV 2020, show that `subsets` are flatter than
    the whole. With shares p_j = n_j / N: 'imbalance_factor', largest / smallest; 'divergence' from
    uniform, sum p_j log(C p_j) in nats; 'deviation', sum |p_j - 1 / C|; 'gini', the coefficient of
    Gini. The last three are 0 for a balanced set.
    """
    counts = np.sort(np.asarray(class_counts, np.float64))
    num_classes, shares = len(counts), counts / counts.sum()
    rank = np.arange(1, num_classes + 1)
    return {
        "imbalance_factor": float(counts[-1] / counts[0]),
        "divergence": float((shares * np.log(num_classes * shares)).sum()),
        "deviation": float(np.abs(shares - 1 / num_classes).sum()),
        "gini": float((2 * rank - num_classes - 1) @ shares / num_classes),
    }


def checksum(image: np.ndarray, label: np.ndarray, index: np.ndarray) -> str:
    """A fingerprint of a split: sha256 over pixels, labels and source positions, ordered by these.

    Files of one split differ between machines; their content does not.
    """
    order = np.argsort(index, kind="stable")
    digest = hashlib.sha256()
    for array in (index.astype("<i8"), label.astype("<i8"), image.astype(np.uint8)):
        digest.update(array[order].tobytes())
    return digest.hexdigest()
