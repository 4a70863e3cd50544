"""A run from its config to its report: settings, data, recipe, phases, evaluation."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ltjax import kernels
from ltjax.augmentation.augments import AUGMENTS
from ltjax.config.choices import choose, choose_with_start, pick
from ltjax.config.settings import Settings, as_dict, settings_from
from ltjax.data import datasets
from ltjax.data.sampling import SAMPLERS
from ltjax.losses.classification import LOSSES
from ltjax.losses.mixing import MIXINGS
from ltjax.losses.reweighting import REWEIGHTINGS
from ltjax.mesh import check_batch, mesh_for, process_zero_first
from ltjax.methods import METHODS
from ltjax.methods.parts.sharing import sharing
from ltjax.models import NETWORKS, cost
from ltjax.optim import SCHEDULES
from ltjax.phases import Info, Phase
from ltjax.report import summary as report
from ltjax.report import tables
from ltjax.run import folder as rundir
from ltjax.run.checkpoint import Checkpoints, Position
from ltjax.run.console import own_console, say
from ltjax.run.files import REPORT, load_report
from ltjax.run.loop import Loop, Run, number
from ltjax.runtime import use_cache

TABLES = {
    "method": METHODS,
    "network": NETWORKS,
    "schedule": SCHEDULES,
    "augment": AUGMENTS,
    "sampler": SAMPLERS,
    "loss": LOSSES,
    "reweight": REWEIGHTINGS,
    "mixing": MIXINGS,
}
DEFERRABLE = ("sampler", "loss", "reweight")  # those that may do so late in a phase


def run(
    config: Mapping[str, Any],
    workdir: str | None = None,
    brief: bool = False,
    splits: datasets.Splits | None = None,
) -> dict:
    """Train what a config says, or go on with it, and evaluate the last state.

    Args:
      config: an ml_collections.ConfigDict or any mapping with the fields of ltjax.config.settings.
      workdir: the folder of the run; made if it is not there, gone on with if it is. By default
        one under runs/ that belongs to the config.
      brief: of a run that is complete already, say a line and not its tables.
      splits: its data, ready; by default what config.data says is prepared and read.

    Compiled programs are kept in the user's cache folder, which sets options of JAX for the whole
    process, unless config.compute.cache is False (ltjax.runtime).

    Returns:
      The report, as report.json in the folder has it; see ltjax.report.summary.describe.

    Raises:
      UserError: for whatever the user can mend.
      Stopped: on Ctrl-C or SIGTERM, after saving (ltjax.run.loop).
      Diverged: if the loss is no longer finite (ltjax.run.loop).
    """
    settings = checked(config)
    kernels.target()  # a wrong LTJAX_KERNELS, too, is said before anything is made
    folder = (
        pathlib.Path(workdir)
        if workdir
        else rundir.default(as_dict(settings), settings.method["name"])
    )
    console = own_console()
    if settings.compute.cache:
        use_cache()

    complete = (folder / REPORT).exists()
    if not complete:  # what is wrong with the data or the recipe is said before a folder is made
        splits = splits or read(settings, console)
        info = info_of(splits)
        recipe = recipe_of(settings, info)
    with contextlib.ExitStack() as holding:
        process_zero_first(lambda: holding.enter_context(rundir.claimed(folder, settings)))
        if complete:
            result = load_report(folder / REPORT)
            if brief:
                say(console, f"complete: {report.one_line('test', result['splits']['test'])}")
                return result
            say(console, f"This run is complete: {folder}. Give another --workdir to train anew.")
        else:
            checkpoints = holding.enter_context(Checkpoints(folder))
            saved = checkpoints.position()
            reached = number(recipe, saved.phase, saved.step) if saved else 0
            log = holding.enter_context(rundir.Log(folder, reached))
            this = Run(settings, splits, info, recipe, folder, checkpoints, log, console)
            result = _train(this, saved)
            rundir.write(folder / "report.md", tables.markdown(result))
            rundir.save_json(folder / REPORT, result)
    console.print(tables.for_console(result))
    say(console, f"Report: {folder / 'report.md'}")
    return result


def checked(config: Mapping[str, Any]) -> Settings:
    """The settings of a config, as far as they can be checked without its data.

    Raises:
      UserError: for a wrong type or value, an unknown name, an option that is missing or unknown.
    """
    settings = settings_from(config)
    for field, table in TABLES.items():
        (choose_with_start if field in DEFERRABLE else choose)(
            table, field, **getattr(settings, field)
        )
    pick(datasets.DATASETS, settings.data.name, "config.data.name")
    return settings


def _train(this: Run, saved: Position | None) -> dict:
    """Go through the phases, from the saved position on, then evaluate."""
    say(this.console, report.headline(this.settings, this.splits, this.recipe))
    for note in notes(this.settings):
        say(this.console, f"Note: {note}")
    state, seconds = None, saved.seconds if saved else 0.0
    for phase_number in range(saved.phase if saved else 0, len(this.recipe)):
        loop, start = Loop(this, phase_number), 0
        if saved and saved.phase == phase_number:
            state, start = this.checkpoints.restore(like=loop.initial()), saved.step
            say(this.console, f"Going on from {loop.at(start)} in {this.folder}.")
        else:
            state = loop.begin(state and state.variables)
            if phase_number:  # what begin did need not be done again
                loop.save(state, 0, seconds)
        state, seconds = loop.train(state, start, seconds)
    rates = [
        event["images_per_second"] for event in this.log.read() if "images_per_second" in event
    ]
    counted, result = recipe_of(cost.countable(this.settings), this.info), loop.evaluate(state)
    return report.describe(this.settings, this.splits, counted, result, seconds, rates)


def notes(settings: Settings) -> list[str]:
    """What may be meant, but is unusual."""
    warmup = settings.schedule.get("warmup_epochs") or 0
    if warmup <= settings.num_epochs:
        return []
    return [
        f"the warm-up (config.schedule.warmup_epochs is {warmup}) is longer than the run "
        f"(config.num_epochs is {settings.num_epochs:g})."
    ]


def read(settings: Settings, console: Console) -> datasets.Splits:
    """The data of a run, prepared first where that can be done."""
    process_zero_first(
        lambda: datasets.prepare(settings.data, tell=lambda text: say(console, text))
    )
    return datasets.load(settings.data)


def info_of(splits: datasets.Splits) -> Info:
    """What recipes may know of the data."""
    return Info(
        splits.dataset,
        splits.train.image.shape[1:],
        splits.train.label,
        splits.class_counts,
        num_validation=len(splits.validation.label) if splits.validation else 0,
        num_test=len(splits.test.label),
    )


def recipe_of(settings: Settings, info: Info) -> tuple[Phase, ...]:
    """The phases of a run, checked against the devices at hand.

    Raises:
      UserError: for what the method refuses.
    """
    phases = choose(METHODS, "method", **settings.method)(settings, info)
    for phase in phases:
        mesh = mesh_for(phase.num_experts, expert=settings.mesh.expert)
        for draw in (phase.draw, *phase.streams.values()):
            check_batch(mesh, settings.batch_size, len(draw((0, 0, 0), 0)))
    return tuple(sharing(phase, settings.share) for phase in phases)
