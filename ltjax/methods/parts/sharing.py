"""Experts that share their initialisation, their images, or the random draws inside a step.

Independent experts differ by three things: their initialisation, the order of their images, and
what is drawn inside a step (augmentation, partners of mixing). The ablations of the headline method
remove these one by one; without all three, experts are bitwise the same.
"""

import jax
import jax.numpy as jnp

from ltjax.config.settings import Share
from ltjax.errors import FieldError
from ltjax.phases import Phase, Sampler


def sharing(phase: Phase, what: Share) -> Phase:
    """A phase whose experts share what `what` names, taken from the first expert.

    Raises:
      UserError: if there is only one expert.
    """
    shared = what.names()
    if shared and phase.num_experts == 1:
        why = "needs at least two experts (joint counts as one)"
        use = {"num_experts": 3, f"share.{shared[0]}": False}
        raise FieldError(f"share.{shared[0]}", True, why, use)
    if what.order:
        streams = {name: _of_first(sampler) for name, sampler in phase.streams.items()}
        phase = phase._replace(sampler=_of_first(phase.sampler), streams=streams)
    if what.initialisation or what.augmentation:
        phase = phase._replace(begin=_begin(phase, what))
    return phase


def _of_first(sampler: Sampler) -> Sampler:
    def shared_draw(labels):
        draw = sampler(labels)

        def shared(stream, step):
            seed, phase, _, *more = stream
            return draw((seed, phase, 0, *more), step)

        return shared

    return shared_draw


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
