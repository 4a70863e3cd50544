"""Decoupling: learn features on all images, then balance only the classifier.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
Phase one is the classifier of the config. Later phases keep its backbone: cRT trains a new head on
class-balanced batches, LWS a scale per class; tau-normalisation shrinks the weights of large
classes, and the nearest class mean uses no weights.
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp

from ltjax import build, optim, phases
from ltjax.config.requires import requires_head
from ltjax.data import sampling
from ltjax.errors import FieldError
from ltjax.learner import Method, Prediction, Variables
from ltjax.limits import above, at_least, at_most, one_of
from ltjax.losses import reweighting
from ltjax.losses.classification import cross_entropy
from ltjax.losses.objective import objective
from ltjax.methods.classifier import classifier, method_for
from ltjax.methods.parts.features import features_of
from ltjax.methods.parts.passes import one_hot_if_any, remembering
from ltjax.models import Network
from ltjax.models.oltr import squared_distances

TAUS = tuple(round(0.1 * i, 1) for i in range(21))  # what the authors' script tries
Share = Annotated[float, above(0), at_most(100)]
Stats = Annotated[str, one_of("moving", "frozen")]


def crt(
    settings,
    info,
    *,
    extra_share: Share = 0.15,
    lr: Annotated[float, above(0), at_most(1_000_000)] = 0.1,
    weight_decay: Annotated[float, at_least(0), at_most(100)] = 5e-4,
    backbone_stats: Stats = "moving",
) -> tuple[phases.Phase, ...]:
    """Classifier re-training, cRT: a new head on class-balanced batches.

    Kang et al., ICLR 2020, section 4.2, with the second stage of Bag of Tricks' code (AAAI 2021)
    for CIFAR: 30 epochs, a tenth of the rate from epochs 10 and 20 on.

    Args:
      settings: of phase one.
      info: of the training set.
      extra_share: epochs of phase two, as a share of config.num_epochs and on top of these; 0.15 is
        the 30 after 200 of that code.
      lr: its highest learning rate, after a warm-up of a sixth of its epochs.
      weight_decay: its weight decay.
      backbone_stats: "moving", as in the authors' code, where the frozen backbone still normalises
        by the batch and its running statistics follow the balanced classes; "frozen" keeps both.
    """
    network, numbers = build.network(settings, info), (extra_share, lr, weight_decay)
    return _two_phases(settings, info, network, ("backbone",), *numbers, backbone_stats, "cRT")


def lws(
    settings,
    info,
    *,
    extra_share: Share = 0.15,
    lr: Annotated[float, above(0), at_most(1_000_000)] = 0.1,
    weight_decay: Annotated[float, at_least(0), at_most(100)] = 5e-4,
    backbone_stats: Stats = "moving",
) -> tuple[phases.Phase, ...]:
    """Learnable weight scaling, LWS: a number per class, trained on class-balanced batches.

    Kang et al., ICLR 2020, section 4.3: logits s (W x + b), s from 1; the bias is scaled too, as in
    the authors' code. Arguments as those of `crt`.
    """
    network = scaled(build.network(settings, info), info.num_classes)
    frozen, numbers = ("backbone", "head"), (extra_share, lr, weight_decay)
    return _two_phases(settings, info, network, frozen, *numbers, backbone_stats, "LWS")


def scaled(network: Network, num_classes: int) -> Network:
    """A network with a further group 'scale', s f32[C], that multiplies its logits."""

    def init(key, image):
        params, stats = network.init(key, image)
        return params | {"scale": jnp.ones(num_classes)}, stats

    def head(variables, features):
        return network.head(variables, features) * variables.params["scale"]

    return Network(init, network.maps, head)


@requires_head("linear", because="tau-normalisation is of the weights of a linear head")
def tau_norm(
    settings, info, *, tau: Annotated[float, at_least(0), at_most(100)] = 1.0, sweep: bool = False
) -> tuple[phases.Phase, ...]:
    """tau-normalisation: logits x . w_j / |w_j|^tau, without bias.

    Kang et al., ICLR 2020, section 4.3. Nothing is trained after phase one. tau = 1 is Bag of
    Tricks' choice for CIFAR (AAAI 2021), whose code keeps the bias; the authors' code drops it, as
    here.

    Args:
      settings: of phase one; its network has a linear head.
      info: of the training set.
      tau: 0 leaves the weights unchanged, 1 makes them unit vectors.
      sweep: take the tau of 0, 0.1, ..., 2 with the best mean accuracy over classes on the held-out
        split (`data.validation`), separately for each expert.
    """
    if sweep and settings.method.get("tau") is not None:
        raise FieldError("tau", tau, "sweep chooses it on the held-out part; leave one of them out")
    if sweep and not settings.data.validation:
        why = "there is no held-out split to choose tau on"
        raise FieldError("sweep", sweep, why, use={"data.validation": 0.1, "sweep": False})
    network = build.network(settings, info)
    trained = method_for(settings, info, network)

    def predict(variables, batch):
        features, kernel = _features_and_kernel(network, variables, batch)
        return Prediction(normalized_logits(features, kernel, tau))

    first = build.phase(settings, info, trained._replace(predict=predict))
    if not sweep:
        return (first,)
    method = tau_sweep(network, info.num_classes)
    return first, build.passes(settings, info, method, name="tau", source="validation")


def normalized_logits(features: jax.Array, kernel: jax.Array, tau: float) -> jax.Array:
    """x . w_j / |w_j|^tau: f32[B, D], f32[D, C] -> f32[B, C]."""
    return features @ (kernel / jnp.linalg.norm(kernel, axis=0) ** tau)


def tau_sweep(network: Network, num_classes: int) -> Method:
    """Count what each of TAUS gets right in one pass; predict with the best for the mean class."""

    def init(key, batch):
        zeros = {"right": jnp.zeros((len(TAUS), num_classes)), "seen": jnp.zeros(num_classes)}
        return Variables(*network.init(key, batch["image"]), zeros)

    def loss(variables, batch, key, progress):
        del key, progress
        features, kernel = _features_and_kernel(network, variables, batch)
        logits = jnp.stack([normalized_logits(features, kernel, tau) for tau in TAUS])
        own = one_hot_if_any(batch, num_classes)  # [B, C]
        right = (logits.argmax(-1) == batch["label"]) @ own  # [T, C]
        return remembering(variables, {"right": right, "seen": own.sum(0)})

    def best(memory):
        accuracy = memory["right"] / jnp.maximum(memory["seen"], 1)  # a class not seen: 0 for all
        return jnp.asarray(TAUS)[accuracy.mean(-1).argmax()]

    def predict(variables, batch):
        tau = best(variables.memory)
        features, kernel = _features_and_kernel(network, variables, batch)
        logits = normalized_logits(features, kernel, tau)
        return Prediction(logits, measures={"tau": jnp.full(len(logits), tau)})

    return Method(init, loss, predict, frozen=("backbone", "head"))


def ncm(
    settings,
    info,
    *,
    transform: Annotated[str, one_of("un", "l2n", "cl2n")] = "cl2n",
    distance: Annotated[str, one_of("l2", "cos")] = "l2",
) -> tuple[phases.Phase, ...]:
    """Nearest class mean: the class whose mean feature is closest.

    Kang et al., ICLR 2020, section 4.1. Features of the training images as they are; two passes
    over them, for the mean of all and those of the classes.

    Args:
      settings: of phase one.
      info: of the training set.
      transform: "un", features x as they are; "l2n", x / |x|; "cl2n", (x - m) / |x - m|, with m the
        mean of all training features. Class means are of transformed features.
      distance: "l2", logits -|x - mean|^2; "cos", x . mean / D, as in the authors' code.
    """
    network = build.network(settings, info)
    first = build.phase(settings, info, method_for(settings, info, network))
    method = nearest_mean(network, info.class_counts, transform, distance)
    return first, build.passes(settings, info, method, name="means", times=2)


def nearest_mean(network: Network, class_counts, transform: str, distance: str) -> Method:
    """Gather means in two passes over the training set; predict by `nearest_mean_logits`."""
    num_images, num_classes = sum(class_counts), len(class_counts)

    def features(variables, batch):
        return features_of(network, variables, batch["image"])

    def init(key, batch):
        variables = Variables(*network.init(key, batch["image"]))
        dim = jax.eval_shape(features, variables, batch).shape[-1]
        zeros = {"mean": jnp.zeros(dim), "class_means": jnp.zeros((num_classes, dim))}
        return variables._replace(memory=zeros)

    def loss(variables, batch, key, progress):
        del key
        x, own = features(variables, batch), one_hot_if_any(batch, num_classes)
        first = progress < 0.5
        mean = own.sum(-1) @ x / num_images
        of_classes = own.T @ transformed(x, variables.memory["mean"], transform)
        of_classes /= jnp.asarray(class_counts, x.dtype)[:, None]
        adds = {"mean": jnp.where(first, mean, 0), "class_means": jnp.where(first, 0, of_classes)}
        return remembering(variables, adds)

    def predict(variables, batch):
        mean, class_means = variables.memory["mean"], variables.memory["class_means"]
        x = transformed(features(variables, batch), mean, transform)
        return Prediction(nearest_mean_logits(x, class_means, distance))

    return Method(init, loss, predict, frozen=("backbone", "head"))


def transformed(x: jax.Array, mean: jax.Array, transform: str) -> jax.Array:
    """Features f32[B, D] before class means are taken of them: "un", "l2n" or "cl2n"."""
    if transform == "un":
        return x
    x = x - mean if transform == "cl2n" else x
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def nearest_mean_logits(x: jax.Array, class_means: jax.Array, distance: str) -> jax.Array:
    """-|x - mean|^2 ("l2") or x . mean / D ("cos"): f32[B, D], f32[C, D] -> f32[B, C]."""
    if distance == "cos":
        return x @ class_means.T / x.shape[-1]
    return -squared_distances(x, class_means)


def _two_phases(settings, info, network, frozen, extra_share, lr, weight_decay, stats, name):
    """The classifier of the config, then what is not frozen on class-balanced batches."""
    epochs, counts = extra_share * settings.num_epochs, info.class_counts
    second = dataclasses.replace(
        settings,
        num_epochs=epochs,
        optimizer=dataclasses.replace(settings.optimizer, weight_decay=weight_decay),
    )
    schedule = functools.partial(
        optim.step,
        lr=lr,
        warmup_epochs=round(epochs / 6),
        warmup_from=1 / 3,
        drop_at=(9 / 30, 19 / 30),  # of 30 epochs counted from 1, from the 10th and 20th on
        drop_by=0.1,
    )
    retrained = classifier(
        network,
        objective(cross_entropy(counts), reweighting.none(counts)),
        frozen=frozen,
        moving=("backbone",) if stats == "moving" else (),
    )
    return (
        build.phase(settings, info, method_for(settings, info)),
        build.phase(
            second,
            info,
            retrained,
            name=name,
            begin=phases.start_from(*frozen),
            sampler=sampling.class_balanced,
            schedule=schedule,
        ),
    )


def _features_and_kernel(network, variables, batch):
    kernel, _ = network.weights(variables)
    return features_of(network, variables, batch["image"]), kernel
