"""Feature space augmentation: tail-class features pasted onto head-class backgrounds.

Chu et al., "Feature Space Augmentation for Long-Tailed Data", ECCV 2020. Phase one is the
classifier of the config. A pass over the training images finds the head classes that each class is
confused with. Then the head alone is trained; half of its inputs are features of tail images, and
features fused from these and from images of those classes. The authors published no code: numbers,
and details that the paper leaves open, are from an unofficial implementation (SSRSGJYD). Its
mistake is not copied: there, all fused features of a batch have the label of its first tail image;
here, each has the label of its own tail image.
"""

import dataclasses
import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax import build, optim, phases
from ltjax.axes import DATA, example_keys
from ltjax.config.requires import requires_head
from ltjax.data.sampling import among, each_class, instance_balanced
from ltjax.errors import FieldError
from ltjax.learner import LossOutput, Method, Variables
from ltjax.limits import above, at_least, at_most, below
from ltjax.losses.classification import nll
from ltjax.methods.classifier import method_for, predict_with
from ltjax.methods.parts import requirements as needs
from ltjax.methods.parts.features import logits_of
from ltjax.methods.parts.passes import one_hot_if_any, remembering
from ltjax.models import Network
from ltjax.models.conv_plain import wide
from ltjax.models.parts import pooled


@requires_head("linear", because="feature augmentation finds a class by a linear head's weights")
def recipe(
    settings,
    info,
    *,
    extra_share: Annotated[float, above(0), at_most(100)] = 0.2,
    lr: Annotated[float, above(0), at_most(1_000_000)] = 5e-4,
    weight_decay: Annotated[float, at_least(0), at_most(100)] = 0.0,
    num_fused: Annotated[int, at_least(1), at_most(1000)] = 3,
    head_share: Annotated[float, above(0), below(1)] = 0.9,
    specific_above: Annotated[float, at_least(0), below(1)] = 0.8,
    generic_below: Annotated[float, above(0), at_most(1)] = 0.2,
) -> tuple[phases.Phase, ...]:
    """Feature space augmentation: tail-class features pasted onto head-class backgrounds.

    Chu et al., ECCV 2020; numbers as in an unofficial implementation for CIFAR-10-LT.

    Args:
      settings: of phase one.
      info: of the training set.
      extra_share: epochs of the last phase, as a share of config.num_epochs and on top of these;
        0.2 is 40 after 200.
      lr: its learning rate, constant.
      weight_decay: its weight decay.
      num_fused: N_a, new features of a tail image, one with each of as many head classes.
      head_share: head classes are the largest ones that hold this share of the images.
      specific_above: t_s; a tail image shows its class where its class map is above.
      generic_below: t_g; a head image shows background where its class map is below.
    """
    largest = head_classes(info.class_counts, head_share)
    _check(settings, info, largest, num_fused, head_share)
    network = needs.network_with_maps(settings, info)
    last = dataclasses.replace(
        settings,
        num_epochs=extra_share * settings.num_epochs,
        optimizer=dataclasses.replace(settings.optimizer, weight_decay=weight_decay),
    )
    schedule = functools.partial(optim.step, lr=lr, drop_at=())
    main, streams = samplers(largest, num_fused)
    counts = info.class_counts
    fusing = fused(network, counts, largest, num_fused, specific_above, generic_below)
    return (
        build.phase(settings, info, method_for(settings, info, network)),
        build.passes(settings, info, scoring(network, counts), name="scores"),
        build.phase(
            last,
            info,
            fusing,
            name="fusion",
            begin=phases.start_from_all,
            sampler=main,
            streams=streams,
            schedule=schedule,
        ),
    )


def head_classes(class_counts: np.ndarray, share: float) -> np.ndarray:
    """The fewest classes that hold this share of the images, the largest first, i64[H]."""
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    held = np.cumsum(class_counts[order]) / np.sum(class_counts)
    return order[: np.searchsorted(held, share) + 1]


