"""One run, from its config to its report: data, recipe, phases, evaluation."""

import contextlib
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ltjax import kernels, recipes, storage
from ltjax.config.settings import Settings, as_dict
from ltjax.data import datasets
from ltjax.data.images import Images
from ltjax.evaluation.evaluate import evaluator
from ltjax.evaluation.metrics import one_line
from ltjax.mesh import process_zero_first
from ltjax.models import cost
from ltjax.report import summary as report
from ltjax.report import tables
from ltjax.report.wording import changes
from ltjax.run import checkpoint
from ltjax.run import folder as run_folder
from ltjax.run.checkpoint import Position
from ltjax.run.compiled import Compiled
from ltjax.run.console import own_console
from ltjax.run.files import REPORT, load_report
from ltjax.run.loop import Evaluation, Loop, number
from ltjax.run.predictions import PREDICTIONS, Predictions, is_good, packed
from ltjax.run.saving import Checkpoints
from ltjax.run.shared import Run, SetAside
from ltjax.runtime import check_switches, use_cache
from ltjax.terminal import say


def run(
    config: Mapping[str, Any],
    workdir: str | None = None,
    brief: bool = False,
    splits: datasets.Splits | None = None,
) -> dict:
    """Train what a config says, or resume it, and evaluate the last state.

    Args:
      config: an ml_collections.ConfigDict or any mapping with the fields of ltjax.config.settings.
      workdir: the folder of the run; made if it is missing, resumed if it is not. By default one
        under runs/ that belongs to the config.
      brief: if the run is already complete, print one line instead of its tables.
      splits: ready data; by default the config's data is prepared and read.

    Compiled programs are kept in the user's cache folder, which sets options of JAX for the whole
    process, unless config.compute.cache is False (ltjax.runtime).

    Returns:
      The report, as in report.json in the folder; see ltjax.report.summary.describe.

    Raises:
      UserError: for any mistake that the user can correct.
      Stopped: on Ctrl-C, SIGTERM or SIGHUP, after saving (ltjax.run.loop).
      NotFinite: if the loss, the state or an output is no longer finite (ltjax.run.divergence).
      NotWritten: if the system refuses to store something (ltjax.storage); a UserError.
    """
    check_switches()
    settings = recipes.settings_of(config)
    kernels.target()  # a wrong LTJAX_KERNELS is reported before anything is written
    default = run_folder.default(as_dict(settings), settings.method["name"])
    folder = storage.usable(default if workdir is None else workdir, "--workdir")
    console = own_console()
    tell = functools.partial(say, console)
    if settings.compute.cache:
        use_cache()

    result = _report(folder, settings.predictions, console)
    if not result:  # errors in data and recipe come before a folder is made
        splits = splits or read(settings, console)
        recipe = recipes.recipe_of(settings, splits.info)
        recipes.check_devices(recipe, settings, splits.info)
    with contextlib.ExitStack() as holding:
        process_zero_first(lambda: holding.enter_context(run_folder.claimed(folder, settings)))
        if result:
            if brief:
                say(console, f"complete: {one_line('test', result['splits']['test'])}")
                return result
            say(console, f"This run is complete: {folder}. To train again, give another --workdir.")
        else:
            process_zero_first(lambda: run_folder.remember_data(folder, splits.info))
            process_zero_first(lambda: checkpoint.clean(folder, tell))
            checkpoints = holding.enter_context(Checkpoints(folder))
            try:
                result = _train_and_report(settings, splits, recipe, folder, checkpoints, console)
            except storage.NotWritten as error:
                error.kept = checkpoints.kept()
                raise
    console.print(tables.for_console(result))
    say(console, f"Report: {folder / 'report.md'}")
    return result


def _report(folder: pathlib.Path, dtype: str, console: Console) -> dict | None:
    """The report of a complete run; None if the run is not complete.

    A report that is damaged, or whose trained state is not whole, is made again.
    """
    path = folder / REPORT
    if not path.exists():
        return None
    try:
        report = load_report(path)
    except storage.Damaged:
        say(console, f"{path} is damaged. It is written again.")
        return None
    last, found = report.get("checkpoint"), checkpoint.newest(folder)
    if found is None:
        say(console, f"Note: {folder} has no checkpoint. The trained state is not there any more.")
    elif last is not None and (found != last or not checkpoint.is_good(folder)):
        say(
            console,
            f"{path} is of checkpoint {last}, which is missing or damaged. Training resumes.",
        )
        return None
    elif report.get("predictions") and not is_good(folder):
        say(console, f"{folder / PREDICTIONS} is missing or damaged. It is written again.")
        return None
    elif "predictions" in report and not report["predictions"] and dtype != "none":
        say(console, f"{folder / PREDICTIONS} was not asked for before. It is written now.")
        return None
    return report


