"""RIDE: diverse heads on one trunk, and a router that calls as many as an image needs.

Wang, Lian, Miao, Liu and Yu, "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021. Their experts are heads here: branches of one network, trained on the same
batches. Phase one trains them, each through the loss of the config (LDAM-DRW by default), and
drives them apart; then everything is frozen, and gates learn which images need another branch. The
distilled variant first trains a teacher of six heads. Where paper and code differ we follow the
code: diversity is from the heads' mean instead of between pairs, temperatures are divided by their
largest, and the teacher teaches the mean of the heads.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import log_sigmoid, log_softmax

from ltjax import cost, phases
from ltjax.axes import DATA
from ltjax.choices import choose, within
from ltjax.errors import UserError
from ltjax.learner import Method, Step, Variables
from ltjax.methods.heads import HeadsObjective, branched, many_headed
from ltjax.mixing import MIXINGS
from ltjax.models import Network, router
from ltjax.objective import Objective, objective

TRAINED = ("backbone", "branches", "head")  # in phase one


def recipe(
    settings,
    info,
    *,
    num_heads: int = 3,
    reduced: bool = True,
    diversity: float = 0.45,
    gamma: float = 0.05,
    start: float = 0.8,
    distill: bool = False,
    teacher_heads: int = 6,
    distill_weight: float = 1.0,
    distill_temperature: float = 1.5,
    routing: bool = True,
    routing_share: float = 0.025,
    routing_lr: float = 0.01,
    top_k: int = 30,
) -> tuple[phases.Phase, ...]:
    """Diverse heads on one trunk, and a router.

    Wang et al. (RIDE), ICLR 2021. Defaults are those of the authors' code on CIFAR-100-LT.

    Args:
      settings: of phase one, and of the teacher.
      info: of the training set.
      num_heads: K.
      reduced: branches are three quarters as wide as the network's stages.
      diversity: weight of the divergence from the heads' mean, 0.2 on ImageNet-LT; 0 trains the
        mean of the logits instead, the authors' collaborative ablation.
      gamma: how far temperatures follow class sizes, 0.02 on ImageNet-LT; see `temperatures`.
      start: of training, from where on temperatures differ; that of the re-weighting is its own.
      distill: train a teacher first, then learn from it too.
      teacher_heads: of it.
      distill_weight: of what it teaches.
      distill_temperature: of both softmaxes in that.
      routing: train a router after that.
      routing_share: epochs of that, as a share of config.num_epochs and on top of these; 0.025 is
        the 5 after 200 of the authors' code.
      routing_lr: its highest learning rate.
      top_k: how many of an image's largest logits a gate sees, of as many as there are; 50 for
        ResNeXt-50 on ImageNet-LT.
    """
    within("config.method.num_heads", num_heads, at_least=2 if routing else 1)
    within("config.method.teacher_heads", teacher_heads, at_least=1)
    within("config.method.diversity", diversity, at_least=0)
    within("config.method.gamma", gamma, at_least=0, below=1)
    within("config.method.start", start, at_least=0, below=1)
    within("config.method.distill_weight", distill_weight, at_least=0)
    within("config.method.distill_temperature", distill_temperature, above=0)
    within("config.method.top_k", top_k, at_least=1)
    within("config.method.routing_share", routing_share, above=0)
    within("config.method.routing_lr", routing_lr, above=0)
    if distill and settings.mixing["name"] != "none":
        raise UserError(
            f"config.mixing.name is {settings.mixing['name']!r}, but the teacher of "
            f"config.method.distill sees images as they are; leave one of them out."
        )
    network = functools.partial(branched, settings, info, reduced=reduced)
    base = objective(settings, info.class_counts)
    aim = diverse(base, temperatures(info.class_counts, gamma), diversity, start)
    mixing = choose(MIXINGS, "mixing", **settings.mixing)(info.class_counts)
    train = functools.partial(phases.phase, settings, info, num_experts=settings.num_experts)

    student = network(num_heads)
    if distill:
        teacher = network(teacher_heads)
        taught = distilled(student, teacher, aim, distill_weight, distill_temperature)
        first = (
            train(many_headed(teacher, aim), name="teacher"),
            train(taught, begin=with_teacher),
        )
    else:
        first = (train(many_headed(student, aim, mixing)),)
    if not routing:
        return first
    top_k = min(top_k, info.num_classes)
    plain = dataclasses.replace(
        settings, compute=dataclasses.replace(settings.compute, convolution="plain")
    )  # others may compute products with zeros
    each = [branched(plain, info, k + 1, reduced) for k in range(num_heads)]
    counts = multiply_adds(each, info, top_k)
    method = routed(student, num_heads, top_k, counts)
    second = _second(settings, info, routing_share, routing_lr)
    begin = phases.keep(*TRAINED)
    return *first, phases.phase(second, info, method, settings.num_experts, "routing", begin)


def temperatures(class_counts: np.ndarray, gamma: float) -> np.ndarray:
    """tau_c = q_c / max_j q_j, q_c = gamma C n_c / N + 1 - gamma; f64[C] in (0, 1].

    Wang et al., ICLR 2021, section 3.2, but for the division: the paper subtracts max_j q_j - 1.
    """
    counts = np.asarray(class_counts, np.float64)
    q = gamma * len(counts) * counts / counts.sum() + 1 - gamma
    return q / q.max()


def diverse(base: Objective, late: np.ndarray, diversity: float, start: float) -> HeadsObjective:
    """The sum over heads of L(z_k, y) - diversity mean(tau)^2 KL_k.

    KL_k is that of softmax(m / tau) from softmax(z_k / tau), with m the mean of the heads' logits,
    without gradient; tau_c divides the logits of class c. Without diversity, K L(m, y), with
    gradients to all heads. Wang et al., ICLR 2021, equations 3 and 4, as in the authors' code.

    Args:
      base: L, of one head. Where it divides by a sum of weights, only L does.
      late: tau from `start` of training on, f64[C]; before, it is 1.
      diversity: the authors' -lambda.
      start: in [0, 1).
    """

    def collaborative(logits, label, key, progress):
        values, weights = base(logits.mean(0), label, key, progress)
        return len(logits) * values, weights

    def values_and_weights(logits, label, key, progress):
        keys = jax.random.split(key, len(logits))
        values, weights = jax.vmap(base, (0, None, 0, None))(logits, label, keys, progress)
        # The divergence is a mean over examples. Weights have no gradient, so that their mean over
        # devices needs no care.
        weights /= lax.pmean(weights.mean(-1, keepdims=True), DATA)
        tau = jnp.where(progress >= start, jnp.asarray(late, logits.dtype), 1)
        mean = lax.stop_gradient(logits.mean(0))
        apart = jnp.mean(tau) ** 2 * divergence(mean / tau, logits / tau)  # [K, B]
        values = (values * weights - diversity * apart).sum(0)
        return values, jnp.ones_like(values)

    return values_and_weights if diversity else collaborative


def divergence(logits: jax.Array, other: jax.Array) -> jax.Array:
    """KL(softmax(logits) | softmax(other)) along the last axis: [..., C] -> [...]."""
    log_p = log_softmax(logits)
    return (jnp.exp(log_p) * (log_p - log_softmax(other))).sum(-1)


def distilled(
    network: Network, teacher: Network, aim: HeadsObjective, weight: float, temperature: float
) -> Method:
    """K [aim + weight t^2 KL(softmax(z_T / t) | softmax(m / t))], m and z_T means over heads.

    The factor K is the authors' code: it adds both terms once for each head. Memory is
    {"teacher": Variables without memory}, of which `with_teacher` makes the beginning.
    """

    def init(key, batch):
        key, teacher_key = jax.random.split(key)
        variables = many_headed(network, aim).init(key, batch)
        params, stats = teacher.init(teacher_key, batch["image"])
        return variables._replace(memory={"teacher": Variables(params, stats)})

    def loss(variables, batch, key, progress):
        (taught, _), _ = teacher.apply(variables.memory["teacher"], batch["image"], train=False)

        def with_lesson(logits, label, key, progress):
            values, weights = aim(logits, label, key, progress)
            lesson = distillation(taught.mean(0), logits.mean(0), temperature)
            lesson *= weight * lax.pmean(weights.mean(), DATA) / weights  # a mean over examples
            return len(logits) * (values + lesson), weights

        return many_headed(network, with_lesson).loss(variables, batch, key, progress)

    return many_headed(network, aim)._replace(init=init, loss=loss)


def distillation(teacher: jax.Array, student: jax.Array, temperature: float) -> jax.Array:
    """t^2 KL(softmax(teacher / t) | softmax(student / t)): f32[B, C] twice -> f32[B].

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    return temperature**2 * divergence(teacher / temperature, student / temperature)


