"""Fine-tuning after mixing: a short last phase on unmixed images.

Zhang et al. (Bag of Tricks), AAAI 2021, section 3.4, who find that it helps after input mixup.
"""

import dataclasses
import functools
from typing import Annotated

from ltjax import build, optim, phases
from ltjax.data import sampling
from ltjax.limits import above, at_most, one_of
from ltjax.methods.classifier import method_for

# Of a later phase: the samplers that Kang et al. (Decoupling), ICLR 2020, compare.
RESAMPLERS = {
    "instance_balanced": sampling.instance_balanced,
    "class_balanced": sampling.class_balanced,
    "square_root": sampling.square_root,
    "progressively_balanced": sampling.progressively_balanced,
}


def recipe(
    settings,
    info,
    *,
    extra_share: Annotated[float, above(0), at_most(100)] = 0.05,
    lr: Annotated[float, above(0), at_most(1_000_000)] = 0.001,
    sampler: Annotated[str, one_of(*RESAMPLERS)] = "class_balanced",
) -> tuple[phases.Phase, ...]:
    """Fine-tuning: the classifier of the config, then without mixing, balanced, at a small rate.

    Zhang et al. (Bag of Tricks), AAAI 2021.

    Args:
      settings: of phase one.
      info: of the training set.
      extra_share: epochs of phase two, as a share of config.num_epochs and on top of these; 0.05 is
        the 20 after 400 of the authors' code.
      lr: its learning rate, a tenth from the 8th and again from the 16th of 20 epochs on.
      sampler: its sampler, one of RESAMPLERS.
    """
    first = build.phase(settings, info, method_for(settings, info))
    return first, tuned(settings, info, extra_share, lr, sampler)


def tuned(
    settings, info, extra_share: float, lr: float, sampler: str = "class_balanced"
) -> phases.Phase:
    """The last phase, which continues the phase before it."""
    tuning = dataclasses.replace(
        settings,
        **settled(settings),
        num_epochs=extra_share * settings.num_epochs,
    )
    # of 20 epochs counted from 1, from the 8th and from the 16th on
    schedule = functools.partial(optim.step, lr=lr, drop_at=(7 / 20, 15 / 20), drop_by=0.1)
    return build.phase(
        tuning,
        info,
        method_for(tuning, info, mixed=False),
        name="tune",
        begin=phases.start_from("backbone", "head"),
        sampler=RESAMPLERS[sampler],
        schedule=schedule,
    )


def settled(settings) -> dict:
    """The loss and re-weighting at the end of phase one, for a phase that continues it."""
    return {
        "loss": {**settings.loss, "start": 0.0},
        "reweight": {**settings.reweight, "start": 0.0},
    }
