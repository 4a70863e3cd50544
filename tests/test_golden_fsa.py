"""Feature space augmentation's maps and fusion against an unofficial implementation, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden
from test_golden_resnet32 import network, on_one_device, ours

from ltjax.methods.feature_augmentation import class_map, fuse


def drawn(file, number, shape):
    """A tensor of the state dict, by the formula of the golden notes."""
    name = str(file["keys"][number])
    u = np.random.RandomState(file["base_seed"] + number).uniform(-1, 1, shape)
    if len(shape) > 1:
        u *= (6 / np.prod(shape[1:])) ** 0.5 if len(shape) == 4 else (3 / shape[1]) ** 0.5
    elif name.endswith(("running_var", "weight")):
        u = 1 + 0.2 * u
    else:
        u *= 0.1
    return u.astype(np.float32)


def theirs(file):
    """Their parameters and images, in our layout."""
    tensors = {}
    for number, (name, shape) in enumerate(zip(file["keys"], file["shapes"], strict=True)):
        if not name.endswith("num_batches_tracked"):
            shape = tuple(int(size) for size in shape.strip("[]").split(","))
            tensors[str(name).replace("fc.", "linear.")] = drawn(file, number, shape)
    random = np.random.RandomState(file["base_seed"] + 100000)
    image = random.uniform(-1, 1, file["x_shape"]).astype(np.float32)
    return ours(tensors.get, "c10_fc"), jnp.asarray(image.transpose(0, 2, 3, 1), jnp.float64)


@pytest.mark.usefixtures("float64")
def test_maps_fused_features_and_their_logits_are_those_of_the_unofficial_code():
    file = golden("fsa_cam_fusion")
    variables, image = theirs(file)
    net, head = network("c10_fc"), variables.params["head"]

    def logits(maps):
        return maps.mean((1, 2)) @ head["kernel"] + head["bias"]

    maps = on_one_device(net.maps, 2)(variables, image)

    def close(found, expected):  # stored in float32; measured: below 1e-6 of the largest
        atol = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)

    close(logits(maps), file["logits"])
    close(maps, file["feature_map"].transpose(0, 2, 3, 1))
    cam = jax.vmap(class_map)(maps, head["kernel"].T[file["target"]])
    np.testing.assert_allclose(cam, file["cam"], atol=1e-5)

    specific = jnp.where(cam[0, ..., None] > file["ts"], maps[0], 0)
    generic = jnp.where(cam[1:, ..., None] < file["tg"], maps[1:], 0)
    fused = jax.vmap(fuse, (0, None, 0))(file["mask"] > 0, specific, generic)
    close(fused, file["fused"].transpose(0, 2, 3, 1))
    close(logits(fused), file["fused_logits"])
