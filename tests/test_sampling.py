import functools

import numpy as np
import pytest
import toy
from conftest import golden

from ltjax import phases
from ltjax.data import sampling
from ltjax.data.feeds import MAIN
from ltjax.data.sampling import SAMPLERS, instance_balanced
from ltjax.errors import UserError

COUNTS = np.array([60, 30, 10])
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], COUNTS))
STREAM = (0, 0, 0)
NEEDED = {"power": {"q": 0.5}}

every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def draws(name, batch_size, num_steps, **options):
    """The first batches that a sampler draws, one after another."""
    draw = SAMPLERS[name](LABELS, batch_size, num_steps, **NEEDED.get(name, {}), **options)
    return np.concatenate([draw(STREAM, step) for step in range(num_steps)])


def test_instance_balanced_sees_every_image_once_in_each_epoch_across_batch_borders():
    seen = draws("instance_balanced", 30, 10).reshape(3, 100)  # 100 is no multiple of 30
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(100))
    assert not np.array_equal(seen[0], seen[1])


@every_sampler
def test_a_draw_depends_on_the_step_and_stream_alone(name):
    make = functools.partial(SAMPLERS[name], LABELS, 16, 20, **NEEDED.get(name, {}))
    draw, again = make(), make()
    forward = [draw(STREAM, step) for step in range(20)]
    backward = [again(STREAM, step) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forward, backward)


@every_sampler
def test_experts_phases_and_seeds_have_orders_of_their_own(name):
    draw = SAMPLERS[name](LABELS, 50, 20, **NEEDED.get(name, {}))
    streams = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    batches = {tuple(draw(stream, 0)) for stream in streams}
    assert len(batches) == len(streams)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("square_root", np.sqrt(COUNTS)),
        ("class_balanced", np.ones(3)),
        ("reversed", 1 / COUNTS),
        ("effective_number", COUNTS * (1 - 0.9999) / (1 - 0.9999**COUNTS)),
    ],
)
def test_classes_are_drawn_with_their_probabilities(name, expected):
    label = LABELS[draws(name, 20_000, 1)]
    # five standard deviations of a share of 20,000 draws are below 0.018
    np.testing.assert_allclose(np.bincount(label) / 20_000, expected / expected.sum(), atol=0.018)


def test_images_of_a_class_are_drawn_alike():
    rows = draws("class_balanced", 30_000, 1)
    tail = np.bincount(rows, minlength=100)[LABELS == 2]
    np.testing.assert_allclose(tail / tail.sum(), 0.1, atol=0.016)


@pytest.mark.parametrize(
    "convention, expected", [("decoupling", (0, 0.5, 1)), ("bag_of_tricks", (1 / 3, 2 / 3, 1))]
)
def test_progressive_sampling_ends_class_balanced(convention, expected):
    draw = SAMPLERS["progressively_balanced"](LABELS, 100, 3, convention=convention)
    label = [LABELS[[draw((0, 0, s), epoch) for s in range(200)]] for epoch in range(3)]
    for epoch, t in zip(label, expected, strict=True):
        shares = np.bincount(epoch.ravel()) / epoch.size
        probabilities = sampling.progressive_probabilities(COUNTS, t)
        np.testing.assert_allclose(shares, probabilities, atol=0.018)


def test_over_sampling_repeats_up_to_the_largest_class_and_drops_no_image():
    epochs = draws("over_sampling", 60, 6).reshape(2, 180)
    for epoch in epochs:
        np.testing.assert_array_equal(np.bincount(LABELS[epoch]), [60, 60, 60])
        assert set(epoch) == set(range(100))
    assert sorted(epochs[0]) != sorted(epochs[1])  # other duplicates


@pytest.mark.parametrize("anew", [False, True])
def test_under_sampling_keeps_as_many_as_the_smallest_class_has(anew):
    epochs = draws("under_sampling", 10, 6, anew=anew).reshape(2, 30)
    for epoch in epochs:
        np.testing.assert_array_equal(np.bincount(LABELS[epoch]), [10, 10, 10])
        assert len(set(epoch)) == 30
    assert (set(epochs[0]) == set(epochs[1])) is not anew
    assert not np.array_equal(*epochs)


def test_every_expert_keeps_images_of_its_own_when_under_sampling():
    draw = SAMPLERS["under_sampling"](LABELS, 30, 1)
    assert set(draw((0, 0, 0), 0)) != set(draw((0, 0, 1), 0))


