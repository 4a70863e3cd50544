"""A planned table with what is finished of it: rows by columns, and a page with every number."""

import statistics
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ltjax.compare import quoted
from ltjax.compare.against import against_best
from ltjax.compare.plan import Cell, Plan
from ltjax.compare.published import PUBLISHED
from ltjax.compare.rows import Run, rows
from ltjax.compare.tables import paragraphs
from ltjax.errors import plain
from ltjax.report.tables import as_markdown
from ltjax.report.wording import with_spread

NOT_RUN = "not run"


def grid(
    plan: Plan, runs: Mapping[Cell, Run], failed: Mapping[Cell, str], markdown: bool = False
) -> Table:
    """Accuracies of the average of experts, in percent: mean ± standard deviation (n seeds).

    Of a plan that chooses by the held-out part, balanced accuracies there. The best of a column is
    bold if it has several seeds. Where any are published, a further column has the range of
    published numbers; what differs there, the page says.

    Args:
      plan: the table.
      runs: those that are finished.
      failed: why others are not.
      markdown: whether bold is said by asterisks.
    """

    def text(cell, bold=False):
        if markdown:
            cell = cell.replace("|", "\\|")
            return Text(f"**{cell}**" if bold else cell)
        return Text(cell, "bold" if bold else "")

    table = Table(
        title=plain(plan.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("")
    found = {column: _shares(plan, column, runs) for column in plan.columns}
    quotes = {column: _quotes(plan, column, runs) for column in plan.columns}
    for column in plan.columns:
        table.add_column(text(plain(column)), justify="right", no_wrap=True)
        if any(quotes[column].values()):
            table.add_column("published", justify="right", no_wrap=True)
    best = {column: _best(of) for column, of in found.items()}

    def add(name, cell_of, quoted_of=lambda column: ""):
        cells = []
        for column in plan.columns:
            cells.append(cell_of(column))
            if any(quotes[column].values()):
                cells.append(text(quoted_of(column)))
        table.add_row(text(plain(name)), *cells)

    for name in plan.rows:
        if plan.mean_expert:
            add(f"{name}, mean expert", lambda c, n=name: text(_mean_expert(found[c].get(n))))
        add(
            name,
            lambda c, n=name: text(
                _cell(found[c].get(n), plan.of(n, c), failed), bold=best[c] == n
            ),
            lambda c, n=name: quotes[c].get(n, ""),
        )
    if plan.best_published:
        add("best published, any budget", lambda c: text(_best_published(plan, c)))
    return table


def page(plan: Plan, runs: Mapping[Cell, Run], failed: Mapping[Cell, str]) -> str:
    """The table as a Markdown page: the grid, then all numbers of each column.

    Of a plan that chooses by the held-out part, the grid alone: the test split selects nothing.
    """
    parts = [
        f"# {plan.title}",
        plan.about.strip(),
        _how(plan, len(runs)),
        as_markdown(grid(plan, runs, failed, markdown=True)),
        *(f"{cell.row}, {cell.column}, seed {cell.seed}: {why}" for cell, why in failed.items()),
        _published_lines(plan),
    ]
    for column in () if plan.held_out else plan.columns:
        named = _named(plan, column, runs)
        if named:
            found = rows(named)
            parts += [f"## {column}", *paragraphs(found, against_best(named))]
    return plain("\n\n".join(filter(None, parts)) + "\n")


def _how(plan, finished):
    """What the numbers of a page are, in sentences."""
    said = [f"{finished:,} of {len(plan.cells):,} runs are finished."]
    if plan.held_out:
        what, where = "Balanced accuracy", "held-out part of the training set"
    else:
        what, where = "Accuracy", "test split"
    said.append(
        f"{what} of the average of experts on the {where}, in percent: mean ± standard deviation "
        f"over n seeds of training, of the last state."
    )
    if len(plan.seeds) > 1:
        said.append("In bold: the highest mean of several seeds, which is no test.")
    if not plan.held_out:
        said.append("*published*: what others report for this method.")
    return " ".join(said)


def _named(plan, column, runs):
    """(row, run) pairs of a column, in the order of rows and seeds."""
    return [
        (name, runs[cell]) for name in plan.rows for cell in plan.of(name, column) if cell in runs
    ]


def _shares(plan, column, runs):
    """{row: (of the average, of the mean expert)}, each a list with a share a seed."""
    split, name = ("validation", "balanced_accuracy") if plan.held_out else ("test", "accuracy")
    found = {}
    for row, run in _named(plan, column, runs):
        result = run.report["splits"][split]
        average, experts = found.setdefault(row, ([], []))
        average.append(result["average"][name])
        experts.append(statistics.mean(one[name] for one in result["experts"]))
    return found


def _quotes(plan, column, runs):
    """{row: the range of its published numbers}."""
    if plan.held_out:
        return {}
    return {row["method"]: quoted.shortly(row) for row in rows(_named(plan, column, runs))}


def _best(found):
    """The name of the most accurate row with several seeds; None without one."""
    several = {name: average for name, (average, _) in found.items() if len(average) > 1}
    return max(several, key=lambda name: statistics.mean(several[name]), default=None)


def _cell(shares, cells, failed):
    if shares is None:
        return "failed" if any(cell in failed for cell in cells) else NOT_RUN
    return _with_number(shares[0])


def _mean_expert(shares):
    return NOT_RUN if shares is None else _with_number(shares[1])


def _with_number(shares):
    return f"{with_spread(shares)} (n = {len(shares)})"


def _of_best(plan, column):
    """The highest published number of a true ResNet of the column's kind; None without one."""
    data = next(cell for cell in plan.cells if cell.column == column).config
    network = data.get("network", {}).get("name", "resnet32")
    where = data.get("data", {})
    found = [
        one
        for one in PUBLISHED
        if (one.data, one.factor, one.backbone)
        == (where.get("name"), where.get("imbalance_factor"), network)
        and one.source != "M"
    ]
    return max(found, key=lambda one: one.value, default=None)


def _best_published(plan, column):
    best = _of_best(plan, column)
    return f"{best.value:.2f}" if best else ""


def _published_lines(plan) -> str:
    """What the best published numbers are."""
    if not plan.best_published:
        return ""
    lines = []
    for column in plan.columns:
        best = _of_best(plan, column)
        if best:
            lines.append(f"- {column}: {quoted.in_words(best)}")
    return "\n".join(["Best published of this backbone:", "", *lines]) if lines else ""


def failures(failed: Mapping[Cell, str], elsewhere: Sequence[Cell]) -> list[str]:
    """What is not finished, a line each."""
    lines = [
        f"{cell.row}, {cell.column}, seed {cell.seed} failed: {why}" for cell, why in failed.items()
    ]
    if elsewhere:
        lines.append(f"{len(elsewhere)} cells are being run by other processes.")
    return lines
