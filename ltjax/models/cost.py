"""What a network costs: parameters, and multiply-adds counted from its program."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from ltjax.config.settings import Settings


def parameters(params: Any) -> int:
    """Numbers in a tree of parameters."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


def countable(settings: Settings) -> Settings:
    """The same settings with the form of convolutions whose multiply-adds can be counted.

    Of other forms the program may multiply by zeros: "blocks" does, wherever networks or branches
    are stacked.
    """
    plain = dataclasses.replace(settings.compute, convolution="plain")
    return dataclasses.replace(settings, compute=plain)


def multiply_adds(f: Callable, *args) -> int:
    """Multiply-adds of the convolutions and matrix products of f(*args); args may be shapes.

    What the result of f does not depend on is not counted.
    """
    return _count(jax.make_jaxpr(f)(*args).jaxpr)


def _count(jaxpr) -> int:
    total = 0
    needed = {id(variable) for variable in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if not needed & {id(variable) for variable in equation.outvars}:
            continue
        needed |= {id(variable) for variable in equation.invars}
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            (contracting, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += out * math.prod(left[axis] for axis in contracting)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            total += out * math.prod(kernel) // out_features
        else:
            repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            total += repeats * sum(_count(inner) for inner in _inner(equation.params))
    return total


def _inner(params):
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(one, "eqns"):
                yield one
            elif hasattr(one, "jaxpr"):
                yield one.jaxpr
