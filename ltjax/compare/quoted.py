"""Published numbers next to measured ones, and in the documents.

`python -m ltjax.compare.quoted docs/*.md` renews what documents quote: the lines between

    <!-- published: ldam, ldam_drw; factors 100 -->
    <!-- end of published -->
"""

import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from ltjax.compare.published import PUBLISHED, Published
from ltjax.compare.variants import parse
from ltjax.errors import UserError

_BLOCK = re.compile(
    r"(<!-- published: ([^;>]+?)(?:; factors ([\d, ]+))? -->\n).*?(<!-- end of published -->)",
    re.DOTALL,
)
_TITLES = {"cifar10": "CIFAR-10-LT", "cifar100": "CIFAR-100-LT", "imagenet_lt": "ImageNet-LT"}
_LEGEND = (
    "S: read in a primary document, S2: in a secondary one, M: from memory, not checked "
    "(`ltjax/compare/published.py`)."
)


def of(row: dict) -> list[Published]:
    """The published numbers of a row's method on its data set, by rising accuracy."""
    config = row["config"]
    data = config["data"]
    found = []
    for one in PUBLISHED if data["imbalance"] == "exp" else ():
        method, options, num_experts = parse(one.method)
        flat = {f"{group}.{k}": v for group, fields in options.items() for k, v in fields.items()}
        if (
            (one.data, one.factor) == (data["name"], data["imbalance_factor"])
            and method == config["method"]["name"]
            and flat == row["options"]
            and num_experts in (None, row["num_experts"])
        ):
            found.append(one)
    return sorted(found, key=lambda one: one.value)


def shortly(row: dict) -> str:
    """The range of a row's published numbers that were read, of its augmentation if it has any."""
    found = [one for one in of(row) if one.source != "M"]
    same = [one for one in found if one.augmentation == row["config"]["augment"]["name"]]
    ends = dict.fromkeys(f"{one.value:.1f}" for one in (same or found))
    return "-".join(list(ends)[:: max(1, len(ends) - 1)])


def beside_ours(rows: Sequence[dict]) -> list[str]:
    """Paragraphs of a page: each published number of a row, and what differs in how it was made."""
    lines = []
    for row in rows:
        alike: dict[str, list[Published]] = {}
        for one in of(row):
            alike.setdefault(_differs(one, row["config"]), []).append(one)
        for differs, numbers in alike.items():
            cell = "; ".join(f"{_value(one)} ({one.source})" for one in numbers)
            lines.append(f"| {row['method']} | {cell} | {differs} |")
    if not lines:
        return []
    head = ["| method | published | what differs there |", "|---|---|---|"]
    return [
        f"*published* are accuracies that others report at this imbalance factor, in the table "
        f"those with the same augmentation where there are any. {_LEGEND}",
        "\n".join([*head, *lines]),
    ]


def in_words(one: Published) -> str:
    """A published number with its method, recipe and source."""
    return f"{_value(one)}, {one.method}: {_recipe(one)} ({one.source})"


def renewed(text: str, page: str) -> str:
    """A document with its blocks of published numbers as they are in PUBLISHED.

    Args:
      text: of the document.
      page: its name, for messages.

    Raises:
      UserError: if a block names a method without a published number.
    """

    def block(found):
        start, names, factors, end = found.groups()
        methods = [name.strip() for name in names.split(",")]
        wanted = [float(factor) for factor in factors.split(",")] if factors else []
        chosen = [
            one
            for name in methods
            for one in PUBLISHED
            if one.method == name and (not wanted or one.factor in wanted)
        ]
        missing = set(methods) - {one.method for one in chosen}
        if missing:
            raise UserError(f"{page}: no published number of {', '.join(sorted(missing))}.")
        return f"{start}\n{table(chosen)}\n\n{end}"

    return _BLOCK.sub(block, text)


def table(numbers: Sequence[Published]) -> str:
    """Published numbers as Markdown, a line a method and source."""
    cells = sorted({(one.data, one.factor) for one in numbers}, key=_order)
    recipes = {_recipe(one) for one in numbers}
    lines: dict[tuple, dict] = {}
    for one in numbers:
        key = (one.method, _recipe(one), one.source)
        number = f"{_value(one)} ({one.groups})" if one.groups else _value(one)
        lines.setdefault(key, {})[one.data, one.factor] = number
    groups = ", *many/medium/few* in brackets" * any(one.groups for one in numbers)
    same = f" {recipes.pop()}." if len(recipes) == 1 else ""
    head = ["method", *([] if same else ["recipe"])]
    head += [f"{_TITLES[data]}, {factor:g}" for data, factor in cells] + ["source"]
    found = [
        f"Published accuracies by imbalance factor, in percent{groups}.{same} {_LEGEND}",
        "",
        _line(head),
        "|---" * len(head) + "|",
    ]
    for (method, recipe, source), line in lines.items():
        numbers = [line.get(cell, "") for cell in cells]
        found.append(_line([f"`{method}`", *([] if same else [recipe]), *numbers, source]))
    return "\n".join(found)


def _line(cells):
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _order(cell):
    return list(_TITLES).index(cell[0]), -cell[1]


def _value(one):
    """With two decimals, or one: "38.32", "48.6"."""
    return f"{one.value:.2f}".removesuffix("0")


def _recipe(one):
    epochs = "epochs not known" if one.epochs is None else f"{one.epochs:g} epochs"
    return f"{one.backbone}, {epochs}, {_augmentation(one)}"


def _augmentation(one):
    return {None: "augmentation not known", "strong": "strong augmentation"}.get(
        one.augmentation, one.augmentation
    )


def _differs(one, config):
    said = [
        one.backbone if one.backbone != config["network"]["name"] else "",
        _recipe(one).split(", ")[1] if one.epochs != config["num_epochs"] else "",
        _augmentation(one) if one.augmentation != config["augment"]["name"] else "",
        "one network" if config["num_experts"] > 1 and ":" not in one.method else "",
    ]
    return ", ".join(filter(None, said)) or "nothing of this"


def main(paths: Sequence[str]) -> int:
    """Renew documents in place; returns the exit code."""
    return renew(paths, lambda text, path: renewed(text, str(path)))


def renew(paths: Sequence[str], renewed: Callable[[str, pathlib.Path], str]) -> int:
    """Write what `renewed` makes of each document; returns the exit code."""
    for path in map(pathlib.Path, paths):
        try:
            text = path.read_text()
            new = renewed(text, path)
        except (UserError, OSError) as error:
            print(f"ltjax: {error}", file=sys.stderr)
            return 2
        if new != text:
            path.write_text(new)
            print(f"{path}: renewed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
