"""How a comparison of methods is shown: a table for the console, and a Markdown page."""

import statistics
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ltjax.compare import quoted
from ltjax.compare.against import lines
from ltjax.compare.bands import verdicts
from ltjax.compare.rows import COLUMNS, in_common
from ltjax.errors import plain
from ltjax.report.tables import as_markdown
from ltjax.report.wording import (
    LEGEND,
    data_title,
    in_percent,
    in_words,
    measured,
    setting,
    with_spread,
)

# Columns that a narrow console leaves out, in this order.
_OPTIONAL = ("parameters", "min", "ep.", "MACs", "ECE", "expert", "med", "many", "few")
_NAME = 16  # columns that the longest name of a method has at least


def table(rows: Sequence[dict], width: int | None = None) -> Table:
    """Methods in the order of their accuracy; means over seeds, of accuracy their deviation too.

    Args:
      rows: from ltjax.compare.rows.rows.
      width: of the console. A narrow one goes without some columns, which a line below names;
        published numbers are there where no other column and no name suffers. None is a page,
        which has all columns.
    """
    rows = sorted(rows, key=lambda row: -statistics.mean(row["test"]["accuracy"]))
    columns, left_out = _columns(rows), []
    if width is not None:
        del columns["parameters"]
        every = [title for title in columns if title != "published"]
        columns = _fitting(columns, max((len(row["method"]) for row in rows), default=0), width)
        left_out = [title for title in every if title not in columns]
    caption = f"Left out for want of width: {', '.join(left_out)}." if left_out else None
    out = Table(
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=0,
    )
    out.add_column("method", no_wrap=width is None, overflow="fold")
    for title in columns:
        out.add_column(title, justify="right", no_wrap=True)
    for row, *cells in zip(rows, *columns.values(), strict=True):
        name = row["method"] if width is None else row["method"].replace("+", " +")  # breaks there
        out.add_row(Text(name), *map(Text, cells))
    return out


def page(rows: Sequence[dict], against: Sequence[dict] = ()) -> str:
    """The comparison as a Markdown page; arguments as those of `paragraphs`."""
    titles = {data_title(row["config"]) for row in rows}
    title = f"# Methods compared on {titles.pop() if len(titles) == 1 else 'several data sets'}"
    return plain("\n\n".join([title, *paragraphs(rows, against)]) + "\n")


def paragraphs(rows: Sequence[dict], against: Sequence[dict] = ()) -> list[str]:
    """What a page says of its rows, in Markdown.

    Args:
      rows: from ltjax.compare.rows.rows.
      against: from ltjax.compare.against.against_best.
    """
    return [
        *_for_all(rows),
        f"Experts: {_experts(rows)}; seeds: {_seeds(rows)}. Test split, "
        f"last state; after ±, the standard deviation over seeds. {LEGEND} *expert* is "
        "the mean accuracy of single experts, the other numbers are of their average; *parameters* "
        "and *MACs*, multiply-adds for an image, are of all experts as they predict, without "
        "teachers; *ep.*, the epochs of all phases, passes that only gather included; *min*, "
        "minutes of training, compiling and saving on the way included.",
        as_markdown(table(rows)),
        *notes(rows),
        *lines(against),
        *verdicts(rows),
        *machines(rows),
        *quoted.beside_ours(rows),
    ]


def notes(rows: Sequence[dict]) -> list[str]:
    """Further facts of each row, a line each: its options, and what its method measures."""
    found, common = [], in_common(rows)
    for row in rows:
        said = [
            f"{field}={value}"
            for field, value in row["options"].items()
            if field not in common and f"+{field}=" not in row["method"]
        ]
        for seed, count in zip(row["seeds"], row.get("set_aside", ()), strict=False):
            if count:
                are = f"{'is' if count == 1 else 'are'} set aside (seed {seed})"
                said.append(f"{count} of {row['num_experts']} experts {are}")
        if row["adapted"]:
            said.append("adapted to the test images without their labels")
        for name in row["measures"][0]:
            # of all experts, the mean over seeds
            together = sum if name == "multiply_adds_used" else statistics.mean
            value = statistics.mean(together(one[name]) for one in row["measures"])
            said.append(f"{in_words(name)} {measured(name, value, row['multiply_adds'])}")
        if said:
            found.append(f"{row['method']}: {'; '.join(said)}.")
    return found


def _columns(rows):
    """{title: cells}, all there are."""
    columns = {COLUMNS["accuracy"]: [with_spread(row["test"]["accuracy"]) for row in rows]}
    published = [quoted.shortly(row) for row in rows]
    if any(published):
        columns["published"] = published
    for name, title in COLUMNS.items():
        columns.setdefault(title, [in_percent(row["test"].get(name)) for row in rows])
    return columns | {
        "expert": [in_percent(row["mean_expert"]) for row in rows],
        "parameters": [_short(row["parameters"]) for row in rows],
        "MACs": [_short(row["multiply_adds"]) for row in rows],
        "ep.": [f"{row['epochs']:.3g}" for row in rows],
        "min": [_minutes(statistics.mean(row["train_seconds"])) for row in rows],
    }


def _fitting(columns, name, width):
    """The columns that fit a console next to a name of so many characters."""

    def rest(columns):
        return width - sum(1 + max(map(len, (title, *cells))) for title, cells in columns.items())

    if rest(columns) < name:
        columns.pop("published", None)
    for title in _OPTIONAL:
        if rest(columns) < min(name, _NAME):
            columns.pop(title, None)
    return columns


def _for_all(rows):
    """What all methods have in common."""
    settings = {setting(row["config"]) for row in rows}
    own = ", ".join(f"{field}={value}" for field, value in in_common(rows).items())
    said = [*settings] if len(settings) == 1 else []
    return [" ".join([*said, *([f"For all: {own}."] if own else [])])] if said or own else []


def _experts(rows):
    """How many each method has, as page says it."""
    counts = sorted({row["num_experts"] for row in rows if ":" not in row["method"]})
    after = ["as after the colon"] * any(":" in row["method"] for row in rows)
    return ", or ".join([*map(str, counts), *after])


def _seeds(rows):
    """Which ones, as page says it."""
    by_seeds = {}
    for row in rows:
        by_seeds.setdefault(", ".join(map(str, row["seeds"])), []).append(row["method"])
    if len(by_seeds) == 1:
        return next(iter(by_seeds))
    return "; ".join(f"{seeds} of {', '.join(names)}" for seeds, names in by_seeds.items())


def machines(rows: Sequence[dict]) -> list[str]:
    """On what, and with which versions, rows were made; a line each where they differ."""
    made = {}
    for row in rows:
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        made.setdefault(f"{row['device']}; {versions}.", []).append(row["method"])
    if len(made) == 1:
        return list(made)
    return [f"{', '.join(names)}: {machine}" for machine, names in made.items()]


def _short(count):
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count}"


def _minutes(seconds):
    return f"{seconds / 60:.1f}" if seconds < 600 else f"{seconds / 60:,.0f}"
