"""BBN: two branches on one trunk; one sees all images alike, the other mostly the tail.

Zhou et al., "BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual
Recognition", CVPR 2020. The branches are a last block each; one classifier reads the features of
both, scaled by alpha and 1 - alpha, which also weigh the labels of the two batches. As alpha falls
from 1, learning turns from the features of all images to the classes with few.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import build, phases
from ltjax.config.requires import head_of, requires_defaults
from ltjax.data import sampling
from ltjax.learner import LossOutput, Method, Prediction, Variables
from ltjax.losses.objective import Objective
from ltjax.methods.parts import requirements as needs
from ltjax.models.bbn import Bilateral, bilateral
from ltjax.models.parts import pooled

BRANCHES = CONVENTIONAL, REBALANCING = "conventional", "rebalancing"


@requires_defaults(
    "mixing", "reweight", because="blends images and balances classes by its two branches"
)
def recipe(settings, info) -> tuple[phases.Phase, ...]:
    """A branch for images as they come and one for reversed sampling, under one classifier.

    Zhou et al. (BBN), CVPR 2020.

    Args:
      settings: its sampler draws for the conventional branch; both use its loss; its network
        is split before the last block (the authors do so with ResNet-32 and ResNet-50).
      info: of the training set.
    """
    network = needs.network_of_stages(settings, info)
    per_epoch = phases.steps_per_epoch(info.num_train, settings)
    method = bbn(
        bilateral(network, BRANCHES),
        build.objective(settings, info.class_counts),
        by_epochs(alphas(settings.num_epochs), settings.num_epochs, per_epoch),
    )
    if head_of(settings) != "linear":  # whose logits of a mean are not their mean
        method = method._replace(combined="that of both branches' features, at alpha = 1/2")
    streams = {"reversed": sampling.reversed_}
    return (build.phase(settings, info, method, streams=streams),)


def bbn(network: Bilateral, objective: Objective, alpha: Callable) -> Method:
    """Train two branches on two batches, 'image' and 'label', and those of the stream 'reversed'.

    z = W [2 alpha f_c; 2 (1 - alpha) f_r] + b, where f_c are the features of the batch in the
    conventional branch and f_r those of the reversed one in the other, is trained on alpha CE(z,
    y_c) + (1 - alpha) CE(z, y_r). Predictions are with both branches' features of the same image,
    and alpha = 1/2. The paper (equation 1) has neither the factors 2 nor the bias; the code has
    both and is followed.

    Args:
      network: with two branches.
      objective: whose weights are ones.
      alpha: progress -> f32[].
    """

    def mixed(variables, conventional, rebalancing, alpha):
        both = [alpha * conventional, (1 - alpha) * rebalancing]
        return network.head(variables, 2 * jnp.concatenate(both, -1))

    def init(key, batch):
        return Variables(*network.init(key, batch["image"]))

    def loss(variables, batch, key, progress):
        a, other = alpha(progress), batch["reversed"]
        # Each pass normalises by its own batch. The trunk's running statistics move in both.
        (conventional,), stats = network.maps(
            variables, batch["image"], (CONVENTIONAL,), train=True
        )
        moved = variables._replace(stats=stats)
        (rebalancing,), stats = network.maps(moved, other["image"], (REBALANCING,), train=True)
        logits = mixed(variables, pooled(conventional), pooled(rebalancing), a)

        keys, labels = jax.random.split(key), (batch["label"], other["label"])
        own, tail = (
            objective(logits, y, k, progress)[0] for y, k in zip(labels, keys, strict=True)
        )
        right = [(logits.argmax(-1) == y).astype(own.dtype) for y in labels]
        metrics = {"accuracy": a * right[0] + (1 - a) * right[1], "alpha": a}
        values = a * own + (1 - a) * tail
        return LossOutput(values, jnp.ones_like(values), stats, variables.memory, metrics)

    def of_both(variables, batch):
        maps, _ = network.maps(variables, batch["image"], BRANCHES, train=False)
        return [pooled(own) for own in maps]

    def predict(variables, batch):
        features = of_both(variables, batch)
        # heads: each branch alone, as trained at either end of alpha
        heads = jnp.stack([mixed(variables, *features, alpha) for alpha in (1.0, 0.0)])
        return Prediction(mixed(variables, *features, 0.5), heads)

    return Method(init, loss, predict, head_names=BRANCHES)


def alphas(num_epochs: float) -> np.ndarray:
    """alpha of each epoch e = 1, 2, ..: 1 - ((e - 1) / T)^2, f64[ceil(num_epochs)].

    Zhou et al., equation 5. T is the number of epochs, but 100 for 90 and 200 for 180, as in the
    authors' code, whose schedules for iNaturalist are as long.
    """
    until = {90: 100, 180: 200}.get(num_epochs, num_epochs)
    return 1 - (np.arange(math.ceil(num_epochs)) / until) ** 2


def by_epochs(values: np.ndarray, num_epochs: float, steps_per_epoch: int) -> Callable:
    """progress -> the value of the epoch that is under way, f32[]."""

    def value(progress):
        return jnp.asarray(values)[phases.epoch_of(progress, num_epochs, steps_per_epoch)]

    return value
