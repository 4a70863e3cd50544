"""LFME's student: a network of all classes that learns from labels and from teachers of parts.

Xiang et al., ECCV 2020; the whole method is `ltjax.methods.lfme`, its formulas are in `lessons.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import phases
from ltjax.experts import over_experts
from ltjax.learner import LossOutput, Method, Variables, unchanged
from ltjax.methods.classifier import logits_with, predict_with
from ltjax.methods.lfme import lessons
from ltjax.methods.parts.passes import added
from ltjax.models import Network
from ltjax.models.parts import pooled

PARTS = ("many", "medium", "few")  # of the classes, each with its teacher


def taught_by(parts: np.ndarray, class_counts, held_out: bool) -> phases.Begin:
    """Let students begin with the teachers of earlier phases and their recorded outputs.

    Args:
      parts: bool[L, C].
      class_counts: i64[C].
      held_out: whether the teachers' accuracy was counted on a held-out split.
    """
    teacher_of = parts.argmax(0)  # [C]
    num_classes = parts.shape[1]
    min_weights = lessons.min_weights(class_counts, parts)  # [C]

    def begin(state, previous):
        def by_student(x):
            return x.reshape(-1, len(parts), *x.shape[1:])  # [E L, ...] -> [E, L, ...]

        params, stats, judged = jax.tree.map(by_student, previous)
        label = judged["label"][:, 0]  # [E, N], the same for all
        own_teacher = jnp.asarray(teacher_of)[label][:, None]  # [E, 1, N]
        confidence = jnp.take_along_axis(judged["confidence"], own_teacher, axis=1)[:, 0]  # [E, N]
        start = jax.vmap(
            lambda own, label: lessons.curriculum_start(
                own, label, jnp.asarray(min_weights)[label], num_classes
            )
        )(confidence, label)
        memory = state.variables.memory | {"teachers": Variables(params, stats), "start": start}
        if held_out:
            classes = np.arange(num_classes)
            right, seen = (judged[name][:, teacher_of, classes] for name in ("right", "seen"))
            before = memory["accuracy"]
            found = lessons.part_accuracy(right, seen, parts, before[:, 1])
            memory["accuracy"] = before.at[:, 1].set(found)
        return state._replace(variables=state.variables._replace(memory=memory))

    return begin


def student(
    network: Network,
    lesson: Callable,
    parts: np.ndarray,
    num_images: int,
    epochs: tuple[float, int],
    alpha: float,
    held_out: bool,
    over: str,
) -> Method:
    """A network that learns from labels and teachers.

    The weight of a teacher depends on two accuracies on its part, which the authors measure on
    their validation set after each epoch. With a held-out split they are measured there, at each
    evaluation. Without one, both are counted on the training batches of each epoch, in which
    classes are equally frequent: the student's among all classes, the teacher's on the same images.

    Args:
      network: of student and teachers.
      lesson: as lessons.lesson makes it.
      parts: bool[L, C].
      num_images: N, of the training set; an epoch of counting is that many.
      epochs: of the phase, and steps in one.
      alpha: as in lessons.teacher_weight.
      held_out: whether accuracies are measured on a held-out split.
      over: how the teachers are compiled; see ltjax.experts.over_experts.
    """
    num_parts, num_classes = parts.shape
    teacher_of = jnp.asarray(parts.argmax(0))

    say = logits_with(network)

    def init(key, batch):
        params, stats = network.init(key, batch["image"])
        each = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_parts, *x.shape)), (params, stats))
        memory = {
            "teachers": Variables(*each),
            "start": jnp.ones(num_images),
            # of the student, of the teachers; before anything is counted, teachers are better
            "accuracy": jnp.repeat(jnp.array([[0.0], [1.0]]), num_parts, axis=1),
        }
        if not held_out:
            memory |= {"right": jnp.zeros((2, num_classes)), "seen": jnp.zeros(num_classes)}
        return Variables(params, stats, memory)

    def loss(variables, batch, key, progress):
        image, label, memory = batch["image"], batch["label"], variables.memory
        maps, stats = network.maps(variables, image, train=True)
        logits = network.head(variables, pooled(maps))
        teachers = over_experts(lambda own: say(own, batch), over)(memory["teachers"])
        epoch = phases.epoch_of(progress, *epochs) + 1
        curriculum_weight = lessons.curriculum(
            memory["start"][batch["index"]], epoch, epochs[0]
        )  # [B]
        teacher_weights = lessons.teacher_weight(*memory["accuracy"], alpha)  # [L]
        values, weights = lesson(
            logits, label, curriculum_weight, teachers, teacher_weights, key, progress
        )

        right = (logits.argmax(-1) == label).astype(values.dtype)
        if not held_out:
            own_teacher = teachers[teacher_of[label], jnp.arange(len(label))]  # [B, C]
            knows = lessons.restricted(own_teacher, label, parts).argmax(-1) == label
            memory = _counted(memory, jnp.stack([right, knows]), label)
        metrics = {"accuracy": right, "curriculum": curriculum_weight}
        metrics |= {f"teacher_{part}": w for part, w in zip(PARTS, teacher_weights, strict=True)}
        return LossOutput(values, weights, stats, memory, metrics)

    def _counted(memory, right, label):
        own = jax.nn.one_hot(label, num_classes, dtype=right.dtype)
        memory = added(memory, {"right": right @ own, "seen": own.sum(0)})
        is_whole = memory["seen"].sum() >= num_images
        now = lessons.part_accuracy(memory["right"], memory["seen"], parts, memory["accuracy"])
        return memory | {
            "accuracy": jnp.where(is_whole, now, memory["accuracy"]),
            "right": jnp.where(is_whole, 0, memory["right"]),
            "seen": jnp.where(is_whole, 0, memory["seen"]),
        }

    def after_eval(memory, evaluation):
        per_class = evaluation["own"]["per_class"]  # None: no image of the class
        seen = np.array([accuracy is not None for accuracy in per_class], np.float32)
        right = np.array([accuracy or 0 for accuracy in per_class], np.float32)
        of_student, of_teachers = memory["accuracy"]
        now = lessons.part_accuracy(right, seen, parts, of_student)
        return memory | {"accuracy": jnp.stack([now, of_teachers])}

    return Method(init, loss, predict_with(network), after_eval if held_out else unchanged)
