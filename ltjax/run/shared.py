"""What all phases of a run share."""

import pathlib
from typing import NamedTuple

from rich.console import Console

from ltjax.config.settings import Settings
from ltjax.data.info import DataInfo
from ltjax.phases import Phase
from ltjax.run.folder import Log
from ltjax.run.saving import Checkpoints


class SetAside(NamedTuple):
    """An expert that is no longer finite, and that the others go on without."""

    expert: int  # from 1
    what: str  # as ltjax.run.divergence.NotFinite says it
    step: int  # of the phase
    phase: str  # its name

    def __str__(self) -> str:
        return (
            f"Expert {self.expert} is set aside: its {self.what} is no longer finite at step "
            f"{self.step:,} of {self.phase}."
        )


class Run(NamedTuple):
    """The parts of one run."""

    settings: Settings
    info: DataInfo
    recipe: tuple[Phase, ...]
    folder: pathlib.Path
    checkpoints: Checkpoints
    log: Log
    console: Console
    set_aside: list[SetAside]  # by the checkpoint that the run began with; grows
    surroundings: list[dict[str, str]]  # of what was trained so far, the present ones last

    def aside(self) -> tuple[int, ...]:
        """The experts that are set aside, from 1."""
        return tuple(sorted(one.expert for one in self.set_aside))
