"""Feeds: how batches reach the compiled step.

A feed has two halves. On the host, `host_batch(step)` gives the requests of all experts; inside the
compiled step, `load(arrays, request)` makes the batches from them. The resident feed keeps all
images on the device as uint8, so that its requests are only indices. The streaming feed reads the
pixels of each batch on the host. Batches are the same, bit for bit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.images import Images
from ltjax.data.sampling import Draw

MAIN = "main"  # the stream that is the batch itself
RESIDENT_BYTES = 4 * 2**30  # up to so many bytes of pixels, "auto" keeps images on the device


class Feed(NamedTuple):
    """Where a phase's batches come from; a method cannot tell which feed it got.

    A batch is {'image': u8[E, B, H, W, channels], 'label': i32[E, B], 'index': i32[E, B]}, with
    one more such dict under the name of each further stream. Index -1 is padding.
    """

    arrays: Any  # placed once, whole on every device
    host_batch: Callable[[int], Any]  # step -> host arrays [E, B, ...]
    load: Callable[[Any, Any], dict[str, Any]]  # (arrays, request) -> batch, in the compiled step

    def host_batches(self, start: int, count: int) -> Any:
        """Those of `count` steps from `start` on, [count, E, B, ...]."""
        each = [self.host_batch(step) for step in range(start, start + count)]
        return jax.tree.map(lambda *steps: np.stack(steps), *each)


def feed(
    images: Images,
    draws: Mapping[str, Draw],
    seed: int,
    phase: int,
    num_experts: int,
    kind: str = "auto",
) -> Feed:
    """The feed of a phase.

    Args:
      images: to draw from.
      draws: {stream: its sampler}, MAIN first. Each expert has its own random numbers, the
        main stream from (seed, phase, expert), the k-th after it from (seed, phase, expert, k).
      seed: of the run.
      phase: number of the phase.
      num_experts: E.
      kind: "resident", "streaming", or "auto": resident up to RESIDENT_BYTES of pixels.
    """

    def indices(step):
        def drawn(draw, number):
            more = (number,) if number else ()
            experts = [(seed, phase, expert, *more) for expert in range(num_experts)]
            return np.stack([draw(expert, step) for expert in experts]).astype(np.int32)

        return {name: drawn(draw, number) for number, (name, draw) in enumerate(draws.items())}

    if kind == "auto":
        size = len(images.label) * int(np.prod(images.shape))
        kind = "resident" if size <= RESIDENT_BYTES else "streaming"
    return {"resident": _resident, "streaming": _streaming}[kind](images, indices)


def _resident(images, indices) -> Feed:
    """All images on the device, indices per step."""
    everything = np.arange(len(images.label))
    arrays = {"image": images.read(everything), "label": images.label.astype(np.int32)}

    def load(arrays, request):
        def examples(index):
            taken = {name: jnp.take(x, index, axis=0) for name, x in arrays.items()}
            return taken | {"index": index}

        return _nested({name: examples(index) for name, index in request.items()})

    return Feed(arrays, indices, load)


def _streaming(images, indices) -> Feed:
    """Pixels and labels per step."""

    def examples(index):  # index -1, the padding, reads the last image
        flat = index.reshape(-1)
        pixels = images.read(flat).reshape(*index.shape, *images.shape)
        return {"image": pixels, "label": images.label[index].astype(np.int32), "index": index}

    def host_batch(step):
        return {name: examples(index) for name, index in indices(step).items()}

    return Feed({}, host_batch, lambda arrays, request: _nested(request))


def _nested(streams):
    """The batch of all streams; the main one is the batch itself."""
    return streams[MAIN] | {name: of for name, of in streams.items() if name != MAIN}
