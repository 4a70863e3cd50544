"""Re-weighting: how much an example of each class counts in the loss. NumPy only.

A row of REWEIGHTINGS makes weights f64[C] of the class counts. With `config.reweight.start` they
start at a fraction of the phase, and all weights are 1 before: deferred re-weighting (DRW).
"""

from typing import Annotated

import numpy as np

from ltjax.limits import at_least, at_most, below


def none(class_counts: np.ndarray) -> np.ndarray:
    """All examples count alike."""
    return np.ones(len(class_counts))


def effective_number(
    class_counts: np.ndarray, *, beta: Annotated[float, at_least(0), below(1)] = 0.9999
) -> np.ndarray:
    """Weight each class by the inverse of its effective number of examples.

    Cui et al., CVPR 2019, Proposition 1: E(n) = (1 - beta^n) / (1 - beta). beta = 0 weighs all
    classes alike; beta near 1 tends to 1 / n. From 80 % of training on it is the deferred
    re-weighting of Cao et al., NeurIPS 2019, as their code has it.

    Args:
      class_counts: i64[C], each at least 1.
      beta: in [0, 1). LDAM-DRW uses 0.9999; Bag of Tricks 0.9999 on CIFAR-10, 0.9 on CIFAR-100.

    Returns:
      f64[C], scaled to sum to C.
    """
    weights = (1 - beta) / (1 - beta ** np.asarray(class_counts, np.float64))
    return weights * len(weights) / weights.sum()


def cost_sensitive(
    class_counts: np.ndarray, *, gamma: Annotated[float, at_least(0), at_most(10)] = 1.0
) -> np.ndarray:
    """Weight each class by (n_min / n_j)^gamma, so that the smallest class has weight 1.

    Cost-sensitive cross-entropy as in the code of Zhang et al. (Bag of Tricks), AAAI 2021. gamma
    = 1 is the inverse class frequency.
    """
    counts = np.asarray(class_counts, np.float64)
    return (counts.min() / counts) ** gamma


REWEIGHTINGS = {
    "none": none,
    "effective_number": effective_number,
    "cost_sensitive": cost_sensitive,
}
