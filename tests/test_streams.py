"""Further streams of a batch: drawn for themselves, augmented for themselves, labels hidden."""

import math

import jax
import numpy as np
import toy

from ltjax import build, mesh
from ltjax.data.feeds import MAIN, RESIDENT_BYTES, feed
from ltjax.data.sampling import in_order, instance_balanced, reversed_
from ltjax.learner import LossOutput, Method
from ltjax.recipes import recipe_of


def test_each_stream_draws_from_numbers_of_its_own():
    labels = toy.splits().train.label
    draw = instance_balanced(labels, 8, 10)
    draws = {MAIN: draw, "again": draw, "tail": reversed_(labels, 4, 10)}
    ours = feed(toy.splits().train, draws, 0, 0, 2)
    alone = feed(toy.splits().train, {MAIN: draw}, 0, 0, 2)
    request = ours.host_batch(3)
    assert {k: v.shape for k, v in request.items()} == {
        MAIN: (2, 8),
        "again": (2, 8),
        "tail": (2, 4),
    }
    np.testing.assert_array_equal(request[MAIN], alone.host_batch(3)[MAIN])
    assert (request[MAIN] != request["again"]).any()
    batch = ours.load(ours.arrays, request)
    assert batch.keys() == {"image", "label", "index", "again", "tail"}
    for name, part in ((MAIN, batch), ("again", batch["again"]), ("tail", batch["tail"])):
        np.testing.assert_array_equal(part["index"], request[name])
        np.testing.assert_array_equal(part["label"], labels[request[name]])
        np.testing.assert_array_equal(part["image"], toy.splits().train.image[request[name]])


def test_streams_are_normalised_and_each_augmented_by_itself():
    """The same images in two streams: mirrored and shifted, but not in the same way."""
    seen = {}

    def loss(variables, batch, key, progress):
        seen.update(main=batch["image"], other=batch["other"]["image"])
        return LossOutput(None, None, None, None, {})

    method = build.on_images(Method(None, loss, None), toy.info(), toy.settings())
    image = toy.splits().train.image[:16]
    batch = {"image": image, "other": {"image": image}}
    one_device = mesh.mesh_for(1, jax.devices()[:1])

    def run(batch, key):
        method.loss(None, batch, key, 0.0)
        return dict(seen)

    found = jax.jit(mesh.over_mesh(run, one_device, (mesh.WHOLE, mesh.WHOLE), mesh.WHOLE))(
        batch, jax.random.key(0)
    )
    info = toy.info()
    low, high = ((x - np.array(info.mean)) / np.array(info.std) for x in (0, 1))
    for stream in found.values():
        assert stream.shape == image.shape
        assert low.min() - 1e-5 <= stream.min() and stream.max() <= high.max() + 1e-5
    assert not np.array_equal(found["main"], found["other"])


def test_labels_of_the_test_split_are_hidden_from_training():
    test = toy.splits().test
    hidden = test.unlabelled()
    assert (hidden.label == -1).all() and (test.label >= 0).all()
    np.testing.assert_array_equal(hidden.image, test.image)
    settings = toy.settings(method={"name": "sade", "aggregate": True})
    aggregation = recipe_of(settings, toy.info())[-1]
    assert aggregation.source == "test"
    label = toy.images_of(aggregation).label
    assert (label == -1).all()


def test_the_streaming_feed_makes_the_batches_of_the_resident_one():
    train = toy.splits().train
    draws = {MAIN: in_order(75, 16), "tail": reversed_(train.label, 4, 10)}
    batches = []
    for kind in ("resident", "streaming"):
        ours = feed(train, draws, 0, 0, 2, kind)
        request = ours.host_batch(4)  # the last of a pass: index -1 fills it up
        batches.append(jax.device_get(ours.load(ours.arrays, request)))
    toy.assert_trees_equal(*batches)
    assert (batches[0]["index"] == -1).any()


def test_images_that_are_too_large_for_a_device_are_streamed():
    train = toy.splits().train
    draws = {MAIN: in_order(75, 16)}
    assert feed(train, draws, 0, 0, 2).arrays
    side = math.isqrt(RESIDENT_BYTES // 75) + 1
    large = train._replace(image=np.broadcast_to(np.uint8(0), (75, side, side, 1)))  # one byte
    assert not feed(large, draws, 0, 0, 2).arrays
