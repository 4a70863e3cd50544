"""Phases: a recipe, to the training loop, is a tuple of these.

A phase says what learns, how many experts of it, for how long, on which samples, and how its
state begins. The loop cannot tell an ensemble from a single network, or stage one from stage two.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import optim
from ltjax.augmentation.augments import AUGMENTS, normalize
from ltjax.axes import example_keys
from ltjax.config.choices import choose, choose_with_start
from ltjax.config.settings import Settings
from ltjax.data import sampling
from ltjax.data.feeds import MAIN
from ltjax.data.info import DataInfo
from ltjax.data.sampling import SAMPLERS, Draw
from ltjax.errors import FieldError
from ltjax.learner import Learner, Method, TrainState, Variables, learner
from ltjax.models import NETWORKS, Network

MOST_STEPS = 20_000_000  # of a phase; the compiled step holds a number for each

# (fresh state, variables at the end of the previous phase or None) -> state. It only fills values:
# every leaf has its final shape before. It is compiled; leaves have the leading axis of experts,
# of which the previous phase may have had another number.
Begin = Callable[[TrainState, Variables | None], TrainState]


def fresh(state: TrainState, previous: Variables | None) -> TrainState:
    """Begin as initialised."""
    del previous
    return state


def start_from(*groups: str) -> Begin:
    """Begin with these groups of the previous phase, params and statistics; all else is fresh."""

    def begin(state, previous):
        params, stats, _ = previous
        kept = state.variables._replace(
            params=state.variables.params | {name: params[name] for name in groups},
            stats=state.variables.stats | {name: stats[name] for name in groups if name in stats},
        )
        return state._replace(variables=kept)

    return begin


def start_from_all(state: TrainState, previous: Variables) -> TrainState:
    """Begin with all variables of the previous phase, its memory too; time begins anew."""
    return state._replace(variables=previous)


# labels i64[N] -> Draw. A recipe knows no labels: the feed of a phase hands them to its samplers.
Sampler = Callable[[np.ndarray], Draw]


class Phase(NamedTuple):
    """One stage of a recipe."""

    name: str
    learner: Learner  # of one expert
    num_experts: int
    num_steps: int
    batch_size: int  # images of an expert and step, by which epochs and speeds are counted
    sampler: Sampler
    streams: Mapping[str, Sampler] = MappingProxyType({})  # further ones, nested in the batch
    begin: Begin = fresh
    source: str = "train"  # what is drawn from; or "validation"; or "test", whose labels are hidden
    skip_evaluation: bool = (
        False  # what it predicts on the way is of no interest, and not evaluated
    )


def steps_per_epoch(num_images: int, batch: Settings | Phase) -> int:
    """Updates in one epoch, ceil(N / B): the count of the authors' loaders (LDAM-DRW)."""
    return math.ceil(num_images / batch.batch_size)


def epoch_of(progress: jax.Array, num_epochs: float, per_epoch: int) -> jax.Array:
    """The epoch that is under way, counted from 0: progress f32[] in [0, 1] -> i32[].

    Half a step is added, so that the rounding of `progress` moves no epoch.
    """
    return jnp.floor(progress * num_epochs + 0.5 / per_epoch).astype(jnp.int32)


def phase(
    settings: Settings,
    info: DataInfo,
    method: Method,
    num_experts: int,
    name: str = "train",
    begin: Begin = fresh,
    around: Callable[[Method], Method] = lambda method: method,
    streams: Mapping[str, Sampler] = MappingProxyType({}),
    rates: Mapping[str, float] = MappingProxyType({}),
) -> Phase:
    """The usual phase: the config's sampler, augmentation, optimiser, schedule and length.

    Args:
      settings: of the phase.
      info: of the training set.
      method: reads normalised floats.
      num_experts: E.
      name: of the phase.
      begin: how its state begins.
      around: made of the method that reads uint8 images, the one to train: what is to happen to
        images before they are augmented.
      streams: further samplers; the method finds what they draw, augmented, under their names.
      rates: {group of params: factor of its learning rate}, where that is not 1.

    Raises:
      UserError: if the training set is smaller than a batch, or an option is wrong.
    """
    if info.num_train < settings.batch_size:
        why = f"it must be at most {info.num_train}, the number of training images"
        raise FieldError("batch_size", settings.batch_size, why)
    per_epoch = steps_per_epoch(info.num_train, settings)
    make_schedule = choose(optim.SCHEDULES, "schedule", **settings.schedule)
    optimizer = optim.sgd(
        make_schedule(settings.num_epochs, per_epoch),
        momentum=settings.optimizer.momentum,
        nesterov=settings.optimizer.nesterov,
        weight_decay=settings.optimizer.weight_decay,
        rates=rates,
    )
    num_steps = max(1, round(settings.num_epochs * per_epoch))
    if num_steps > MOST_STEPS:
        most = MOST_STEPS // per_epoch
        why = f"it must be at most {most:,}, so that a phase has no more than {MOST_STEPS:,} steps"
        raise FieldError("num_epochs", settings.num_epochs, why)
    return Phase(
        name=name,
        learner=learner(around(on_images(method, info, settings)), optimizer, num_steps),
        num_experts=num_experts,
        num_steps=num_steps,
        batch_size=settings.batch_size,
        sampler=sampler(settings, num_steps),
        streams=streams,
        begin=begin,
    )


