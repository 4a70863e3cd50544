"""CAM-based sampling against the authors' generator, every image of two tiny data sets."""

import functools

import jax
import numpy as np
import pytest
from conftest import golden

from ltjax.methods.cam import foreground as fg


@pytest.fixture(scope="module", params=["cifar", "imagenet"])
def expected(request):
    file = golden("sm_cam")
    return lambda name: file[f"{request.param}/{name}"]


def batched(f):
    return jax.jit(jax.vmap(f))


def test_class_maps_are_the_authors(expected):
    source, label = expected("gen_source_index"), expected("gen_label")
    feature_maps = expected("feature_maps").transpose(0, 2, 3, 1)
    found = batched(fg.class_map)(feature_maps[source], expected("classifier_weight")[label])
    np.testing.assert_array_equal(found, expected("gen_cam_small"))


def test_maps_at_the_size_of_the_image_are_opencvs(expected):
    cam = expected("gen_cam")
    enlarge = functools.partial(fg.enlarge, height=cam.shape[1], width=cam.shape[2])
    np.testing.assert_array_equal(batched(enlarge)(expected("gen_cam_small")), cam)


def test_the_foreground_is_the_authors(expected):
    cam, threshold = expected("gen_cam"), expected("gen_threshold")
    found = batched(fg.foreground)(cam)
    np.testing.assert_array_equal(found, expected("gen_foreground"))
    np.testing.assert_array_equal(found, cam >= threshold[:, None, None])


def test_images_are_the_authors(expected):
    def move(image, cam, choice, parameters):
        corners = fg.bounding_box(cam, "as_code")
        return fg.move_foreground(image, cam, corners, choice, parameters)

    image, choice = expected("images")[expected("gen_source_index")], expected("gen_choice")
    found = batched(move)(image, expected("gen_cam"), choice, expected("gen_params"))
    gaps = np.abs(np.asarray(found, np.int32) - expected("gen_image"))
    assert set(choice) == {fg.ROTATE, fg.TRANSLATE, fg.FLIP}
    assert (gaps[choice != fg.ROTATE] == 0).all()
    rotated = gaps[choice == fg.ROTATE]
    for gap in rotated:  # the notes' tolerance, between versions of OpenCV
        assert gap.mean() < 0.3 and (gap > 4).mean() < 0.005
    # In the version that made the file, float32 angles are all that differs: a source that falls
    # between two 32nds of a pixel may be read one further.
    assert (rotated > 0).mean() < 1e-3


def test_numbers_of_new_images_are_the_authors(expected):
    counts, number = expected("counts"), expected("num_generated_per_class")
    at_most = 6 if len(counts) == 5 else None  # the notes' threshold, of the second set alone
    np.testing.assert_array_equal(fg.num_generated(counts, at_most), number)


@pytest.mark.parametrize("factor", [100, 50])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_all_classes_of_cifar_grow_to_one_size(dataset, factor):
    found = fg.num_generated(golden("sm_class_counts")[f"{dataset}/exp/{factor}"])
    expected = golden("sm_cam")[f"num_to_generate/{dataset}_ir{factor}"]
    np.testing.assert_array_equal(found, expected)


def test_only_rare_classes_of_imagenet_lt_grow():
    found = fg.num_generated(golden("sm_class_counts")["imagenet_lt"], at_most=100)
    np.testing.assert_array_equal(found, golden("sm_cam")["num_to_generate/imagenet_lt_thres100"])


def test_new_images_are_of_the_classes_that_lack_them(expected):
    counts, label = np.bincount(expected("labels")), expected("gen_label")
    at_most = 6 if len(counts) == 5 else None  # the notes' threshold, of the second set alone
    found = np.repeat(np.arange(len(counts)), fg.num_generated(counts, at_most))
    np.testing.assert_array_equal(found, np.sort(label))
    np.testing.assert_array_equal(expected("labels")[expected("gen_source_index")], label)


def test_places_that_pixels_come_from_are_the_authors(expected):
    choice, width = expected("gen_choice"), expected("images").shape[2]

    def backwards(cam, choice, parameters):
        return fg._backwards(fg.bounding_box(cam, "as_code"), choice, parameters, width)

    found = batched(backwards)(expected("gen_cam"), choice, expected("gen_params"))
    theirs = expected("gen_affine")  # where pixels go to; OpenCV inverts it
    assert np.isnan(theirs[choice == fg.FLIP]).all()
    last_row = np.broadcast_to([[[0, 0, 1]]], (len(theirs), 1, 3))
    inverse = np.linalg.inv(np.concatenate([theirs, last_row], axis=1)[choice != fg.FLIP])[:, :2]
    # float32 has places of up to 64 pixels to 4e-6, and terms of four roundings
    np.testing.assert_allclose(found[choice != fg.FLIP], inverse, rtol=0, atol=3e-5)
