"""Experts that share where they begin, what they see, or what is drawn for them.

Independent experts differ by three things: their initialisation, the order of their images, and
what is drawn inside a step (augmentation, partners of mixing). The ablations of the headline method
take these away one by one; without all three, experts are bitwise the same.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ltjax.config.settings import Share
from ltjax.data.sampling import Draw
from ltjax.errors import FieldError
from ltjax.phases import Phase


def sharing(phase: Phase, what: Share) -> Phase:
    """A phase whose experts take from the first of them what `what` names.

    Raises:
      UserError: if there is one expert only, who has nobody to share with.
    """
    shared = shares(what)
    if shared and phase.num_experts == 1:
        why = "sharing takes at least two experts, and there is one here (method 'joint' is one)"
        use = {"num_experts": 3, f"share.{shared[0]}": False}
        raise FieldError(f"share.{shared[0]}", True, why, use)
    if what.order:
        streams = {name: _of_first(draw) for name, draw in phase.streams.items()}
        phase = phase._replace(draw=_of_first(phase.draw), streams=streams)
    if what.initialisation or what.augmentation:
        phase = phase._replace(begin=_begin(phase, what))
    return phase


def shares(what: Share) -> list[str]:
    """The names of what is shared."""
    return [name for name, yes in dataclasses.asdict(what).items() if yes]


def _of_first(draw: Draw) -> Draw:
    def shared(stream, step):
        seed, phase, _, *more = stream
        return draw((seed, phase, 0, *more), step)

    return shared


def _begin(phase, what):
    def first_of(tree):
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), tree)

    def begin(state, previous):
        if what.initialisation:
            state = state._replace(variables=first_of(state.variables))
        if what.augmentation:
            state = state._replace(key=first_of(state.key))
        return phase.begin(state, previous)

    return begin
