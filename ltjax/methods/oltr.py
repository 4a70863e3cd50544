"""OLTR: a memory of class centroids enriches the features of tail images.

Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019, and the authors'
code, which is followed where it differs from the paper. Phase one is the classifier of the config;
one pass over the training images makes a centroid of each class; then modulated attention, the
meta-embedding and the centroids are trained with the rest, on class-aware batches.
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from ltjax import build, optim, phases
from ltjax.axes import DATA
from ltjax.config.requires import requires_head
from ltjax.data import sampling
from ltjax.learner import LossOutput, Method, Prediction, Variables
from ltjax.limits import above, at_least, at_most, below
from ltjax.losses.classification import nll
from ltjax.methods.classifier import method_for, predict_with
from ltjax.methods.parts import requirements as needs
from ltjax.methods.parts.passes import one_hot_if_any, remembering
from ltjax.models import Network
from ltjax.models.conv_plain import wide
from ltjax.models.oltr import MetaEmbedding, ModulatedPooling, squared_distances

MARGIN = 10.0  # of the mean squared distance to other classes' centroids, and
REPEL = 0.01  # the weight of what pushes it there: the authors' code
THIRDS = (1 / 3, 2 / 3)  # of phase two, where its rate drops


@requires_head("linear", because="the hallucinator of method 'oltr' is a linear head")
def recipe(
    settings,
    info,
    *,
    first_share: Annotated[float, above(0), below(1)] = 1 / 3,
    lr: Annotated[float, above(0), at_most(1_000_000)] = 0.1,
    feature_rate: Annotated[float, at_least(0), at_most(100)] = 0.1,
    centroid_weight: Annotated[float, at_least(0), at_most(100)] = 0.01,
    zero_mask: bool = False,
) -> tuple[phases.Phase, ...]:
    """OLTR: modulated attention, and features enriched by a memory of class centroids.

    Liu et al., CVPR 2019.

    Args:
      settings: of all phases; num_epochs are those of the first and the last together.
      info: of the training set.
      first_share: of the epochs, before centroids are gathered: 30 of 90 on ImageNet-LT.
      lr: of phase two, a tenth from each third of it on; of the head, but
      feature_rate: times that of the backbone, the attention and the centroids.
      centroid_weight: of the centroid loss: 0.01 in the authors' code, 0.1 in the paper.
      zero_mask: attention starts as the identity, see models.oltr.ModulatedAttention.
    """
    network = needs.network_with_maps(settings, info)
    if settings.schedule["name"] == "cosine" and settings.schedule.get("ahead", True):
        needs.more_than_an_epoch(settings, "first_share", first_share, "the epochs of phase one")
    first = dataclasses.replace(settings, num_epochs=first_share * settings.num_epochs)
    second = dataclasses.replace(
        settings,
        num_epochs=(1 - first_share) * settings.num_epochs,
    )
    attending = attentive(network, zero_mask)
    method = with_centroid_loss(with_centroids(attending, info.num_classes), centroid_weight)
    rates = dict.fromkeys(("backbone", "pooling", "centroids"), feature_rate)
    return (
        build.phase(first, info, method_for(first, info, network)),
        build.passes(settings, info, gathering(network, attending, info.class_counts), "centroids"),
        build.phase(
            second,
            info,
            method,
            name="OLTR",
            begin=at_class_means,
            sampler=sampling.class_aware,
            schedule=functools.partial(optim.step, lr=lr, drop_at=THIRDS, drop_by=0.1),
            rates=rates,
        ),
    )


def attentive(network: Network, zero_mask: bool = False) -> Network:
    """A network with a further group 'pooling', from which `attended` computes features.

    Args:
      network: its maps must be of one size, that of the images of `init`.
      zero_mask: see ModulatedAttention.
    """

    def init(key, image):
        network_key, key = jax.random.split(key)
        params, stats = network.init(network_key, image)
        variables = Variables(params, stats)
        maps, _ = jax.eval_shape(lambda: network.maps(variables, image, train=False))
        pooling = ModulatedPooling(zero_mask).init(key, jnp.zeros(maps.shape))["params"]
        return params | {"pooling": pooling}, stats

    return network._replace(init=init)


def attended(variables: Variables, maps: jax.Array) -> jax.Array:
    """Features by a ModulatedPooling instead of the mean of maps, f[B, h, w, D] -> f32[B, D]."""
    return ModulatedPooling().apply({"params": variables.params["pooling"]}, wide(maps))


def with_centroids(network: Network, num_classes: int) -> Network:
    """A network whose head becomes the hallucinator of a MetaEmbedding.

    It has two further groups, 'meta', the selector and the classifier, and 'centroids' f32[C, D],
    N(0, 1) unless a phase begins with other values. No gradient of the logits reaches these.
    """
    meta = MetaEmbedding(num_classes)

    def init(key, image):
        network_key, meta_key, key = jax.random.split(key, 3)
        params, stats = network.init(network_key, image)
        kernel, _ = network.weights(Variables(params, stats))
        dim = len(kernel)
        centroids = jax.random.normal(key, (num_classes, dim))
        blank = jnp.zeros((1, dim)), jnp.zeros((1, num_classes)), centroids
        more = {"meta": meta.init(meta_key, *blank)["params"], "centroids": centroids}
        return params | more, stats

    def head(variables, features):
        concepts = network.head(variables, features)
        own, centroids = variables.params["meta"], variables.params["centroids"]
        known = lax.stop_gradient(centroids)
        logits, _ = meta.apply({"params": own}, features, concepts, known)
        return logits

    return Network(init, network.maps, head)


def gathering(network: Network, attending: Network, class_counts) -> Method:
    """Gather the mean features of each class, f32[C, D], in one pass over the training set.

    They are `attended` by `attending`, whose pooling has just been drawn; predictions are still
    those of `network`, which it is made of.
    """
    num_classes = len(class_counts)

    def init(key, batch):
        variables = Variables(*attending.init(key, batch["image"]))
        kernel, _ = attending.weights(variables)
        return variables._replace(memory={"class_means": jnp.zeros((num_classes, len(kernel)))})

    def loss(variables, batch, key, progress):
        del key, progress
        maps, _ = attending.maps(variables, batch["image"], train=False)
        share = one_hot_if_any(batch, num_classes) / jnp.maximum(jnp.asarray(class_counts), 1)
        return remembering(variables, {"class_means": share.T @ attended(variables, maps)})

    return Method(init, loss, predict_with(network), frozen=("backbone", "head", "pooling"))


def at_class_means(state, previous):
    """Begin with the previous phase's network, and its class means as centroids."""
    state = phases.start_from("backbone", "head", "pooling")(state, previous)
    params = state.variables.params | {"centroids": previous.memory["class_means"]}
    return state._replace(variables=state.variables._replace(params=params))