def _train_and_report(settings, splits, recipe, folder, checkpoints, console) -> dict:
    """Train what is left, evaluate, and write the report once everything else is on the disk."""
    saved = checkpoints.position()
    start = saved or Position(0, 0, 0.0)
    reached = number(recipe, start.phase, start.step)
    with run_folder.Log(folder, reached, start.log, functools.partial(say, console)) as log:
        now, before = report.surroundings(settings.compute), list(start.surroundings)
        run = Run(
            settings,
            splits.info,
            recipe,
            folder,
            checkpoints,
            log,
            console,
            set_aside=[SetAside(*one) for one in start.set_aside],
            surroundings=before if before[-1:] == [now] else [*before, now],
        )
        result = _train(run, splits, saved)
    checkpoints.wait()
    result["checkpoint"] = checkpoint.newest(folder)
    run_folder.write(folder / "report.md", tables.markdown(result))
    run_folder.save_json(folder / REPORT, result)
    return result


def read(settings: Settings, console: Console) -> datasets.Splits:
    """The data of a run; prepared first if possible."""

    tell = functools.partial(say, console)
    process_zero_first(lambda: datasets.prepare(settings.data, tell))
    return datasets.load(settings.data, tell)


def _train(run: Run, splits: datasets.Splits, saved: Position | None) -> dict:
    """Go through the phases, from the saved position on, then evaluate."""
    settings, info = run.settings, splits.info
    options = recipes.own_choices(as_dict(settings))
    say(run.console, report.headline(settings, splits, run.recipe, options))
    for note in recipes.notes(settings):
        say(run.console, f"Note: {note}")
    state, seconds = None, saved.seconds if saved else 0.0
    for one in (*run.set_aside, *changes(run.surroundings)):
        say(run.console, f"Note: {one}")
    evaluated = splits.evaluated()
    held_out = next(iter(evaluated))  # "validation" if there is one, else "test"
    for phase_number in range(saved.phase if saved else 0, len(run.recipe)):
        compiled = _compiled(run, splits, phase_number)
        evaluate = evaluator(
            compiled.many.method,
            compiled.mesh,
            settings.eval_batch_size,
            info.class_counts,
            settings.combine,
        )
        evaluation = Evaluation(held_out, evaluated[held_out], evaluate)
        loop, start = Loop(run, phase_number, compiled, evaluation), 0
        if saved and saved.phase == phase_number:
            like = compiled.initial(info.example)
            state, start = run.checkpoints.restore(like=like), saved.step
            say(run.console, f"Resuming from {loop.at(start)} in {run.folder}.")
        else:
            state = compiled.begin(info.example, state and state.variables)
            if phase_number:  # so that `begin` is not repeated on resume
                loop.save(state, 0, seconds)
        state, seconds = loop.train(state, start, seconds)
    result = loop.final(state, evaluated, seconds)
    said = _keep(run, evaluated, result)
    rates = [event["images_per_second"] for event in run.log.read() if "images_per_second" in event]
    counted = recipes.recipe_of(cost.countable(settings), info)
    found = report.describe(
        settings, splits, counted, result, seconds, rates, options, run.set_aside
    )
    return found | {"surroundings": run.surroundings, "predictions": said}


def _keep(run: Run, evaluated: Mapping[str, Images], results: Mapping[str, dict]) -> dict | None:
    """Write what each expert says of each image; returns what the report says of the file."""
    outputs = {name: result.pop("outputs") for name, result in results.items()}
    if run.settings.predictions == "none":
        return None
    found = {
        name: Predictions(
            label=evaluated[name].label, experts=results[name]["expert_numbers"], **of
        )
        for name, of in outputs.items()
    }
    arrays, said = packed(found, run.settings.predictions)
    run_folder.save_arrays(run.folder / PREDICTIONS, arrays)
    return said


def _compiled(run: Run, splits: datasets.Splits, number: int) -> Compiled:
    """Phase `number`; images of the test split come without their labels."""
    phase, settings = run.recipe[number], run.settings
    images = getattr(splits, phase.source)
    return Compiled(
        phase,
        images.unlabelled() if phase.source == "test" else images,
        settings.compute,
        seed=settings.seed,
        number=number,
        expert_devices=settings.mesh.expert,
        feed_kind=settings.data.feed,
    )