def with_teacher(state, previous):
    """Begin with the previous phase's network as the teacher; all else is fresh."""
    memory = {"teacher": previous._replace(memory=())}
    return state._replace(variables=state.variables._replace(memory=memory))


def routed(
    network: Network, num_heads: int, top_k: int, counts: np.ndarray, pos_weight: float = 100.0
) -> Method:
    """Train the gates of a router, nothing else; an image goes on while they are above 0.

    Args:
      network: of K heads.
      num_heads: K, at least 2.
      top_k: as in ltjax.models.router.
      counts: multiply-adds of an image that uses 1..K heads, [K]; reported are their means.
      pos_weight: of images that need another head, in the binary cross-entropy.
    """

    def outputs(variables, batch):
        (logits, features), _ = network.apply(variables, batch["image"], train=False)
        gates = router.gates(variables.params["router"], features[:-1], logits[:-1], top_k)
        return logits, gates

    def init(key, batch):
        key, router_key = jax.random.split(key)
        variables = Variables(*network.init(key, batch["image"]))
        logits, features = jax.eval_shape(
            lambda: network.apply(variables, batch["image"], train=False)[0]
        )
        before_last = [jnp.zeros((num_heads - 1, *of.shape[1:])) for of in (features, logits)]
        gates = router.init(router_key, *before_last, top_k)
        return variables._replace(params=variables.params | {"router": gates})

    def loss(variables, batch, key, progress):
        del key, progress
        logits, gates = outputs(variables, batch)
        values = routing_loss(gates, needed(logits, batch["label"]), pos_weight)
        used = heads_used(gates)
        right = (routed_logits(logits, used).argmax(-1) == batch["label"]).astype(values.dtype)
        metrics = {"accuracy": right, "heads_used": used.astype(values.dtype)}
        return Step(values, jnp.ones_like(values), variables.stats, variables.memory, metrics)

    def predict(variables, batch):
        logits, gates = outputs(variables, batch)
        return routed_logits(logits, heads_used(gates))

    def heads(variables, batch):
        return network.apply(variables, batch["image"], train=False)[0][0]

    def measures(variables, batch):
        used = heads_used(outputs(variables, batch)[1])
        spent = jnp.asarray(counts / 1e6, jnp.float32)[used - 1]
        return {"heads_used": used.astype(jnp.float32), "million_multiply_adds": spent}

    return Method(init, loss, predict, frozen=TRAINED, heads=heads, measures=measures)