def passes(
    settings: Settings,
    info: DataInfo,
    method: Method,
    name: str,
    times: int = 1,
    source: str = "train",
) -> Phase:
    """A phase that learns without gradients: it goes over images in order, `times` times.

    They come as they are, not augmented; index -1 fills up the last batch of each pass. It goes on
    with the previous phase, and all of the method must be frozen.
    """
    size = info.num_train if source == "train" else info.num_validation
    per_pass = steps_per_epoch(size, settings)
    images = on_images(method, info, dataclasses.replace(settings, augment={"name": "none"}))
    return Phase(
        name=name,
        learner=learner(images, optax.identity(), times * per_pass),
        num_experts=settings.num_experts,
        num_steps=times * per_pass,
        batch_size=settings.batch_size,
        sampler=in_order(settings.batch_size),
        begin=start_from("backbone", "head"),
        source=source,
        skip_evaluation=True,
    )


def sampler(settings: Settings, num_steps: int) -> Sampler:
    """The config's sampler, in a phase of so many steps."""
    start, chosen = choose_with_start(SAMPLERS, "sampler", **settings.sampler)
    first = math.ceil(round(start * num_steps, 6))  # at least `start` of the phase is through

    def draw(labels):
        arguments = labels, settings.batch_size, num_steps
        if not start:
            return chosen(*arguments)
        return sampling.deferred(chosen(*arguments), sampling.instance_balanced(*arguments), first)

    return draw


def in_order(batch_size: int) -> Sampler:
    """All images in their order, again and again, the same for every expert."""
    return lambda labels: sampling.in_order(len(labels), batch_size)


def draws(phase: Phase, labels: np.ndarray) -> dict[str, Draw]:
    """{stream: its sampler for images with these labels i64[N]}, the main one first."""
    samplers = {MAIN: phase.sampler, **phase.streams}
    return {name: sampler(labels) for name, sampler in samplers.items()}


def network(settings: Settings, info: DataInfo) -> Network:
    """The config's network for the data set's classes."""
    make = choose(NETWORKS, "network", **settings.network)
    return make(info.num_classes, settings.compute.convolution)


def on_images(method: Method, info: DataInfo, settings: Settings) -> Method:
    """Let a method that expects normalised floats read the data set's uint8 images.

    The floats are of config.compute.dtype, and networks compute in the type of their images. In
    training the images are augmented first, each with a key of its own.
    """
    augment = choose(AUGMENTS, "augment", **settings.augment)(info, info.image_shape)

    def normalized(batch):
        image = normalize(batch["image"], info.mean, info.std, settings.compute.dtype)
        return batch | {"image": image} | {k: normalized(v) for k, v in _streams(batch).items()}

    def augmented(batch, key):
        streams = _streams(batch)
        key, *others = jax.random.split(key, 1 + len(streams)) if streams else [key]
        keys = example_keys(key, len(batch["image"]))
        nested = {k: augmented(v, own) for (k, v), own in zip(streams.items(), others, strict=True)}
        return batch | {"image": augment(keys, batch["image"])} | nested

    def loss(variables, batch, key, progress):
        augment_key, key = jax.random.split(key)
        batch = augmented(batch, augment_key)
        return method.loss(variables, normalized(batch), key, progress)

    return method._replace(
        init=lambda key, batch: method.init(key, normalized(batch)),
        loss=loss,
        predict=lambda variables, batch: method.predict(variables, normalized(batch)),
    )


def _streams(batch):
    return {name: value for name, value in batch.items() if isinstance(value, dict)}
