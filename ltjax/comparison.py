"""Methods side by side: the same config with each of them, over seeds, as one table.

What is compared is named by a row of METHODS; after it may stand options that are its own, and
its number of experts: "ride", "ride+method.routing=False", "focal+loss.gamma=2.0:3".
"""

import ast
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltjax import rundir
from ltjax.choices import pick
from ltjax.console import own_console, say
from ltjax.errors import UserError
from ltjax.loop import Diverged
from ltjax.methods import METHODS
from ltjax.report import data_title, options_of
from ltjax.settings import as_dict, settings_from
from ltjax.standings import COLUMNS, notes, page, table
from ltjax.train import checked, info_of, read, recipe_of, run

OPTIONS = ("method", "loss", "reweight", "sampler", "mixing")  # in these groups methods may differ


def compare(
    config: Any, methods: Sequence[str], seeds: Sequence[int], workdir: str | None = None
) -> list[dict]:
    """Run a config with each method and each seed, in folders below one; then tabulate.

    What is complete in that folder is not run again, and what was stopped goes on, so that the same
    command finishes a comparison that was interrupted. Other methods that were compared there
    before stay in the table. A method that diverges is left out.

    Args:
      config: an ml_collections.ConfigDict; its method's name and its seed are replaced.
      methods: names as above, or ("all",): all rows of METHODS.
      seeds: of the runs; the selection of images (data.seed) stays as it is.
      workdir: the folder above those of the runs; "runs/comparison" by default.

    Returns:
      One summary per method, earlier ones first, as comparison.json in the folder has them.

    Raises:
      UserError: for an unknown method, or whatever a run says; before anything is run. Of "all"
        methods, those that do not go with the config are left out, and it is said why.
      Diverged: if all methods do.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds is {list(seeds)}; it must hold different numbers from 0 on.")
    if not any(methods):
        raise UserError("--compare names no method; write, say, --compare=classifier,ride or =all.")
    if len(set(methods)) < len(methods):
        raise UserError(f"--compare is {','.join(methods)}; it must name each method once.")
    folder, console = pathlib.Path(workdir or "runs/comparison"), own_console()
    if (folder / rundir.CONFIG).exists():
        raise UserError(f"{folder} holds a single run; give --compare another --workdir.")
    methods, common = _that_can_run(config, methods, seeds, console)
    rows = earlier = _earlier(folder, methods, common)
    for number, name in enumerate(methods, 1):
        reports = []
        for seed in seeds:
            say(console, f"{name} ({number} of {len(methods)}), seed {seed}")
            try:
                below = folder / f"{name.replace(':', '-x')}-{seed}"
                reports.append(run(_with(config, name, seed), str(below), brief=True))
            except Diverged as diverged:
                say(console, f"{name} is left out: {diverged}")
                break
        if len(reports) < len(seeds):
            continue
        rows = [*rows, summary(name, seeds, reports)]
        rundir.save_json(folder / "comparison.json", rows)
        rundir.write(folder / "comparison.md", page(rows))
    if len(rows) == len(earlier):
        raise Diverged(f"All of {', '.join(methods)} diverged; there is nothing to tabulate.")
    console.print("", table(rows))
    for note in notes(rows):
        say(console, note)
    say(console, f"Comparison: {folder / 'comparison.md'}")
    return rows


def _that_can_run(config, methods, seeds, console):
    """The methods, but for those of "all" that refuse the config, and what their rows will share.

    Mistakes are said before anything is run.
    """
    named, found = list(methods) != ["all"], []
    for name in methods if named else ():
        parse(name)
    settings = [settings_from(_with(config, "classifier", seed)) for seed in seeds]
    splits = read(settings[0], console)  # for all the same
    info = info_of(splits)
    for name in methods if named else METHODS:
        try:
            recipe_of(checked(_with(config, name, 0)), info)
        except UserError as error:
            if named:
                raise
            say(console, f"{name} is left out: {error}")
        else:
            found.append(name)
    if not found:
        raise UserError("No method goes with this config; the lines above say why.")
    common = {
        "seeds": list(seeds),
        "data": data_title(settings[0], splits),
        "setting": _setting(as_dict(settings[0])),
    }
    return found, common


def _earlier(folder, methods, common):
    """Rows that the folder has of other methods, which must be comparable."""
    try:
        rows = rundir.load_json(folder / "comparison.json") or []
        others = [row for row in rows if row["method"] not in methods]
        differing = [name for name in common for row in others if row[name] != common[name]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{folder / 'comparison.json'} is not that of a comparison; give another --workdir."
        ) from error
    if differing:
        name, old = differing[0], others[0][differing[0]]
        raise UserError(
            f"{folder} compares {', '.join(row['method'] for row in others)} by other {name} "
            f"({old}; now {common[name]}). Name these again, too, or give another --workdir."
        )
    return others


def summary(method: str, seeds: Sequence[int], reports: Sequence[dict]) -> dict:
    """A method's numbers: {name: one value per seed}, what is None for lack of classes left out."""
    tests = [report["splits"]["test"] for report in reports]
    values = {name: [test["average"][name] for test in tests] for name in (*COLUMNS, "nll")}
    experts = [[one["accuracy"] for one in test["experts"]] for test in tests]
    return {
        "method": method,
        "seeds": list(seeds),
        "options": options_of(reports[0]["config"]["method"]),
        "adapted": reports[0].get("adapted", False),
        "data": reports[0]["title"].rpartition(": ")[0],
        "setting": _setting(reports[0]["config"]),
        "test": {name: value for name, value in values.items() if None not in value},
        "mean_expert": [statistics.mean(one) for one in experts],
        "disagreement": [_disagreement(test) for test in tests],
        "measures": [test.get("measures", {}) for test in tests],
        "num_experts": reports[0]["config"]["num_experts"],
        "epochs": reports[0]["epochs"],
        "train_seconds": [report["cost"]["train_seconds"] for report in reports],
        "parameters": reports[0]["cost"]["parameters"],
        "multiply_adds": reports[0]["cost"]["multiply_adds"],
        "device": reports[0]["device"],
        "versions": reports[0]["versions"],
    }


