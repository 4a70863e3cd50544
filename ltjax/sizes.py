"""How large a run may be: products of fields, each of which is within its own limits.

They are far above what the largest machines train and below what no machine does: beyond them a
program is never compiled, or an array never fits.
"""

import numpy as np

from ltjax.config.settings import Settings
from ltjax.errors import FieldError, UserError
from ltjax.phases import Phase

MOST_NETWORKS = 1000  # of a phase, each head of an expert counted as one
MOST_BYTES = 2**32  # of the images that all experts read in a call of the compiled program
MOST_STEPS = 20_000_000  # of a phase; the compiled step holds a number for each


def check_heads(settings: Settings, num_heads: int) -> None:
    """Refuse experts that have too many heads together.

    Args:
      settings: of the run.
      num_heads: of one expert.

    Raises:
      FieldError: naming the number of experts.
    """
    most = MOST_NETWORKS // num_heads
    if settings.num_experts > most:
        why = f"it must be at most {most} where each has {num_heads} heads"
        raise FieldError("num_experts", settings.num_experts, why)


def check_steps(phase: str, num_steps: int) -> None:
    """Refuse a phase of more steps than the compiled program can count.

    Args:
      phase: its name.
      num_steps: of it.

    Raises:
      UserError: naming the fields that decide their number.
    """
    if num_steps > MOST_STEPS:
        raise UserError(
            f"Phase {phase!r} would have {num_steps:,} steps; it must have at most {MOST_STEPS:,}. "
            f"Lower config.num_epochs, or the option of config.method that says how long this "
            f"phase is, or raise config.batch_size."
        )


def check_phase(phase: Phase, settings: Settings, image_shape: tuple[int, ...]) -> None:
    """Refuse a phase of too many experts, or of too many images in a call.

    Args:
      phase: of a recipe.
      settings: of the run.
      image_shape: (H, W, channels).

    Raises:
      FieldError: naming the field to lower.
    """
    if phase.num_experts > MOST_NETWORKS:
        most = MOST_NETWORKS * settings.num_experts // phase.num_experts
        why = f"it must be at most {most}: phase {phase.name!r} has {phase.num_experts:,} networks"
        raise FieldError("num_experts", settings.num_experts, why)
    a_step = phase.num_experts * phase.batch_size * int(np.prod(image_shape))
    if a_step > MOST_BYTES:
        most = max(1, settings.batch_size * MOST_BYTES // a_step)
        why = (
            f"it must be at most {most:,} for {settings.num_experts} experts, or num_experts lower"
        )
        raise FieldError("batch_size", settings.batch_size, why)
    steps = settings.compute.steps_per_call
    if steps * a_step > MOST_BYTES:
        why = f"it must be at most {MOST_BYTES // a_step:,} for as many images in a step"
        raise FieldError("compute.steps_per_call", steps, why)