def test_class_aware_sampling_visits_all_classes_and_images_before_one_comes_again():
    rows = draws("class_aware", 12, 20)  # 3 classes, 4 images of each at a visit
    visits = LABELS[rows].reshape(20, 3, 4)
    assert (visits == visits[:, :, :1]).all()
    np.testing.assert_array_equal(np.sort(visits[:, :, 0], axis=1), np.tile([0, 1, 2], (20, 1)))
    assert len({tuple(visit) for visit in visits[:, :, 0]}) > 1
    tail = rows[LABELS[rows] == 2].reshape(8, 10)
    assert all(len(set(cycle)) == 10 for cycle in tail)
    assert len({tuple(cycle) for cycle in tail}) == 8


def test_class_cycles_draw_classes_alike_and_all_images_of_one_before_any_again():
    rows = draws("class_cycle", 25, 120)  # 30 epochs of 100 draws
    rows = rows.ravel()
    np.testing.assert_allclose(np.bincount(LABELS[rows]) / rows.size, 1 / 3, atol=0.045)
    for c, count in enumerate(COUNTS):
        own = rows[LABELS[rows] == c]
        cycles = own[: len(own) // count * count].reshape(-1, count)
        assert all(len(set(cycle)) == count for cycle in cycles)
        assert len(cycles) == len({tuple(cycle) for cycle in cycles}) > 1
    late = SAMPLERS["class_cycle"](LABELS, 25, 120)
    np.testing.assert_array_equal(late(STREAM, 117), rows.reshape(120, 25)[117])  # as a resumed run


def test_deferred_sampling_is_instance_balanced_until_it_sets_in():
    plain, late = (SAMPLERS[name](LABELS, 25, 8) for name in ("instance_balanced", "reversed"))
    draw = sampling.deferred(late, plain, start=6)
    for step in range(8):
        expected = (late if step >= 6 else plain)(STREAM, step)
        np.testing.assert_array_equal(draw(STREAM, step), expected)


def test_deferred_sampling_sets_in_when_the_authors_does():
    for name in ("cifar10", "cifar100"):
        active = golden("sm_samplers")[f"bot/{name}/drs_active_by_epoch_1to200_start160"]
        # 5 steps an epoch of 75 images; an epoch of it is deferred if its first batch is
        label = toy.splits().train.label
        deferred, plain = (
            toy.phase(sampler={"name": "class_balanced", "start": start}, num_epochs=200.0).sampler(
                label
            )
            for start in (0.8, 0.0)
        )
        same = [np.array_equal(deferred(STREAM, 5 * e), plain(STREAM, 5 * e)) for e in range(200)]
        np.testing.assert_array_equal(same, active)


def test_in_order_goes_through_all_images_once_and_fills_up():
    draw = sampling.in_order(7, 4)
    np.testing.assert_array_equal(draw(STREAM, 0), [0, 1, 2, 3])
    np.testing.assert_array_equal(draw(STREAM, 1), [4, 5, 6, -1])


def test_the_order_is_the_same_on_every_machine_and_numpy():
    # Raw bits of Philox do not change between versions of NumPy; these are from version 2.4.
    draw = instance_balanced(np.zeros(10, int), 10, 1)
    np.testing.assert_array_equal(draw((0, 0, 0), 0), [0, 8, 9, 3, 7, 5, 1, 2, 6, 4])


def probabilities(monkeypatch, name, counts, num_steps=1, **options):
    """Of classes at a step, as the sampler would draw them; a step is an epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(
            sampling, "_by_class", lambda labels, batch_size, probabilities: probabilities
        )
        labels = np.repeat(np.arange(len(counts)), counts)
        return SAMPLERS[name](labels, len(labels), num_steps, **options)


def test_resampling_by_the_effective_number_has_ldam_drws_probabilities(monkeypatch):
    file = golden("sm_samplers")
    counts = file["effnum_resample/counts"]
    found = probabilities(monkeypatch, "effective_number", counts)(0)
    np.testing.assert_allclose(found, file["effnum_resample/class_prob"], rtol=1e-9)
    of_an_image = found / counts
    expected = file["effnum_resample/instance_weight_per_class"]
    np.testing.assert_allclose(
        of_an_image / of_an_image.sum(), expected / expected.sum(), rtol=1e-9
    )
    assert counts.sum() == file["effnum_resample/num_samples"]  # an epoch, as ours of any sampler


@pytest.mark.parametrize("group", ["bot/cifar10", "bot/cifar100", "cb"])
def test_samplers_by_class_have_the_authors_probabilities(group, monkeypatch):
    file = golden("sm_samplers")
    counts, own = file[f"{group}/counts"], functools.partial(probabilities, monkeypatch)
    theirs = (
        {"cb/class_balanced/class_prob": ("class_balanced", {}),
         "cb/root2/class_prob": ("square_root", {}),
         "cb/mixed_sqrt/class_prob": ("square_root", {}),
         "cb/root3/class_prob": ("power", {"q": 1 / 3}),
         "cb/uniform/class_prob": ("power", {"q": 1.0})}
        if group == "cb"
        else {f"{group}/class_balanced_p": ("class_balanced", {}),
              f"{group}/square_root_p": ("square_root", {}),
              f"{group}/instance_p": ("power", {"q": 1.0}),
              f"{group}/reverse_p": ("reversed", {})}
    )  # fmt: skip
    for key, (name, options) in theirs.items():
        found = own(name, counts, **options)(0)
        np.testing.assert_allclose(found, file[key], rtol=1e-9, err_msg=key)
    if group == "cb":  # their mixture of two that we have
        fourth_root, uniform = (own("power", counts, q=q)(0) for q in (1 / 4, 1.0))
        expected = file["cb/root4_mix/class_prob"]
        np.testing.assert_allclose((fourth_root + uniform) / 2, expected, rtol=1e-9)
    else:
        found = own("reversed", counts)(0)
        expected = file[f"{group}/reverse_class_weight"]  # n_max / n_j
        np.testing.assert_allclose(found / found.min(), expected, rtol=1e-9)


def test_weights_of_images_are_decouplings_in_its_mixed_mode(monkeypatch):
    file = golden("sm_samplers")
    counts = file["cb/counts"]
    of_an_image = probabilities(monkeypatch, "square_root", counts)(0) / counts
    expected = file["cb/mixed_sqrt/instance_weight"]  # with mean 1 over images
    np.testing.assert_allclose(of_an_image * counts.sum(), expected, rtol=1e-9)


def test_progressive_sampling_has_decouplings_shares_in_every_epoch(monkeypatch):
    file = golden("sm_samplers")
    counts, where = file["cb/counts"], "cb/progressive_epochs90"
    draw = probabilities(monkeypatch, "progressively_balanced", counts, num_steps=90)
    np.testing.assert_allclose(draw(0), file[f"{where}/before_epoch1"], rtol=1e-9)
    then = file[f"{where}/after_reset_weights_epoch1to90"]  # the row of epoch e: used in e + 1
    for step in range(1, 90):
        np.testing.assert_allclose(draw(step), then[step - 1], rtol=1e-9)
    # p_j = (1 - t) n_j / N + t / C, of which the largest class tells t
    largest = np.array([draw(step)[0] for step in range(90)])
    t = (largest - counts[0] / counts.sum()) / (1 / len(counts) - counts[0] / counts.sum())
    np.testing.assert_allclose(t, file[f"{where}/lams"], rtol=1e-9, atol=1e-12)


def visits(rows, labels, per_class):
    """Classes in the order of visits [passes, C], after checking how they and images follow."""
    num_classes = labels.max() + 1
    runs = labels[rows].reshape(-1, num_classes, per_class)
    assert (runs == runs[:, :, :1]).all()
    classes = runs[:, :, 0]
    np.testing.assert_array_equal(
        np.sort(classes, axis=1), np.tile(np.arange(num_classes), (len(classes), 1))
    )
    for label, count in enumerate(np.bincount(labels)):
        own = rows[labels[rows] == label]
        cycles = own[: len(own) // count * count].reshape(-1, count)
        assert all(len(set(cycle)) == count for cycle in cycles)
    return classes


def test_class_aware_sampling_has_the_structure_of_decouplings():
    file = golden("sm_samplers")
    counts, per_class = file["cb/counts"], int(file["cb/class_aware/num_samples_cls"])
    labels = np.repeat(np.arange(len(counts)), counts)
    theirs = file["cb/class_aware/sequence_first2000"]
    np.testing.assert_array_equal(labels[theirs], file["cb/class_aware/labels_first2000"])
    size = int(file["cb/class_aware/num_samples"])
    assert size == counts.max() * len(counts)  # its epoch, where ours has as many as images
    rows = SAMPLERS["class_aware"](labels, size, 1)(STREAM, 0)  # with the default of a class
    for found in (rows[:2000], theirs):
        classes = visits(found, labels, per_class)
        assert len({tuple(order) for order in classes}) == len(classes) == 50
    histogram = np.bincount(labels[rows], minlength=len(counts))
    np.testing.assert_array_equal(histogram, file["cb/class_aware/class_histogram_full_epoch"])


@pytest.mark.parametrize(
    "drawn", [[0.5], [100], [-2], [[0, 1]], [], [True]], ids=lambda drawn: str(drawn)
)
def test_what_is_no_position_of_an_image_is_refused_when_it_is_drawn(drawn):
    (phase,) = toy.recipe("classifier")
    phase = phase._replace(sampler=lambda labels: lambda stream, step: np.array(drawn))
    with pytest.raises(UserError, match="A sampler drew .* integers from 0 to 99"):
        phases.draws(phase, LABELS)[MAIN](STREAM, 0)
