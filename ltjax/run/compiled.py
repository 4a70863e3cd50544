"""A phase, compiled for the available devices; the loop, the benchmarks and the tests call it."""

from collections.abc import Sequence
from typing import Any

import jax

from ltjax.config.settings import Compute
from ltjax.data.feeds import feed
from ltjax.data.images import Images
from ltjax.experts import best_over, independent, seeded_keys
from ltjax.learner import PyTree, TrainState, Variables
from ltjax.mesh import EXPERTS, REQUESTS, WHOLE, fetch, jit_once, mesh_for, place, sharded
from ltjax.phases import Phase, draws


class Compiled:
    """The programs of one phase, its feed and its mesh. Programs are compiled when first called."""

    def __init__(
        self,
        phase: Phase,
        images: Images,
        compute: Compute,
        seed: int = 0,
        number: int = 0,
        expert_devices: int = 0,
        devices: Sequence[Any] | None = None,
        feed_kind: str = "auto",
    ):
        """Assemble the phase.

        Args:
          phase: of a recipe.
          images: what it draws from.
          compute: how experts are mapped.
          seed: of the run.
          number: of the phase in its recipe; initialisation and order depend on it, too.
          expert_devices: devices along the expert axis; 0 lets `ltjax.mesh.mesh_for` choose.
          devices: all by default.
          feed_kind: see `ltjax.data.feeds.feed`.
        """
        self.phase, self._seed, self._number = phase, seed, number
        self.mesh = mesh_for(phase.num_experts, devices, expert=expert_devices)
        self.feed = feed(
            images, draws(phase, images.label), seed, number, phase.num_experts, feed_kind
        )
        self.many = independent(phase.learner, best_over(compute))
        self.programs = sharded(self.many, self.mesh, self.feed.load)
        self._arrays: PyTree | None = None

    def initial(self, example: PyTree, keys: jax.Array | None = None) -> TrainState:
        """A fresh state, every leaf in its final shape [E, ...].

        Args:
          example: a batch of one image, for shapes.
          keys: key[E]; by default those of the seed and the number of the phase.
        """
        if keys is None:
            keys = seeded_keys(self._seed, self._number, self.phase.num_experts)
        return self.programs.init(keys, example)

    def begin(self, example: PyTree, previous: Variables | None) -> TrainState:
        """The state that the phase begins with.

        Args:
          example: as in `initial`.
          previous: variables at the end of the previous phase, if there is one.
        """
        begin = jit_once(self.phase.begin, self.mesh)
        return begin(self.initial(example), None if previous is None else fetch(previous))

    def arrays(self) -> PyTree:
        """What the feed keeps on every device; placed by the first call."""
        if self._arrays is None:
            self._arrays = place(self.feed.arrays, self.mesh, WHOLE)
        return self._arrays

    def requests(self, step: int, count: int = 1) -> PyTree:
        """The requests of `count` steps, from `step` on, to the feed; on the devices."""
        return place(self.feed.host_batches(step, count), self.mesh, REQUESTS)

    def update(self, state: TrainState, requests: PyTree) -> tuple[TrainState, dict]:
        """Take the steps of `requests`; the state that is given is donated."""
        return self.programs.update(state, self.arrays(), requests)

    def after_eval(self, state: TrainState, evaluation: dict) -> TrainState:
        """The state, its memory changed by an evaluation of the held-out split."""
        memory = fetch(state.variables.memory)
        if not jax.tree.leaves(memory):
            return state
        memory = place(self.many.method.after_eval(memory, evaluation), self.mesh, EXPERTS)
        return state._replace(variables=state.variables._replace(memory=memory))
