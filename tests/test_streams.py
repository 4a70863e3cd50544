"""Further streams of a batch: drawn for themselves, augmented for themselves, labels hidden."""

import jax
import numpy as np
import toy

from ltjax import mesh, phases
from ltjax.data.feeds import MAIN, resident
from ltjax.data.sampling import instance_balanced, reversed_
from ltjax.learner import LossOutput, Method
from ltjax.run.loop import drawn_from


def test_each_stream_draws_from_numbers_of_its_own():
    labels = toy.splits().train.label
    draw = instance_balanced(labels, 8, 10)
    draws = {MAIN: draw, "again": draw, "tail": reversed_(labels, 4, 10)}
    feed = resident(toy.splits().train, draws, 0, 0, 2)
    alone = resident(toy.splits().train, {MAIN: draw}, 0, 0, 2)
    request = feed.host_batch(3)
    assert {k: v.shape for k, v in request.items()} == {
        MAIN: (2, 8),
        "again": (2, 8),
        "tail": (2, 4),
    }
    np.testing.assert_array_equal(request[MAIN], alone.host_batch(3)[MAIN])
    assert (request[MAIN] != request["again"]).any()
    batch = feed.load(feed.arrays, request)
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

    method = phases.on_images(Method(None, loss, None), toy.info(), toy.settings())
    image = toy.splits().train.image[:16]
    batch = {"image": image, "other": {"image": image}}
    one_device = mesh.mesh_for(1, jax.devices()[:1])

    def run(batch, key):
        method.loss(None, batch, key, 0.0)
        return dict(seen)

    found = jax.jit(mesh.over_mesh(run, one_device, (mesh.WHOLE, mesh.WHOLE), mesh.WHOLE))(
        batch, jax.random.key(0)
    )
    dataset = toy.splits().dataset
    low, high = ((x - np.array(dataset.mean)) / np.array(dataset.std) for x in (0, 1))
    for stream in found.values():
        assert stream.shape == image.shape
        assert low.min() - 1e-5 <= stream.min() and stream.max() <= high.max() + 1e-5
    assert not np.array_equal(found["main"], found["other"])


def test_labels_of_the_test_split_are_hidden_from_training():
    splits = toy.splits()
    hidden = drawn_from(splits, "test")
    assert (hidden.label == -1).all() and (splits.test.label >= 0).all()
    np.testing.assert_array_equal(hidden.image, splits.test.image)
    assert drawn_from(splits, "train") is splits.train
