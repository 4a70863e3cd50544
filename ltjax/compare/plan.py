"""A planned table: a TOML file of rows, columns, seeds and budget, and its cells, each a run.

title = "Balanced softmax on CIFAR-LT"
base = "cifar100"                  # a config by name or path; what follows overrides its fields
seeds = [0, 1, 2]

[for_all]
num_epochs = 200.0

[[columns]]
name = "CIFAR-100-LT, 100"
data.imbalance_factor = 100.0

[[rows]]
recipe = "balanced_softmax:3"      # as --compare names it (ltjax.compare.variants)
network.head = "cosine"
"""

import itertools
import pathlib
import re
import runpy
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltjax import config_file
from ltjax.compare.variants import entered
from ltjax.errors import UserError, printable, shown

_SWITCHES = ("mean_expert", "best_published", "held_out")
_FIELDS = ("title", "about", "base", "seeds", "for_all", "columns", "rows", *_SWITCHES)
_OWN = ("name", "recipe")  # of a row or a column; the others are fields of the config


class Cell(NamedTuple):
    """One run of a table."""

    row: str
    column: str
    seed: int
    config: dict[str, Any]  # plain, whole
    overrides: dict[str, Any]  # {"data.name": value, ...}: how it differs from the base
    folder: str  # below the table's own; no two cells have the same

    def __hash__(self) -> int:
        return hash(self.folder)


class Plan(NamedTuple):
    """A table, whether its cells are run or not."""

    title: str
    about: str
    base: str  # as --config takes it
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    mean_expert: bool  # whether each row is preceded by that of its single experts
    best_published: bool  # whether a row has the best published number of each column
    held_out: bool  # whether rows are chosen by: only the held-out part is shown, never the test

    def of(self, row: str, column: str) -> list[Cell]:
        """The cells of one place of the table, one a seed."""
        return [cell for cell in self.cells if (cell.row, cell.column) == (row, column)]


def examples() -> dict[str, pathlib.Path]:
    """{name: file} of the tables that come with ltjax."""
    configs = {pathlib.Path(path).parent for path in config_file.examples().values()}
    found = (path for folder in configs for path in folder.glob("tables/*.toml"))
    return {path.stem: path for path in sorted(found)}


def read(given: str) -> Plan:
    """The plan in a file, or of a table that comes with ltjax.

    Fields and names of configs are not checked here: ltjax.compare.work does, before any run.

    Raises:
      UserError: in a line, for a missing file or what is no plan.
    """
    path = pathlib.Path(given)
    if not path.is_file():
        if given not in examples():
            known = ", ".join(examples())
            raise UserError(f"--table: no such file {shown(given)}; {known} come with ltjax.")
        path = examples()[given]
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--table: {path} is no TOML file ({printable(str(error))}).") from error
    except OSError as error:
        raise UserError(f"--table: {path} cannot be read ({error.strerror}).") from error
    try:
        return _checked(plan)
    except UserError as error:
        raise UserError(f"--table: {path}: {error}") from error


def _checked(plan):
    for name in plan:
        if name not in _FIELDS:
            raise UserError(f"unknown field {shown(name)}. Known fields: {', '.join(_FIELDS)}.")
    rows, columns = (_entries(plan, name) for name in ("rows", "columns"))
    seeds = plan.get("seeds", [0])
    fits = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not fits or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds is {shown(seeds)}; it must be different integers from 0 on.")
    texts = {name: plan.get(name, "") for name in ("title", "about", "base")}
    for name, text in texts.items():
        if not isinstance(text, str) or not (text or name == "about"):
            raise UserError(f"{name} is {shown(text)}; it must be a text.")
    for_all = plan.get("for_all", {})
    if not isinstance(for_all, dict):
        raise UserError(f"for_all is {shown(for_all)}; it must be a table of fields.")
    switches = {name: plan.get(name, False) for name in _SWITCHES}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} is {shown(value)}; it must be true or false.")
    base, cells = _base(texts["base"]), []
    known = dict(_flat(base))
    for column, row, seed in itertools.product(columns, rows, seeds):
        changed = _merged(base, for_all, _fields(columns[column]), _fields(rows[row]))
        config = entered(changed, rows[row].get("recipe", row), seed)
        cells.append(
            Cell(
                row,
                column,
                seed,
                config,
                {name: of for name, of in _flat(config) if known.get(name) != of},
                f"{_as_folder(column)}/{_as_folder(row)}-{seed}",
            )
        )
    if switches["held_out"] and not all(cell.config["data"].get("validation") for cell in cells):
        raise UserError("held_out = true needs data.validation above 0 in each cell.")
    folders = [cell.folder for cell in cells]
    twice = next((one for one in folders if folders.count(one) > 1), None)
    if twice:
        raise UserError(f"two rows or columns have the folder {twice}. Rename one.")
    names = {"rows": tuple(rows), "columns": tuple(columns)}
    return Plan(**texts, **names, seeds=tuple(seeds), cells=tuple(cells), **switches)


def _entries(plan, what):
    """{name: entry} of rows or columns."""
    entries = plan.get(what)
    if not isinstance(entries, list) or not entries or not all(map(_is_table, entries)):
        raise UserError(f"{what} must be one or more tables, each [[{what}]].")
    named = [one.get("name", one.get("recipe")) for one in entries]
    for name in named:
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise UserError(f"each of {what} needs a name{' or a recipe' * (what == 'rows')}.")
        if named.count(name) > 1:
            raise UserError(f"two of {what} are named {shown(name)}. Rename one.")
    return dict(zip(named, entries, strict=True))


def _is_table(value):
    return isinstance(value, Mapping)


def _fields(entry):
    return {name: value for name, value in entry.items() if name not in _OWN}


def _base(given):
    """The config that a plan begins with, as plain dicts."""
    (_, path), loaded = config_file.located(["", f"--config={given}"]), {}
    try:
        loaded = runpy.run_path(path)["get_config"]()
    except Exception as error:  # a config file may raise anything
        raise UserError(f"base {shown(given)} failed to load: {printable(str(error))}.") from error
    config_file.check(loaded, path)
    return loaded.to_dict()


def _merged(*configs):
    """Later configs override earlier ones, field by field."""
    merged = {}
    for config in configs:
        for name, value in config.items():
            both = _is_table(value) and _is_table(merged.get(name))
            merged[name] = _merged(merged[name], value) if both else value
    return merged


def _flat(config, path=""):
    for name, value in config.items():
        if _is_table(value):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _as_folder(name):
    return re.sub(r"[^\w.=+-]+", "-", name.replace(":", "-x")).strip("-") or "cell"
