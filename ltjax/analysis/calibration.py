"""Whether probabilities mean what they say: errors of calibration, and a temperature."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15


def nll(log_probs: np.ndarray, label: np.ndarray) -> float:
    """Mean negative log-likelihood in nats: f64[N, C], i[N]."""
    return float(-log_probs[np.arange(len(label)), label].mean())


def brier(log_probs: np.ndarray, label: np.ndarray) -> float:
    """Mean squared distance of probabilities from the one-hot label (Brier, 1950), 0 to 2."""
    return float(((np.exp(log_probs) - np.eye(log_probs.shape[1])[label]) ** 2).sum(-1).mean())


def expected_error(log_probs: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """ECE: |accuracy - confidence| over equal bins of the top-1 confidence, weighted by images.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017.
    """
    confidence, right = _top(log_probs, label)
    return _weighted(*_gaps(confidence, right, _equal_width(confidence, bins)))


def maximum_error(log_probs: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """MCE: the largest |accuracy - confidence| of a bin as in `expected_error`."""
    confidence, right = _top(log_probs, label)
    gaps, _ = _gaps(confidence, right, _equal_width(confidence, bins))
    return float(gaps.max())


def adaptive_error(log_probs: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """As `expected_error`, with as many images in every bin (Nguyen and O'Connor, EMNLP 2015)."""
    confidence, right = _top(log_probs, label)
    right = mean_of_ties(confidence, right)  # the order of images says nothing
    return _weighted(*_gaps(confidence, right, _equal_mass(confidence, bins)))


def classwise_error(log_probs: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """Mean over classes of the ECE of "is it this class?" (Kull et al., NeurIPS 2019)."""
    probs, errors = np.exp(log_probs), []
    for number, of in enumerate(probs.T):
        errors.append(_weighted(*_gaps(of, label == number, _equal_width(of, bins))))
    return float(np.mean(errors))


def temperature(
    log_probs: np.ndarray, label: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The T of softmax(log_probs / T) with the least NLL (Guo et al., ICML 2017).

    Args:
      log_probs: f64[N, C], of held-out images; logits do as well.
      label: i[N].
      weights: f64[N], of the images; a held-out part of a long-tailed set is weighted to be
        balanced as the test split is.
    """
    weights = np.ones(len(label)) if weights is None else np.asarray(weights)

    def loss(log_t):
        own = log_softmax(log_probs / np.exp(log_t), axis=-1)[np.arange(len(label)), label]
        return -(weights * own).sum() / weights.sum()

    found = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def scaled(log_probs: np.ndarray, by: float) -> np.ndarray:
    """Log-probabilities at the temperature `by`."""
    return log_softmax(log_probs / by, axis=-1)


def mean_of_ties(confidence: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each value f64[N] replaced by the mean of those of the same confidence."""
    _, group, count = np.unique(confidence, return_inverse=True, return_counts=True)
    return (np.bincount(group, np.asarray(values, np.float64)) / count)[group]


def _top(log_probs, label):
    return np.exp(log_probs.max(-1)), log_probs.argmax(-1) == label


def _equal_width(confidence, bins):
    """The bin of each, open on the left and closed on the right."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def _equal_mass(confidence, bins):
    rank = np.empty(len(confidence), int)
    rank[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return rank * bins // len(confidence)


def _gaps(confidence, right, where):
    """|accuracy - confidence| of each bin, and how many are in it."""
    count = np.bincount(where)
    sums = np.bincount(where, right.astype(float)) - np.bincount(where, confidence)
    return np.abs(sums) / np.maximum(count, 1), count


def _weighted(gaps, count):
    return float((gaps * count).sum() / count.sum())
