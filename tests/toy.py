"""A toy tail: four classes of 8 x 8 images, a bright corner under noise, 40 to 5 of a class."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from ltjax import mesh, optim
from ltjax.axes import DATA
from ltjax.build import objective, on_images
from ltjax.config.choices import choose
from ltjax.config.settings import Compute, Data
from ltjax.data.datasets import DATASETS, assembled
from ltjax.data.images import InMemory
from ltjax.evaluation.evaluate import evaluator
from ltjax.experts import seeded_keys, stack
from ltjax.learner import learner
from ltjax.methods.classifier import classifier
from ltjax.methods.parts.features import features
from ltjax.models import NETWORKS, HeadName, classifier_network
from ltjax.models.heads import HEADS
from ltjax.models.resnet_cifar import CifarResNet
from ltjax.models.stages import Staged
from ltjax.recipes import functions_of, settings_of
from ltjax.run.compiled import Compiled

# Of methods that need others than their defaults here.
OPTIONS = {"feature_augmentation": {"num_fused": 1}}  # four tail images a batch, for four devices
CLASS_COUNTS = np.array([40, 20, 10, 5])
RUN = dict(  # the config of a short run; two epochs have ten steps
    network={"name": "normed"},
    schedule={"name": "step", "lr": 0.05, "drop_at": ()},
    num_experts=2,
    batch_size=16,
    num_epochs=2.0,
    log_every_steps=1,
    compute={"experts_over": "map"},
)


def network(num_classes, form="winograd", *, head: HeadName = "linear"):
    """Five convolutions, one of them strided: all kinds of layers, and soon compiled."""
    return classifier_network(CifarResNet(1, (4, 8), form), HEADS[head](num_classes))


class Tiny(Staged):
    """Two dense layers, each a block, compiled in no time."""

    widths: tuple[int, ...] = (32, 32)
    normed: bool = False  # by batch norm
    branches_from = 1

    def depths(self):
        return 1, 1

    @nn.compact
    def __call__(self, x, train):
        for stage, _ in self.parts():
            dense = nn.Dense(self.widths[stage], name=f"block{stage}")
            x = dense(x.reshape(len(x), 1, 1, -1))
            if self.normed:
                axis = DATA if train else None
                x = nn.BatchNorm(not train, axis_name=axis, name=f"norm{stage}")(x)
            x = nn.relu(x)
        return x


def tiny(num_classes, form="winograd", *, head: HeadName = "linear"):
    """No convolution and no batch norm: for what has nothing to do with these."""
    del form
    return classifier_network(Tiny(), HEADS[head](num_classes))


def normed(num_classes, form="winograd", *, head: HeadName = "linear"):
    """The same with batch norm, for what has to do with statistics."""
    del form
    return classifier_network(Tiny(normed=True), HEADS[head](num_classes))


def whole(num_classes, form="winograd", *, head: HeadName = "linear"):
    """The first, where nothing is known of its parts."""
    return network(num_classes, form, head=head)._replace(weights=None, split=None)


NAMES = {"toy": network, "tiny": tiny, "normed": normed}  # of networks for tests
NETWORKS |= NAMES


def outputs(network, variables, image, train=False):
    """((logits, features), stats) of a network."""
    found, stats = features(network, variables, image, train)
    return (network.head(variables, found), found), stats


def images(counts, seed=0):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(4), counts)
    image = rng.integers(0, 90, (len(label), 8, 8, 1))
    for i, corner in enumerate(label):
        row, column = 4 * (corner // 2), 4 * (corner % 2)
        image[i, row : row + 4, column : column + 4] += 120
    return InMemory(image.astype(np.uint8), label)


def splits():
    manifest = {"train": {"rule": "a toy", "sha256": "", "class_counts": CLASS_COUNTS.tolist()}}
    train, test = images(CLASS_COUNTS), images([9, 9, 9, 9], seed=1)
    return assembled(Data("digits"), DATASETS["digits"], train, test, "abcd", manifest)


def splits_with_held_out(counts=(3, 3, 3, 3)):
    """The same, with a held-out split of its own."""
    held_out, whole = images(counts, seed=2), splits()
    return whole._replace(
        validation=held_out, info=whole.info._replace(num_validation=len(held_out.label))
    )


def settings(**fields):
    base = dict(
        network={"name": "toy"},
        schedule={"name": "step", "lr": 0.05, "drop_at": ()},
        num_experts=2,
        batch_size=16,
        num_epochs=8.0,
    )
    return settings_of(base | fields)


def info():
    return splits().info


def recipe(method="classifier", **fields):
    """A method's phases on the toy tail."""
    chosen = settings(method={"name": method} | OPTIONS.get(method, {}), **fields)
    return choose(functions_of("method"), "method", **chosen.method)(chosen, info())


