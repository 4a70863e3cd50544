"""Samplers where a class is empty or has one image, and what is made of them, by hand."""

import numpy as np
import pytest
from test_sampling import COUNTS, LABELS, NEEDED, STREAM, draws, every_sampler

from ltjax.data import sampling
from ltjax.data.sampling import SAMPLERS


@every_sampler
def test_a_class_without_images_is_never_drawn_and_spoils_nothing(name):
    labels = np.repeat([0, 2, 4], [30, 20, 10])
    draw = SAMPLERS[name](labels, 20, 30, **NEEDED.get(name, {}))
    rows = np.concatenate([draw(STREAM, step) for step in range(30)])
    assert rows.min() >= 0 and rows.max() < 60
    np.testing.assert_array_equal(np.bincount(labels[rows], minlength=5) > 0, [1, 0, 1, 0, 1])


@pytest.mark.parametrize("smallest", [1, 10])
def test_epochs_of_over_and_under_sampling_leave_out_classes_without_images(smallest):
    labels = np.repeat([0, 2, 4], [30, 20, smallest])
    for name, each in (("over_sampling", 30), ("under_sampling", smallest)):
        rows = SAMPLERS[name](labels, 3 * each, 1)(STREAM, 0)
        np.testing.assert_array_equal(np.bincount(labels[rows]), [each, 0, each, 0, each])


def test_probabilities_of_classes_worked_by_hand():
    found = sampling.class_probabilities([0, 1, 4, 16], 0.5)
    np.testing.assert_allclose(found, np.array([0, 1, 2, 4]) / 7)
    found = sampling.class_probabilities([0, 1, 4], -1)
    np.testing.assert_allclose(found, [0, 0.8, 0.2])
    found = sampling.progressive_probabilities([10, 30], 0.5)  # halfway from 1/4 to 1/2
    np.testing.assert_allclose(found, [0.375, 0.625])


@pytest.mark.parametrize(
    "convention, last", [("decoupling", (0, 0.5, 1)), ("bag_of_tricks", (1 / 3, 2 / 3, 1))]
)
def test_progressive_sampling_moves_on_with_each_epoch_begun(convention, last, monkeypatch):
    monkeypatch.setattr(sampling, "_by_class", lambda labels, batch_size, at: at)
    # 100 images by 40: 3 steps an epoch, of which the third is not whole
    at = SAMPLERS["progressively_balanced"](LABELS, 40, 7, convention=convention)
    expected = np.repeat([*last, last[-1]], 3)
    for step, t in enumerate(expected):
        np.testing.assert_allclose(at(step), sampling.progressive_probabilities(COUNTS, t))
    one = SAMPLERS["progressively_balanced"](LABELS, 40, 2, convention=convention)
    t = 0 if convention == "decoupling" else 1
    np.testing.assert_allclose(one(0), sampling.progressive_probabilities(COUNTS, t))


def test_in_order_begins_again_after_the_last():
    draw = sampling.in_order(7, 4)
    np.testing.assert_array_equal(draw(STREAM, 2), draw(STREAM, 0))
    np.testing.assert_array_equal(draw(STREAM, 3), draw(STREAM, 1))
    whole = sampling.in_order(8, 4)
    np.testing.assert_array_equal(
        [whole(STREAM, step) for step in (1, 2)], [[4, 5, 6, 7], [0, 1, 2, 3]]
    )


def test_a_part_of_the_images_is_drawn_by_its_own_numbers():
    rows = np.array([5, 8, 13, 21])
    draw = sampling.among(rows, sampling.in_order(4, 3))
    np.testing.assert_array_equal(draw(STREAM, 0), [5, 8, 13])


def test_one_of_each_class_and_the_first_classes_again():
    labels = np.repeat([0, 2, 4], [30, 20, 10])
    draw = sampling.each_class(labels, 5)
    rows = np.array([draw(STREAM, step) for step in range(400)])
    np.testing.assert_array_equal(labels[rows], np.tile([0, 2, 4, 0, 2], (400, 1)))
    assert set(rows[:, 2]) == set(range(50, 60))  # all images of a class
    assert (rows[:, 0] != rows[:, 3]).any()
    np.testing.assert_array_equal(draw(STREAM, 7), rows[7])
    assert not np.array_equal(draw((0, 0, 1), 7), rows[7])


def test_experts_take_their_samplers_in_turn():
    draws = [lambda stream, step, k=k: (k, stream, step) for k in range(3)]
    ours = sampling.of_each_expert(draws)
    for expert in range(7):
        assert ours((9, 8, expert, 6), 4) == (expert % 3, (9, 8, expert, 6), 4)


def test_the_class_and_the_image_are_drawn_apart():
    rows = draws("class_balanced", 3000, 1)
    by_class = np.argsort(LABELS, kind="stable")
    tail = np.flatnonzero(LABELS == 2)
    halves = [np.isin(rows, by_class[first:last]).sum() for first, last in ((0, 30), (30, 60))]
    # the first and the second half of the head alike; five standard deviations are below 160
    assert abs(halves[0] - halves[1]) < 160 and set(tail) <= set(rows)


def test_a_number_that_rounding_leaves_above_all_probabilities_draws_the_last_class(monkeypatch):
    monkeypatch.setattr(sampling, "uniform", lambda key, num: np.full(num, 1 - 2.0**-53))
    labels = np.arange(10)
    assert np.cumsum(sampling.class_probabilities(np.ones(10), 0))[-1] <= 1 - 2.0**-53
    np.testing.assert_array_equal(SAMPLERS["class_balanced"](labels, 4, 1)(STREAM, 0), 9)
