"""Labelled images: what is asked of a set of them, and how an evaluation reads one. NumPy only."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


class Images(Protocol):
    """Some labelled images, wherever their pixels are."""

    label: np.ndarray  # i64[N]
    shape: tuple[int, int, int]  # H, W, channels of every image

    def read(self, index: np.ndarray) -> np.ndarray:
        """The pixels at positions i64[n], u8[n, H, W, channels]."""
        ...

    def take(self, index: np.ndarray) -> "Images":
        """The images at the positions `index`."""
        ...

    def unlabelled(self) -> "Images":
        """The same images, with -1 for every label."""
        ...


class InMemory(NamedTuple):
    """Images whose pixels are an array."""

    image: np.ndarray  # u8[N, H, W, channels]
    label: np.ndarray  # i64[N]

    @property
    def shape(self) -> tuple[int, int, int]:
        """H, W, channels."""
        return self.image.shape[1:]

    def read(self, index: np.ndarray) -> np.ndarray:
        """The pixels at positions i64[n], u8[n, H, W, channels]."""
        return self.image[index]

    def take(self, index: np.ndarray) -> "InMemory":
        """The images at the positions `index`."""
        return InMemory(self.image[index], self.label[index])

    def unlabelled(self) -> "InMemory":
        """The same images, with -1 for every label."""
        return self._replace(label=np.full_like(self.label, -1))


def evaluation_batches(images: Images, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Go through a split once, in order, in batches of one size.

    Yields:
      {'image': u8[B, H, W, channels], 'label': i32[B], 'mask': f32[B]}; the last batch is filled
      up with images of mask 0.
    """
    for start in range(0, len(images.label), batch_size):
        index = np.arange(start, min(start + batch_size, len(images.label)))
        fill = [(0, batch_size - len(index))]
        yield {
            "image": np.pad(images.read(index), fill + [(0, 0)] * 3),
            "label": np.pad(images.label[index], fill).astype(np.int32),
            "mask": (np.arange(batch_size) < len(index)).astype(np.float32),
        }
