"""One network, one head, one loss: the baseline, and the expert of most methods."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from ltjax import build, phases
from ltjax.learner import Batch, LossOutput, Method, Prediction, Variables
from ltjax.limits import at_least, at_most
from ltjax.losses.classification import log_prior
from ltjax.losses.mixing import Mixing, blend, of_both_labels
from ltjax.losses.objective import Objective
from ltjax.methods.parts.features import features, logits_of
from ltjax.models import Network, SeveralHeads


def classifier(
    network: Network | SeveralHeads,
    objective: Objective,
    mixing: Mixing | None = None,
    frozen: tuple[str, ...] = (),
    moving: tuple[str, ...] = (),
) -> Method:
    """Train a network through an objective of its logits.

    Args:
      network: from ltjax.models; the objective is of the logits of its head.
      objective: as ltjax.losses.objective makes it.
      mixing: of images or features, as ltjax.losses.mixing makes it.
      frozen: groups of params that do not change; their batch norm keeps its running statistics.
      moving: of these, groups whose batch norm still uses the batch's statistics, as in training.
    """
    still = tuple(group for group in frozen if group not in moving)

    def init(key, batch):
        return Variables(*network.init(key, batch["image"]))

    def loss(variables, batch, key, progress):
        mix_key, key = jax.random.split(key)
        image, label = batch["image"], batch["label"]
        mix = mixing.draw(mix_key, label) if mixing else None
        objective_here = of_both_labels(mix, objective) if mixing else objective
        if mixing and mixing.of == "image":
            image = blend(mix, image)
        x, stats = features(network, variables, image, train=True, frozen=still)
        if mixing and mixing.of == "features":
            x = blend(mix, x, axis=-2)  # [B, D], or [K, B, D] of K heads
        logits = network.head(variables, x)
        values, weights = objective_here(logits, label, key, progress)
        right = (logits.argmax(-1) == label).astype(values.dtype)
        return LossOutput(values, weights, stats, variables.memory, {"accuracy": right})

    return Method(init, loss, predict_with(network), frozen=frozen)


def logits_with(network: Network | SeveralHeads) -> Callable[[Variables, Batch], jax.Array]:
    """(variables, batch) -> logits f32[B, C], or f32[K, B, C] of K heads."""

    def logits(variables, batch):
        return logits_of(network, variables, batch["image"])

    return logits


def predict_with(network: Network) -> Callable[[Variables, Batch], Prediction]:
    """The `predict` of a method that returns the logits of a network of one head."""
    logits = logits_with(network)
    return lambda variables, batch: Prediction(logits(variables, batch))


def method_for(settings, info, network: Network | None = None, mixed: bool = True) -> Method:
    """The classifier of a config's network (or `network`), loss, re-weighting and mixing."""
    network = network or build.network(settings, info)
    objective = build.objective(settings, info.class_counts)
    return classifier(network, objective, build.mixing(settings, info) if mixed else None)


def recipe(
    settings, info, *, posthoc_tau: Annotated[float, at_least(0), at_most(100)] = 0.0
) -> tuple[phases.Phase, ...]:
    """Independent experts, each a classifier trained on the entire training set.

    Args:
      settings: its network, loss, re-weighting, sampler and mixing are those of an expert.
      info: of the training set.
      posthoc_tau: experts predict z - tau log(prior) if it is not 0.
    """
    method = method_for(settings, info)
    if posthoc_tau:  # Menon et al., ICLR 2021, equation 9
        shift = log_prior(info.class_counts, posthoc_tau)
        trained = method.predict

        def adjusted(variables, batch):
            logits = trained(variables, batch).logits
            return Prediction(logits - jnp.asarray(shift, logits.dtype))

        method = method._replace(predict=adjusted)
    return (build.phase(settings, info, method),)
