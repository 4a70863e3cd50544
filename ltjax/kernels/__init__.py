"""The native CPU kernels: the library compiled for this machine, and the calls into it.

`setup.py` compiles `conv_sums.cc` once for each kind of CPU. The best that this one can run is
loaded when first needed and handed to XLA through its foreign function interface. Without a
compiler at installation there is none, and `ltjax.models.layers` takes its plain form.

The calls are for float32 on CPU only. Under `jax.vmap` experts become a leading axis of every
operand. Nothing here is differentiable; `ltjax.models.conv_native` says what the gradients are.
"""

import ctypes
import functools
import importlib.util
import os

import jax
import jax.numpy as jnp

from ltjax.errors import UserError

TARGETS = ("baseline", "avx2", "avx512")  # from what every CPU runs to what few do
HANDLERS = (
    "ltjax_conv_sums",
    "ltjax_conv_sums_gradient",
    "ltjax_add_relu",
    "ltjax_add_relu_gradient",
)
# A target's name, to use that instead of the best, or "none".
VARIABLE = "LTJAX_KERNELS"


def target() -> str | None:
    """The kind of CPU that the kernels in use are compiled for; None without kernels.

    Raises:
      UserError: if the environment variable LTJAX_KERNELS names an unknown or unusable target.
    """
    return _load()[0]


def why_not() -> str:
    """Why there are no kernels here; empty if there are."""
    return _load()[1]


@functools.cache
def _load() -> tuple[str | None, str]:
    libraries = {name: path for name in TARGETS if (path := _path(name))}
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted not in {"none", *libraries}:
        known = ", ".join(["none", *libraries])
        raise UserError(f"{VARIABLE} is {wanted!r} in the environment; it must be one of {known}.")
    if wanted == "none":
        return None, f"{VARIABLE} is none"
    if "baseline" not in libraries:
        return None, "they were not built; pip install needs a C++20 compiler for that"
    try:
        best = ctypes.CDLL(libraries["baseline"]).ltjax_best_target()
        runs_here = [name for name in TARGETS[: best + 1] if name in libraries]
        if wanted and wanted not in runs_here:
            raise UserError(
                f"{VARIABLE} is {wanted!r}, but this CPU runs only {', '.join(runs_here)}."
            )
        name = wanted or runs_here[-1]
        _register(ctypes.CDLL(libraries[name]), name)
    except (OSError, AttributeError, RuntimeError) as error:  # built for another libc or XLA, say
        if wanted:
            raise UserError(
                f"{VARIABLE} is {wanted!r}, which does not load. Unset it: {error}"
            ) from error
        return None, f"they do not load, {error}"
    return name, ""


def _register(library: ctypes.CDLL, name: str) -> None:
    if library.ltjax_target() != TARGETS.index(name):
        raise OSError(f"{library._name} is compiled for another kind of CPU")
    # Once there is a backend, a handler that it refuses is refused here. Before, it would only be
    # put down, and JAX would fail to start.
    jax.local_devices(backend="cpu")
    for handler in HANDLERS:
        capsule = jax.ffi.pycapsule(getattr(library, handler))
        jax.ffi.register_ffi_target(handler, capsule, platform="cpu")


def conv_sums(x, a, c, w, stride, winograd):
    """`ltjax.models.layers.conv_sums` of one expert; a and c may be None."""
    size, features = x.shape, w.shape[-1]
    y = (size[0], -(-size[1] // stride), -(-size[2] // stride), features)
    return _call("ltjax_conv_sums", y, (features,), (features,))(
        x, *_affine(x, a, c), w, **_attributes(stride, a, winograd)
    )


def conv_sums_gradient(x, a, c, w, y, cotangents, stride, winograd, need_dx):
    """Gradients with respect to x, a, c and w from those of y, sum y and sum y * y.

    Without `need_dx` those of x, a and c are None, as theirs are made of that of x; where a and c
    are None, so are theirs.
    """
    channels = x.shape[-1]
    dx = x.shape if need_dx else (1,)
    call = _call("ltjax_conv_sums_gradient", dx, w.shape, (channels,), (channels,))
    dx, dw, da, dc = call(
        *(x, *_affine(x, a, c), w, y, *cotangents),
        **_attributes(stride, a, winograd),
        need_dx=int(need_dx),
    )
    if not need_dx:
        return None, None, None, dw
    return dx, *((None, None) if a is None else (da, dc)), dw


def add_relu(y, a, c, x, stride):
    """`ltjax.models.layers.add_relu` of one expert; x may be None."""
    call = _call("ltjax_add_relu", y.shape)
    return call(y, a, c, _image(x), stride=stride, shortcut=int(x is not None))[0]


def add_relu_gradient(dh, h, y, a, x, stride):
    """Gradients with respect to y, a, c and x (None where x is) from dh; of x only the shape."""
    x_like = _image(x)
    call = _call("ltjax_add_relu_gradient", y.shape, x_like.shape, a.shape, a.shape)
    dy, dx, da, dc = call(dh, h, y, a, x_like, stride=stride, shortcut=int(x is not None))
    return dy, da, dc, None if x is None else dx


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


def _image(x):
    """The image x, or a small one that is not read."""
    return jnp.zeros((1, 1, 1, 1), jnp.float32) if x is None else x


def _attributes(stride, a, winograd):
    return dict(stride=stride, affine=int(a is not None), winograd=int(winograd and stride == 1))
