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
