"""The first step of every phase of every method, on a mesh of 2 x 4 devices and on one.

The phases of a method follow each other, one step each. Networks have no convolutions, and images
are not augmented: what methods promise has nothing to do with these. So a step is compiled soon.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import toy
from jax.sharding import NamedSharding

from ltjax import mesh
from ltjax.config.settings import Compute
from ltjax.experts import independent, seeded_keys, stack, take
from ltjax.learner import TrainState
from ltjax.methods import METHODS, classifier
from ltjax.phases import Phase
from ltjax.recipes import recipe_of
from ltjax.run.compiled import Compiled


class Step(NamedTuple):
    """What a step begins with, and what comes of it."""

    phase: Phase
    request: Any  # i32[E, B] indices, of each stream
    before: TrainState
    after: TrainState
    loss: np.ndarray  # f32[E]
    logits: np.ndarray  # f32[E, 5, C], of test images


def phases_of(method):
    """Of four experts; where all networks are one expert, of four such.

    Where the recipe is the classifier's, its other choices need no batch norm.
    """
    plain = METHODS[method].config and METHODS[method].recipe is classifier.recipe
    settings = toy.settings(
        method={"name": method} | toy.OPTIONS.get(method, {}),
        network={"name": "tiny" if plain else "normed"},
        augment={"name": "none"},
        num_experts=4,
    )
    phases = recipe_of(settings, toy.info())
    return [phase._replace(num_experts=max(4, phase.num_experts)) for phase in phases]


@functools.cache
def step_of(method, number):
    """The first step of a phase in company, after a step of each phase before."""
    phase = phases_of(method)[number]
    previous = step_of(method, number - 1).after.variables if number else None
    many = independent(phase.learner)  # not compiled: its operations are those of other methods
    before = many.init(seeded_keys(0, number, phase.num_experts), toy.info().example)
    before = on_host(phase.begin(before, previous))
    ours = compiled(phase, number, (2, 4))
    request = ours.feed.host_batch(0)
    after, loss = updating(ours, before, request)(before, request)
    found = many.method.predict(after.variables, {"image": toy.splits().test.image[:5]})
    return Step(phase, request, before, after, loss, np.asarray(found.logits))


def alone(step, number):
    """For each expert, (the state after the same step alone on one device, its loss)."""
    ours = compiled(step.phase._replace(num_experts=1), number, (1, 1))
    given = [stack([take((step.before, step.request), i)]) for i in range(step.phase.num_experts)]
    update = updating(ours, *given[0])
    for own in given:
        state, loss = update(*own)
        yield take(state, 0), loss[0]


def compiled(phase, number, shape):
    """A phase on a mesh of this shape."""
    return Compiled(
        phase,
        toy.images_of(phase),
        Compute(experts_over="map"),
        number=number,
        expert_devices=shape[0],
        devices=jax.devices()[: shape[0] * shape[1]],
    )


def updating(ours, state, request):
    """(state, request) -> (state, loss f32[E]), compiled for such."""

    def placed(state, request):
        requests = jax.tree.map(lambda index: np.asarray(index)[None], request)
        return (
            jax.device_put(state, NamedSharding(ours.mesh, mesh.EXPERTS)),
            ours.arrays(),
            mesh.place(requests, ours.mesh, mesh.REQUESTS),
        )

    program = ours.programs.update.lower(*placed(state, request)).compile()

    def update(state, request):
        state, metrics = program(*placed(state, request))
        return on_host(state), np.asarray(metrics["loss"])

    return update


def on_host(state):
    """A state whose numbers are NumPy's; keys stay JAX's."""
    return TrainState(
        np.asarray(state.step), state.key, *jax.device_get((state.variables, state.opt_state))
    )
