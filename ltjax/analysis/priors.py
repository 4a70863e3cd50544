"""Test sets with other class frequencies: predictions for a prior that is known or estimated."""

import numpy as np
from scipy.special import log_softmax

FACTORS = (2, 5, 10, 25, 50)  # of long-tailed test sets, as SADE (Zhang et al., NeurIPS 2022)


def uniform(num_classes: int) -> np.ndarray:
    """The prior of a balanced test set, f64[C]."""
    return np.full(num_classes, 1 / num_classes)


def long_tailed(num_classes: int, factor: float, backward: bool = False) -> np.ndarray:
    """A prior that falls exponentially with the class number, f64[C]; rising if `backward`.

    Class 0 is the largest of the training set in CIFAR-LT. Hong et al. (LADE), CVPR 2021: such test
    sets are forward (alike the training set) or backward.
    """
    falling = factor ** -(np.arange(num_classes) / max(num_classes - 1, 1))
    return (falling[::-1] if backward else falling) / falling.sum()


def shifted(log_probs: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Predictions for another prior: p(y | x) target(y) / source(y), normalised.

    With the training prior as source and a uniform target, it is post-hoc logit adjustment (Menon
    et al., ICLR 2021); for any target, Hong et al. (LADE), CVPR 2021, eq. 5.

    Args:
      log_probs: f64[N, C].
      source: f64[C], the prior that the predictions are made for: that of the training set for a
        plain loss, uniform for one that corrects it, such as balanced softmax. Above 0.
      target: f64[C], of the images that are predicted.

    Returns:
      f64[N, C], log-probabilities.
    """
    with np.errstate(divide="ignore"):  # a class that cannot be: -inf
        return log_softmax(log_probs + np.log(target) - np.log(source), axis=-1)


def estimated(
    log_probs: np.ndarray,
    source: np.ndarray,
    weights: np.ndarray | None = None,
    most_steps: int = 200,
) -> np.ndarray:
    """The prior of unlabelled images, by expectation maximisation.

    Saerens, Latinne and Decaestecker, Neural Computation 2002. It assumes calibrated predictions,
    and that images of a class are as in training.

    Args:
      log_probs: f64[N, C].
      source: f64[C], see `shifted`.
      weights: f64[N], how often each image occurs; once by default.
      most_steps: it ends before where no class moves by more than 1e-6.

    Returns:
      f64[C].
    """
    weights = np.ones(len(log_probs)) if weights is None else np.asarray(weights, np.float64)
    weights, source = weights / weights.sum(), np.asarray(source, np.float64)
    probs, prior = np.exp(log_probs), source
    for _ in range(most_steps):
        ratio = prior / source  # [C]
        new = ratio * (weights / (probs @ ratio) @ probs)
        moved, prior = np.abs(new - prior).max(), new
        if moved < 1e-6:
            break
    return prior


def accuracy(prediction: np.ndarray, label: np.ndarray, prior: np.ndarray) -> float:
    """Expected accuracy on a test set of that prior, drawn from these images by class.

    The mean over classes, weighted by the prior: what papers measure on one such draw.

    Args:
      prediction: i[N].
      label: i[N]; of every class that the prior gives weight there must be images.
      prior: f64[C].
    """
    counts = np.bincount(label, minlength=len(prior))
    right = np.bincount(label[prediction == label], minlength=len(prior))
    seen = prior > 0
    return float((prior[seen] * right[seen] / counts[seen]).sum())


def weights_of(label: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """f64[N]: how often images occur in a test set of that prior, drawn by class; mean 1."""
    counts = np.bincount(label, minlength=len(prior))
    return len(label) * (prior / np.maximum(counts, 1))[label]
