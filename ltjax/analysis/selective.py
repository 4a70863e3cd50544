"""Predictions that may be withheld, or be several classes."""

import numpy as np

from ltjax.analysis.calibration import mean_of_ties


def risk_coverage(log_probs: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The error of the most confident share of images, for every share.

    El-Yaniv and Wiener, JMLR 2010.

    Returns:
      coverage f64[N], rising to 1, and risk f64[N], the error among so many.
    """
    confidence = log_probs.max(-1)
    order = np.argsort(-confidence, kind="stable")
    wrong = mean_of_ties(confidence, log_probs.argmax(-1) != label)[order]
    number = np.arange(1, len(label) + 1)
    return number / len(label), np.cumsum(wrong) / number


def area_under_risk(log_probs: np.ndarray, label: np.ndarray) -> float:
    """AURC: the mean of the risk over coverages (Geifman et al., ICLR 2019)."""
    return float(risk_coverage(log_probs, label)[1].mean())


def conformal_sets(
    held_out: np.ndarray,
    held_out_label: np.ndarray,
    log_probs: np.ndarray,
    level: float = 0.9,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Sets of classes that hold the true one on a share `level` of images.

    A class is in the set if its probability is not below a threshold from held-out images (Sadinle
    et al., JASA 2019). Where the class frequencies of the test images are others, held-out images
    and the class that is asked about count by `weight` (Podkopaev and Ramdas, UAI 2021).

    Args:
      held_out: f64[M, C], log-probabilities of held-out images.
      held_out_label: i[M].
      log_probs: f64[N, C], of test images.
      level: in (0, 1).
      weight: f64[C], test prior / held-out prior; ones by default.

    Returns:
      bool[N, C]. A class that too few held-out images speak of is in every set.
    """
    weight = np.ones(log_probs.shape[1]) if weight is None else np.asarray(weight, np.float64)
    score = -held_out[np.arange(len(held_out_label)), held_out_label]  # large: unlikely
    order = np.argsort(score)
    score, mass = score[order], np.cumsum(weight[held_out_label][order])
    needed = level * (mass[-1] + weight) * (1 - 1e-12)  # [C]
    place = np.searchsorted(mass, needed)
    threshold = np.append(score, np.inf)[place]  # [C]
    return -log_probs <= threshold


def coverage(sets: np.ndarray, label: np.ndarray) -> float:
    """The share of images whose set holds their class."""
    return float(sets[np.arange(len(label)), label].mean())
