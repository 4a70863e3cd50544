"""OLTR against the authors' own code, all of it but its schedule, in float64.

The vectors are float32, which is what tolerances allow for; those of the golden notes are wider.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import by_formula, golden, uniform
from test_golden_resnet32 import on_one_device

from ltjax.learner import Variables
from ltjax.losses.classification import nll
from ltjax.methods import oltr
from ltjax.models import NETWORKS
from ltjax.models.oltr import MetaEmbedding, ModulatedAttention, SquashedCosine, squared_distances
from ltjax.models.parts import pooled

pytestmark = pytest.mark.usefixtures("float64")

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6)


def linear(get, name):
    """Their Linear by our names."""
    return {"kernel": get(f"{name}.weight").T, "bias": get(f"{name}.bias")}


def last(x):
    """Their channels to the end, of a batch of maps."""
    return jnp.asarray(x, jnp.float64).transpose(0, 2, 3, 1)


def attention(get, height, width):
    """Their ModulatedAttLayer by our names."""
    spatial = get("fc_spatial.weight").reshape(height * width, -1, height * width)

    def conv1x1(name):
        return {"kernel": get(f"{name}.weight")[:, :, 0, 0].T, "bias": get(f"{name}.bias")}

    params = {name: conv1x1(name) for name in ("theta", "phi", "g")} | {
        "mask": {"kernel": get("conv_mask.weight")[:, :, 0, 0].T},
        # theirs reads channels, then places; ours places, then channels
        "spatial": {
            "kernel": spatial.transpose(2, 1, 0).reshape(-1, height * width),
            "bias": get("fc_spatial.bias"),
        },
    }
    return in_float64(params)


def in_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def test_modulated_attention_and_its_gradients_are_the_authors():
    file = golden("oltr_modulated_attention")
    params = attention(lambda name: file[f"state_dict/{name}"], 7, 7)

    def attend(params, maps):
        out, weight, mask = ModulatedAttention().apply({"params": params}, maps)
        return (out * last(file["cotangent"])).sum(), (out, weight, mask)

    gradient = jax.jit(jax.value_and_grad(attend, (0, 1), has_aux=True))
    (_, found), grads = gradient(params, last(file["x"]))
    out, weight, mask = found
    close(out, last(file["output"]))
    close(weight, file["spatial_attention"])
    close(mask, last(file["self_attention_map"]))
    of_params, of_maps = grads
    close(of_maps, last(file["grad_x"]))
    jax.tree.map(close, of_params, attention(lambda name: file[f"grad/{name}"], 7, 7))


def meta(get):
    """Their MetaEmbeddingClassifier by our names: (hallucinator, the rest)."""
    rest = {"selector": linear(get, "fc_selector")}
    rest |= {"classifier": {"kernel": get("cosnorm_classifier.weight").T}}
    return in_float64((linear(get, "fc_hallucinator"), rest))


def test_the_meta_embedding_and_its_gradients_are_the_authors():
    file = golden("oltr_meta_embedding")
    features, centroids = in_float64((file["features"], file["centroids"]))

    def embed(params, features):
        hallucinator, rest = params
        concepts = features @ hallucinator["kernel"] + hallucinator["bias"]
        logits, found = MetaEmbedding(40).apply({"params": rest}, features, concepts, centroids)
        return nll(logits, file["target"]).mean(), (logits, found)

    params = meta(lambda name: file[f"state_dict/{name}"])
    gradient = jax.jit(jax.value_and_grad(embed, (0, 1), has_aux=True))
    (ce, (logits, found)), grads = gradient(params, features)
    close(logits, file["logits"])
    close(ce, file["ce"])
    close(features, file["direct_feature"])
    close(found.selector * found.memory, file["infused_feature"])
    close(found.memory, file["memory_feature"])
    close(found.selector, file["concept_selector"])
    close(found.embedding, file["meta_embedding"])
    close(found.reach, file["reachability"])
    close(squared_distances(features, centroids), file["dist_to_centroids"] ** 2)
    jax.tree.map(close, grads[0], meta(lambda name: file[f"grad/{name}"]))
    close(grads[1], file["grad_features"])


def test_the_cosine_classifier_and_its_gradients_are_the_authors():
    file = golden("oltr_cosine_classifier")
    kernel, x, cotangent = in_float64([file[name] for name in ("weight", "x", "cotangent")])
    assert file["scale"] == 16

    def classify(kernel, x):
        logits = SquashedCosine(len(kernel)).apply({"params": {"kernel": kernel.T}}, x)
        return (logits * cotangent).sum(), logits

    gradient = jax.jit(jax.value_and_grad(classify, (0, 1), has_aux=True))
    (_, logits), grads = gradient(kernel, x)
    close(logits, file["logits"])
    close(grads[0], file["grad_weight"])
    close(grads[1], file["grad_x"])


@pytest.mark.parametrize("devices", [1, 5])
def test_the_centroid_loss_and_the_authors_own_rule_are_theirs_on_any_mesh(devices):
    file = golden("oltr_disc_centroids")

    def share_of_loss(features, centroids, label, weight):
        return oltr.centroid_loss(features, centroids, label, weight).sum() / 10

    own_parts = jax.value_and_grad(share_of_loss, (0, 1))
    on_devices = jax.jit(jax.vmap(own_parts, (0, None, 0, None), axis_name="data"))
    for case in ("repel_active", "repel_inactive"):
        names = ("features", "centroids", "target", "attract", "repel")
        features, centroids, label, attract, repel = (file[f"{case}/{name}"] for name in names)
        features, centroids = in_float64((features, centroids))
        assert (repel > 0) == (case == "repel_active")
        features, label = (x.reshape(devices, -1, *x.shape[1:]) for x in (features, label))
        for weight in (1, 0.01):
            theirs = f"{case}/weight{weight}"
            loss, (of_features, of_centroids) = on_devices(features, centroids, label, weight)
            close(loss.sum(), weight * (attract + oltr.REPEL * repel))
            close(loss.sum(), weight * file[f"{theirs}/loss_unweighted"])
            close(of_features.reshape(10, -1), file[f"{theirs}/grad_features"])
            close(of_centroids.sum(0), file[f"{theirs}/grad_centroids"])


def backbone(get):
    """Their ResNet-10 by our names: (params, stats)."""
    params, stats = {}, {}

    def put(conv, norm, *path):
        above = functools.reduce(lambda node, key: node.setdefault(key, {}), path[:-1], params)
        above[path[-1]] = {
            "kernel": get(f"{conv}.weight").transpose(2, 3, 1, 0),
            "scale": get(f"{norm}.weight"),
            "bias": get(f"{norm}.bias"),
        }
        above = functools.reduce(lambda node, key: node.setdefault(key, {}), path[:-1], stats)
        mean, var = get(f"{norm}.running_mean"), get(f"{norm}.running_var")
        above[path[-1]] = {"mean": mean, "var": var}

    put("conv1", "bn1", "stem")
    for stage in (1, 2, 3, 4):
        block = f"stage{stage}_block0"
        for k in (1, 2):
            put(f"layer{stage}.0.conv{k}", f"layer{stage}.0.bn{k}", block, f"conv{k}")
        if stage > 1:
            there = f"layer{stage}.0.downsample"
            put(f"{there}.0", f"{there}.1", block, "projection")
    return params, stats


@pytest.mark.slow  # large images
def test_both_networks_of_imagenet_are_the_authors():
    file = golden("oltr_resnet10_imagenet")
    seed, of_the_rest = int(file["base_seed"]), int(file["classifier/base_seed"])
    get = by_formula(file["feature/keys"], file["feature/shapes"], seed).get
    rest = by_formula(file["classifier/keys"], file["classifier/shapes"], of_the_rest).get
    image = last(np.float32(uniform(seed + 100_000, (2, 3, 224, 224))))
    centroids = np.abs(np.float32(uniform(seed + 200_000, (1000, 512))))

    theirs, stats = backbone(get)
    pooling = {"attention": attention(lambda name: get(f"modulatedatt.{name}"), 7, 7)}
    pooling |= {"fc_add": linear(get, "fc_add")}
    hallucinator, others = meta(rest)
    params = dict(backbone=theirs, pooling=pooling, head=hallucinator, meta=others)
    params |= {"centroids": centroids}
    variables = in_float64(Variables(params, {"backbone": stats}))

    first = NETWORKS["resnet10"](1000)
    second = oltr.with_centroids(oltr.attentive(first), 1000)
    shapes = jax.eval_shape(second.init, jax.random.key(0), image)
    of_both = jax.tree.map(lambda x: x.shape, (variables.params, variables.stats))
    assert of_both == jax.tree.map(lambda x: x.shape, shapes)
    # theirs and ours hold the same numbers of parameters, but for our centroids
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes[0]))
    expected = file["num_params_feature"] + file["num_params_classifier"] + centroids.size
    assert count == expected

    def everything(variables):
        maps, _ = first.maps(variables, image, train=False)
        features = oltr.attended(variables, maps)
        trained, _ = second.maps(variables, image, train=True)
        of_attention = {"params": variables.params["pooling"]["attention"]}
        weight = ModulatedAttention().apply(of_attention, maps)[1]
        logits = second.head(variables, features)
        return pooled(maps), logits, features, oltr.attended(variables, trained), weight

    plain, logits, features, trained, weight = on_one_device(everything, 1)(variables)
    atol = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-5)  # the notes: 3e-4
    atol(plain, file["stage1/eval_features"])
    atol(features, file["eval/features"])
    atol(weight, file["eval/spatial_attention"])
    atol(logits, file["eval/logits"])
    atol(trained, file["train/features"])
