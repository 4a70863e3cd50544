"""A finished run as tables: on the console, and as Markdown with the same rows."""

import importlib.metadata
import io
import os
import pathlib
import platform
import re
import statistics
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console, Group
from rich.table import Table

from ltjax import __version__, cost, memory
from ltjax.data.datasets import Splits
from ltjax.models.layers import described
from ltjax.phases import Phase, steps_per_epoch
from ltjax.settings import Settings, as_dict

COLUMNS = (
    ("accuracy", "acc"),
    ("many", "many"),
    ("medium", "med"),
    ("few", "few"),
    ("top5", "top-5"),
    ("nll", "NLL"),
    ("ece", "ECE"),
    ("brier", "Brier"),
)
_CELLS = ("both_right", "average_only", "expert_only", "both_wrong")
NAMES = {"probs": "average of softmax outputs", "logits": "average of logits"}


def describe(
    settings: Settings,
    splits: Splits,
    recipe: tuple[Phase, ...],
    results: dict[str, dict],
    seconds: float,
    rates: list[float],
) -> dict:
    """All that is known of a finished run, as plain Python values.

    Args:
      settings: of the run.
      splits: its data.
      recipe: its phases.
      results: {split: metrics.summary(...)} of the last state.
      seconds: of training: compiling, evaluating and saving on the way included.
      rates: images per second in training, summed over experts, one number a line of the log.
    """
    train = splits.manifest["train"]
    steps = sum(phase.num_steps for phase in recipe)
    return {
        "title": f"{settings.data.name}, {train['rule']}: {_title(settings, recipe)}",
        "config": as_dict(settings),
        "data": {
            "rule": train["rule"],
            "sha256": train["sha256"],
            "training_images": len(splits.train.label),
            "class_counts": splits.class_counts.tolist(),
            "class_names": list(splits.class_names),
        },
        "splits": results,
        "steps": steps,
        "epochs": steps / steps_per_epoch(len(splits.train.label), settings),
        "cost": {
            **_network_cost(splits, recipe[-1]),
            "train_seconds": seconds,
            "train_images_per_second": statistics.median(rates) if rates else None,
            "eval_images_per_second": results["test"]["images_per_second"],
            "peak_bytes": memory.peak(),
        },
        "device": device(),
        "convolutions": described(settings.compute),
        "versions": {
            "ltjax": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")},
        },
    }


def headline(settings: Settings, splits: Splits, recipe: tuple[Phase, ...]) -> str:
    """What is about to be trained, in three lines."""
    counts = splits.class_counts
    steps = sum(phase.num_steps for phase in recipe)
    return (
        f"{_title(settings, recipe)} on {settings.data.name}: {counts.sum():,} images, "
        f"{counts.max()} to {counts.min()} a class\n"
        f"{steps:,} steps of {settings.batch_size} images an expert on {device()}\n"
        f"convolutions: {described(settings.compute)}"
    )


def one_line(split: str, result: dict) -> str:
    """An evaluation in a line."""
    experts = " ".join(f"{100 * one['accuracy']:.2f}" for one in result["experts"])
    return f"{split} accuracy {100 * result['average']['accuracy']:.2f} (experts {experts})"


def for_log(split: str, result: dict) -> dict:
    """An evaluation as an event of the log; groups without classes are left out."""
    names = ("accuracy", "many", "medium", "few", "nll", "ece")
    average = {f"{split}/{name}": result["average"][name] for name in names}
    experts = [one["accuracy"] for one in result["experts"]]
    return {k: v for k, v in average.items() if v is not None} | {f"{split}/experts": experts}


def for_console(report: dict) -> Group:
    """The tables of a report, for a rich console."""
    parts = [part for table in _tables(report) for part in ("", table)]
    return Group(*parts, "", *_sentences(report))


def markdown(report: dict) -> str:
    """The report as a Markdown page."""
    parts = [f"# {report['title']}", *_sentences(report)]
    for table in _tables(report):
        parts.append(f"## {table.title}")
        parts.append(as_markdown(table))
    parts.append(_facts(report))
    return "\n\n".join(parts) + "\n"


def as_markdown(table: Table) -> str:
    """A table in Markdown, without its title."""
    table.title, table.box, table.show_edge = None, box.MARKDOWN, True
    table.padding, table.pad_edge = (0, 1), True
    # not the console of a notebook or a terminal, whatever the surroundings say
    page = Console(
        file=io.StringIO(), width=200, force_jupyter=False, force_terminal=False, no_color=True
    )
    page.print(table)
    return "\n".join(line.rstrip() for line in page.file.getvalue().strip().splitlines())


def _tables(report: dict) -> Iterable[Table]:
    for split, result in report["splits"].items():
        yield _accuracy_table(split, result)
        if len(result["experts"]) > 1:
            yield _average_table(split, result)


