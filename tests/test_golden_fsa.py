"""Feature space augmentation's maps and fusion against an unofficial implementation, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import by_formula, golden, uniform
from test_golden_resnet32 import network, on_one_device, ours

from ltjax.methods.feature_augmentation import class_map, fuse
from ltjax.models.parts import pooled


def theirs(file):
    """Their parameters and images, in our layout."""
    tensors = by_formula(file["keys"], file["shapes"], int(file["base_seed"]))
    tensors = {name.replace("fc.", "linear."): tensor for name, tensor in tensors.items()}
    image = np.float32(uniform(int(file["base_seed"]) + 100_000, file["x_shape"]))
    return ours(tensors.get, "c10_fc"), jnp.asarray(image.transpose(0, 2, 3, 1), jnp.float64)


@pytest.mark.usefixtures("float64")
def test_maps_fused_features_and_their_logits_are_those_of_the_unofficial_code():
    file = golden("fsa_cam_fusion")
    variables, image = theirs(file)
    net = network("c10_fc")

    def logits(maps):
        return net.head(variables, pooled(maps))

    evaluated = functools.partial(net.maps, train=False)
    maps, _ = on_one_device(evaluated, 2)(variables, image)
    kernel, _ = net.weights(variables)

    def close(found, expected):  # stored in float32; measured: below 1e-6 of the largest
        atol = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)

    close(logits(maps), file["logits"])
    close(maps, file["feature_map"].transpose(0, 2, 3, 1))
    cam = jax.vmap(class_map)(maps, kernel.T[file["target"]])
    np.testing.assert_allclose(cam, file["cam"], atol=1e-5)

    specific = jnp.where(cam[0, ..., None] > file["ts"], maps[0], 0)
    generic = jnp.where(cam[1:, ..., None] < file["tg"], maps[1:], 0)
    fused = jax.vmap(fuse, (0, None, 0))(file["mask"] > 0, specific, generic)
    close(fused, file["fused"].transpose(0, 2, 3, 1))
    close(logits(fused), file["fused_logits"])
