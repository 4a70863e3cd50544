"""Images as they are stored: PNG of a known size, and nothing else is decoded.

A file from elsewhere may hold any bytes. Pillow reads some forty formats, runs Ghostscript for one
of them, and makes room for as many pixels as a header names; so the header is compared first.
"""

import io
import struct
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from PIL import Image

_COLOURS = {1: (0, "L"), 3: (2, "RGB")}  # channels -> the colour type of PNG, Pillow's mode


class Row(TypedDict):
    """An example whose image is still encoded."""

    image: bytes
    label: int
    id: str | bytes


def decode(rows: Sequence[Row], shape: tuple[int, int, int]) -> np.ndarray:
    """The images of encoded examples.

    Args:
      rows: N of them.
      shape: H, W, channels of every image; 1 or 3 channels of 8 bits.

    Returns:
      u8[N, H, W, channels].

    Raises:
      ValueError: if one of them is anything but a PNG of that shape.
    """
    images = np.empty((len(rows), *shape), np.uint8)
    for image, row in zip(images, rows, strict=True):
        image[:] = _pixels(row["image"], shape)
    return images


def _pixels(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    colour, mode = _COLOURS[channels]
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBB", width, height, 8, colour)
    if not encoded.startswith(header):
        raise ValueError(f"an image is no PNG of {width} x {height} pixels and {channels} channels")
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
        if (image.size, image.mode) != ((width, height), mode):  # a second header in the file
            raise ValueError("an image has two headers")
        return np.asarray(image).reshape(shape)
