"""The formulas of LFME: what a student learns from its teachers, when, and on which images.

Xiang, Ding and Han, "Learning From Multiple Experts: Self-paced Knowledge Distillation for
Long-tailed Classification", ECCV 2020; L = 3 parts of the classes, each with its teacher. The
method is `ltjax.methods.lfme`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.losses.classification import divergence, nll
from ltjax.losses.objective import Objective


def restricted(logits: jax.Array, label: jax.Array, parts: np.ndarray) -> jax.Array:
    """Logits of the classes in the label's part, -inf elsewhere: f32[B, C], i32[B], bool[L, C]."""
    together = parts.T.astype(int) @ parts > 0  # [C, C]
    return jnp.where(jnp.asarray(together)[label], logits, -jnp.inf)


def among_own_part(parts: np.ndarray) -> Objective:
    """Cross-entropy among the classes of the label's part, bool[L, C]; all examples count alike.

    A teacher sees images of one part only, so this is the part that is its own.
    """

    def values_and_weights(logits, label, key, progress):
        del key, progress
        values = nll(restricted(logits, label, parts), label)
        return values, jnp.ones_like(values)

    return values_and_weights


def lesson(
    objective: Objective, parts: np.ndarray, temperature: float, curriculum_on: str
) -> Callable:
    """The student's objective, of its label and its teachers.

    With z~ = v z, v the weight of the example in the curriculum, the value of an example is

        CE(z~, y) + sum_l w_l KL(softmax(t_l / T) || softmax(z~[S_l] / T)),

    where t_l are the logits of teacher l on its classes S_l, also for images of other classes, and
    z~[S_l] those of the student on the same. There is no factor T^2. This is the authors' code
    ("logits"). In the paper v multiplies the cross-entropy instead and leaves the logits alone
    ("loss"); its soft cross-entropy has the gradient of KL.

    Args:
      objective: the config's loss, instead of CE; its weights of examples weigh the sum.
      parts: bool[L, C].
      temperature: T.
      curriculum_on: "logits" or "loss".

    Returns:
      (logits f32[B, C], label i32[B], v f32[B], teachers' logits f32[L, B, C], w f32[L], key,
      progress) -> (values f32[B], weights f32[B]).
    """
    classes = [np.flatnonzero(part) for part in parts]

    def values_and_weights(
        logits, label, curriculum_weight, teachers, teacher_weights, key, progress
    ):
        if curriculum_on == "logits":
            logits = curriculum_weight[:, None] * logits
        values, weights = objective(logits, label, key, progress)
        if curriculum_on == "loss":
            values = curriculum_weight * values
        for own, teacher, weight in zip(classes, teachers, teacher_weights, strict=True):
            said, taught = (of[:, own] / temperature for of in (logits, teacher))
            values += weight * divergence(taught, said)
        return values, weights

    return values_and_weights


def teacher_weight(student: jax.Array, teacher: jax.Array, alpha: float) -> jax.Array:
    """The weight of each teacher, from the accuracies of student and teacher: f32[L].

    Self-paced expert selection: 1 while A < alpha A*, then falling linearly to 0, where the
    student is as good as the teacher. The authors' alpha is 0.3; 1 would divide by zero.
    """
    falling = (teacher - student) / jnp.maximum(teacher * (1 - alpha), 1e-12)
    return jnp.where(student < alpha * teacher, 1, jnp.maximum(falling, 0))


def part_accuracy(right, seen, parts: np.ndarray, otherwise) -> jax.Array:
    """The mean accuracy over the classes of each part, those without images left out.

    Args:
      right: f32[..., C], images that are right.
      seen: f32[..., C], all images.
      parts: bool[L, C].
      otherwise: f32[..., L], the value of a part without any image.
    """
    there = (seen > 0).astype(right.dtype)
    classes = there @ parts.T  # [..., L]
    mean = (right / jnp.maximum(seen, 1)) @ parts.T / jnp.maximum(classes, 1)
    return jnp.where(classes > 0, mean, otherwise)


def min_weights(class_counts: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """tau f64[C]: the mean class size of the smallest part, divided by that of the own part.

    The authors' code has the numbers of ImageNet-LT, 12 / 230, 12 / 53 and 1.
    """
    sizes = np.array([np.mean(np.asarray(class_counts)[part]) for part in parts])
    return (sizes[-1] / sizes)[parts.argmax(0)]


def curriculum_start(confidence, labels, min_weight, num_classes: int) -> jax.Array:
    """The weight of each image at first: its teacher's confidence, within its class from tau to 1.

    If all images of a class are equal, for example a single image, they begin with 1; the authors'
    code divides by zero.

    Args:
      confidence: f32[N], the probability that the teacher of its part gives to its class.
      labels: i64[N].
      min_weight: f64[N], tau.
      num_classes: C.
    """
    low = jax.ops.segment_min(confidence, labels, num_classes)[labels]
    high = jax.ops.segment_max(confidence, labels, num_classes)[labels]
    min_weight = jnp.asarray(min_weight, confidence.dtype)
    share = (confidence - low) / jnp.where(high > low, high - low, 1)
    return jnp.where(high > low, share * (1 - min_weight) + min_weight, 1)


def curriculum(start: jax.Array, epoch: jax.Array, num_epochs: float) -> jax.Array:
    """v f32[B] in epoch e = 1..E: v0 + (1 - v0) 2 e / E.

    It is not clipped: low weights pass 1 half way and end at 2 - v0, as in the authors' code.
    """
    return start + (1 - start) * epoch / (num_epochs / 2)
