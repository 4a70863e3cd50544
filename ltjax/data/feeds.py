"""Feeds: how batches reach the compiled step.

A feed has two halves. On the host, `host_batch(step)` says what every expert needs; inside the
compiled step, `load(arrays, request)` makes the batch of it. The resident feed keeps all images on
the device as uint8, so that its requests are only indices.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.images import Images
from ltjax.data.sampling import Draw
from ltjax.learner import Batch, PyTree

MAIN = "main"  # the stream that is the batch itself


class Feed(NamedTuple):
    """Where a phase's batches come from; a method cannot tell which feed it got."""

    arrays: PyTree  # placed once, whole on every device
    host_batch: Callable[[int], PyTree]  # step -> host arrays [E, B, ...]
    load: Callable[[PyTree, PyTree], Batch]  # (arrays, request) -> batch, in the compiled step

    def host_batches(self, start: int, count: int) -> PyTree:
        """Those of `count` steps from `start` on, [count, E, B, ...]."""
        each = [self.host_batch(step) for step in range(start, start + count)]
        return jax.tree.map(lambda *steps: np.stack(steps), *each)


def resident(
    images: Images, draws: Mapping[str, Draw], seed: int, phase: int, num_experts: int
) -> Feed:
    """All images on the device, indices per step.

    Args:
      images: the training set.
      draws: {stream: sampler of it}, MAIN first. Each expert draws from numbers of its own, the
        main stream from (seed, phase, expert), the k-th after it from (seed, phase, expert, k).
      seed: of the run.
      phase: number of the phase.
      num_experts: E.

    Returns:
      A Feed whose requests are {stream: i32[E, B]} and whose batches are {'image': u8[E, B, H, W,
      channels], 'label': i32[E, B], 'index': i32[E, B]}, with such a dict more under the name of
      each further stream.
    """
    arrays = {"image": images.image, "label": images.label.astype(np.int32)}

    def host_batch(step):
        def drawn(draw, number):
            more = (number,) if number else ()
            experts = [(seed, phase, expert, *more) for expert in range(num_experts)]
            return np.stack([draw(expert, step) for expert in experts]).astype(np.int32)

        return {name: drawn(draw, number) for number, (name, draw) in enumerate(draws.items())}

    def load(arrays, request):
        def examples(index):
            taken = {name: jnp.take(x, index, axis=0) for name, x in arrays.items()}
            return taken | {"index": index}

        streams = {name: examples(index) for name, index in request.items()}
        return streams.pop(MAIN) | streams

    return Feed(arrays, host_batch, load)
