"""Words about runs: the data, the setting, what heads amount to. Nothing here needs JAX."""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence

from ltjax.data.splits import FEW, MANY

LEGEND = (
    "Accuracies and ECE are in percent; *many*, *med* and *few* are the accuracy on classes with "
    f"more than {MANY}, {FEW} to {MANY}, and fewer than {FEW} training images."
)
NAMES = {"probs": "average of softmax outputs", "logits": "average of logits"}


def data_title(config: dict) -> str:
    """The data set of a config, and its tail."""
    data = config["data"]
    return (
        f"{data['name']}, {data['imbalance']}, imbalance factor {data['imbalance_factor']:g}, "
        f"selection seed {data['seed']}"
    )


def setting(config: dict) -> str:
    """What of a config no method decides, in words."""
    optimizer, held_out = config["optimizer"], config["data"]["validation"]
    return (
        f"{config['network']['name']}, {config['num_epochs']:g} epochs of {config['batch_size']} "
        f"images an expert and step, augmentation {named(config['augment'])}, schedule "
        f"{named(config['schedule'])}, momentum {optimizer['momentum']:g}"
        f"{' (Nesterov)' if optimizer['nesterov'] else ''}, weight decay "
        f"{optimizer['weight_decay']:g}"
        + (f", {100 * held_out:g} % of the training images held out." if held_out else ".")
    )


def named(choice: dict) -> str:
    """A choice by name, with its options."""
    options = ", ".join(f"{key} {value}" for key, value in choice.items() if key != "name")
    return choice["name"] + (f" ({options})" if options else "")


def changes(surroundings: Sequence[Mapping[str, str]]) -> list[str]:
    """How each surroundings of a run differ from those before; see summary.surroundings."""
    found = []
    for before, after in itertools.pairwise(surroundings):
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        said = [f"{n} was {before.get(n, 'not set')}, is {after.get(n, 'not set')}" for n in names]
        found.append(f"Resumed elsewhere, numbers agree to rounding: {'; '.join(said)}.")
    return found


def of_heads(result: dict, multiply_adds: int) -> Iterable[str]:
    """What heads there are, what is made of them, and what a method measures of that.

    Args:
      result: of a split.
      multiply_adds: of an expert, all its heads.
    """
    if result.get("head_names"):
        names = enumerate(result["head_names"], start=1)
        yield "Heads: " + ", ".join(f"{k} {name}" for k, name in names) + "."
    if "heads" in result:
        combined = result.get("combined") or "the mean of its heads' logits"
        yield f"An expert's output is {combined}."
    for name, values in result.get("measures", {}).items():
        shown = ", ".join(measured(name, value, multiply_adds) for value in values)
        yield f"Mean over test images, {in_words(name)}: {shown}."


def with_spread(shares: Sequence[float]) -> str:
    """Shares in percent: their mean and, of several, their standard deviation."""
    values = [100 * share for share in shares]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def in_percent(shares: Sequence[float] | None) -> str:
    """The mean of shares in percent; "none" for lack of classes."""
    return "none" if shares is None else f"{100 * statistics.mean(shares):.1f}"


def in_words(name: str) -> str:
    """What a method measures, such as "heads_used", to be read."""
    return name.replace("multiply_adds", "multiply-adds").replace("_", " ")


def measured(name: str, value: float, multiply_adds: int) -> str:
    """A number that a method measures, in few characters; `multiply_adds`: of all heads."""
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    if name == "multiply_adds_used":
        text += f" ({100 * value / multiply_adds:.1f} % of all)"
    return text
