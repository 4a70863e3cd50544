"""The networks of ImageNet-LT against Decoupling's own code, in float64, and what they cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import golden
from test_golden_resnet32 import on_one_device, worst

from ltjax.build import objective
from ltjax.experts import independent, seeded_keys, stack, take
from ltjax.learner import Variables, learner
from ltjax.methods.classifier import classifier
from ltjax.models import NETWORKS, cost
from ltjax.models import resnet_imagenet as imagenet
from ltjax.optim import sgd
from ltjax.recipes import settings_of

slow = pytest.mark.slow
THEIRS = [
    ("resnet10", "resnet10"),
    pytest.param("resnet50", "resnet50", marks=slow),
    pytest.param("resnext50", "resnext50_32x4d", marks=slow),
]


def waves(shape, number):
    """Numbers in [-1, 1) for a tensor, by the formula of the golden notes: none is stored."""
    k = np.arange(np.prod(shape, dtype=int))
    r = 43758.5453 * np.sin(12.9898 * (k + 1) + 78.233 * (number + 1))
    return (2 * (r - np.floor(r)) - 1).reshape(shape)


def images():
    file, x = golden("sm_imagenet_backbones"), 1.5 * waves((2, 3, 224, 224), 1000)
    assert file["seed_offset"] == 0
    np.testing.assert_array_equal(x.ravel()[:5], file["x_first5"])
    np.testing.assert_allclose(x.sum(), file["x_sum"], rtol=1e-12)
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def our_tensor(name, shape, number):
    """(collection, layer, leaf, value) for an entry of the authors' state dict."""
    *layer, leaf = name.split(".")
    v = waves(shape, number)
    if len(shape) == 4:
        where, value = ("params", "kernel"), v * (6 / np.prod(shape[1:])) ** 0.5
        value = value.transpose(2, 3, 1, 0)
    else:
        where, value = {
            "weight": (("params", "scale"), 1 + 0.1 * v),
            "bias": (("params", "bias"), 0.1 * v),
            "running_mean": (("batch_stats", "mean"), 0.1 * v),
            "running_var": (("batch_stats", "var"), 1 + 0.2 * v),
        }[leaf]
    if len(layer) == 1:
        path = ("stem",)
    else:  # layer2.0.conv1, layer2.0.bn1, layer2.0.downsample.0, layer2.0.downsample.1
        stage, block, kind, *_ = layer
        kind = "projection" if kind == "downsample" else kind.replace("bn", "conv")
        path = (f"{stage.replace('layer', 'stage')}_block{block}", kind)
    return where[0], (*path, where[1]), value


def our_tree(theirs):
    """The authors' backbone by our names: {"params": ..., "batch_stats": ...}."""
    file, tree = golden("sm_imagenet_backbones"), {"params": {}, "batch_stats": {}}
    entries = zip(file[f"{theirs}/names"], file[f"{theirs}/shapes"], strict=True)
    for number, (name, shape) in enumerate(entries):
        shape = tuple(map(int, shape.split("x")))
        collection, (*above, leaf), value = our_tensor(name, shape, number)
        node = tree[collection]
        for key in above:
            node = node.setdefault(key, {})
        node[leaf] = jnp.asarray(value)
    return tree


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name, theirs", THEIRS)
def test_features_and_statistics_are_the_authors(name, theirs):
    file, tree, image = golden("sm_imagenet_backbones"), our_tree(theirs), images()
    module = imagenet.ResNet(*imagenet.RESNETS[name])

    def everything(tree):
        evaluated, seen = module.apply(
            tree,
            image,
            train=False,
            capture_intermediates=lambda module, _: isinstance(module, imagenet.Block),
            mutable=["intermediates"],
        )
        means = jax.tree.map(lambda x: x.mean((1, 2)), seen["intermediates"])
        return evaluated, means, module.apply(tree, image, train=True, mutable=["batch_stats"])

    evaluated, means, (trained, moved) = on_one_device(everything, 1)(tree)
    found = {
        f"eval_layer{stage}_channel_mean": means[f"stage{stage}_block{blocks - 1}"]["__call__"][0]
        for stage, blocks in enumerate(module.blocks, 1)
    }
    found |= {"eval_feature": evaluated.mean((1, 2)), "train_feature": trained.mean((1, 2))}
    stem = moved["batch_stats"]["stem"]
    found |= {"train_bn1_running_mean": stem["mean"], "train_bn1_running_var": stem["var"]}
    assert jax.tree.structure(moved["batch_stats"]) == jax.tree.structure(tree["batch_stats"])
    for key, value in found.items():
        expected = file[f"{theirs}/{key}"]
        # measured: below 5e-13
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# Parameters of the backbone; multiply-adds with 1000 classes at 224 x 224, which torchvision lists
# as 4.09, 11.51 and 4.23 thousand million for the last three.
COSTS = {
    "resnet10": (4_905_792, 889_229_312),
    "resnet50": (23_508_032, 4_089_184_256),
    "resnet152": (58_143_808, 11_513_626_624),
    "resnext50": (22_979_904, 4_230_479_872),
}


