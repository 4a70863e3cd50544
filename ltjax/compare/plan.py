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
import os
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
_RESERVED = ("table.md", "configs")  # in the folder of a table, besides the columns
_NOT_OF_CONFIG = ("name", "recipe")  # in a row or a column; the others are fields of the config


class Cell(NamedTuple):
    """One run of a table."""

    row: str
    column: str
    seed: int
    config: dict[str, Any]  # plain, whole
    folder: str  # below the table's own; no two cells have the same

    def __hash__(self) -> int:
        return hash(self.folder)


class Plan(NamedTuple):
    """A table, whether its cells are run or not."""

    title: str
    about: str
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
    if not os.path.isfile(given):
        if given not in examples():
            known = ", ".join(examples())
            raise UserError(f"--table: no such file {shown(given)}; {known} come with ltjax.")
        path = examples()[given]
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"--table: {path} is no TOML file ({printable(str(error))}).") from error
    except OSError as error:
        raise UserError(f"--table: {path} cannot be read ({error.strerror}).") from error
    try:
        return _checked(plan)
    except UserError as error:
        raise UserError(f"--table: {path}: {error}") from error
    except RecursionError as error:
        raise UserError(f"--table: {path}: its values are nested too deep.") from error


def _checked(plan):
    for name in plan:
        if name not in _FIELDS:
            raise UserError(f"unknown field {shown(name)}. Known fields: {', '.join(_FIELDS)}.")
    rows, columns = (_entries(plan, name) for name in ("rows", "columns"))
    seeds = plan.get("seeds", [0])
    fits = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not fits or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            f"seeds is {shown(seeds)}; it must be different integers, such as [0, 1, 2]."
        )
    texts = {name: plan.get(name, "") for name in ("title", "about", "base")}
    for name, text in texts.items():
        if not isinstance(text, str) or not (text or name == "about"):
            given = shown(text) if name in plan else "missing"
            raise UserError(f"{name} is {given}; it must be a text.")
    for_all = plan.get("for_all", {})
    if not isinstance(for_all, dict):
        raise UserError(f"for_all is {shown(for_all)}; it must be a table of fields.")
    switches = {name: plan.get(name, False) for name in _SWITCHES}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} is {shown(value)}; it must be true or false.")
    del texts["base"]
    base, cells = _base(plan["base"]), []
    for where in (for_all, *columns.values(), *rows.values()):
        _refuse_what_is_said_elsewhere(where)
    for column, row, seed in itertools.product(columns, rows, seeds):
        changed = _merged(base, for_all, _fields(columns[column]), _fields(rows[row]))
        config = entered(changed, rows[row].get("recipe", row), seed)
        folder = f"{_as_folder(column)}/{_as_folder(row)}-{seed}"
        cells.append(Cell(row, column, seed, config, folder))
    if switches["held_out"] and not all(map(_holds_out, cells)):
        raise UserError("held_out = true needs data.validation above 0 in each cell.")
    folders = [cell.folder for cell in cells]
    twice = next((one for one in folders if folders.count(one) > 1), None)
    if twice:
        raise UserError(f"two rows or columns have the folder {twice}. Rename one.")
    names = {"rows": tuple(rows), "columns": tuple(columns)}
    return Plan(**texts, **names, seeds=tuple(seeds), cells=tuple(cells), **switches)


def _entries(plan, what):
    """{name: entry} of rows or columns, in order."""
    entries = plan.get(what)
    if not isinstance(entries, list) or not entries or not all(map(_is_table, entries)):
        raise UserError(f"{what} must be one or more tables, each [[{what}]].")
    for recipe in (one["recipe"] for one in entries if "recipe" in one):
        if what == "columns" or not isinstance(recipe, str):
            why = "a recipe is of a row" if what == "columns" else "a recipe must be a text"
            raise UserError(f"recipe is {shown(recipe)} in {what}; {why}.")
    named = [one.get("name", one.get("recipe")) for one in entries]
    for name in named:
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise UserError(f"each of {what} needs a name{' or a recipe' * (what == 'rows')}.")
        if named.count(name) > 1:
            raise UserError(f"two of {what} are named {shown(name)}. Rename one.")
    return dict(zip(named, entries, strict=True))


def _refuse_what_is_said_elsewhere(entry):
    """Fields that the plan's own ones set; they would have no effect."""
    method = entry.get("method")
    if "seed" in entry:
        raise UserError(f"seed is {shown(entry['seed'])}; the seeds of a table are its seeds.")
    if _is_table(method) and "name" in method:
        raise UserError(f"method.name is {shown(method['name'])}; a row's recipe names its method.")
    if "num_experts" in entry and ":" in str(entry.get("recipe")):
        raise UserError(
            f"recipe is {shown(entry['recipe'])}, which says the number of experts, and so does "
            f"num_experts. Remove one."
        )


def _holds_out(cell):
    data = cell.config.get("data")
    return _is_table(data) and bool(data.get("validation"))


def _is_table(value):
    return isinstance(value, Mapping)


def _fields(entry):
    return {name: value for name, value in entry.items() if name not in _NOT_OF_CONFIG}


def _base(given):
    """The config that a plan begins with, as plain dicts."""
    (_, option), path = config_file.located(["", f"--config={given}"])
    argument = option.removeprefix("--config=").removeprefix(path).split(":", 1)[1:]
    try:
        loaded = runpy.run_path(path)["get_config"](*argument)
    except (Exception, SystemExit) as error:  # a config file may raise anything
        why = printable(str(error)) or type(error).__name__
        raise UserError(f"base {shown(given)} failed to load: {why}.") from error
    config_file.check(loaded, path)
    return loaded.to_dict() if hasattr(loaded, "to_dict") else _merged(loaded)


def _merged(*configs):
    """Later configs override earlier ones, field by field."""
    merged = {}
    for config in configs:
        for name, value in config.items():
            both = _is_table(value) and _is_table(merged.get(name))
            merged[name] = _merged(merged[name], value) if both else value
    return merged


def _as_folder(name):
    """A name for a folder: never hidden, none of the table's own files, without two dashes."""
    plain = re.sub(r"[^\w.=+]+", "-", name.replace(":", "-x")).strip("-.")
    if not plain or plain in _RESERVED:
        raise UserError(f"{shown(name)} cannot be the name of a folder. Rename it.")
    return plain
