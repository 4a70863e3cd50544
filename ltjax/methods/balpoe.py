"""BalPoE: each head expects another class distribution; on average they cancel out.

Sanchez Aimar et al., "Balanced Product of Calibrated Experts for Long-Tailed Recognition", CVPR
2023. Head k is trained by logit adjustment with its own tau_k, on blends of images; the mean of the
logits belongs to the mean tau.
"""

from typing import Annotated

import jax.numpy as jnp
import numpy as np

from ltjax import build, phases
from ltjax.config.requires import requires_defaults
from ltjax.errors import FieldError
from ltjax.limits import at_least, at_most
from ltjax.methods.parts.several_heads import (
    OWN_LOSS,
    HeadsLoss,
    branched,
    log_shares,
    shifted,
    through,
)


@requires_defaults("loss", "reweight", because=OWN_LOSS)
def recipe(
    settings,
    info,
    *,
    num_heads: Annotated[int, at_least(2), at_most(64)] = 3,
    tau_min: Annotated[float, at_least(-100), at_most(100)] = 0.0,
    tau_max: Annotated[float, at_least(-100), at_most(100)] = 2.0,
) -> tuple[phases.Phase, ...]:
    """Heads with logit adjustments from weak to strong, on blends of images.

    Sanchez Aimar et al. (BalPoE), CVPR 2023.

    Args:
      settings: of the phase; each of its num_experts has num_heads heads. The table of methods
        chooses mixup, with the authors' strength for each data set.
      info: of the training set.
      num_heads: K.
      tau_min: of the first head.
      tau_max: of the last one; those between are equally spaced. A mean of 1 cancels the training
        distribution.
    """
    if tau_min > tau_max:
        raise FieldError("tau_min", tau_min, f"it must be at most tau_max, {tau_max}")
    taus = np.linspace(tau_min, tau_max, num_heads)
    network = branched(settings, info, num_heads, reduced=False)
    method = through(network, adjusted(info.class_counts, taus), settings, info)
    method = method._replace(head_names=tuple(f"tau {tau:g}" for tau in taus))
    return (build.phase(settings, info, method),)


def adjusted(class_counts, taus) -> HeadsLoss:
    """The mean over heads of CE(z_k + tau_k log(prior + 1e-9)).

    Sanchez Aimar et al., CVPR 2023. The authors' code takes the mean over heads, SADE's the sum.

    Args:
      class_counts: i64[C].
      taus: [K].
    """
    prior = np.asarray(class_counts) / np.sum(class_counts)
    return shifted(np.multiply.outer(taus, log_shares(prior)), jnp.mean)
