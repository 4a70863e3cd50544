import numpy as np
import pytest
from conftest import golden

from ltjax.data import splits
from ltjax.errors import UserError


@pytest.mark.parametrize(
    "name, classes, largest", [("cifar10", 10, 5000.0), ("cifar100", 100, 500.0)]
)
@pytest.mark.parametrize("imbalance", ["exp", "step"])
@pytest.mark.parametrize("factor", [200, 100, 50, 20, 10])
def test_class_counts_are_the_authors(name, classes, largest, imbalance, factor):
    expected = golden("sm_class_counts")[f"{name}/{imbalance}/{factor}"]
    found = splits.long_tailed_counts(classes, largest, factor, imbalance)
    np.testing.assert_array_equal(found, expected)


def selections():
    """(data set, imbalance, 1 / factor, seed) as the golden file names them."""
    for key in golden("sm_subset_selection").files:
        if key.endswith("/selected_index") and "sorted" not in key:
            name, case = key.split("/")[:2]
            imbalance, f, seed = case.split("_")
            yield key.rsplit("/", 1)[0], name, imbalance, float(f[1:]), int(seed[4:])


def test_the_chosen_images_are_the_authors():
    file, cases = golden("sm_subset_selection"), list(selections())
    assert cases
    for prefix, name, imbalance, f, seed in cases:
        labels = file[f"{name}/all_targets"]
        classes = labels.max() + 1
        counts = splits.long_tailed_counts(classes, len(labels) / classes, 1 / f, imbalance)
        np.testing.assert_array_equal(counts, file[f"{prefix}/counts"])
        chosen = splits.select(labels, counts, seed)
        np.testing.assert_array_equal(chosen, file[f"{prefix}/selected_index"])


@pytest.mark.parametrize("name, per_class", [("cifar10", 5000), ("cifar100", 500)])
def test_the_full_size_selection_is_the_authors(name, per_class):
    expected = golden("sm_subset_selection")[f"{name}/sorted_full_exp_f0.01_seed0/selected_index"]
    classes = 50_000 // per_class
    labels = np.repeat(np.arange(classes), per_class)
    counts = splits.long_tailed_counts(classes, float(per_class), 100)
    np.testing.assert_array_equal(splits.select(labels, counts, seed=0), expected)


def test_a_balanced_set_keeps_everything():
    np.testing.assert_array_equal(splits.long_tailed_counts(5, 7.0, 1), 7)


def test_a_class_without_images_is_refused_by_name():
    with pytest.raises(UserError, match="leaves class 9 without training images.*at most 50"):
        splits.check_counts(splits.long_tailed_counts(10, 50.0, 51), 51)
    splits.check_counts(splits.long_tailed_counts(10, 50.0, 50), 50)
    with pytest.raises(UserError, match="leaves class 2 without training images.*at most 7"):
        splits.check_counts([7, 1, 0, 0], 100)  # the first of them


def test_groups_put_20_and_100_in_the_middle():
    groups = splits.groups([101, 100, 20, 19])
    assert [name for i in range(4) for name in groups if groups[name][i]] == [
        "many", "medium", "medium", "few",
    ]  # fmt: skip


def test_groups_of_imagenet_lt_are_the_published_ones():
    file = golden("sm_class_counts")
    groups = splits.groups(file["imagenet_lt"])
    found = np.select([groups["many"], groups["medium"], groups["few"]], [0, 1, 2], -1)
    np.testing.assert_array_equal(found, file["imagenet_lt_group"])


def test_holding_out_takes_the_same_share_of_every_class_and_loses_no_image():
    labels = np.repeat([0, 1, 2], [100, 10, 4])
    keep, held = splits.hold_out(labels, 0.25, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[held]), [25, 2, 1])
    np.testing.assert_array_equal(np.sort(np.concatenate([keep, held])), np.arange(114))