def needed(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Whether an image needs a head after the i-th: the first i are wrong, more are right.

    f32[K, B, C], i32[B] -> bool[K - 1, B]. The first i heads say the largest of their mean logits.
    """
    right = jnp.cumsum(logits, 0).argmax(-1) == label  # [K, B]
    later = lax.cummax(right[1:].astype(jnp.int32), axis=0, reverse=True) > 0
    return ~right[:-1] & later


def routing_loss(gates: jax.Array, targets: jax.Array, pos_weight: float) -> jax.Array:
    """Binary cross-entropy, the mean over gates: f32[G, B], bool[G, B] -> f32[B]."""
    return -jnp.where(targets, pos_weight * log_sigmoid(gates), log_sigmoid(-gates)).mean(0)


def heads_used(gates: jax.Array) -> jax.Array:
    """One, and one more for each gate before the first that is not above 0: f32[G, B] -> i32[B]."""
    return 1 + jnp.cumprod(gates > 0, axis=0).sum(0)


def routed_logits(logits: jax.Array, used: jax.Array) -> jax.Array:
    """The mean over the heads that are used: f32[K, B, C], i32[B] -> f32[B, C]."""
    counts = (jnp.arange(len(logits))[:, None] < used)[..., None]  # [K, B, 1]
    return (logits * counts).sum(0) / used[:, None]


def multiply_adds(networks: list[Network], info: phases.Info, top_k: int) -> np.ndarray:
    """What an image costs that uses 1..K heads: trunk, branches and the gates it meets, i64[K].

    Args:
      networks: of 1..K heads.
      info: of the training set.
      top_k: as in ltjax.models.router.
    """
    image = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    key = jax.random.key(0)

    def count(network, num_gates):
        def outputs(variables, image):
            (logits, features), _ = network.apply(variables, image, train=False)
            return features[:num_gates], logits[:num_gates]

        def gates(params, variables, image):
            return router.gates(params, *outputs(variables, image), top_k)

        variables = Variables(*jax.eval_shape(network.init, key, image))
        seen = jax.eval_shape(outputs, variables, image)
        params = jax.eval_shape(lambda *seen: router.init(key, *seen, top_k), *seen)
        return cost.multiply_adds(gates, params, variables, image)

    last = len(networks) - 1  # no gate follows the last head
    return np.array([count(one, min(k, last)) for k, one in enumerate(networks, 1)])


def _second(settings, info, share, lr):
    """The settings of the router's phase: batches four times as large, 512 in the authors' code."""
    larger = 4 * settings.batch_size
    return dataclasses.replace(
        settings,
        batch_size=larger if larger <= len(info.labels) else settings.batch_size,
        sampler={"name": "class_cycle"},
        num_epochs=share * settings.num_epochs,
        schedule={"name": "cosine", "lr": lr, "ahead": False},
        optimizer=dataclasses.replace(
            settings.optimizer, momentum=0.9, nesterov=True, weight_decay=5e-4
        ),
    )
