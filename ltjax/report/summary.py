"""A run as plain values and in single lines; `tables.py` shows the whole."""

import importlib.metadata
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import __version__, runtime
from ltjax.config.settings import Compute, Settings, as_dict
from ltjax.data.datasets import Splits
from ltjax.models import cost
from ltjax.models.layers import described
from ltjax.phases import Phase, steps_per_epoch
from ltjax.report.wording import data_title
from ltjax.run.files import FORMAT
from ltjax.run.shared import SetAside


def describe(
    settings: Settings,
    splits: Splits,
    recipe: tuple[Phase, ...],
    results: dict[str, dict],
    seconds: float,
    rates: list[float],
    options: Mapping[str, Any],
    set_aside: Sequence[SetAside] = (),
) -> dict:
    """All that is known of a finished run, as plain Python values.

    Args:
      settings: of the run.
      splits: its data.
      recipe: its phases, made of ltjax.models.cost.countable settings.
      results: of the last state, as from ltjax.evaluation.evaluate.evaluator.
      seconds: of training: compiling, evaluating and saving on the way included.
      rates: images per second in training, summed over experts, one number a line of the log.
      options: {field: value} beyond those that the method sets, ltjax.recipes.own_choices.
      set_aside: experts that count in none of the results.
    """
    train = splits.manifest["train"]
    steps = sum(phase.num_steps for phase in recipe)
    return {
        "format": FORMAT,
        "title": (
            f"{data_title(as_dict(settings))}: {_title(settings, recipe, options)}, "
            f"seed {settings.seed}" + (f", {len(set_aside)} set aside" if set_aside else "")
        ),
        "config": as_dict(settings),
        "options": dict(options),
        "adapted": _adapted(recipe),
        "set_aside": [one._asdict() | {"said": str(one)} for one in set_aside],
        "data": {
            "rule": train["rule"],
            "sha256": train["sha256"],
            "training_images": splits.info.num_train,
            "class_counts": np.asarray(splits.info.class_counts).tolist(),
            "class_names": list(splits.info.class_names),
        },
        "splits": results,
        "steps": steps,
        "epochs": sum(
            phase.num_steps / steps_per_epoch(splits.info.num_train, phase) for phase in recipe
        ),
        "cost": {
            **_network_cost(splits, recipe[-1], recipe[-1].num_experts - len(set_aside)),
            "train_seconds": seconds,
            "train_images_per_second": statistics.median(rates) if rates else None,
            "eval_images_per_second": results["test"]["images_per_second"],
            "peak_bytes": runtime.peak_bytes(),
        },
        "device": runtime.device(),
        "convolutions": described(settings.compute),
        "environment": runtime.environment(),
        "versions": {
            "ltjax": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")},
        },
    }


def surroundings(compute: Compute) -> dict[str, str]:
    """What the rounding of a run depends on, beyond its config and its seed."""
    around = {
        "JAX": jax.__version__,
        "device": runtime.device(),
        "convolutions": described(compute),
    }
    return around | runtime.environment()


def headline(
    settings: Settings, splits: Splits, recipe: tuple[Phase, ...], options: Mapping[str, Any]
) -> str:
    """What is about to be trained, in three lines; arguments as those of `describe`."""
    counts = splits.info.class_counts
    steps = sum(phase.num_steps for phase in recipe)
    return (
        f"{_title(settings, recipe, options)} on {settings.data.name}: {counts.sum():,} images, "
        f"{counts.max()} to {counts.min()} a class\n"
        f"{steps:,} steps of {settings.batch_size} images an expert on {runtime.device()}\n"
        f"convolutions: {described(settings.compute)}"
    )


def _title(settings, recipe, options):
    n, network = recipe[-1].num_experts, settings.network["name"]
    shared = " and ".join(settings.share.names())
    if n > 1:
        experts = f"{n} experts of the same {shared}" if shared else f"{n} independent experts"
    else:
        experts = "one expert" if settings.num_experts == 1 else f"{settings.num_experts} networks"
    adapted = ", adapted to the test images (without their labels)" if _adapted(recipe) else ""
    named = {field: value for field, value in options.items() if not field.startswith("share.")}
    said = ", ".join(f"{field}={value}" for field, value in named.items())
    method = settings.method["name"] + (f" ({said})" if said else "")
    return f"{method}, {experts}, {network}{adapted}"


def _adapted(recipe: tuple[Phase, ...]) -> bool:
    return any(phase.source == "test" for phase in recipe)


def _network_cost(splits: Splits, phase: Phase, num_experts: int) -> dict:
    image = jax.ShapeDtypeStruct((1, *splits.info.image_shape), jnp.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((1,), jnp.int32)}
    state = jax.eval_shape(phase.learner.init, jax.random.key(0), batch)
    parameters = cost.parameters(state.variables.params)
    predict = phase.learner.method.predict
    multiply_adds = cost.multiply_adds(
        lambda *arguments: predict(*arguments).logits, state.variables, batch
    )
    return {
        "parameters_per_expert": parameters,
        "parameters": parameters * num_experts,
        "multiply_adds_per_expert": multiply_adds,
        "multiply_adds": multiply_adds * num_experts,
    }
