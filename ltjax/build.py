"""Makes the parts of a run from a config's choices: with ltjax.recipes, what binds names
to rows of tables.

A method calls what it needs (`network`, `objective`, `mixing`, `phase`). If a later phase has its
own choices, the method names functions: `phase(..., sampler=sampling.class_balanced)`.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import optax

from ltjax import optim, phases, sizes
from ltjax.augmentation.augments import AUGMENTS
from ltjax.config import requires
from ltjax.config.choices import choose, choose_with_start, options_of
from ltjax.config.settings import Settings
from ltjax.data import sampling
from ltjax.data.info import DataInfo
from ltjax.errors import FieldError
from ltjax.learner import Method, learner
from ltjax.losses.classification import LOSSES, cross_entropy
from ltjax.losses.mixing import MIXINGS, Mixing
from ltjax.losses.objective import Objective
from ltjax.losses.objective import objective as minimised
from ltjax.losses.reweighting import REWEIGHTINGS
from ltjax.models import NETWORKS, Network
from ltjax.models.heads import COSINE_SCALE
from ltjax.phases import Begin, Phase, fresh, start_from, steps_per_epoch

# A row of SAMPLERS, or any function like one: (labels i64[N], batch_size, num_steps) -> Draw.
Sampling = Callable[[np.ndarray, int, int], sampling.Draw]


def network(settings: Settings, info: DataInfo) -> Network:
    """The config's network for the data set's classes."""
    make = choose(NETWORKS, "network", **settings.network)
    return make(info.num_classes, settings.compute.convolution)


def mixing(settings: Settings, info: DataInfo) -> Mixing | None:
    """The config's mixing of images or features; None for none."""
    return choose(MIXINGS, "mixing", **settings.mixing)(info.class_counts)


def objective(settings: Settings, class_counts: np.ndarray) -> Objective:
    """The config's loss and re-weighting for a training set.

    Args:
      settings: `loss` and `reweight` are read. Before its `start` a loss is plain cross-entropy,
        and re-weighting gives all examples weight 1.
      class_counts: i64[C].

    Raises:
      UserError: if an option is wrong, or the loss does not fit the network's head.
    """
    loss_start, make_loss = choose_with_start(LOSSES, "loss", **settings.loss)
    weights_start, make_weights = choose_with_start(REWEIGHTINGS, "reweight", **settings.reweight)
    requires.check(LOSSES[settings.loss["name"]], settings)
    divide_by = settings.loss.get("divide_by")
    if divide_by is not None and settings.reweight["name"] == "none":
        why = "without re-weighting all weights are 1, so it has no effect; leave it out"
        raise FieldError("loss.divide_by", divide_by, why)
    before = cross_entropy(class_counts)
    # margins in cosines are scaled as the head scales these
    function = LOSSES[settings.loss["name"]]
    has_scale = "scale" in inspect.signature(function).parameters.keys() - options_of(function)
    loss = make_loss(class_counts, **({"scale": COSINE_SCALE} if has_scale else {}))
    return minimised(loss, make_weights(class_counts), loss_start, weights_start, before)


def sampler_of(settings: Settings) -> Sampling:
    """The config's sampler."""
    start, chosen = choose_with_start(sampling.SAMPLERS, "sampler", **settings.sampler)

    def draw(labels, batch_size, num_steps):
        arguments = labels, batch_size, num_steps
        if not start:
            return chosen(*arguments)
        first = math.ceil(round(start * num_steps, 6))  # at least `start` of the phase is through
        return sampling.deferred(chosen(*arguments), sampling.instance_balanced(*arguments), first)

    return draw


def in_order(labels: np.ndarray, batch_size: int, num_steps: int) -> sampling.Draw:
    """All images in order, repeated, the same for every expert."""
    del num_steps
    return sampling.in_order(len(labels), batch_size)


