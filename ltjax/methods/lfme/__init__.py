"""Learning from multiple experts: teachers of parts of the classes teach a student of all.

Xiang, Ding and Han, "Learning From Multiple Experts: Self-paced Knowledge Distillation for
Long-tailed Classification", ECCV 2020. Three networks are trained on classes of neighbouring size
each, where the tail is flat (ltjax.data.splits.subsets). A student of all classes then learns from
its labels and, within each part, from the teacher of that part, as long as the teacher is better.
Images that the teachers find easy have more weight at first.

The paper's experts are called teachers here: an expert of ltjax is a student, and has three
teachers of its own, 3 e, 3 e + 1 and 3 e + 2, so that experts share nothing. Every network has an
output for each class; classes that a teacher never sees are left out of its softmax,
which makes it a head on its own classes.
"""

import dataclasses
import functools
from typing import Annotated

import jax.numpy as jnp
import numpy as np

from ltjax import build, optim, phases
from ltjax.config.requires import requires_defaults
from ltjax.data import sampling, splits
from ltjax.errors import FieldError
from ltjax.experts import best_over
from ltjax.learner import LossOutput, Method, Variables
from ltjax.limits import above, at_least, at_most, below, one_of
from ltjax.losses.classification import nll
from ltjax.methods.classifier import classifier, predict_with
from ltjax.methods.lfme import lessons
from ltjax.methods.lfme.student import student, taught_by
from ltjax.methods.parts import requirements as needs
from ltjax.methods.parts.features import logits_of
from ltjax.methods.parts.passes import added, one_hot_if_any, written
from ltjax.models import Network


@requires_defaults("mixing", because="gives every image a weight and teachers of its own")
def recipe(
    settings,
    info,
    *,
    extra_share: Annotated[float, above(0), at_most(100)] = 0.6,
    alpha: Annotated[float, at_least(0), below(1)] = 0.3,
    temperature: Annotated[float, above(0), at_most(1_000_000)] = 2.0,
    curriculum_on: Annotated[str, one_of("logits", "loss")] = "logits",
) -> tuple[phases.Phase, ...]:
    """Teachers of many, medium and few, who teach a student of all classes.

    Xiang et al. (LFME), ECCV 2020. All phases have the config's network, batch size and optimiser.
    Teachers learn by cross-entropy and the config's sampler, each on its own classes; the student
    by the config's loss, re-weighting and schedule, and always by class-aware sampling.

    Args:
      settings: of the student.
      info: of the training set.
      extra_share: epochs of a teacher, as a share of config.num_epochs, on top of these; 0.6 is 120
        on top of 200. Their rate falls from config.schedule.lr by half a cosine, without warm-up.
      alpha: a teacher has weight 1 until the student has this share of its accuracy.
      temperature: T of the teachers' softmax.
      curriculum_on: "logits", as in the authors' code, or "loss", as in the paper (lessons.lesson).
    """
    _check(settings, info, extra_share)
    network, parts = build.network(settings, info), splits.subsets(info.class_counts)
    held_out, size = info.num_validation > 0, info.num_train

    teaching = dataclasses.replace(
        settings,
        num_experts=len(parts) * settings.num_experts,
        num_epochs=extra_share * settings.num_epochs,
    )
    teacher = classifier(network, lessons.among_own_part(parts))
    first = build.phase(
        teaching,
        info,
        teacher,
        name="teachers",
        sampler=of_own_part(build.sampler_of(settings), parts),
        schedule=functools.partial(optim.cosine, lr=settings.schedule["lr"]),
        skip_evaluation=True,  # each knows its own part only
    )
    judged = judging(network, parts, size, held_out=False)
    passes = [build.passes(teaching, info, judged, "confidence")]
    if held_out:
        judged = judging(network, parts, size, held_out=True)
        begin, source = phases.start_from_all, "validation"
        passes.append(build.passes(teaching, info, judged, "accuracy", begin=begin, source=source))

    objective = build.objective(settings, info.class_counts)
    lesson = lessons.lesson(objective, parts, temperature, curriculum_on)
    over = best_over(settings.compute)
    epochs = settings.num_epochs, phases.steps_per_epoch(size, settings)
    taught = student(network, lesson, parts, size, epochs, alpha, held_out, over)
    last = build.phase(
        settings,
        info,
        taught,
        name="student",
        begin=taught_by(parts, info.class_counts, held_out),
        sampler=sampling.class_aware,
    )
    return first, *passes, last


def of_own_part(sampler: build.Sampling, parts: np.ndarray) -> build.Sampling:
    """A sampler on the images of a part for each teacher; all take as many steps."""

    def draw(labels, batch_size, num_steps):
        def within_part(part):
            rows = np.flatnonzero(part[labels])
            _, renumbered = np.unique(labels[rows], return_inverse=True)
            return sampling.among(rows, sampler(renumbered, batch_size, num_steps))

        return sampling.of_each_expert([within_part(part) for part in parts])

    return draw


def judging(network: Network, parts: np.ndarray, num_images: int, held_out: bool) -> Method:
    """Records the teachers' outputs on images of their parts; other entries are never read.

    Args:
      network: of the teachers.
      parts: bool[L, C].
      num_images: N, of the training set.
      held_out: count correct images, f32[C], on the held-out split; else record for each training
        image the probability of its class, f32[N], and the class, i32[N].
    """
    num_classes = parts.shape[1]

    def init(key, batch):
        zeros = {"confidence": num_images, "right": num_classes, "seen": num_classes}
        memory = {name: jnp.zeros(size) for name, size in zeros.items()}
        memory["label"] = jnp.zeros(num_images, jnp.int32)
        return Variables(*network.init(key, batch["image"]), memory)

    def loss(variables, batch, key, progress):
        del key, progress
        logits, memory = logits_of(network, variables, batch["image"]), variables.memory
        logits = lessons.restricted(logits, batch["label"], parts)
        if held_out:
            own = one_hot_if_any(batch, num_classes)
            right = (logits.argmax(-1) == batch["label"]).astype(own.dtype)
            memory = added(memory, {"right": right @ own, "seen": own.sum(0)})
        else:
            probability = jnp.exp(-nll(logits, batch["label"]))
            memory = memory | {
                "confidence": written(memory["confidence"], batch, probability),
                "label": written(memory["label"], batch, batch["label"]),
            }
        return LossOutput(jnp.zeros(1), jnp.ones(1), variables.stats, memory, {})

    return Method(init, loss, predict_with(network), frozen=("backbone", "head"))


def _check(settings, info, extra_share):
    name = settings.method["name"]
    if info.num_classes < 3:
        why = f"it cuts the classes into 3 parts, and data {settings.data.name!r} has only"
        raise FieldError("method.name", name, f"{why} {info.num_classes}")
    if settings.share.order:
        why = f"the teachers of method {name!r} see images of different classes"
        raise FieldError("share.order", True, why, use=False)
    needs.more_than_an_epoch(settings, "extra_share", extra_share, "the teachers")
    if info.num_validation and not settings.eval_every_epochs:
        why = "eval_every_epochs is 0, and student and teachers are compared on it during training"
        use = {"eval_every_epochs": 1, "data.validation": 0}
        raise FieldError("data.validation", settings.data.validation, why, use)
