"""The native CPU kernels: the library compiled for this machine, and the calls into it.

`setup.py` compiles `conv_sums.cc` once for each kind of CPU. The best that this one can run is loaded
when first needed and handed to XLA through its foreign function interface. Without a compiler at
installation there is none, and `ltjax.models.layers` takes its plain form.

The calls are for float32 on CPU only. Under `jax.vmap` experts become a leading axis of all operands.
Nothing here is differentiable; `ltjax.models.layers` says what the gradients are.
"""

import ctypes
import functools
import importlib.util
import os

import jax
import jax.numpy as jnp

TARGETS = ("baseline", "avx2", "avx512")  # from what every CPU runs to what few do
HANDLERS = ("ltjax_conv_sums", "ltjax_conv_sums_gradient", "ltjax_block_end_gradient")
# A target's name, to use that instead of the best, or "none".
VARIABLE = "LTJAX_KERNELS"


@functools.cache
def target() -> str | None:
    """The kind of CPU that the kernels in use are compiled for; None without kernels.

    Raises:
      ValueError: if the environment variable LTJAX_KERNELS names what is not there.
    """
    libraries = {name: path for name in TARGETS if (path := _path(name))}
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted not in {"none", *libraries}:
        raise ValueError(f"{VARIABLE} is {wanted!r}; here are: {', '.join(['none', *libraries])}.")
    if wanted == "none" or "baseline" not in libraries:
        return None
    try:
        best = TARGETS[ctypes.CDLL(libraries["baseline"]).ltjax_best_target()]
        name = wanted or max(
            (name for name in libraries if TARGETS.index(name) <= TARGETS.index(best)),
            key=TARGETS.index,
        )
        library = ctypes.CDLL(libraries[name])
        for handler in HANDLERS:
            jax.ffi.register_ffi_target(
                handler, jax.ffi.pycapsule(getattr(library, handler)), platform="cpu"
            )
    except Exception:  # built for another interpreter, libc or XLA: as if there were none
        return None
    return name


def conv_sums(x, a, c, w, stride, winograd):
    """`ltjax.models.layers.conv_sums` of one expert; a and c may be None."""
    size, features = x.shape, w.shape[-1]
    y = (size[0], -(-size[1] // stride), -(-size[2] // stride), features)
    return _call("ltjax_conv_sums", y, (features,), (features,))(
        x, *_affine(x, a, c), w, **_attributes(stride, a, winograd)
    )


def conv_sums_gradient(x, a, c, w, y, cotangents, stride, winograd, need_dx):
    """Gradients with respect to x, a, c and w from those of y, sum y and sum y * y.

    Those of x, without `need_dx`, and of a and c, where these are None, are None.
    """
    channels = x.shape[-1]
    dx = x.shape if need_dx else (1,)
    call = _call("ltjax_conv_sums_gradient", dx, w.shape, (channels,), (channels,))
    dx, dw, da, dc = call(
        *(x, *_affine(x, a, c), w, y, *cotangents),
        **_attributes(stride, a, winograd),
        need_dx=int(need_dx),
    )
    return dx if need_dx else None, *((None, None) if a is None else (da, dc)), dw


def block_end_gradient(dh, h, y, a):
    """Gradients of h = relu(a * y + c + shortcut), given dh: dy, d shortcut, da, dc."""
    return _call("ltjax_block_end_gradient", y.shape, y.shape, a.shape, a.shape)(dh, h, y, a)


def _path(name):
    spec = importlib.util.find_spec(f"{__name__}.conv_sums_{name}")
    return spec and spec.origin


def _call(handler, *shapes):
    outputs = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return jax.ffi.ffi_call(handler, outputs, vmap_method="broadcast_all")


def _affine(x, a, c):
    """(a, c), or something of their shape that is not read."""
    nothing = jnp.zeros(x.shape[-1:], x.dtype)
    return (nothing, nothing) if a is None else (a, c)


def _attributes(stride, a, winograd):
    return dict(stride=stride, affine=int(a is not None), winograd=int(winograd and stride == 1))