class Compared(NamedTuple):
    """What a name of a comparison says."""

    method: str  # row of METHODS
    options: dict[str, dict[str, Any]]  # {group of the config: {field: value}}
    num_experts: int | None  # None is the config's


def parse(name: str) -> Compared:
    """Take a name apart: "focal+loss.gamma=2.0:3".

    Raises:
      UserError: for an unknown method, a group in which methods cannot differ, or what is not of
        this form. Whether the options are right is seen when a run is made of them.
    """
    text, colon, number = name.partition(":")
    method, *changes = text.split("+")
    pick(METHODS, method, "--compare")
    if colon and (not number.isdecimal() or int(number) < 1):
        raise UserError(
            f"--compare is {name!r}; after the colon must be a number of experts, as in {method}:3."
        )
    options: dict[str, dict[str, Any]] = {}
    for change in changes:
        path, equals, value = change.partition("=")
        group, dot, field = path.partition(".")
        if not (equals and dot and field and value):
            raise UserError(
                f"--compare is {name!r}; after a + must be a field and its value, as in "
                f"focal+loss.gamma=2.0, not {change!r}."
            )
        if group not in OPTIONS or path == "method.name":
            raise UserError(
                f"--compare is {name!r}; after a + may stand options of {', '.join(OPTIONS)}, not "
                f"{path}. What is the same for all is given as --config.{group}."
            )
        options.setdefault(group, {})[field] = _value(value)
    return Compared(method, options, int(number) if colon else None)


def _value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a name


def _with(config, name, seed):
    """The config as plain dicts, with what a name of the comparison says, and another seed."""
    method, options, experts = parse(name)
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    changes = options | {"method": {"name": method, **options.get("method", {})}}
    for group, fields in changes.items():
        given = config.get(group) or {}
        # what is no group is an error later
        config[group] = {**given, **fields} if isinstance(given, Mapping) else given
    return config | {"seed": seed} | ({"num_experts": experts} if experts else {})


def _disagreement(test):
    """The share of images on which two experts differ, the mean over pairs; None of one expert."""
    table = test["disagreement"]
    pairs = [table[i][j] for i in range(len(table)) for j in range(i)]
    return statistics.mean(pairs) if pairs else None


def _setting(config):
    """What methods have in common, so nothing that a method may choose; from a report's config."""
    schedule, optimizer = config["schedule"], config["optimizer"]
    steps = ", ".join(f"{key} {value}" for key, value in schedule.items() if key != "name")
    return (
        f"{config['network']['name']}, {config['num_epochs']:g} epochs of {config['batch_size']} "
        f"images an expert and step, augmentation {config['augment']['name']}, schedule "
        f"{schedule['name']} ({steps}), momentum {optimizer['momentum']:g}, weight decay "
        f"{optimizer['weight_decay']:g}."
    )