def on_images(
    method: Method, info: DataInfo, settings: Settings, augment: Callable | None = None
) -> Method:
    """Let a method that expects normalised floats read the data set's uint8 images.

    Args:
      method: reads normalised floats.
      info: of the data.
      settings: its augmentation and type of floats are read.
      augment: a row of AUGMENTS that overrides the config's.
    """
    augment = augment or choose(AUGMENTS, "augment", **settings.augment)
    made = augment(info, info.image_shape)
    return phases.on_images(method, info, made, settings.compute.dtype)


def phase(
    settings: Settings,
    info: DataInfo,
    method: Method,
    *,
    num_experts: int | None = None,
    name: str = "train",
    begin: Begin = fresh,
    around: Callable[[Method], Method] = lambda method: method,
    sampler: Sampling | None = None,
    streams: Mapping[str, Sampling] = MappingProxyType({}),
    schedule: Callable[[float, int], optim.Schedule] | None = None,
    rates: Mapping[str, float] = MappingProxyType({}),
    augment: Callable | None = None,
    num_steps: int | None = None,
    source: str = "train",
    skip_evaluation: bool = False,
) -> Phase:
    """A phase of training; arguments that are not given come from the config.

    Args:
      settings: of the phase.
      info: of the data.
      method: reads normalised floats.
      num_experts: E.
      name: of the phase.
      begin: how its state begins.
      around: wraps the method that reads uint8 images, for example to change images before they are
        augmented.
      sampler: of the batch.
      streams: further samplers; the method finds what they draw, augmented, under their names.
      schedule: (epochs, steps in one) -> learning rates.
      rates: {group of params: factor of its learning rate}; 1 if not given.
      augment: a row of AUGMENTS.
      num_steps: by default from config.num_epochs.
      source: the split that images come from; see `ltjax.phases.Phase`.
      skip_evaluation: see `ltjax.phases.Phase`.

    Raises:
      UserError: if the training set is smaller than a batch, or an option is wrong.
    """
    if info.num_train < settings.batch_size:
        why = f"it must be at most {info.num_train}, the number of training images"
        raise FieldError("batch_size", settings.batch_size, why)
    per_epoch = steps_per_epoch(info.num_train, settings)
    schedule = schedule or choose(optim.SCHEDULES, "schedule", **settings.schedule)
    optimizer = optim.sgd(
        schedule(settings.num_epochs, per_epoch),
        momentum=settings.optimizer.momentum,
        nesterov=settings.optimizer.nesterov,
        weight_decay=settings.optimizer.weight_decay,
        rates=rates,
    )
    num_steps = num_steps or max(1, round(settings.num_epochs * per_epoch))
    sizes.check_steps(name, num_steps)
    draws = functools.partial(_drawing, batch_size=settings.batch_size, num_steps=num_steps)
    images = around(on_images(method, info, settings, augment))
    return Phase(
        name=name,
        learner=learner(images, optimizer, num_steps),
        num_experts=num_experts or settings.num_experts,
        num_steps=num_steps,
        batch_size=settings.batch_size,
        sampler=draws(sampler or sampler_of(settings)),
        streams={name: draws(stream) for name, stream in streams.items()},
        begin=begin,
        source=source,
        skip_evaluation=skip_evaluation,
    )


def passes(
    settings: Settings,
    info: DataInfo,
    method: Method,
    name: str,
    *,
    times: int = 1,
    source: str = "train",
    begin: Begin = start_from("backbone", "head"),  # noqa: B008, a pure function
) -> Phase:
    """A phase that learns without gradients: `times` passes over the images, in order.

    Images are not augmented; index -1 pads the last batch of each pass. All params of the method
    must be frozen.
    """
    size = info.num_train if source == "train" else info.num_validation
    num_steps = times * steps_per_epoch(size, settings)
    images = on_images(method, info, settings, AUGMENTS["none"])
    return Phase(
        name=name,
        learner=learner(images, optax.identity(), num_steps),
        num_experts=settings.num_experts,
        num_steps=num_steps,
        batch_size=settings.batch_size,
        sampler=_drawing(in_order, settings.batch_size, num_steps),
        begin=begin,
        source=source,
        skip_evaluation=True,
    )


def _drawing(row, batch_size, num_steps):
    return lambda labels: row(labels, batch_size, num_steps)
