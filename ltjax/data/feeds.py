"""Feeds: how batches reach the compiled step.

A feed has two halves. On the host, `request(step)` says what every expert needs; inside the
compiled step, `load(arrays, request)` makes the batch of it. The resident feed keeps all images on
the device as uint8, so that its requests are only indices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ltjax.data.sampling import Draw
from ltjax.learner import Batch, PyTree


class Images(NamedTuple):
    """Some labelled images, in memory."""

    image: np.ndarray  # u8[N, H, W, channels]
    label: np.ndarray  # i64[N]

    def take(self, index: np.ndarray) -> "Images":
        """The images at the positions `index`."""
        return Images(self.image[index], self.label[index])


class Feed(NamedTuple):
    """Where a phase's batches come from; a method cannot tell which feed it got."""

    arrays: PyTree  # placed once, whole on every device
    request: Callable[[int], PyTree]  # step -> host arrays [E, B, ...]
    load: Callable[[PyTree, PyTree], Batch]  # (arrays, request) -> batch, in the compiled step


def resident(images: Images, draw: Draw, seed: int, phase: int, num_experts: int) -> Feed:
    """All images on the device, indices per step.

    Args:
      images: the training set.
      draw: a sampler of it; each expert draws from its own stream (seed, phase, expert).
      seed: of the run.
      phase: number of the phase.
      num_experts: E.

    Returns:
      A Feed whose batches are {'image': u8[E, B, H, W, channels], 'label': i32[E, B],
      'index': i32[E, B]}.
    """
    arrays = {"image": images.image, "label": images.label.astype(np.int32)}

    def request(step):
        streams = [(seed, phase, expert) for expert in range(num_experts)]
        return np.stack([draw(stream, step) for stream in streams]).astype(np.int32)

    def load(arrays, index):
        return {name: jnp.take(x, index, axis=0) for name, x in arrays.items()} | {"index": index}

    return Feed(arrays, request, load)


def evaluation_batches(images: Images, batch_size: int):
    """Go through a split once, in order, in batches of one size.

    Yields:
      {'image': u8[B, H, W, channels], 'label': i32[B], 'mask': f32[B]}; the last batch is filled
      up with images of mask 0.
    """
    for start in range(0, len(images.label), batch_size):
        part = images.take(np.arange(start, min(start + batch_size, len(images.label))))
        size = len(part.label)
        fill = [(0, batch_size - size)]
        yield {
            "image": np.pad(part.image, fill + [(0, 0)] * 3),
            "label": np.pad(part.label, fill).astype(np.int32),
            "mask": (np.arange(batch_size) < size).astype(np.float32),
        }