@pytest.mark.parametrize("name", COSTS)
def test_networks_cost_what_the_field_says(name):
    network, image = NETWORKS[name](1000), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = Variables(*jax.eval_shape(network.init, jax.random.key(0), image))

    def predict(variables, image):
        return toy.outputs(network, variables, image)

    found = cost.parameters(variables.params["backbone"])
    assert (found, cost.multiply_adds(predict, variables, image)) == COSTS[name]


@functools.cache
def two_experts():
    """(learner, its state, a batch of 8 images for each)."""
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(2, 8, 32, 32, 3)), jnp.float32)  # [E, B, H, W, 3]
    batch = {"image": image, "label": jnp.asarray(rng.integers(0, 10, (2, 8)))}
    aim = objective(settings_of({}), np.ones(10, int))
    method = classifier(NETWORKS["resnet10"](10), aim)
    many = independent(learner(method, sgd(lambda _: 0.1, 0.9, True, 5e-4), 1), over="vmap")
    quick = {"xla_backend_optimization_level": 1}  # it runs once: compiling is all
    init = jax.jit(many.init, compiler_options=quick)
    return many, init(seeded_keys(0, 0, 2), take(batch, 0)), batch


def test_parameters_start_as_in_decouplings_code():
    params, stats, _ = take(two_experts()[1].variables, 0)
    first, head = params["backbone"]["stage2_block0"], params["head"]
    for layer, size in (("conv1", 3), ("projection", 1)):
        std = (2 / (size * size * 128)) ** 0.5  # fan out; fan in would count 64 channels
        np.testing.assert_allclose(first[layer]["kernel"].std(), std, rtol=0.03)
        np.testing.assert_array_equal(first[layer]["scale"], 1)
        np.testing.assert_array_equal(first[layer]["bias"], 0)
    np.testing.assert_array_equal(stats["backbone"]["stem"]["var"], 1)
    limit = 512**-0.5  # uniform(+-1 / sqrt(D))
    assert 0.99 * limit < np.abs(head["kernel"]).max() <= limit
    np.testing.assert_allclose(head["kernel"].std(), limit / 3**0.5, rtol=0.03)
    assert 0.3 * limit < np.abs(head["bias"]).max() <= limit


@pytest.mark.slow
def test_experts_train_without_seeing_each_other():
    many, state, batch = two_experts()
    update = on_one_device(many.update, 2)
    after, metrics = update(state, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.variables, metrics)))
    moved = jax.tree.map(lambda x, y: (x != y).any(), after.variables, state.variables)
    assert all(jax.tree.leaves(moved))

    def exchanged(tree):
        return stack([take(tree, 1), take(tree, 0)])

    again, _ = update(exchanged(state), exchanged(batch))
    assert worst(exchanged(again).variables, after.variables) < 1e-6


@pytest.mark.parametrize("name, theirs", [("resnet10", "resnet10"), ("resnet50", "resnet50"),
                                          ("resnext50", "resnext50_32x4d")])  # fmt: skip
def test_backbones_have_as_many_parameters_as_the_authors(name, theirs):
    file, image = golden("sm_imagenet_backbones"), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params, _ = jax.eval_shape(NETWORKS[name](1000).init, jax.random.key(0), image)
    assert cost.parameters(params["backbone"]) == file[f"{theirs}/num_params"]
