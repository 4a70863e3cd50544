"""Options that several measurements share."""

import argparse
from collections.abc import Callable
from typing import Any

from ltjax.config.settings import CONVOLUTIONS, DTYPES
from ltjax.models import NETWORKS
from ltjax.terminal import Parser


def parser_for(command: str, about: str) -> Parser:
    """A parser of `python -m ltjax.bench COMMAND` that prints `about` as it stands."""
    return Parser(
        f"python -m ltjax.bench {command}".strip(),
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_step(add: Callable, convolution: str) -> None:
    """Add what a step computes to a parser, by its `add_argument`.

    convolution: the default form.
    """
    add("--batch-size", type=positive, default=128, help="images per expert; 128")
    add("--network", choices=sorted(NETWORKS), default="resnet32", help="resnet32")
    add("--convolution", choices=CONVOLUTIONS, default=convolution, help=convolution)
    add("--experts-over", choices=["auto", "vmap", "unroll", "map"], default="auto")
    add("--dtype", choices=DTYPES, default="float32", help="of activations; PyTorch: autocast")


def compute_of(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of config.compute among the options of `add_step`, and --steps-per-call."""
    names = ("convolution", "experts_over", "dtype", "steps_per_call")
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def positive(text: str) -> int:
    """A whole number, at least 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least 1")
    return value
