"""A config's settings and phases: checks names, and fills in the fields that its method sets."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ltjax.augmentation.augments import AUGMENTS
from ltjax.config.choices import choose, choose_with_start, pick
from ltjax.config.settings import (
    METHOD_GROUPS,
    Data,
    Settings,
    as_dict,
    differences,
    plain_dict,
    settings_from,
)
from ltjax.data.datasets import DATASETS
from ltjax.data.info import DataInfo
from ltjax.data.sampling import SAMPLERS
from ltjax.errors import FieldError, UserError, shown
from ltjax.losses.classification import LOSSES
from ltjax.losses.mixing import MIXINGS
from ltjax.losses.reweighting import REWEIGHTINGS
from ltjax.mesh import check_batch, mesh_for
from ltjax.methods import METHODS, Row
from ltjax.methods.parts.sharing import sharing
from ltjax.models import NETWORKS
from ltjax.optim import SCHEDULES
from ltjax.phases import Phase, draws
from ltjax.run.divergence import why_not_aside
from ltjax.sizes import check_phase

TABLES = {
    "method": METHODS,  # rows are ltjax.methods.Row; of the others, functions
    "network": NETWORKS,
    "schedule": SCHEDULES,
    "augment": AUGMENTS,
    "sampler": SAMPLERS,
    "loss": LOSSES,
    "reweight": REWEIGHTINGS,
    "mixing": MIXINGS,
}
DEFERRABLE = ("sampler", "loss", "reweight")  # these may start late in a phase


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The settings of a config, as far as they can be checked without its data.

    Args:
      config: an ml_collections.ConfigDict or any mapping with the fields of ltjax.config.settings.

    Raises:
      UserError: for a wrong type or value, an unknown name, a missing or unknown option.
    """
    plain = plain_dict(config)
    if not isinstance(plain, Mapping):
        raise UserError(f"The config is {shown(config)}; it must be an ml_collections.ConfigDict.")
    settings = settings_from(filled(plain))
    for field in TABLES:
        chosen = choose_with_start if field in DEFERRABLE else choose
        chosen(functions_of(field), field, **getattr(settings, field))
    pick(DATASETS, settings.data.name, "data.name")
    return settings


def functions_of(field: str) -> dict[str, Callable]:
    """{name: function} of a table, of methods their recipes."""
    rows = TABLES[field].items()
    return {name: getattr(row, "recipe", row) for name, row in rows}


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the fields that its method sets (ltjax.methods).

    Args:
      config: plain nested dicts; what else is in them, settings_from refuses.

    Raises:
      UserError: if the config names another choice than the method does.
    """
    name, data = _name(config, "method"), _name(config, "data") or Data.name
    if name not in METHODS:
        return dict(config)
    row, found = METHODS[name], dict(config)
    if not isinstance(row, Row):
        raise UserError(f"METHODS[{name!r}] is {shown(row)}; it must be a ltjax.methods.Row.")
    here = row.on.get(data, {})
    for field in row.config | here:
        group = {**row.config.get(field, {}), **here.get(field, {})}
        given = {} if config.get(field) is None else config[field]
        if not isinstance(given, Mapping):
            continue
        sets = group.get("name")
        if sets and given.get("name", sets) != sets:
            if field in row.may_change:
                continue
            raise UserError(
                f"method {name!r} sets config.{field}.name={sets!r}, but the config says "
                f"{given['name']!r}. Remove one; method 'classifier' accepts any {field}."
            )
        found[field] = {**group, **given}
    return found


def own_choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of a config beyond those that its method sets, {field: value}.

    Args:
      config: plain nested dicts, as `as_dict` gives them. Looked at are METHOD_GROUPS, the options
        of the network, and what experts share.
    """
    named = {group: {"name": config[group]["name"]} for group in ("method", "data")}
    plain, groups = as_dict(settings_from(filled(named))), (*METHOD_GROUPS, "network", "share")
    found = differences(*({group: one.get(group) for group in groups} for one in (plain, config)))
    found.pop("network.name", None)
    return {field: value for field, (_, value) in found.items() if value is not None}


def recipe_of(settings: Settings, info: DataInfo) -> tuple[Phase, ...]:
    """The phases of a run. Only numbers and names of the data are read, no image and no label.

    Raises:
      UserError: if the method refuses the settings.
    """
    phases = _phases(settings, info)
    for phase in phases:
        check_phase(phase, settings, info.image_shape)
        _check_aside(phase, settings)
    return tuple(sharing(phase, settings.share) for phase in phases)


def checked(config: Mapping[str, Any]) -> Settings:
    """The settings of a config, checked as far as can be without its data.

    Its recipe is made for data of no config: so many small classes, and so few steps, that nothing
    can be wrong with these.

    Raises:
      UserError: as `settings_of`, or if the method refuses the settings.
    """
    settings = settings_of(config)
    num_classes = 10_000
    size = -(-settings.batch_size // num_classes)
    info = DataInfo(
        name=settings.data.name,
        class_names=tuple(map(str, range(num_classes))),
        class_counts=np.full(num_classes, size),
        image_shape=(32, 32, 3),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        pad=0,
        flip=False,
        num_validation=num_classes if settings.data.validation else 0,
        num_test=num_classes,
    )
    unchanged = dataclasses.replace(settings, augment={"name": "none"})  # needs the images' size
    for phase in _phases(unchanged, info):
        _check_aside(phase, settings)
        sharing(phase, settings.share)
    return settings


def _phases(settings, info):
    phases = choose(functions_of("method"), "method", **settings.method)(settings, info)
    listed = isinstance(phases, tuple | list) and not isinstance(phases, Phase) and phases
    if not listed or not all(isinstance(phase, Phase) for phase in phases):
        name = settings.method["name"]
        raise UserError(
            f"The recipe of METHODS[{name!r}] must return a tuple of ltjax.phases.Phase."
        )
    return tuple(phases)


def _check_aside(phase: Phase, settings: Settings) -> None:
    why = why_not_aside(phase, settings)
    if settings.on_divergence == "set_aside" and why:
        raise FieldError("on_divergence", "set_aside", why, use="stop")


def check_devices(recipe: tuple[Phase, ...], settings: Settings, info: DataInfo) -> None:
    """Refuse a recipe that the available devices cannot share.

    Raises:
      UserError: naming the field to change.
    """
    labels = np.repeat(np.arange(info.num_classes), info.class_counts)
    for phase in recipe:
        mesh = mesh_for(phase.num_experts, expert=settings.mesh.expert)
        for draw in draws(phase, labels).values():
            check_batch(mesh, settings.batch_size, len(draw((0, 0, 0), 0)))


def notes(settings: Settings) -> list[str]:
    """Notes on settings that are allowed but unusual."""
    warmup = settings.schedule.get("warmup_epochs") or 0
    if warmup <= settings.num_epochs:
        return []
    return [
        f"the warm-up (config.schedule.warmup_epochs is {warmup}) is longer than the run "
        f"(config.num_epochs is {settings.num_epochs:g})."
    ]


def _name(config, field):
    group = config.get(field)
    name = group.get("name") if isinstance(group, Mapping) else None
    return name if isinstance(name, str) else None  # settings_from refuses any other value
