"""Runs the same config with several methods and seeds, and makes one table of them."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ltjax.compare.against import against_best, lines
from ltjax.compare.bands import verdicts
from ltjax.compare.rows import Run, as_file, comparison, rows
from ltjax.compare.tables import notes, page, table
from ltjax.compare.variants import entered, folder_name, of_folder, parse
from ltjax.config.settings import as_dict, differences
from ltjax.data.datasets import Splits
from ltjax.data.info import DataInfo
from ltjax.errors import UserError, shortened, shown
from ltjax.limits import among
from ltjax.mesh import process_zero_first
from ltjax.methods import METHODS
from ltjax.recipes import check_devices, recipe_of, settings_of
from ltjax.run import folder as rundir
from ltjax.run.console import own_console
from ltjax.run.divergence import Diverged
from ltjax.run.files import CONFIG
from ltjax.terminal import say
from ltjax.train import read, run


def compare(
    config: Any,
    methods: Sequence[str],
    seeds: Sequence[int],
    workdir: str | None = None,
    splits: Splits | None = None,
) -> list[dict]:
    """Run a config with each method and each seed, in folders below one; then tabulate.

    Complete runs in that folder are not repeated, and stopped runs are resumed, so that the same
    command finishes an interrupted comparison. The table is made from all finished runs in that
    folder, from this or an earlier command. A method that diverges is left out.

    Args:
      config: an ml_collections.ConfigDict; its method's name and its seed are replaced.
      methods: names as in ltjax.compare.variants, or ("all",): all rows of METHODS.
      seeds: of the runs; the selection of images (data.seed) does not change.
      workdir: the folder above those of the runs; by default one under runs/ that belongs to the
        config.
      splits: ready data; by default config.data is prepared and read, once.

    Returns:
      One row per method, in the order of names; ltjax.compare.rows.rows. comparison.json in the
      folder holds them, and comparison.md shows them.

    Raises:
      UserError: before any run, for an unknown method, a folder whose runs are not comparable, or
        any error of a run. Of "all" methods, those that do not work with the config are left out,
        each with a line that says why.
      Diverged: if all methods do.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(
            f"--seeds is {shown(list(seeds))}; it must be one or more different integers "
            f"from 0 on, such as --seeds=0,1,2."
        )
    if not all(methods) or not methods:
        raise UserError(
            "--compare names no method. Example: --compare=classifier,ride or --compare=all."
        )
    if len(set(methods)) < len(methods):
        raise UserError(
            f"--compare is {shortened(','.join(methods))}; it must name each method once."
        )
    console = own_console()
    for name in methods if list(methods) != ["all"] else ():
        method = parse(name).method
        if method not in METHODS:
            known = among(method, sorted(METHODS))
            raise UserError(f"--compare is {shown(method)}; it must be all, or each {known}.")
    settings = [settings_of(entered(config, "classifier", seed)) for seed in seeds]
    splits = splits or read(settings[0], console)  # for all the same
    methods = that_can_run(config, methods, splits.info, console)
    folder = pathlib.Path(workdir) if workdir else default_folder(config)
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} holds a single run. Give --compare another --workdir.")
    unfinished = _check_earlier(folder, config, methods, seeds)
    found, finished = _comparable(folder, seeds), []
    for number, name in enumerate(methods, 1):
        for seed in seeds:
            say(console, f"{name} ({number} of {len(methods)}), seed {seed}")
            try:
                below = folder / folder_name(name, seed)
                run(entered(config, name, seed), str(below), brief=True, splits=splits)
            except Diverged as diverged:
                say(console, f"{name} is left out: {diverged}")
                break
        else:
            finished.append(name)
            process_zero_first(lambda: None)  # it has written what the others read
            found = _comparable(folder, seeds)
            rundir.save_json(folder / "comparison.json", as_file(found))
            rundir.write(folder / "comparison.md", page(found))
    if not finished:
        table_is = "the table is unchanged" if found else "there is nothing to tabulate"
        raise Diverged(f"All of {', '.join(methods)} diverged; {table_is}.")
    with_seeds = {row["method"] for row in found}
    against = against_best([one for one in comparison(folder) if one[0] in with_seeds])
    rundir.save_json(folder / "comparison.json", as_file(found, against))
    rundir.write(folder / "comparison.md", page(found, against))
    console.print("", table(found, console.width))
    for note in [*notes(found), *lines(against), *verdicts(found)]:
        say(console, note)
    for name in unfinished:
        say(
            console, f"{name} is left out: some of its runs are not finished. Name it in --compare."
        )
    say(console, f"Comparison: {folder / 'comparison.md'}")
    return found


def default_folder(config: Any) -> pathlib.Path:
    """The folder of a config's comparisons, whichever methods and seeds they name."""
    base = as_dict(settings_of(entered(config, "classifier", 0)))
    del base["seed"]
    return rundir.default(base, "comparison")


def that_can_run(
    config: Any, methods: Sequence[str], info: DataInfo, console: Console
) -> list[str]:
    """The methods; of ("all",), those that work with the config, with a line for each other one.

    Raises:
      UserError: for a named method that does not work with it, or two that are the same.
    """
    named, found, same = list(methods) != ["all"], [], {}
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
            raise UserError(f"--compare names {other} and {name}, which are the same. Remove one.")
    if not found:
        raise UserError("No method works with this config; see the lines above.")
    return found


def _comparable(folder, seeds):
    """The rows of the finished runs in a folder, of methods that have all seeds."""
    return [row for row in rows(comparison(folder)) if row["seeds"] == sorted(seeds)]


def _check_earlier(folder, config, methods, seeds):
    """Refuse a folder whose finished runs are not comparable with the new ones.

    Returns:
      methods that will be missing in the table, because some of their seeds are not finished.
    """
    finished: dict[str, set[int]] = {}
    changed, names = {}, {}
    for name, earlier in comparison(folder):
        finished.setdefault(name, set()).add(earlier.report["config"]["seed"])
        here = _differences(earlier, config, name)
        changed |= here
        names |= dict.fromkeys([name] if here else ())
    if changed:
        fields = "; ".join(f"{field} was {old}, is {new}" for field, (old, new) in changed.items())
        raise UserError(
            f"{folder} compares {', '.join(names)} with another config ({fields}). Restore these "
            f"values, or give another --workdir."
        )
    begun: dict[str, set[int]] = {}
    for path in folder.glob(f"*/{CONFIG}"):
        name, seed = of_folder(path.parent.name) or (None, None)
        begun.setdefault(name, set()).add(seed)
    for name, its_seeds in finished.items():
        more = not its_seeds <= set(seeds)
        fewer = name not in methods and its_seeds < set(seeds) and its_seeds == begun.get(name)
        if more or fewer:
            raise UserError(
                f"{folder} compares {name} over seeds {sorted(its_seeds)}, not {list(seeds)}. Add "
                f"{'the missing seeds' if more else f'{name} to --compare'}, or give another "
                f"--workdir."
            )
    return [name for name in finished if name not in methods and finished[name] != set(seeds)]


def _differences(earlier: Run, config: Mapping[str, Any], name: str) -> dict[str, tuple]:
    """{field: (old, new)}: how a finished run's config is not what this command would give it."""
    theirs = earlier.report["config"]
    try:
        ours = as_dict(settings_of(entered(config, name, theirs["seed"])))
    except UserError:  # this config does not work with that method: report the differences
        plain = entered(config, "classifier", theirs["seed"])
        ours = as_dict(settings_of(plain)) | {"method": theirs["method"]}
        ours["num_experts"] = theirs["num_experts"] if ":" in name else ours["num_experts"]
    return differences(theirs, ours)