def samplers(
    largest: np.ndarray, num_fused: int
) -> tuple[build.Sampling, dict[str, build.Sampling]]:
    """The batches of a step: head images, and the streams "tail" and "donor".

    N_t = batch_size / (2 (1 + N_a)) tail images give N_t (1 + N_a) features, fused ones included;
    there are as many head images. Each kind comes in its own shuffled epochs. The host does not
    know which classes give donors. So donors are random images of all head classes, at least one
    of each class and at least N_t N_a; their number is a multiple of N_t, so that devices that can
    share the tail images can share the donors.
    """

    def num_tail(batch_size):
        return batch_size // (2 * (1 + num_fused))

    def rows_of(labels, head):
        return np.flatnonzero(np.isin(labels, largest) == head)

    def shuffled(head, times):
        def sampler(labels, batch_size, num_steps):
            rows = rows_of(labels, head)
            return among(
                rows, instance_balanced(labels[rows], times * num_tail(batch_size), num_steps)
            )

        return sampler

    def donors(labels, batch_size, num_steps):
        del num_steps
        rows, tail = rows_of(labels, head=True), num_tail(batch_size)
        number = tail * max(num_fused, math.ceil(len(largest) / tail))
        return among(rows, each_class(labels[rows], number))

    return shuffled(head=True, times=1 + num_fused), {
        "tail": shuffled(head=False, times=1),
        "donor": donors,
    }


def scoring(network: Network, class_counts: np.ndarray) -> Method:
    """Remember S[c, t], the mean of p_t over the training images of class c, f32[C, C]."""
    num_classes = len(class_counts)

    def loss(variables, batch, key, progress):
        del key, progress
        logits = logits_of(network, variables, batch["image"])
        own = one_hot_if_any(batch, num_classes) / np.maximum(class_counts, 1)  # [B, C]
        return remembering(variables, {"scores": own.T @ jax.nn.softmax(logits)})

    init = _with_scores(network, num_classes)
    return Method(init, loss, predict_with(network), frozen=("backbone", "head"))


def fused(
    network: Network,
    class_counts: np.ndarray,
    largest: np.ndarray,
    num_fused: int,
    specific_above: float,
    generic_below: float,
) -> Method:
    """Train the head alone, by cross-entropy of head, tail and fused features.

    The backbone keeps its params and running statistics. Class maps use the current head.

    Args:
      network: with a linear head.
      class_counts: i64[C].
      largest: i64[H], head classes.
      num_fused: N_a, at most H.
      specific_above: t_s.
      generic_below: t_g.
    """

    def loss(variables, batch, key, progress):
        del progress
        streams = batch["tail"], batch["donor"], batch
        ends = np.cumsum([len(stream["label"]) for stream in streams])[:-1]
        image = jnp.concatenate([stream["image"] for stream in streams])
        maps, _ = network.maps(variables, image, train=False)
        tail, donor, head = jnp.split(wide(maps), ends)
        label, (kernel, _) = batch["tail"]["label"], network.weights(variables)

        def part(where, maps, label):  # of maps [B, h, w, D], by the map of the own class
            weights = lax.stop_gradient(kernel).T[label]
            return jnp.where(where(jax.vmap(class_map)(maps, weights))[..., None], maps, 0)

        specific = part(lambda cam: cam > specific_above, tail, label)
        generic = part(lambda cam: cam < generic_below, donor, batch["donor"]["label"])
        # donors are drawn from those of all devices
        pool = lax.all_gather((generic, batch["donor"]["label"]), DATA, tiled=True)
        of = confusing(variables.memory["scores"], largest, num_fused)[label]  # [N_t, N_a]
        new = jax.vmap(lambda *args: fuse_with(*args, *pool))(
            example_keys(key, len(label)), specific, of
        )  # [N_t, N_a, h, w, D]

        maps = jnp.concatenate([tail, new.reshape(-1, *tail.shape[1:]), head])
        labels = jnp.concatenate([label, jnp.repeat(label, num_fused), batch["label"]])
        logits = network.head(variables, pooled(maps))
        right = (logits.argmax(-1) == labels).astype(logits.dtype)
        values = nll(logits, labels)
        return LossOutput(
            values, jnp.ones_like(values), variables.stats, variables.memory, {"accuracy": right}
        )

    init = _with_scores(network, len(class_counts))
    return Method(init, loss, predict_with(network), frozen=("backbone",))


