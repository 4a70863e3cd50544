"""Fine-tuning after mixing: a short last phase on images as they are.

Zhang et al. (Bag of Tricks), AAAI 2021, section 3.4, who find that it helps after input mixup.
"""

import dataclasses

from ltjax import phases
from ltjax.choices import within
from ltjax.methods.classifier import method_for


def recipe(
    settings, info, *, epochs: float = 20.0, lr: float = 0.001, sampler: str = "class_balanced"
) -> tuple[phases.Phase, ...]:
    """The classifier of the config, then without mixing, on balanced batches, at a small rate.

    Args:
      settings: of phase one.
      info: of the training set.
      epochs: of phase two, 20 in the authors' code.
      lr: its learning rate, a tenth from 40 % and again from 80 % on.
      sampler: its sampler, one that has no options.
    """
    within("config.method.epochs", epochs, above=0)
    within("config.method.lr", lr, above=0)
    tuning = dataclasses.replace(
        settings,
        num_epochs=epochs,
        sampler={"name": sampler},
        mixing={"name": "none"},
        # of 20 epochs counted from 1, from the 8th and from the 16th on
        schedule=dict(name="step", lr=lr, drop_at=(7 / 20, 15 / 20), drop_by=0.1),
    )
    first, second = (
        phases.phase(each, info, method_for(each, info), settings.num_experts, name, begin)
        for each, name, begin in (
            (settings, "train", phases.fresh),
            (tuning, "finetune", phases.go_on),
        )
    )
    return first, second