def _accuracy_table(split: str, result: dict) -> Table:
    groups = ", ".join(f"{n} {name}" for name, n in result["classes_per_group"].items())
    table = _table(f"{split}: {result['images']:,} images; classes: {groups}")
    table.add_column("", no_wrap=True)
    for _, title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    experts = result["experts"]
    for i, one in enumerate(experts):
        table.add_row(f"expert {i + 1}", *_cells(one))
    if len(experts) > 1:
        mean = {key: _mean([one[key] for one in experts]) for key, _ in COLUMNS}
        table.add_row("mean expert", *_cells(mean))
        other = "logits" if result["combine"] == "probs" else "probs"
        table.add_row(f"average {result['combine']}", *_cells(result["average"]), style="bold")
        table.add_row(f"average {other}", *_cells(result["other_average"]))
    return table


def _average_table(split: str, result: dict) -> Table:
    table = _table(f"{split}: what averaging changed")
    table.add_column("", no_wrap=True)
    for title in ("both right", "only average right", "only expert right", "both wrong", "gain"):
        table.add_column(title, justify="right")
    for i, own in enumerate(result["against_average"], start=1):
        cells = [own["all"][name] for name in _CELLS]
        gain = 100 * (own["all"]["average_only"] - own["all"]["expert_only"]) / result["images"]
        table.add_row(f"expert {i}", *(f"{cell:,}" for cell in cells), f"{gain:+.2f}")
    return table


def _sentences(report: dict) -> list[str]:
    lines = []
    for split, result in report["splits"].items():
        experts, average = result["experts"], result["average"]["accuracy"]
        if len(experts) == 1:
            continue
        mean = statistics.mean(one["accuracy"] for one in experts)
        lines.append(
            f"On {split}, the {NAMES[result['combine']]} of {len(experts)} experts is right on "
            f"{100 * average:.2f} %, the mean expert on {100 * mean:.2f} % "
            f"({100 * (average - mean):+.2f} points). The first "
            f"{', '.join(str(k) for k in range(1, len(experts) + 1))} averaged (by probs): "
            f"{', '.join(_cell('accuracy', one['accuracy']) for one in result['first_k'])}."
        )
    return lines


def _facts(report: dict) -> str:
    spent, data = report["cost"], report["data"]
    facts = {
        "training images": f"{data['training_images']:,} ({data['rule']})",
        "images per class": f"{max(data['class_counts'])} to {min(data['class_counts'])}",
        "steps": f"{report['steps']:,} ({report['epochs']:g} epochs)",
        "parameters": (
            f"{spent['parameters_per_expert']:,} per expert, {spent['parameters']:,} in all"
        ),
        "multiply-adds per image": (
            f"{spent['multiply_adds_per_expert']:,} per expert, {spent['multiply_adds']:,} in all"
        ),
        "training": (
            f"{spent['train_seconds']:,.1f} s, {_rate(spent['train_images_per_second'])} "
            f"summed over experts"
        ),
        "evaluation": f"{_rate(spent['eval_images_per_second'])} by all experts",
        "memory at most": ", ".join(
            f"{bytes_ / 2**30:.2f} GiB of the {name}"
            for name, bytes_ in spent["peak_bytes"].items()
            if bytes_ is not None
        ),
        "device": report["device"],
        "convolutions": report["convolutions"],
        "versions": ", ".join(f"{name} {v}" for name, v in report["versions"].items()),
    }
    return "## Facts\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _title(settings: Settings, recipe: tuple[Phase, ...]) -> str:
    n, network = recipe[-1].num_experts, settings.network["name"]
    if n > 1:
        experts = f"{n} independent experts"
    else:
        experts = "one expert" if settings.num_experts == 1 else f"{settings.num_experts} networks"
    return f"{settings.method['name']}, {experts}, {network}"


def _network_cost(splits: Splits, phase: Phase) -> dict:
    image = jax.ShapeDtypeStruct((1, *splits.train.image.shape[1:]), jnp.uint8)
    batch = {"image": image, "label": jax.ShapeDtypeStruct((1,), jnp.int32)}
    state = jax.eval_shape(phase.learner.init, jax.random.key(0), batch)
    parameters = cost.parameters(state.variables.params)
    multiply_adds = cost.multiply_adds(phase.learner.predict, state, batch)
    return {
        "parameters_per_expert": parameters,
        "parameters": parameters * phase.num_experts,
        "multiply_adds_per_expert": multiply_adds,
        "multiply_adds": multiply_adds * phase.num_experts,
    }


def device() -> str:
    """The devices at hand, in words."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    width = next((name for name in ("avx512f", "avx2") if name in text), platform.machine())
    name = f"{model[1]} with {width}" if model else width
    return f"{len(devices)} CPU device, {os.cpu_count()} cores, {name}"


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )


def _cells(one: dict) -> list[str]:
    return [_cell(name, one[name]) for name, _ in COLUMNS]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.3f}" if name in ("nll", "brier") else f"{100 * value:.2f}"


def _rate(images_per_second: float | None) -> str:
    known = images_per_second is not None
    return f"{images_per_second:,.0f} images/s" if known else "speed not measured"


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else statistics.mean(values)
