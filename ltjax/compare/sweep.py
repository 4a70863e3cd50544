"""Methods side by side: the same config with each of them, over seeds, as one table."""

import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from ltjax.compare.tables import COLUMNS, notes, page, table
from ltjax.compare.variants import entered, parse
from ltjax.config.settings import as_dict, differences, own_choices, settings_from
from ltjax.errors import UserError
from ltjax.methods import METHODS
from ltjax.recipes import check_devices, recipe_of, settings_of
from ltjax.run import folder as rundir
from ltjax.run.console import own_console, say
from ltjax.run.loop import Diverged
from ltjax.train import read, run


def compare(
    config: Any, methods: Sequence[str], seeds: Sequence[int], workdir: str | None = None
) -> list[dict]:
    """Run a config with each method and each seed, in folders below one; then tabulate.

    What is complete in that folder is not run again, and what was stopped goes on, so that the same
    command finishes a comparison that was interrupted. Other methods that were compared there
    before stay in the table. A method that diverges is left out.

    Args:
      config: an ml_collections.ConfigDict; its method's name and its seed are replaced.
      methods: names as in ltjax.compare.variants, or ("all",): all rows of METHODS.
      seeds: of the runs; the selection of images (data.seed) stays as it is.
      workdir: the folder above those of the runs; by default one under runs/ that belongs to the
        config.

    Returns:
      One summary per method, earlier ones first, as comparison.json in the folder has them.

    Raises:
      UserError: for an unknown method, or whatever a run says; before anything is run. Of "all"
        methods, those that do not go with the config are left out, and it is said why.
      Diverged: if all methods do.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds is {list(seeds)}; it must hold different numbers from 0 on.")
    if not all(methods) or not methods:
        raise UserError("--compare names no method; write, say, --compare=classifier,ride or =all.")
    if len(set(methods)) < len(methods):
        raise UserError(f"--compare is {','.join(methods)}; it must name each method once.")
    console = own_console()
    methods, common = _that_can_run(config, methods, seeds, console)
    folder = pathlib.Path(workdir or rundir.default(common["base"], "comparison"))
    if (folder / rundir.CONFIG).exists():
        raise UserError(f"{folder} holds a single run; give --compare another --workdir.")
    earlier, own = _earlier(folder, methods, common), []
    for number, name in enumerate(methods, 1):
        reports = []
        for seed in seeds:
            say(console, f"{name} ({number} of {len(methods)}), seed {seed}")
            try:
                below = folder / f"{name.replace(':', '-x')}-{seed}"
                reports.append(run(entered(config, name, seed), str(below), brief=True))
            except Diverged as diverged:
                say(console, f"{name} is left out: {diverged}")
                break
        if len(reports) < len(seeds):
            continue
        own.append(summary(name, common, reports))
        rows = [*_earlier(folder, methods, common), *own]  # another process may have added some
        rundir.save_json(folder / "comparison.json", rows)
        rundir.write(folder / "comparison.md", page(rows))
    if not own:
        table_is = "the table is as it was" if earlier else "there is nothing to tabulate"
        raise Diverged(f"All of {', '.join(methods)} diverged; {table_is}.")
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
    settings = [settings_from(entered(config, "classifier", seed)) for seed in seeds]
    splits = read(settings[0], console)  # for all the same
    info = splits.info
    same = {}
    for name in methods if named else METHODS:
        try:
            one = settings_of(entered(config, name, 0))
            check_devices(recipe_of(one, info), one, info)
        except UserError as error:
            if named:
                raise
            say(console, f"{name} is left out: {error}")
        else:
            found.append(name)
        other = same.setdefault(json.dumps(as_dict(one)), name)
        if other != name:
            raise UserError(f"--compare names {other} and {name}, which are the same; name one.")
    if not found:
        raise UserError("No method goes with this config; the lines above say why.")
    base = as_dict(settings[0])
    del base["seed"]
    return found, {"base": base, "seeds": list(seeds)}


def _earlier(folder, methods, common):
    """Rows that the folder has of other methods, which must be comparable."""
    try:
        rows = rundir.load_json(folder / "comparison.json") or []
        others = [row for row in rows if row["method"] not in methods]
        changed = {
            k: v for row in others for k, v in differences(row["base"], common["base"]).items()
        }
        seeds = [row["seeds"] for row in others if row["seeds"] != common["seeds"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder / 'comparison.json'} is not that of a comparison; give another --workdir."
        ) from error
    names = ", ".join(row["method"] for row in others)
    if changed:
        fields = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in changed.items())
        raise UserError(
            f"{folder} compares {names} by another config ({fields}). Undo that, or give another "
            f"--workdir."
        )
    if seeds:
        raise UserError(
            f"{folder} compares {names} over seeds {seeds[0]}, not {common['seeds']}. Name these "
            f"again, too, or give another --workdir."
        )
    return others


def summary(method: str, common: dict, reports: Sequence[dict]) -> dict:
    """A row: a method's numbers, one value per seed; what is None for lack of classes is left out.

    Args:
      method: its name in the comparison.
      common: what rows share, {"base": config, "seeds": ...}.
      reports: of its runs, one per seed.
    """
    tests = [report["splits"]["test"] for report in reports]
    values = {name: [test["average"][name] for test in tests] for name in (*COLUMNS, "nll")}
    experts = [[one["accuracy"] for one in test["experts"]] for test in tests]
    return {
        "method": method,
        **common,
        "options": own_choices(reports[0]["config"]),
        "adapted": reports[0].get("adapted", False),
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


def _disagreement(test):
    """The share of images on which two experts differ, the mean over pairs; None of one expert."""
    table = test["disagreement"]
    pairs = [table[i][j] for i in range(len(table)) for j in range(i)]
    return statistics.mean(pairs) if pairs else None
