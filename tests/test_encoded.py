"""Images from a file: PNG of the data set's shape, and nothing else is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from ltjax.data.encoded import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 8\n%%EndComments\nshowpage\n%%EOF\n"


def encoded(pixels=PIXELS, kind="png", **how):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **how)
    return file.getvalue()


def header(width, height, bits=8, colour=2):
    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return struct.pack(">I", 13) + content + struct.pack(">I", zlib.crc32(content))


def with_header(new):
    whole = encoded()
    return whole[:8] + new + whole[8 + len(new) :]


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]], ids=["RGB", "L"])
def test_what_was_written_is_read(pixels):
    shape = (8, 6, 3 if pixels.ndim == 3 else 1)
    found = decode([{"image": encoded(pixels)}] * 2, shape)
    assert found.dtype == np.uint8 and found.shape == (2, *shape)
    np.testing.assert_array_equal(found[1].reshape(pixels.shape), pixels)
    assert decode([], shape).shape == (0, *shape)


OTHERS = {
    "eps": EPS,
    "jpeg": encoded(kind="jpeg"),
    "gif": encoded(kind="gif"),
    "tiff": encoded(kind="tiff"),
    "other height": encoded(PIXELS[:7]),
    "turned": encoded(PIXELS.swapaxes(0, 1)),
    "grey": encoded(PIXELS[..., 0]),
    "alpha": encoded(np.dstack([PIXELS, PIXELS[..., :1]])),
    "sixteen bits": encoded(np.zeros((8, 6), np.uint16)),
    "a bomb": with_header(header(100_000, 100_000)),
    "a small bomb": with_header(header(20_000, 20_000)),
    "nothing": b"",
    "text": b"hello",
    "cut": encoded()[:60],
    "header alone": encoded()[:33],
    "two headers": encoded()[:33] + header(7, 8) + encoded()[33:],
    "a second bomb": encoded()[:33] + header(60_000, 60_000) + encoded()[33:],
}


@pytest.mark.parametrize("image", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_refused_before_its_pixels_are_decoded(image, monkeypatch):
    def started(*arguments, **how):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    with pytest.raises((ValueError, OSError, SyntaxError, Image.DecompressionBombError)):
        decode([{"image": image}], (8, 6, 3))
