"""Networks that branch against RIDE's own code, in float64, and what they cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import by_formula, golden, uniform
from test_golden_resnet32 import on_one_device

from ltjax.experts import take
from ltjax.learner import Variables
from ltjax.models import NETWORKS, cost
from ltjax.models.branches import branched

LEAVES = {
    "bn": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
    "conv": {"weight": "kernel"},
}


def place(name, first):
    """(group, our path in it, number of the branch or None) of an entry of RIDE's state dict.

    `first` is the first stage that branches.
    """
    *layer, leaf = name.removeprefix("backbone.").split(".")
    if layer[0] == "linears":
        return "head", ("kernel",), int(layer[1])
    if len(layer) == 1:  # conv1 or bn1
        leaf = LEAVES["bn" if layer[0].startswith("bn") else "conv"][leaf]
        return "backbone", ("stem", leaf), None
    stage = int(layer[0][len("layer")])
    branch, (block, kind, *_) = (layer[1:2], layer[2:]) if stage >= first else ([], layer[1:])
    is_norm = kind.startswith("bn") or (kind == "downsample" and layer[-1] == "1")
    leaf = LEAVES["bn" if is_norm else "conv"][leaf]
    kind = "projection" if kind == "downsample" else kind.replace("bn", "conv")
    path = (f"stage{stage}_block{block}", kind, leaf)
    return ("branches", path, int(branch[0])) if branch else ("backbone", path, None)


def ours(entries, num_heads, first):
    """Params and stats of [(name, tensor)], the authors' state dict."""
    trees = ({}, {})
    for name, tensor in entries:
        if name.endswith("num_batches_tracked"):
            continue
        group, path, number = place(name, first)
        *above, leaf = (group, *path)
        node = trees[leaf in ("mean", "var")]
        for key in above:
            node = node.setdefault(key, {})
        value = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
        if number is None:
            node[leaf] = jnp.asarray(value, jnp.float64)
        else:
            whole = node.setdefault(leaf, np.zeros((num_heads, *value.shape)))
            whole[number] = value
    return Variables(*jax.tree.map(jnp.asarray, trees))


def resnet32():
    """(RIDE's ResNet-32 with three heads, its variables, images, labels, the file)."""
    file = golden("ride_resnet32")
    start = "state_dict/"
    entries = [(k.removeprefix(start), file[k]) for k in file.files if k.startswith(start)]
    image = jnp.asarray(file["x"].transpose(0, 2, 3, 1), jnp.float64)
    network = branched(NETWORKS["resnet32"](100, head="cosine"), 3)
    return network, ours(entries, 3, first=2), image, jnp.asarray(file["target"]), file


@functools.cache
def outputs_of_resnet32():
    """(logits and features at test time, the same in training, statistics after a step)."""
    network, variables, image, _, _ = resnet32()

    def everything(variables):
        evaluated, same = toy.outputs(network, variables, image)
        trained, stats = toy.outputs(network, variables, image, train=True)
        return evaluated, same, trained, stats

    return on_one_device(everything, 1)(variables)


@pytest.mark.usefixtures("float64")
def test_resnet32_with_three_heads_is_the_authors():
    _, variables, _, _, file = resnet32()
    (logits, features), same, (trained, _), stats = outputs_of_resnet32()
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-5)  # logits up to 30
    close(logits, file["eval/expert_logits"])
    close(logits.mean(0), file["eval/mean_logits"])
    close(features, file["eval/features"].transpose(1, 0, 2))
    for epoch in (1, 161):  # from the same variables
        close(trained, file[f"train/epoch{epoch}/expert_logits"])
        close(trained.mean(0), file[f"train/epoch{epoch}/mean_logits"])
    jax.tree.map(np.testing.assert_array_equal, same, variables.stats)
    after = "train/epoch1/after_forward/backbone"
    for name, found in (
        ("bn1", stats["backbone"]["stem"]),
        ("layer3s.2.4.bn2", take(stats["branches"], 2)["stage3_block4"]["conv2"]),
    ):
        close(found["mean"], file[f"{after}.{name}.running_mean"], atol=1e-6)
        close(found["var"], file[f"{after}.{name}.running_var"], atol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
def test_resnet10_with_three_heads_is_the_authors():
    file = golden("ride_resnet10_imagenet")
    seed = int(file["base_seed"])
    entries = by_formula(file["keys"], file["shapes"], seed).items()
    image = np.float32(uniform(seed + 100_000, file["x_shape"]))
    image = jnp.asarray(image.transpose(0, 2, 3, 1), jnp.float64)
    network = branched(NETWORKS["resnet10"](1000, head="cosine"), 3)
    variables = ours(entries, 3, first=3)
    assert cost.parameters(variables.params) == file["num_params"]

    def everything(variables):
        evaluated, _ = toy.outputs(network, variables, image)
        return evaluated, toy.outputs(network, variables, image, train=True)[0][0]

    (logits, features), trained = on_one_device(everything, 1)(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-5)
    close(logits, file["eval/expert_logits"])
    close(logits.mean(0), file["eval/mean_logits"])
    close(features, file["eval/features"])
    close(trained, file["train/expert_logits"])


# (network, classes, side of an image, heads) -> parameters, multiply-adds of an image
COSTS = {
    ("resnet32", 100, 32, 2): (530_512, 74_917_248),
    ("resnet32", 100, 32, 3): (783_856, 100_358_208),
    ("resnet32", 100, 32, 6): (1_543_888, 176_681_088),
    ("resnet10", 1000, 224, 3): (9_401_792, 1_173_263_360),
}


@pytest.mark.parametrize("of", COSTS, ids=str)
def test_branched_networks_cost_what_the_authors_do(of):
    name, classes, side, num_heads = of
    network = branched(NETWORKS[name](classes, head="cosine"), num_heads)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = Variables(*jax.eval_shape(network.init, jax.random.key(0), image))

    def predict(variables, image):
        return toy.outputs(network, variables, image)

    found = cost.parameters(variables.params), cost.multiply_adds(predict, variables, image)
    assert found == COSTS[of]
