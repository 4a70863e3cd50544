"""SADE: three heads for three test distributions, and their mix chosen on unlabelled test images.

Zhang et al., "Self-Supervised Aggregation of Diverse Experts for Test-Agnostic Long-Tailed
Recognition", NeurIPS 2022. One head expects the long tail of the training set, one a balanced
world, one the tail reversed. If the distribution of the test images is unknown, the heads are mixed
so that the predictions for two views of a test image are as similar as possible.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import softmax

from ltjax import build, phases
from ltjax.augmentation.augments import with_jitter
from ltjax.config.requires import requires_defaults
from ltjax.learner import LossOutput, Method, Prediction, Variables
from ltjax.limits import at_least, at_most, only_with
from ltjax.methods.classifier import logits_with
from ltjax.methods.parts.several_heads import (
    BRANCHED_GROUPS,
    OWN_LOSS,
    HeadsLoss,
    branched,
    log_shares,
    shifted,
    through,
)
from ltjax.models import SeveralHeads

HEADS = "long tail", "balanced", "reversed tail"  # the world that each expects


@requires_defaults("loss", "reweight", because=OWN_LOSS)
def recipe(
    settings,
    info,
    *,
    tau: Annotated[float, at_least(0), at_most(100)] = 2.0,
    reduced: bool = True,
    aggregate: bool = False,
    passes: Annotated[int, at_least(1), at_most(1000), only_with("aggregate")] = 5,
) -> tuple[phases.Phase, ...]:
    """Three heads, for the long tail, for a balanced world and for the reversed tail.

    Zhang et al. (SADE), NeurIPS 2022.

    Args:
      settings: of the training phase; each of its num_experts has three heads.
      info: of the training set.
      tau: how much of the reversed prior the third head is trained with.
      reduced: branches three quarters as wide, as on CIFAR-100-LT; the authors take full width on
        CIFAR-10-LT, as the table of methods does.
      aggregate: adapt the heads' weights to the test images, without their labels. The result is
        transductive: it depends on the whole test set. Without it the heads have equal weights.
      passes: the largest number of passes over the test images.
    """
    network = branched(settings, info, len(HEADS), reduced)
    method = through(network, diverse(info.class_counts, tau), settings, info)
    method = method._replace(head_names=HEADS)
    train = build.phase(settings, info, method)
    return (train, _aggregation(settings, info, network, passes)) if aggregate else (train,)


def diverse(class_counts, tau: float) -> HeadsLoss:
    """CE(z_1) + CE(z_2 + log p) + CE(z_3 + log p - tau log q), p the prior and q its reverse.

    Zhang et al., NeurIPS 2022; the sum over heads, as in the authors' code.

    Args:
      class_counts: i64[C].
      tau: of the reversed prior.
    """
    prior = np.asarray(class_counts) / np.sum(class_counts)
    log_p, log_q = log_shares(prior), log_shares(reversed_prior(prior))
    return shifted(np.stack([0 * log_p, log_p, log_p - tau * log_q]), jnp.sum)


def reversed_prior(prior: np.ndarray) -> np.ndarray:
    """The k-th smallest class gets the share of the k-th largest, f64[C].

    Of classes of equal size the first ranks as the smaller one; the authors' code leaves that to
    an unstable sort.
    """
    order = np.argsort(prior, kind="stable")
    out = np.empty_like(prior)
    out[order] = prior[order][::-1]
    return out


def aggregating(network: SeveralHeads, num_steps: int, per_pass: int) -> Method:
    """Learn weights of a trained network's heads from unlabelled images, in passes over them.

    Zhang et al., NeurIPS 2022: softmax(a) mixes the heads' logits, and a maximises the mean cosine
    between the softmax outputs of two views of an image. It ends after a pass in which a weight,
    rounded to two decimals, has fallen below 0.05; the rest of the phase then changes nothing.

    Args:
      network: its logits are f32[K, B, C].
      num_steps: of the phase, whole passes.
      per_pass: steps in one pass.

    Returns:
      A Method whose batches have a second view of their images in the stream 'view', and index -1
      where the last batch of a pass is filled up. Its params have the further group
      'aggregation', a f32[K]; memory holds the final weights, f32[K], and whether it has stopped,
      bool[].
    """
    heads = logits_with(network)

    def init(key, batch):
        params, stats = network.init(key, batch["image"])
        num_heads, *_ = jax.eval_shape(heads, Variables(params, stats), batch).shape
        even = jnp.full(num_heads, 1 / num_heads, jnp.result_type(float))
        memory = {"weights": even, "stopped": jnp.array(False)}
        return Variables(params | {"aggregation": even}, stats, memory)

    def weights(variables):
        learned = softmax(variables.params["aggregation"])
        return jnp.where(variables.memory["stopped"], variables.memory["weights"], learned)

    def loss(variables, batch, key, progress):
        del key
        views = [heads(variables, of) for of in (batch, batch["view"])]
        values = -similarity(softmax(variables.params["aggregation"]), *views)
        step = jnp.round(progress * num_steps).astype(jnp.int32)
        reached = lax.stop_gradient(weights(variables))
        # in whole hundredths, because float32 cannot represent 0.05
        ends = (step > 0) & (step % per_pass == 0) & (jnp.round(100 * reached).min() < 5)
        memory = {"weights": reached, "stopped": variables.memory["stopped"] | ends}
        there = (batch["index"] >= 0).astype(values.dtype)
        return LossOutput(values, there, variables.stats, memory, {})

    def predict(variables, batch):
        each, found = heads(variables, batch), weights(variables)
        measures = {
            f"weight_of_head_{k}": jnp.full(len(batch["image"]), weight)
            for k, weight in enumerate(found, start=1)
        }
        return Prediction(mixed(found, each), each, measures)

    combined = "the sum of its heads' logits in the shares learned on the test images"
    return Method(init, loss, predict, combined=combined)


def mixed(weights: jax.Array, logits: jax.Array) -> jax.Array:
    """The heads' logits in these shares: f32[K], f32[K, B, C] -> f32[B, C]."""
    return (weights[:, None, None] * logits).sum(0)


def similarity(weights: jax.Array, logits: jax.Array, other: jax.Array) -> jax.Array:
    """The cosine between two views' softmax outputs, f32[B], of their logits f32[K, B, C]."""
    p, q = (softmax(mixed(weights, of)) for of in (logits, other))
    return (p * q).sum(-1) / (jnp.linalg.norm(p, axis=-1) * jnp.linalg.norm(q, axis=-1))


def _aggregation(settings, info, network, passes):
    """The phase over the test images; rate, momentum and decay are those of the authors' code."""
    per_pass = phases.steps_per_epoch(info.num_test, settings)
    num_steps = passes * per_pass
    method = aggregating(network, num_steps, per_pass)
    method = method._replace(frozen=BRANCHED_GROUPS, head_names=HEADS)
    optimizer = dataclasses.replace(
        settings.optimizer, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return build.phase(
        dataclasses.replace(settings, optimizer=optimizer),
        info,
        method,
        name="aggregate",
        begin=phases.start_from(*BRANCHED_GROUPS),
        sampler=build.in_order,
        streams={"view": build.in_order},
        schedule=lambda num_epochs, per_epoch: lambda step: 0.1,
        augment=with_jitter,
        num_steps=num_steps,
        source="test",
    )
