"""Reports of finished runs -> the rows of a table: one a variant, with one number a seed.

A pure function of the run folders: every table is computed from their report.json files. Nothing
here needs JAX.
"""

import collections
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltjax.compare.variants import of_folder
from ltjax.config.settings import METHOD_GROUPS, differences
from ltjax.errors import UserError, plain
from ltjax.run.files import CONFIG, FORMAT, REPORT, load_report

COLUMNS = {  # of the average of experts, in percent
    "accuracy": "acc",
    "many": "many",
    "medium": "med",
    "few": "few",
    "ece": "ECE",
}


class Run(NamedTuple):
    """A finished run."""

    folder: pathlib.Path
    report: dict[str, Any]


def find(paths: Sequence[pathlib.Path]) -> tuple[list[Run], list[pathlib.Path]]:
    """The finished runs in or below folders, and the folders of unfinished runs.

    Args:
      paths: of folders, or of report.json files. A run is not looked for within another.

    Raises:
      UserError: for a missing path, a path without a finished run, or a report that cannot be
        read.
    """
    runs, unfinished = {}, {}
    for path in paths:
        folder = path.parent if path.name == REPORT and os.path.isfile(path) else path
        if not os.path.isdir(folder):
            raise UserError(f"{path}: no such folder. Give folders of runs, or folders above them.")
        finished = False
        for place, below, files in os.walk(folder):
            below.sort()
            if REPORT in files or CONFIG in files:
                below.clear()
                finished |= REPORT in files
                (runs if REPORT in files else unfinished)[os.path.realpath(place)] = place
        if not finished:
            raise UserError(
                f"{path}: no finished run in or below this folder; a finished run has a {REPORT}."
            )
    return (
        [
            Run(pathlib.Path(place), load_report(pathlib.Path(place, REPORT)))
            for place in runs.values()
        ],
        [pathlib.Path(place) for place in unfinished.values()],
    )


def comparison(folder: pathlib.Path) -> list[tuple[str, Run]]:
    """The finished runs of a comparison's folder, each with its variant; in the order of names.

    Raises:
      UserError: for a report that cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"*/{REPORT}")):
        known = of_folder(path.parent.name)
        if known:
            run = Run(path.parent, load_report(path))
            if run.report["config"]["seed"] == known[1]:
                found.append((known[0], run))
    return found


def named(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """Runs, each with the name of its row; those whose configs differ only in the seed share one.

    The runs of one comparison have the names of its variants. Other names are made of the method
    and of the fields in which configs differ.
    """
    keys = [_key(run.report["config"]) for run in runs]
    reports = dict(zip(keys, (run.report for run in runs), strict=True))
    configs = {key: report["config"] for key, report in reports.items()}
    folders = {run.folder.resolve().parent for run in runs}
    variants = [of_folder(run.folder.resolve().name) for run in runs]
    if len(folders) == 1 and all(
        known and known[1] == run.report["config"]["seed"] and _is_of_method(known[0], run)
        for known, run in zip(variants, runs, strict=True)
    ):
        names = [name for name, _ in variants]
        one_to_one = len(set(zip(names, keys, strict=True))) == len(set(names)) == len(configs)
        if one_to_one and set(_varying(list(configs.values()))) <= {"num_experts"}:
            return list(zip(names, runs, strict=True))
    names = _labels(reports)
    return [(names[key], run) for key, run in zip(keys, runs, strict=True)]


def rows(runs: Sequence[tuple[str, Run]]) -> list[dict[str, Any]]:
    """The rows of a table, one a name, in the order of the names' first runs.

    Args:
      runs: (name, run) pairs; runs with the same name differ only in the seed. Of two with the same
        seed, the first is used.

    Returns:
      dicts of plain values; a list has one value a seed, by rising seeds.
    """
    groups: dict[str, dict[int, dict]] = {}
    for name, run in runs:
        groups.setdefault(name, {}).setdefault(run.report["config"]["seed"], run.report)
    return [
        _row(name, [reports[seed] for seed in sorted(reports)]) for name, reports in groups.items()
    ]


def in_common(rows: Sequence[dict]) -> dict[str, Any]:
    """{field: value} of options that all rows share, apart from those that a name says."""
    found = {}
    for field in dict.fromkeys(field for row in rows for field in row["options"]):
        silent = [row for row in rows if f"+{field}=" not in row["method"]]
        values = [_flat(row["config"]).get(field) for row in silent]
        if any(field in row["options"] for row in silent) and values == values[:1] * len(values):
            found[field] = values[0]
    return found


def as_file(rows: Sequence[dict], against: Sequence[dict] = ()) -> dict[str, Any]:
    """What comparison.json holds: rows, and how they differ from the best one."""
    return {"format": FORMAT, "rows": list(rows), "against_best": list(against)}


def _row(name, reports):
    """A name's numbers, one value per seed; numbers without classes are left out."""
    tests = [report["splits"]["test"] for report in reports]
    values = {key: [test["average"][key] for test in tests] for key in (*COLUMNS, "nll")}
    experts = [[one["accuracy"] for one in test["experts"]] for test in tests]
    first = reports[0]
    return {
        "method": plain(name),
        "config": {key: value for key, value in first["config"].items() if key != "seed"},
        "seeds": [report["config"]["seed"] for report in reports],
        "options": _options(first),
        "adapted": first.get("adapted", False),
        "test": {key: value for key, value in values.items() if None not in value},
        "mean_expert": [statistics.mean(one) for one in experts],
        "disagreement": [_disagreement(test) for test in tests],
        "measures": [test.get("measures", {}) for test in tests],
        "num_experts": first["config"]["num_experts"],
        "set_aside": [len(report.get("set_aside", ())) for report in reports],
        "epochs": first["epochs"],
        "train_seconds": [report["cost"]["train_seconds"] for report in reports],
        "parameters": first["cost"]["parameters"],
        "multiply_adds": first["cost"]["multiply_adds"],
        "device": first["device"],
        "versions": first["versions"],
    }


