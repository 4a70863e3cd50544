"""A finished run as tables: on the console, and as Markdown with the same rows."""

import io
import statistics
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table

from ltjax.errors import plain
from ltjax.report.narrow import Continued
from ltjax.report.wording import LEGEND, NAMES, changes, named, of_heads, setting

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


def for_console(report: dict) -> Group:
    """The tables of a report, for a rich console."""
    parts = [part for table in _tables(report) for part in ("", Continued(table))]
    return Group(*parts, "", *_sentences(report))


def markdown(report: dict) -> str:
    """The report as a Markdown page."""
    parts = [f"# {report['title']}", *_sentences(report), LEGEND]
    for table in _tables(report):
        parts.append(f"## {table.title}")
        parts.append(as_markdown(table))
    parts.append(_facts(report))
    return plain("\n\n".join(parts) + "\n")


def as_markdown(table: Table) -> str:
    """A table in Markdown, without its title."""
    table.title, table.box, table.show_edge = None, box.MARKDOWN, True
    table.padding, table.pad_edge = (0, 1), True
    # not the console of a notebook or a terminal, whatever the surroundings say
    page = Console(
        file=io.StringIO(),
        width=1000,
        force_jupyter=False,
        force_terminal=False,
        no_color=True,
        markup=False,
        emoji=False,
    )
    page.print(table)
    return "\n".join(line.rstrip() for line in page.file.getvalue().strip().splitlines())


def _tables(report: dict) -> Iterable[Table]:
    for split, result in report["splits"].items():
        yield _accuracy_table(split, result)
        if len(result["experts"]) > 1:
            yield _average_table(split, result)
        if "heads" in result:
            yield _heads_table(split, result)


def _accuracy_table(split: str, result: dict) -> Table:
    seen = result.get("seen_per_group", {})  # classes that have images in this split
    groups = ", ".join(
        f"{n} {name}" + (f" (only {seen[name]} with images)" if seen.get(name, n) < n else "")
        for name, n in result["classes_per_group"].items()
    )
    table = _numbers_table(f"{split}: {result['images']:,} images; classes: {groups}")
    experts = result["experts"]
    for i, one in zip(_numbers_of(result), experts, strict=True):
        table.add_row(f"expert {i}", *_cells(one))
    if len(experts) > 1:
        mean = {key: _mean([one[key] for one in experts]) for key, _ in COLUMNS}
        table.add_row("mean expert", *_cells(mean))
        other = "logits" if result["combine"] == "probs" else "probs"
        table.add_row(f"average {result['combine']}", *_cells(result["average"]), style="bold")
        table.add_row(f"average {other}", *_cells(result["other_average"]))
    return table


def _heads_table(split: str, result: dict) -> Table:
    table = _numbers_table(f"{split}: each head alone")
    heads, num_experts = result["heads"], len(result["experts"])
    means = result.get("heads_mean") or [None] * num_experts  # where the output is something else
    per_expert = len(heads) // num_experts
    for i, (number, mean) in enumerate(zip(_numbers_of(result), means, strict=True)):
        expert = f"expert {number}, " if num_experts > 1 else ""
        for k, one in enumerate(heads[i * per_expert : (i + 1) * per_expert], start=1):
            table.add_row(f"{expert}head {k}", *_cells(one))
        if mean:
            table.add_row(f"{expert}mean logits", *_cells(mean))
    return table


def _average_table(split: str, result: dict) -> Table:
    table = _table(f"{split}: what averaging changed")
    table.add_column("", no_wrap=True)
    for title in ("both right", "only average right", "only expert right", "both wrong", "gain"):
        table.add_column(title, justify="right")
    for i, own in zip(_numbers_of(result), result["against_average"], strict=True):
        cells = [own["all"][name] for name in _CELLS]
        gain = 100 * (own["all"]["average_only"] - own["all"]["expert_only"]) / result["images"]
        table.add_row(f"expert {i}", *(f"{cell:,}" for cell in cells), f"{gain:+.2f}")
    return table


def _numbers_of(result: dict) -> Sequence[int]:
    """Those of its experts; reports of earlier versions have all."""
    return result.get("expert_numbers") or range(1, len(result["experts"]) + 1)


def _sentences(report: dict) -> list[str]:
    lines = [one["said"] for one in report.get("set_aside", ())]
    lines += changes(report.get("surroundings", ()))
    lines += of_heads(report["splits"]["test"], report["cost"]["multiply_adds_per_expert"])
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
    spent, data, config = report["cost"], report["data"], report["config"]
    facts = {
        "setting": setting(config),
        "loss": named(config["loss"]),
        "re-weighting": named(config["reweight"]),
        "sampler": named(config["sampler"]),
        "mixing": named(config["mixing"]),
        "seed": f"{config['seed']}; of the selection of images {config['data']['seed']}",
        "training images": f"{data['training_images']:,}",
        "images per class": f"{max(data['class_counts'])} to {min(data['class_counts'])}",
        "steps": f"{report['steps']:,} ({report['epochs']:.4g} epochs)",
        "parameters": (
            f"{spent['parameters_per_expert']:,} per expert, {spent['parameters']:,} in all"
        ),
        "multiply-adds per image": (
            f"{spent['multiply_adds_per_expert']:,} per expert, {spent['multiply_adds']:,} in all"
        ),
        "training": (
            f"{spent['train_seconds']:,.1f} s, compiling and saving on the way included; "
            f"{_rate(spent['train_images_per_second'])} summed over experts"
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
    if report.get("environment"):  # which may move roundings
        set_ = report["environment"].items()
        facts["environment"] = ", ".join(f"{name}={value}" for name, value in set_)
    return "## Facts\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())


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


def _numbers_table(title: str) -> Table:
    """A table whose rows are those of _cells."""
    table = _table(title)
    table.add_column("", no_wrap=True)
    for _, column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    return table


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
