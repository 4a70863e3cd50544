"""LFME: teachers see their part alone, and students hear the right teacher for long enough."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.sharding import NamedSharding

from ltjax import mesh, train
from ltjax.config.choices import choose
from ltjax.data import splits
from ltjax.errors import UserError
from ltjax.losses.classification import divergence, nll
from ltjax.methods.lfme import lessons
from ltjax.recipes import functions_of
from ltjax.run.checkpoint import read_state

pytestmark = pytest.mark.xdist_group("lfme")  # `taught` is made once
PARTS = splits.subsets(toy.CLASS_COUNTS)  # of 40, 20 | 10 | 5 images


def recipe(info=None, method=None, **fields):
    chosen = toy.settings(
        network={"name": "tiny"}, method={"name": "lfme", **(method or {})}, **fields
    )
    return choose(functions_of("method"), "method", **chosen.method)(chosen, info or toy.info())


@pytest.fixture(scope="module")
def taught():
    """Teachers of two students, what they make of the images, and how the students begin."""
    first, second, third = recipe(num_epochs=7.0)
    teachers, losses = toy.Trainer(first, 6).steps(first.num_steps)
    teachers = toy.numbers(teachers)[1]
    ours = toy.Trainer(second, 6)
    judged, _ = ours.steps(second.num_steps, second.begin(ours.init(), teachers))
    judged = toy.numbers(judged)[1]
    students = toy.Trainer(third, 2)
    begun = third.begin(students.init(), judged)
    return {
        "losses": losses,
        "teachers": teachers,
        "judged": judged,
        "begun": begun._replace(**dict(zip(KEPT, toy.numbers(begun), strict=True))),
        "students": students,
    }


KEPT = ("step", "variables", "opt_state")  # of a state, as toy.numbers has them


def begin(taught, step=0, **memory):
    """The students' beginning, or later and with other memories, where their step takes it."""
    begun, ours = taught["begun"], taught["students"]
    variables = begun.variables._replace(memory=begun.variables.memory | memory)
    kept = np.full(2, step, np.int32), variables, begun.opt_state
    kept = dict(zip(KEPT, mesh.place(kept, ours.mesh, mesh.EXPERTS), strict=True))
    key = jax.device_put(jnp.copy(begun.key), NamedSharding(ours.mesh, mesh.EXPERTS))
    return begun._replace(key=key, **kept)


def test_small_data_is_cut_into_thirds_by_rank_and_large_by_size():
    np.testing.assert_array_equal(PARTS, [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(
        splits.subsets([20, 500, 100, 21, 5, 99]),
        [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 1], [1, 0, 0, 0, 1, 0]],
    )
    lonely = splits.subsets([120, 90, 60, 40, 19, 8])  # one class alone has nothing to tell apart
    np.testing.assert_array_equal(lonely.sum(1), [2, 2, 2])
    cifar10 = splits.subsets(splits.long_tailed_counts(10, 5000.0, 100))
    np.testing.assert_array_equal(cifar10.sum(1), [4, 3, 3])
    np.testing.assert_array_equal(cifar10.argmax(0), [0, 0, 0, 0, 1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize("counts", [(10, 5000.0, 100), (100, 500.0, 100), (100, 500.0, 50)])
def test_every_part_is_flatter_than_the_whole_by_each_measure(counts):
    counts = splits.long_tailed_counts(*counts)
    whole = splits.longtailedness(counts)
    for part in splits.subsets(counts):
        measures = splits.longtailedness(counts[part])
        assert all(measures[name] < whole[name] for name in whole)


def test_measures_of_a_tail_worked_by_hand():
    found = splits.longtailedness([30, 10])  # shares 3/4 and 1/4
    expected = [3, 0.75 * np.log(1.5) + 0.25 * np.log(0.5), 0.5, 0.25]
    np.testing.assert_allclose(list(found.values()), expected)
    flat = splits.longtailedness([7, 7, 7])
    np.testing.assert_allclose(list(flat.values()), [1, 0, 0, 0], atol=1e-15)


def test_a_teacher_is_a_head_on_its_classes_alone(float64):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)))
    for part in PARTS:
        of = np.flatnonzero(part)
        rank = np.arange(8) % len(of)

        def ours(logits, label=of[rank]):
            return lessons.among_own_part(PARTS)(logits, label, None, None)[0].mean()

        def alone(logits, rank=rank):
            return nll(logits, rank).mean()

        value, gradient = jax.jit(jax.value_and_grad(ours))(logits)
        expected = jax.jit(jax.value_and_grad(alone))(logits[:, of])
        np.testing.assert_allclose(value, expected[0], atol=1e-12)
        np.testing.assert_allclose(gradient[:, of], expected[1], atol=1e-12)
        np.testing.assert_array_equal(gradient[:, ~part], 0)


