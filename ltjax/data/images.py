"""Labelled images in memory, and how an evaluation goes through them. NumPy only."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Images(NamedTuple):
    """Some labelled images, in memory."""

    image: np.ndarray  # u8[N, H, W, channels]
    label: np.ndarray  # i64[N]

    def take(self, index: np.ndarray) -> "Images":
        """The images at the positions `index`."""
        return Images(self.image[index], self.label[index])


def evaluation_batches(images: Images, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
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