def test_the_checksum_sees_pixels_labels_and_positions_but_not_order():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 2, 2, 1)).astype(np.uint8)
    label, index = np.arange(6) % 3, np.arange(6) * 5
    same = splits.checksum(image, label, index)
    order = rng.permutation(6)
    assert splits.checksum(image[order], label[order], index[order]) == same
    assert splits.checksum(image ^ 1, label, index) != same
    assert splits.checksum(image, label[::-1], index) != same
    assert splits.checksum(image, label, index + 1) != same


def test_the_chosen_images_have_the_authors_labels():
    file = golden("sm_subset_selection")
    for prefix, name, _, _, seed in selections():
        labels = file[f"{name}/all_targets"]
        chosen = splits.select(labels, file[f"{prefix}/counts"], seed)
        np.testing.assert_array_equal(labels[chosen], file[f"{prefix}/selected_targets"])


def test_the_seed_of_the_choice_is_zero_by_default():
    labels = np.repeat(np.arange(3), 20)
    first, other = (splits.select(labels, [5, 5, 5], seed) for seed in (0, 1))
    np.testing.assert_array_equal(splits.select(labels, [5, 5, 5]), first)
    assert not np.array_equal(first, other)


def test_a_class_may_give_all_its_images_and_no_more():
    labels = np.array([1, 0, 1, 0, 1])
    np.testing.assert_array_equal(np.sort(splits.select(labels, [2, 3])), np.arange(5))
    with pytest.raises(UserError, match="^Class 1 has 3 images, but 4 are required"):
        splits.select(labels, [2, 4])


def test_an_imbalance_that_is_not_known_is_refused():
    with pytest.raises(UserError, match="data.imbalance is 'pareto'; it must be one of exp, step"):
        splits.long_tailed_counts(10, 50.0, 10, "pareto")


def test_two_kinds_of_imbalance_worked_by_hand():
    np.testing.assert_array_equal(splits.long_tailed_counts(3, 100.0, 25), [100, 20, 4])
    # of an odd number of classes, the middle one is in the first half
    np.testing.assert_array_equal(splits.long_tailed_counts(3, 100.5, 25, "step"), [100, 100, 4])
    np.testing.assert_array_equal(splits.long_tailed_counts(4, 100.0, 25, "step"), [100, 100, 4, 4])


def test_parts_of_held_out_images_are_in_order_and_their_choice_has_a_seed():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    keep, held = splits.hold_out(labels, 0.3, seed=0)
    assert (np.diff(keep) > 0).all() and (np.diff(held) > 0).all()
    np.testing.assert_array_equal(np.bincount(labels[held]), [18, 9, 3])
    assert not np.array_equal(splits.hold_out(labels, 0.3, seed=1)[1], held)
    nothing = splits.hold_out(labels, 0.0, seed=0)
    np.testing.assert_array_equal(nothing[0], np.arange(100))
    assert len(nothing[1]) == 0


def test_parts_of_a_tail_take_100_for_many_and_20_for_few():
    # two classes of each part, which are not thirds by rank
    counts = [300, 100, 99, 21, 50, 40, 20, 3]
    expected = [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(splits.subsets(counts), expected)


def test_classes_of_equal_size_are_cut_into_thirds_in_their_order():
    expected = np.repeat(np.eye(3), [4, 3, 3], axis=0).T
    np.testing.assert_array_equal(splits.subsets(np.full(10, 50)), expected)


def test_measures_of_three_classes_worked_by_hand():
    found = splits.longtailedness([10, 60, 30])  # shares 1/10, 3/10, 6/10 from the smallest on
    divergence = 0.1 * np.log(0.3) + 0.3 * np.log(0.9) + 0.6 * np.log(1.8)
    # Gini: the sum of |p_i - p_j| over all pairs, 2 (0.2 + 0.5 + 0.3), by 2 C
    expected = {"imbalance_factor": 6, "divergence": divergence, "deviation": 8 / 15, "gini": 1 / 3}
    assert found == pytest.approx(expected)
