"""LFME's loss, what teachers and images count in it, its parts of ImageNet-LT: the authors'."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden

from ltjax.data import splits
from ltjax.losses.classification import divergence, nll
from ltjax.methods.lfme import lessons

NAMES = ("many_shot", "median_shot", "low_shot")
EPOCHS = (1, 22, 45, 90)


@pytest.fixture
def file(float64):
    return golden("lfme_losses")


def parts_of(file):
    classes = np.arange(file["student_logits"].shape[1])
    return np.stack([np.isin(classes, file[f"classes/{name}"]) for name in NAMES])


def teachers_of(file):
    """Logits of all classes [L, B, C]; those that a teacher does not know are any numbers."""
    logits = np.random.default_rng(0).normal(size=(3, *file["student_logits"].shape))
    for i, name in enumerate(NAMES):
        logits[i][:, file[f"classes/{name}"]] = file[f"teacher_logits/{name}"]
    return jnp.asarray(logits)


def cross_entropy(logits, label, key, progress):
    return nll(logits, label), jnp.ones(len(label))


def test_the_parts_of_imagenet_lt_are_the_authors():
    file = golden("lfme_imagenet_split")
    parts = splits.subsets(file["class_counts"])
    for part, name in zip(parts, NAMES, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(part), file[name])


def test_distillation_and_its_gradient_are_the_authors(file):
    for name in NAMES:
        of, teacher = file[f"classes/{name}"], jnp.asarray(file[f"teacher_logits/{name}"], float)

        def mean(logits, of=of, teacher=teacher):
            temperature = float(file["hp/T"])
            return divergence(teacher / temperature, logits[:, of] / temperature).mean()

        value, gradient = jax.value_and_grad(mean)(jnp.asarray(file["student_logits"], float))
        np.testing.assert_allclose(value, file[f"distill/{name}/loss"], rtol=1e-6)
        expected = file[f"distill/{name}/grad_student_logits"]
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("epoch", "case"),
    [
        pytest.param(epoch, case, marks=() if (epoch, case) == (22, 1) else pytest.mark.slow)
        for epoch in EPOCHS
        for case in range(3)
    ],
)
def test_the_whole_loss_and_its_gradient_are_the_authors(file, epoch, case):
    parts, teachers = parts_of(file), teachers_of(file)
    label, temperature = jnp.asarray(file["target"]), float(file["hp/T"])
    where = f"total/epoch{epoch}/case{case}"
    np.testing.assert_array_equal(file["epochs"], EPOCHS)
    curriculum_weight = lessons.curriculum(
        file["instance_weight_init"], epoch, int(file["hp/num_epochs"])
    )
    np.testing.assert_allclose(curriculum_weight, file[f"{where}/instance_weight"], rtol=1e-9)
    teacher_weights = lessons.teacher_weight(
        file["student_acc_cases"][case], file["expert_acc"], float(file["hp/decay_thresh"])
    )
    expected = [file[f"{where}/expert_weight_{name}"] for name in NAMES]
    np.testing.assert_allclose(teacher_weights, expected, rtol=1e-9, atol=1e-15)
    aim = lessons.lesson(cross_entropy, parts, temperature, "logits")

    def mean(logits):
        values, weights = aim(
            logits, label, curriculum_weight, teachers, teacher_weights, None, None
        )
        np.testing.assert_array_equal(weights, 1)
        return values.mean()

    logits = jnp.asarray(file["student_logits"], float)
    value, gradient = jax.value_and_grad(mean)(logits)
    np.testing.assert_allclose(value, file[f"{where}/loss_total"], rtol=1e-6)
    expected = file[f"{where}/grad_student_logits"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)
    said = curriculum_weight[:, None] * logits
    np.testing.assert_allclose(nll(said, label).mean(), file[f"{where}/loss_ce"], rtol=1e-6)
    for name in NAMES:
        of = file[f"classes/{name}"]
        teacher = jnp.asarray(file[f"teacher_logits/{name}"], float)
        found = divergence(teacher / temperature, said[:, of] / temperature).mean()
        np.testing.assert_allclose(found, file[f"{where}/loss_kd_{name}"], rtol=1e-6)


def test_a_teacher_counts_less_as_the_authors_let_it(file):
    share = file["expert_weight_curve/student_over_expert"]
    found = lessons.teacher_weight(share, np.ones_like(share), float(file["hp/decay_thresh"]))
    np.testing.assert_allclose(found, file["expert_weight_curve/weight"], rtol=1e-9, atol=1e-12)


def test_the_schedule_of_images_is_the_authors_from_epoch_to_epoch(file):
    start, num_epochs = file["instance_schedule/init"], int(file["hp/num_epochs"])
    epochs = np.arange(1, num_epochs + 1)[:, None]
    found = lessons.curriculum(start, epochs, num_epochs)
    np.testing.assert_allclose(found, file["instance_schedule/weight_by_epoch"], rtol=1e-9)


def test_images_begin_with_the_authors_weights(file):
    labels, parts = file["curriculum/labels"], parts_of(file)
    sizes = np.array([230, 53, 12])[parts.argmax(0)]  # of a class, in the mean of its part
    min_weight = lessons.min_weights(sizes, parts)
    np.testing.assert_allclose(np.unique(min_weight), [12 / 230, 12 / 53, 1])
    confidence = jnp.asarray(file["curriculum/confidence"])
    found = lessons.curriculum_start(confidence, labels, min_weight[labels], parts.shape[1])
    np.testing.assert_allclose(found, file["curriculum/init_weight"], rtol=1e-9)


def test_the_confidence_of_the_own_teacher_is_the_authors(file):
    parts, label = parts_of(file), file["target"]
    own = teachers_of(file)[parts.argmax(0)[label], np.arange(len(label))]
    found = jnp.exp(-nll(lessons.restricted(own, label, parts), label))
    expected = file["curriculum/expert_confidence_of_target"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