def _options(report):
    """The choices of a run's config beyond those that its method sets."""
    if "options" not in report:  # an earlier version wrote it
        from ltjax.recipes import own_choices  # here: it imports JAX

        return own_choices(report["config"])
    return report["options"]


def _disagreement(test):
    """The share of images on which two experts differ, averaged over pairs; None for one expert."""
    table = test["disagreement"]
    pairs = [share for i, line in enumerate(table) for share in line[:i]]
    return statistics.mean(pairs) if pairs else None


def _is_of_method(variant, run):
    method = variant.partition(":")[0].partition("+")[0]
    return method == run.report["config"]["method"]["name"]


def _flat(config):
    """{field: value} of all fields that decide a result, except the seed."""
    fields = {field: value for field, (_, value) in differences({}, config).items()}
    return {
        field: value for field, value in fields.items() if field != "seed" and value is not None
    }


def _key(config):
    return json.dumps(_flat(config), sort_keys=True, default=str)


def _varying(configs, decided=False):
    """Fields with several values: those that methods decide if `decided`, else the others."""
    flat = [_flat(config) for config in configs]
    fields = dict.fromkeys(field for one in flat for field in one)
    return [
        field
        for field in fields
        if _decided(field) == decided and any(one.get(field) != flat[0].get(field) for one in flat)
    ]


def _decided(field):
    """Whether a method may set this field."""
    group = field.partition(".")[0]
    return group in (*METHOD_GROUPS, "share") or (group == "network" and field != "network.name")


def _labels(reports: Mapping[str, dict]) -> dict[str, str]:
    """{key: name}, such as "focal+loss.gamma=1.0+num_epochs=10.0:3"."""
    every = [report["config"] for report in reports.values()]
    names, counts = {}, collections.Counter()
    shared, own = _varying(every), _varying(every, decided=True)
    for key, report in reports.items():
        config, flat, chosen = report["config"], _flat(report["config"]), _options(report)
        said = [field for field in own if field in chosen]
        said += [field for field in shared if field != "num_experts"]
        name = config["method"]["name"]
        name += "".join(f"+{field}={flat[field]}" for field in said if field in flat)
        name += f":{config['num_experts']}" if "num_experts" in shared else ""
        counts[name] += 1
        names[key] = name if counts[name] == 1 else f"{name} ({counts[name]})"
    return names