def test_a_teacher_sees_all_images_of_its_part_equally_often_and_no_other():
    (first, *_), labels = recipe(), toy.splits().train.label
    draw = first.sampler(labels)
    assert first.num_experts == 6 and first.num_steps == 24  # 0.6 of 8 epochs of 5 steps
    for expert in range(6):
        rows = np.concatenate([draw((0, 0, expert), step) for step in range(15)])
        expected = np.flatnonzero(PARTS[expert % 3][labels])  # 240 images: 60 x 4, 10 x 24, 5 x 48
        np.testing.assert_array_equal(np.unique(rows), expected)
        assert set(np.bincount(rows)[expected]) == {240 // len(expected)}
    assert (draw((0, 0, 0), 0) != draw((0, 0, 3), 0)).any()


def test_the_configs_sampler_works_within_the_part():
    first, *_ = recipe(sampler={"name": "class_aware"})
    labels = toy.splits().train.label
    label = labels[first.sampler(labels)((0, 0, 3), 0)]
    np.testing.assert_array_equal(np.bincount(label), [8, 8])


def test_a_teachers_loss_falls(taught):
    losses = taught["losses"]
    assert (losses[-5:, ::3].mean(0) < 0.5 * losses[:5, ::3].mean(0)).all()
    np.testing.assert_allclose(losses[:, [1, 2, 4, 5]], 0, atol=1e-6)  # one class: nothing to learn


def test_students_begin_with_their_own_three_teachers(taught):
    begun = taught["begun"].variables
    teachers = begun.memory["teachers"]
    for student in range(2):
        for i in range(3):
            toy.assert_trees_equal(
                jax.tree.map(lambda x, s=student, i=i: x[s, i], teachers.params),
                jax.tree.map(lambda x, s=student, i=i: x[3 * s + i], taught["teachers"].params),
            )
    np.testing.assert_array_equal(begun.memory["accuracy"], 2 * [[[0, 0, 0], [1, 1, 1]]])


def test_confidences_are_those_of_the_teacher_of_the_images_own_part(taught):
    judged, labels = taught["judged"], toy.splits().train.label
    image = (toy.splits().train.image.astype(np.float32) / 255 - 0.306) / 0.375
    network = toy.NETWORKS["tiny"](4)
    start = taught["begun"].variables.memory["start"]
    for student in range(2):
        expected = np.zeros(75)
        for i, part in enumerate(PARTS):
            variables = jax.tree.map(lambda x, e=3 * student + i: x[e], judged)
            (logits, _), _ = toy.outputs(network, variables, image)
            own, of = part[labels], np.flatnonzero(part)
            probs = jax.nn.softmax(logits[:, of])
            expected[own] = np.asarray(probs)[own, np.searchsorted(of, labels[own])]
            found = judged.memory["confidence"][3 * student + i]
            np.testing.assert_allclose(found[own], expected[own], rtol=1e-5)
        min_weight = lessons.min_weights(toy.CLASS_COUNTS, PARTS)
        np.testing.assert_allclose(min_weight, [1 / 6, 1 / 6, 0.5, 1])
        for c in range(2):
            q, v = expected[labels == c], start[student][labels == c]
            scaled = (q - q.min()) / (q.max() - q.min()) * (5 / 6) + 1 / 6
            np.testing.assert_allclose(v, scaled, atol=1e-3)
        np.testing.assert_array_equal(start[student][labels > 1], 1)  # all alike: 1


def test_only_the_student_learns_and_only_from_teachers_that_count(taught):
    ours, before = taught["students"], taught["begun"].variables
    after = toy.numbers(ours.steps(3, begin(taught))[0])[1]
    toy.assert_trees_equal(before.memory["teachers"], after.memory["teachers"])
    moved = jax.tree.map(lambda x, y: (x != y).any(), before.params, after.params)
    assert all(jax.tree.leaves(moved))

    def step(accuracy, **others):
        """The head after a step of students whose teachers are as good as said, or others."""
        accuracy = np.array(2 * [accuracy], np.float32)
        state = begin(taught, accuracy=accuracy, **others)
        return toy.numbers(ours.update(state, ours.feed.host_batch(0))[0])[1].params["head"][
            "kernel"
        ]

    worse, as_good = [[0, 0, 0], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]
    other = jax.tree.map(lambda x: -x, before.memory["teachers"])
    np.testing.assert_array_equal(step(as_good), step(as_good, teachers=other))
    assert (step(worse) != step(worse, teachers=other)).any()


def test_accuracies_are_counted_over_an_epoch_then_teachers_count_accordingly(taught):
    """An epoch is 5 steps of 16 images, 20 of each of the four classes."""
    ours, state = taught["students"], begin(taught)
    right = np.zeros(2)
    for step in range(5):
        np.testing.assert_array_equal(state.variables.memory["accuracy"][:, 0], 0)
        np.testing.assert_array_equal(state.variables.memory["seen"], step * 4)
        state, metrics = ours.update(state, ours.feed.host_batch(step))
        right += 16 * np.asarray(metrics["accuracy"])
        np.testing.assert_array_equal(metrics["teacher_few"], 1)
    memory = jax.device_get(state.variables.memory)
    np.testing.assert_array_equal(memory["seen"], 0)
    np.testing.assert_array_equal(memory["right"], 0)
    of_students = memory["accuracy"][:, 0]
    np.testing.assert_allclose(of_students @ [40, 20, 20], right, rtol=1e-5)
    np.testing.assert_array_equal(memory["accuracy"][:, 1, 1:], 1)  # of one class: always right
    expected = [lessons.teacher_weight(*own, 0.3)[2] for own in memory["accuracy"]]
    _, metrics = ours.update(state, ours.feed.host_batch(5))
    np.testing.assert_allclose(metrics["teacher_few"], expected, rtol=1e-6)


def test_the_curriculum_passes_one_half_way_in_whole_epochs(taught):
    ours, half = taught["students"], np.full((2, 75), 0.5, np.float32)
    for step in range(35):  # of 7 epochs, whose e / 7 * 7 may fall short of e
        _, metrics = ours.update(begin(taught, step, start=half), ours.feed.host_batch(0))
        epoch = step // 5 + 1
        np.testing.assert_allclose(metrics["curriculum"], 0.5 + 0.5 * epoch / 3.5, rtol=1e-6)


def test_the_papers_form_weighs_the_loss_and_leaves_the_logits_alone(float64):
    rng = np.random.default_rng(0)
    logits, teachers = jnp.asarray(rng.normal(size=(5, 4))), jnp.asarray(rng.normal(size=(3, 5, 4)))
    label, curriculum_weight, w = (
        np.array([0, 1, 2, 3, 0]),
        jnp.linspace(0.2, 1.8, 5),
        [1.0, 0.5, 0.0],
    )

    def aim(logits, label, key, progress):
        return nll(logits, label), jnp.ones(5)

    of_loss = lessons.lesson(aim, PARTS, 2.0, "loss")
    values, _ = of_loss(logits, label, curriculum_weight, teachers, w, None, None)
    apart = divergence(teachers[0][:, :2] / 2, logits[:, :2] / 2)  # one class: KL is 0
    np.testing.assert_allclose(values, curriculum_weight * nll(logits, label) + apart, rtol=1e-12)
    ones = jnp.ones(5)
    of_logits = lessons.lesson(aim, PARTS, 2.0, "logits")
    for found, expected in zip(
        of_logits(logits, label, ones, teachers, w, None, None),
        of_loss(logits, label, ones, teachers, w, None, None),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_teacher_that_is_never_right_teaches_nothing_and_nothing_divides_by_zero():
    found = lessons.teacher_weight(np.zeros(2), np.array([0.0, 0.5]), 0.3)
    np.testing.assert_array_equal(found, [0, 1])
    found = lessons.part_accuracy(
        np.array([2.0, 0, 0, 0]), np.array([4.0, 0, 0, 8]), PARTS, np.full(3, 0.7)
    )
    np.testing.assert_allclose(found, [0.5, 0.7, 0])  # class 1 has no image, nor has part 2


CONFIG = {
    "method": {"name": "lfme"},
    "network": {"name": "tiny"},
    "schedule": {"name": "step", "lr": 0.05, "drop_at": ()},
    "num_experts": 2,
    "batch_size": 16,
    "num_epochs": 4.0,
    "eval_every_epochs": 1.0,
    "compute": {"experts_over": "map"},
}


@pytest.mark.slow
def test_held_out_accuracies_say_how_much_teachers_count(tmp_path):
    splits = toy.splits_with_held_out([3, 3, 3, 0])  # none of the smallest part
    train.run(CONFIG, workdir=str(tmp_path), splits=splits)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    variables = read_state(tmp_path)["variables"]
    seen = [event for event in log if "validation/accuracy" in event]
    assert [event["phase"] for event in seen].count("student") == 3
    accuracy = variables["memory"]["accuracy"]  # [E, 2, L]
    images = accuracy[:, 0] @ [6, 3, 0]  # of the last evaluation
    np.testing.assert_allclose(images / 9, seen[-1]["validation/experts"], rtol=1e-5)
    np.testing.assert_array_equal(accuracy[:, :, 2], [[0, 1], [0, 1]])  # not known: it counts
    assert (accuracy[:, 1, 0] >= 0.5).all() and (accuracy[:, 1, 1] == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": {"alpha": 1.0}}, "config.method.alpha is 1.0; it must be .*below 1"),
        ({"method": {"temperature": 0.0}}, "config.method.temperature is 0.0; it must be above 0"),
        (
            {"method": {"curriculum_on": "all"}},
            "config.method.curriculum_on is 'all'; .* logits, loss",
        ),
        (
            {"mixing": {"name": "mixup"}},
            "config.mixing.name is 'mixup', but method 'lfme' .*leave it out",
        ),
        ({"share": {"order": True}}, "config.share.order is True, but the teachers"),
        (
            {"num_epochs": 1.0},
            "config.num_epochs is 1.0, but the teachers take 0.6 .*more than one.*num_epochs=4",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        recipe(**fields)


def test_data_that_cannot_work_are_refused():
    with pytest.raises(UserError, match="--config.eval_every_epochs=1"):
        recipe(toy.info()._replace(num_validation=7))
    two = toy.info()._replace(class_counts=np.array([60, 15]))
    with pytest.raises(UserError, match="cuts the classes into 3 parts.*has only 2"):
        recipe(two)
