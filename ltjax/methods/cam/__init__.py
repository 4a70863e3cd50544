"""CAM-based sampling: balanced batches in which copies of tail images have their foreground moved.

Zhang et al., "Bag of Tricks for Long-Tailed Visual Recognition with Deep Convolutional Neural
Networks", AAAI 2021. Phase one is the classifier of the config; one pass over the training images
records where each shows its class; then training continues, at a small rate, on re-sampled batches
in which an image is replaced by a new one made from it, as often as the authors' generated images
would occur (ltjax.methods.cam.foreground). The authors write a fixed set of new images to files, as
JPEG, and take the map of a randomly augmented view with the best state on the test split; here new
images are drawn again each time, maps are of unchanged images, and the last state is used.
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp

from ltjax import build, optim, phases
from ltjax.axes import example_keys
from ltjax.data import sampling
from ltjax.errors import FieldError
from ltjax.learner import LossOutput, Method, Variables
from ltjax.limits import above, at_least, at_most, below, one_of
from ltjax.methods.cam.foreground import class_map, num_generated, transform_foreground
from ltjax.methods.classifier import method_for, predict_with
from ltjax.methods.finetuned import RESAMPLERS, settled, tuned
from ltjax.methods.parts import requirements as needs
from ltjax.methods.parts.passes import written
from ltjax.models import Network
from ltjax.models.conv_plain import wide

Rate = Annotated[float, above(0), at_most(1_000_000)]
Number = Annotated[int, at_least(0), at_most(1_000_000)]
Box = Annotated[str, one_of("as_code", "full")]


def recipe(
    settings,
    info,
    *,
    sampler: Annotated[str, one_of(*RESAMPLERS)] = "class_balanced",
    first_share: Annotated[float, above(0), below(1)] = 0.8,
    lr: Rate = 0.001,
    at_most: Number = 0,
    box: Box = "as_code",
) -> tuple[phases.Phase, ...]:
    """CAM-based re-sampling: foregrounds of tail images moved, in balanced batches.

    Zhang et al., AAAI 2021, section 3.3.

    Args:
      settings: of all phases; num_epochs are those of the first and the last together.
      info: of the training set.
      sampler: of the last phase, one of finetuned.RESAMPLERS.
      first_share: of the epochs, before maps are taken; the rate of the config's schedule "step"
        does not drop there.
      lr: of the last phase, divided by 100 half way.
      at_most: new images of a class; none for classes with as many images. 0 fills all classes up
        to the largest, as on CIFAR. 100 on ImageNet-LT.
      box: of the foreground that is moved, "as_code" or "full"; see foreground.bounding_box.
    """
    # of 40 epochs counted from 1, the rate drops at the 20th
    return _three_phases(settings, info, sampler, first_share, lr, at_most, box, drop_at=19 / 40)


def bag_of_tricks(
    settings,
    info,
    *,
    extra_share: Annotated[float, above(0), at_most(100)] = 0.05,
    lr: Rate = 0.001,
    at_most: Number = 0,
    box: Box = "as_code",
) -> tuple[phases.Phase, ...]:
    """Mixup, then CAM-based balanced sampling, then fine-tuning without either.

    Zhang et al., AAAI 2021, section 4: 320 epochs, 80 and 20 in the authors' code; of
    config.num_epochs, 80 and 20 %, and on top of these `extra_share`. The others as in `recipe`.
    """
    # of 80 epochs counted from 1, the rate drops at the 40th
    moved = _three_phases(settings, info, "class_balanced", 0.8, lr, at_most, box, drop_at=39 / 80)
    return *moved, tuned(settings, info, extra_share, lr)


def _three_phases(settings, info, sampler, first_share, lr, at_most, box, drop_at):
    name, schedule = settings.method["name"], settings.schedule
    if schedule["name"] != "step":
        why = f"the first phase of method {name!r} requires schedule 'step'"
        raise FieldError("schedule.name", schedule["name"], why, use="step")
    for option in ("drop_at", "drop_by"):
        if schedule.get(option):
            why = f"method {name!r} sets its own drops; leave it out"
            raise FieldError(f"schedule.{option}", schedule[option], why)
    network = needs.network_with_maps(settings, info)
    first = dataclasses.replace(
        settings,
        num_epochs=first_share * settings.num_epochs,
        schedule=settings.schedule | {"drop_at": ()},
    )
    last = dataclasses.replace(
        settings,
        **settled(settings),
        num_epochs=(1 - first_share) * settings.num_epochs,
    )
    schedule = functools.partial(optim.step, lr=lr, drop_at=(drop_at,), drop_by=0.01)
    draw = RESAMPLERS[sampler]
    if draw is sampling.progressively_balanced:
        draw = functools.partial(draw, convention="bag_of_tricks")
    shares = share_of_new(info.class_counts, at_most or None)

    def moving(method):
        return with_moved_foregrounds(method, network, info.num_train, shares, box)

    return (
        build.phase(first, info, method_for(first, info, network)),
        build.passes(settings, info, mapping(network, info.num_train), name="maps"),
        build.phase(
            last,
            info,
            method_for(last, info, network),
            name="CAM",
            begin=phases.start_from_all,
            around=moving,
            sampler=draw,
            schedule=schedule,
        ),
    )


def share_of_new(class_counts, at_most: int | None):
    """How many of a class's images would be new ones, f64[C] in [0, 1)."""
    new = num_generated(class_counts, at_most)
    return new / (class_counts + new)


