"""Phases: for the training loop, a recipe is a tuple of phases.

A phase says what is trained, with how many experts, for how long, on which samples, and from which
state. The loop cannot tell an ensemble from a single network, or stage one from stage two.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augmentation.augments import Augment, normalize
from ltjax.axes import example_keys
from ltjax.data.feeds import MAIN
from ltjax.data.info import DataInfo
from ltjax.data.sampling import Draw
from ltjax.errors import UserError
from ltjax.learner import Learner, Method, TrainState, Variables

# (fresh state, variables at the end of the previous phase or None) -> state. It only fills values:
# every leaf has its final shape before. It is compiled; leaves have the leading axis of experts,
# whose number may differ from that of the previous phase.
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
    """Begin with all variables of the previous phase, its memory included; steps count from 0."""
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


def steps_per_epoch(num_images: int, batch: Any) -> int:
    """Updates in one epoch, ceil(N / B): the count of the authors' loaders (LDAM-DRW).

    Args:
      num_images: N.
      batch: a Phase, or settings, whose `batch_size` is B.
    """
    return math.ceil(num_images / batch.batch_size)


def epoch_of(progress: jax.Array, num_epochs: float, per_epoch: int) -> jax.Array:
    """The epoch that is under way, counted from 0: progress f32[] in [0, 1] -> i32[].

    Half a step is added, so that the rounding of `progress` moves no epoch.
    """
    return jnp.floor(progress * num_epochs + 0.5 / per_epoch).astype(jnp.int32)


def draws(phase: Phase, labels: np.ndarray) -> dict[str, Draw]:
    """{stream: its sampler for images with these labels i64[N]}, the main one first."""
    samplers = {MAIN: phase.sampler, **phase.streams}
    return {name: _checked(sampler(labels), len(labels)) for name, sampler in samplers.items()}


def _checked(draw: Draw, num_images: int) -> Draw:
    """The same, with an error where it draws what are no positions of images."""

    def checked(stream, step):
        index = np.asarray(draw(stream, step))
        whole = index.ndim == 1 and index.size > 0 and index.dtype.kind in "iu"
        if not whole or index.min() < -1 or index.max() >= num_images:  # -1 is padding
            ends = f" from {index.min()} to {index.max()}" if index.size else ""
            raise UserError(
                f"A sampler drew {index.dtype}{list(index.shape)}{ends}. It must draw the "
                f"positions of images of a step, integers from 0 to {num_images - 1:,}."
            )
        return index

    return checked


def on_images(method: Method, info: DataInfo, augment: Augment, dtype: str) -> Method:
    """Let a method that expects normalised floats read the data set's uint8 images.

    Args:
      method: reads normalised floats.
      info: of the data: how its images are normalised.
      augment: what happens to images in training, each with a key of its own, before that.
      dtype: of the floats; networks compute in the type of their images.
    """

    def normalized(batch):
        image = normalize(batch["image"], info.mean, info.std, dtype)
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