def class_map(feature_maps: jax.Array, weights: jax.Array) -> jax.Array:
    """Where an image shows a class: relu(sum_k weights_k * feature_maps_k), scaled to [0, 1].

    Chu et al., ECCV 2020; a linear head's weights are Grad-CAM's, but for a factor.
    A map that is the same everywhere is 0; the unofficial code divides zero by zero.

    Args:
      feature_maps: f[h, w, D] of the image, before pooling.
      weights: f[D] of the class.

    Returns:
      f[h, w].
    """
    # On some devices a plain product of float32 matrices keeps only 10 bits.
    total = jnp.einsum("hwd,d->hw", feature_maps, weights, precision="highest")
    total = jax.nn.relu(total)
    total -= total.min()
    most = total.max()
    return total / jnp.where(most > 0, most, 1)


def confusing(scores: jax.Array, largest: np.ndarray, number: int) -> jax.Array:
    """The head classes whose images score highest for each class: f[C, C] -> i[C, number].

    Chu et al., ECCV 2020. The unofficial code takes any class but the own one. The list of
    a head class contains the class itself; it is never used.
    """
    _, rank = lax.top_k(scores[largest].T, number)
    return jnp.asarray(largest)[rank]


def fuse_with(
    key: jax.Array, specific: jax.Array, of: jax.Array, generic: jax.Array, label: jax.Array
) -> jax.Array:
    """Fuse a tail image's features with those of one random donor of each of some classes.

    Args:
      key: of the image.
      specific: f[h, w, D], its own part.
      of: i[N_a], classes of the donors; each has one.
      generic: f[P, h, w, D], the donors' parts.
      label: i[P], theirs.

    Returns:
      f[N_a, h, w, D].
    """

    def one(key, c):
        donor_key, key = jax.random.split(key)
        donor = jax.random.categorical(donor_key, jnp.where(label == c, 0.0, -jnp.inf))
        return fuse(draw_mask(key, specific.shape[:2]), specific, generic[donor])

    return jax.vmap(one)(jax.random.split(key, len(of)), of)


def draw_mask(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Where the tail image's part is taken, u > gamma with both from U(0, 1), bool[h, w]."""
    gamma_key, key = jax.random.split(key)
    return jax.random.uniform(key, shape) > jax.random.uniform(gamma_key)


def fuse(mask: jax.Array, specific: jax.Array, generic: jax.Array) -> jax.Array:
    """M * specific + (1 - M) * generic: bool[h, w], f[h, w, D] twice -> f[h, w, D]."""
    return jnp.where(mask[..., None], specific, generic)


def _with_scores(network, num_classes):
    def init(key, batch):
        zeros = {"scores": jnp.zeros((num_classes, num_classes))}
        return Variables(*network.init(key, batch["image"]), zeros)

    return init


def _check(settings, info, largest, num_fused, head_share):
    if len(largest) == info.num_classes:
        why = f"then all {len(largest)} classes are head classes, and none is tail; choose less"
        raise FieldError("head_share", head_share, why)
    if num_fused > len(largest):
        why = f"it must be at most {len(largest)}, the number of head classes at this head_share"
        raise FieldError("num_fused", num_fused, why)
    if settings.batch_size < 2 * (1 + num_fused):
        why = f"it must be at least {2 * (1 + num_fused)} with num_fused={num_fused}"
        raise FieldError("batch_size", settings.batch_size, why)