def mapping(network: Network, num_images: int) -> Method:
    """Record the class map of each image, u8[N, h, w]; nothing is learned."""

    def init(key, batch):
        variables = Variables(*network.init(key, batch["image"]))
        return variables._replace(memory=_no_maps(network, variables, batch, num_images))

    def loss(variables, batch, key, progress):
        del key, progress
        maps, _ = network.maps(variables, batch["image"], train=False)  # [B, h, w, D]
        kernel, _ = network.weights(variables)
        weights = kernel.T[batch["label"]]  # [B, D]
        found = jax.vmap(class_map)(wide(maps), weights)
        memory = {"maps": written(variables.memory["maps"], batch, found)}
        return LossOutput(jnp.zeros(1), jnp.ones(1), variables.stats, memory, {})

    return Method(init, loss, predict_with(network), frozen=("backbone", "head"))


def with_moved_foregrounds(
    method: Method, network: Network, num_images: int, shares, box: str
) -> Method:
    """Train a method on uint8 images, some with their foreground moved.

    Args:
      method: reads uint8 images, as build.on_images makes it.
      network: its maps are recorded.
      num_images: N.
      shares: f64[C], of the examples of a class that are changed.
      box: as in foreground.transform_foreground.
    """

    def init(key, batch):
        variables = method.init(key, batch)
        image = {"image": batch["image"].astype(jnp.float32)}
        return variables._replace(memory=_no_maps(network, variables, image, num_images))

    def loss(variables, batch, key, progress):
        moving_key, key = jax.random.split(key)
        keys = jax.vmap(jax.random.split)(example_keys(moving_key, len(batch["label"])))  # [B, 2]
        is_new = jax.vmap(jax.random.bernoulli)(keys[:, 0], jnp.asarray(shares)[batch["label"]])
        new = jax.vmap(lambda key, image, small: transform_foreground(key, image, small, box))(
            keys[:, 1], batch["image"], variables.memory["maps"][batch["index"]]
        )
        image = jnp.where(is_new[:, None, None, None], new, batch["image"])
        return method.loss(variables, batch | {"image": image}, key, progress)

    return method._replace(init=init, loss=loss)


def _no_maps(network, variables, batch, num_images):
    maps, _ = jax.eval_shape(lambda: network.maps(variables, batch["image"], train=False))
    height, width = maps.shape[1:3]
    return {"maps": jnp.zeros((num_images, height, width), jnp.uint8)}
