"""A config's settings and phases: names checked, what its method stands for filled in."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax.augmentation.augments import AUGMENTS
from ltjax.config.choices import choose, choose_with_start, pick
from ltjax.config.settings import Settings, settings_from
from ltjax.data.datasets import DATASETS
from ltjax.data.info import DataInfo
from ltjax.data.sampling import SAMPLERS
from ltjax.losses.classification import LOSSES
from ltjax.losses.mixing import MIXINGS
from ltjax.losses.reweighting import REWEIGHTINGS
from ltjax.mesh import check_batch, mesh_for
from ltjax.methods import METHODS
from ltjax.methods.parts.sharing import sharing
from ltjax.models import NETWORKS
from ltjax.optim import SCHEDULES
from ltjax.phases import Phase, draws

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
DEFERRABLE = ("sampler", "loss", "reweight")  # those that may start late in a phase


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The settings of a config, as far as they can be checked without its data.

    Args:
      config: an ml_collections.ConfigDict or any mapping with the fields of ltjax.config.settings.

    Raises:
      UserError: for a wrong type or value, an unknown name, a missing or unknown option.
    """
    settings = settings_from(config)
    for field, table in TABLES.items():
        chosen = choose_with_start if field in DEFERRABLE else choose
        chosen(table, field, **getattr(settings, field))
    pick(DATASETS, settings.data.name, "data.name")
    return settings


def recipe_of(settings: Settings, info: DataInfo) -> tuple[Phase, ...]:
    """The phases of a run. Only numbers and names of the data are read, no image and no label.

    Raises:
      UserError: for what the method refuses.
    """
    phases = choose(METHODS, "method", **settings.method)(settings, info)
    return tuple(sharing(phase, settings.share) for phase in phases)


def check_devices(recipe: tuple[Phase, ...], settings: Settings, info: DataInfo) -> None:
    """Refuse a recipe that the devices at hand cannot share.

    Raises:
      UserError: naming the field to change.
    """
    labels = np.repeat(np.arange(info.num_classes), info.class_counts)
    for phase in recipe:
        mesh = mesh_for(phase.num_experts, expert=settings.mesh.expert)
        for draw in draws(phase, labels).values():
            check_batch(mesh, settings.batch_size, len(draw((0, 0, 0), 0)))


def notes(settings: Settings) -> list[str]:
    """What may be meant, but is unusual."""
    warmup = settings.schedule.get("warmup_epochs") or 0
    if warmup <= settings.num_epochs:
        return []
    return [
        f"the warm-up (config.schedule.warmup_epochs is {warmup}) is longer than the run "
        f"(config.num_epochs is {settings.num_epochs:g})."
    ]