def with_centroid_loss(network: Network, weight: float) -> Method:
    """Train a network with centroids through cross-entropy plus `weight` times centroid_loss.

    Args:
      network: as with_centroids makes it.
      weight: of the centroid loss.
    """

    def init(key, batch):
        return Variables(*network.init(key, batch["image"]))

    def loss(variables, batch, key, progress):
        del key, progress
        label = batch["label"]
        maps, stats = network.maps(variables, batch["image"], train=True)
        features = attended(variables, maps)
        logits = network.head(variables, features)
        values = nll(logits, label)
        values += centroid_loss(features, variables.params["centroids"], label, weight)
        right = (logits.argmax(-1) == label).astype(values.dtype)
        return LossOutput(
            values, jnp.ones_like(values), stats, variables.memory, {"accuracy": right}
        )

    def predict(variables, batch):
        maps, _ = network.maps(variables, batch["image"], train=False)
        return Prediction(network.head(variables, attended(variables, maps)))

    return Method(init, loss, predict)


def centroid_loss(
    features: jax.Array, centroids: jax.Array, label: jax.Array, weight: float
) -> jax.Array:
    """Pulls features towards the centroid of their class and, on average, away from the others.

    Liu et al. (OLTR), CVPR 2019, as in the authors' code. The mean over the global batch is
    w (A + 0.01 R): A the mean of |f_i - c_y|^2 / 2, R = max(0, 10 - M) with M the mean over images
    and all C classes of |f_i - c_k|^2 for k other than y_i. Gradients are those of this formula,
    but for that of A by the centroids: the authors replace it by a rule of their own,
    1 / B sum_{i: y_i = k} (c_k - f_i) / (1 + n_k) with n_k the images of the class in the batch,
    which does not see w. That is the gradient of |f_i - c_y|^2 / (2 (1 + n_y)), and so is added
    here as a term whose value is taken away again.

    Args:
      features: f32[B, D].
      centroids: f32[C, D].
      label: i32[B].
      weight: w.

    Returns:
      f32[B]; it runs where the axis 'data' is bound.
    """
    own = jax.nn.one_hot(label, len(centroids), dtype=features.dtype)  # [B, C]
    numbers = lax.psum(own.sum(0), DATA)[label]  # n_y f32[B]
    attract = _half_square(features - lax.stop_gradient(centroids)[label])
    rule = _half_square(lax.stop_gradient(features) - centroids[label]) / (1 + numbers)
    others = ((1 - own) * squared_distances(features, centroids)).mean(-1)
    # Whether R is above 0 is a question of the whole batch; where it is, it is a mean of values.
    distance = lax.pmean(lax.stop_gradient(others).mean(), DATA)
    repel = jnp.where(distance < MARGIN, MARGIN - others, 0)
    return weight * (attract + REPEL * repel) + rule - lax.stop_gradient(rule)


def _half_square(x):
    return (x * x).sum(-1) / 2