def phase(method="classifier", **fields):
    """The first of them."""
    return recipe(method, **fields)[0]


@functools.cache
def _init_one(init):
    """One expert's initialisation, compiled once and with little effort."""
    return jax.jit(init, compiler_options=mesh.QUICK)


def images_of(phase):
    """What a phase draws from."""
    images = getattr(splits(), phase.source)
    return images.unlabelled() if phase.source == "test" else images


class Trainer:
    """A phase's learner for `num_experts` experts on a mesh of the first devices.

    It begins as the compiled initialisation of all experts would, see test_contracts.py.
    """

    def __init__(self, phase, num_experts, shape=(1, 1), over="map"):
        devices = jax.devices()[: shape[0] * shape[1]]
        self.compiled = Compiled(
            phase._replace(num_experts=num_experts),
            images_of(phase),
            Compute(experts_over=over),
            expert_devices=shape[0],
            devices=devices,
        )
        self.mesh, self.feed = self.compiled.mesh, self.compiled.feed
        self.many, self.sharded = self.compiled.many, self.compiled.programs
        self.one, self.num_experts = phase.learner, num_experts

    def init(self, keys=None):
        keys = seeded_keys(0, 0, self.num_experts) if keys is None else keys
        state = stack([_init_one(self.one.init)(key, info().example) for key in keys])
        return jax.device_put(state, NamedSharding(self.mesh, mesh.EXPERTS))

    def predict(self, state, image):
        """A Prediction of all experts, each leaf [E, ...]."""
        return self.many.method.predict(state.variables, {"image": jnp.asarray(image)})

    def evaluate(self, state, images, batch_size=16, combine="probs"):
        method, counts = self.many.method, CLASS_COUNTS
        evaluate = evaluator(method, self.mesh, batch_size, counts, combine)
        return evaluate(state.variables, images, keep=True)

    def update(self, state, request, images=None):
        arrays = self.feed.arrays if images is None else self.feed.arrays | {"image": images}
        arrays = mesh.place(arrays, self.mesh, mesh.WHOLE)
        requests = jax.tree.map(lambda index: index[None], request)
        requests = mesh.place(requests, self.mesh, mesh.REQUESTS)
        return self.sharded.update(state, arrays, requests)

    def steps(self, num_steps, state=None):
        state, losses = self.init() if state is None else state, []
        for step in range(num_steps):
            state, metrics = self.update(state, self.feed.host_batch(step))
            losses.append(metrics["loss"])
        return state, np.stack(losses)  # [steps, E]


def numbers(state):
    """Everything in a state that may be compared, as NumPy arrays."""
    return jax.device_get((state.step, state.variables, state.opt_state))


def assert_trees_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def assert_trees_close(tree, other, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), tree, other)


def assert_same_step(found, expected):
    """Two of `numbers` are the same to rounding, which grows with gradients that are above 1."""
    largest = max((np.abs(leaf).max() for leaf in jax.tree.leaves(expected[2])), default=0)
    assert_trees_close(found, expected, atol=2e-6 * max(1, largest))


def method(info, frozen=(), network="toy"):
    """A classifier, by default on the toy network."""
    aim = objective(settings(), info.class_counts)
    made = classifier(NETWORKS[network](info.num_classes), aim, frozen=frozen)
    return on_images(made, info, settings())


def learner_of(method):
    """Ten steps of plain SGD."""
    return learner(method, optim.sgd(lambda _: 0.05, 0.9, True, 1e-3), 10)
