import numpy as np
import pytest
from conftest import golden

from ltjax.data.sampling import class_probabilities, instance_balanced, power

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
STREAM = (0, 0, 0)


def test_instance_balanced_sees_every_image_once_in_each_epoch_across_batch_borders():
    draw = instance_balanced(LABELS, batch_size=30)  # 100 is no multiple of 30
    seen = np.concatenate([draw(STREAM, step) for step in range(10)]).reshape(3, 100)
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("sampler", [instance_balanced, lambda *a: power(*a, q=0.5)])
def test_a_draw_depends_on_the_step_and_stream_alone(sampler):
    draw, again = sampler(LABELS, 16), sampler(LABELS, 16)
    forward = [draw(STREAM, step) for step in range(20)]
    backward = [again(STREAM, step) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forward, backward)


@pytest.mark.parametrize("sampler", [instance_balanced, lambda *a: power(*a, q=0.0)])
def test_experts_phases_and_seeds_have_orders_of_their_own(sampler):
    draw = sampler(LABELS, 50)
    streams = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    batches = {tuple(draw(stream, 0)) for stream in streams}
    assert len(batches) == len(streams)


@pytest.mark.parametrize("q, expected", [(1, [0.6, 0.3, 0.1]), (0, [1 / 3] * 3)])
def test_power_sampling_draws_classes_with_their_probabilities(q, expected):
    draw = power(LABELS, 20_000, q=float(q))
    labels = LABELS[draw(STREAM, 3)]
    # five standard deviations of a share of 20,000 draws are below 0.018
    np.testing.assert_allclose(np.bincount(labels) / 20_000, expected, atol=0.018)


def test_power_sampling_draws_images_of_a_class_alike():
    rows = power(LABELS, 30_000, q=0.0)(STREAM, 0)
    tail = np.bincount(rows, minlength=100)[90:]
    np.testing.assert_allclose(tail / tail.sum(), 0.1, atol=0.016)


def test_class_probabilities_are_the_authors():
    file = golden("sm_samplers")
    for name in ("cifar10", "cifar100"):
        counts = file[f"bot/{name}/counts"]
        for q, key in ((1, "instance_p"), (0, "class_balanced_p"), (0.5, "square_root_p")):
            expected = file[f"bot/{name}/{key}"]
            np.testing.assert_allclose(class_probabilities(counts, q), expected, rtol=1e-9)
    counts = file["cb/counts"]
    for q, key in ((0, "class_balanced"), (1 / 2, "root2"), (1 / 3, "root3")):
        expected = file[f"cb/{key}/class_prob"]
        np.testing.assert_allclose(class_probabilities(counts, q), expected, rtol=1e-9)


def test_the_order_is_the_same_on_every_machine_and_numpy():
    # Raw bits of Philox do not change between versions of NumPy; these are from version 2.4.
    draw = instance_balanced(np.zeros(10, int), 10)
    np.testing.assert_array_equal(draw((0, 0, 0), 0), [0, 8, 9, 3, 7, 5, 1, 2, 6, 4])
