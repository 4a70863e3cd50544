"""RIDE: diverse heads on one trunk, and a router that uses as many as an image needs.

Wang, Lian, Miao, Liu and Yu, "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021. Their experts are heads here: branches of one network, trained on the same
batches. Phase one trains them, each through the loss of the config (LDAM-DRW by default), and
drives them apart; then everything is frozen, and gates learn which images need another branch. The
distilled variant first trains a teacher of six heads. Where paper and code differ, the code is
followed: diversity is from the heads' mean instead of between pairs, temperatures are divided by
their largest, and the teacher teaches the mean of the heads.
"""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax import build, optim, phases
from ltjax.axes import DATA
from ltjax.config.requires import refuse_choices
from ltjax.data import sampling
from ltjax.errors import FieldError
from ltjax.learner import Method, Variables
from ltjax.limits import above, at_least, at_most, below, only_with
from ltjax.losses.classification import divergence
from ltjax.losses.objective import Objective
from ltjax.methods.parts.features import logits_of
from ltjax.methods.parts.several_heads import BRANCHED_GROUPS, HeadsObjective, branched, many_headed
from ltjax.methods.ride.routing import multiply_adds, routed
from ltjax.models import SeveralHeads, cost

Heads = Annotated[int, at_least(1), at_most(64)]


def recipe(
    settings,
    info,
    *,
    num_heads: Heads = 3,
    reduced: bool = True,
    diversity: Annotated[float, at_least(0), at_most(100)] = 0.45,
    gamma: Annotated[float, at_least(0), below(1), only_with("diversity")] = 0.05,
    start: Annotated[
        float, at_least(0), below(1), only_with("diversity"), only_with("gamma")
    ] = 0.8,
    distill: bool = False,
    teacher_heads: Annotated[Heads, only_with("distill")] = 6,
    distill_weight: Annotated[float, above(0), at_most(100), only_with("distill")] = 1.0,
    distill_temperature: Annotated[float, above(0), at_most(1_000_000), only_with("distill")] = 1.5,
    routing: bool = True,
    routing_epochs: Annotated[float, above(0), at_most(1_000_000), only_with("routing")] = 5.0,
    routing_lr: Annotated[float, above(0), at_most(1_000_000), only_with("routing")] = 0.01,
    top_k: Annotated[int, at_least(1), at_most(1_000_000), only_with("routing")] = 30,
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
      start: share of training after which temperatures differ; re-weighting has its own `start`.
      distill: train a teacher first, then learn from it too.
      teacher_heads: of it.
      distill_weight: of what it teaches.
      distill_temperature: of both softmaxes in that.
      routing: train a router after that.
      routing_epochs: of that, on top of config.num_epochs; the authors' 5 for any num_epochs,
        because gates need their hundred steps.
      routing_lr: its highest learning rate.
      top_k: how many of an image's largest logits a gate sees, of as many as there are; 50 for
        ResNeXt-50 on ImageNet-LT.
    """
    if routing and num_heads < 2:
        why = "it must be at least 2 with a router, which chooses among heads"
        raise FieldError("num_heads", num_heads, why, use={"routing": False})
    if num_heads == 1:
        _refuse_diversity(settings)
    if distill:
        because = "with distill=True has a teacher of whole images"
        refuse_choices(settings, "mixing", because=because)
    network = functools.partial(branched, settings, info, reduced=reduced)
    base = build.objective(settings, info.class_counts)
    heads_objective = diverse(base, temperatures(info.class_counts, gamma), diversity, start)
    train = functools.partial(build.phase, settings, info)

    student = network(num_heads)
    if distill:
        teacher = network(teacher_heads)
        taught = distilled(student, teacher, heads_objective, distill_weight, distill_temperature)
        first = (
            train(many_headed(teacher, heads_objective), name="teacher"),
            train(taught, begin=with_teacher),
        )
    else:
        first = (train(many_headed(student, heads_objective, build.mixing(settings, info))),)
    if not routing:
        return first
    top_k = min(top_k, info.num_classes)
    to_count = functools.partial(branched, cost.countable(settings), info, reduced=reduced)
    counts = multiply_adds(to_count, info, num_heads, top_k)
    method = routed(student, num_heads, top_k, counts)
    second = build.phase(
        _second(settings, info, routing_epochs),
        info,
        method,
        name="routing",
        begin=phases.start_from(*BRANCHED_GROUPS),
        sampler=sampling.class_cycle,
        schedule=functools.partial(optim.cosine, lr=routing_lr, ahead=False),
    )
    return *first, second


def temperatures(class_counts: np.ndarray, gamma: float) -> np.ndarray:
    """tau_c = q_c / max_j q_j, q_c = gamma C n_c / N + 1 - gamma; f64[C] in (0, 1].

    As in the code of Wang et al., ICLR 2021; the paper subtracts max_j q_j - 1 instead of dividing.
    """
    counts = np.asarray(class_counts, np.float64)
    q = gamma * len(counts) * counts / counts.sum() + 1 - gamma
    return q / q.max()


def diverse(base: Objective, late: np.ndarray, diversity: float, start: float) -> HeadsObjective:
    """The sum over heads of L(z_k, y) - diversity mean(tau)^2 KL_k.

    KL_k is that of softmax(m / tau) from softmax(z_k / tau), with m the mean of the heads' logits,
    without gradient; tau_c divides the logits of class c. Without diversity, K L(m, y), with
    gradients to all heads. As in the code of Wang et al., ICLR 2021.

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


def distilled(
    network: SeveralHeads,
    teacher: SeveralHeads,
    heads_objective: HeadsObjective,
    weight: float,
    temperature: float,
) -> Method:
    """K [L + weight t^2 KL(softmax(z_T / t) | softmax(m / t))], m and z_T means over heads.

    The factor K is the authors' code: it adds both terms once for each head. Memory is
    {"teacher": Variables without memory}, first set by `with_teacher`.
    """

    def init(key, batch):
        key, teacher_key = jax.random.split(key)
        variables = many_headed(network, heads_objective).init(key, batch)
        params, stats = teacher.init(teacher_key, batch["image"])
        return variables._replace(memory={"teacher": Variables(params, stats)})

    def loss(variables, batch, key, progress):
        taught = logits_of(teacher, variables.memory["teacher"], batch["image"])

        def with_lesson(logits, label, key, progress):
            values, weights = heads_objective(logits, label, key, progress)
            apart = divergence(taught.mean(0) / temperature, logits.mean(0) / temperature)
            lesson = weight * temperature**2 * apart
            lesson *= lax.pmean(weights.mean(), DATA) / weights  # a mean over examples
            return len(logits) * (values + lesson), weights

        return many_headed(network, with_lesson).loss(variables, batch, key, progress)

    return many_headed(network, heads_objective)._replace(init=init, loss=loss)


def with_teacher(state, previous):
    """Begin with the previous phase's network as the teacher; all else is fresh."""
    memory = {"teacher": previous._replace(memory=())}
    return state._replace(variables=state.variables._replace(memory=memory))


def _refuse_diversity(settings):
    """One head is its own mean, from which nothing drives it apart."""
    for option in ("diversity", "gamma", "start"):
        if settings.method.get(option):
            why = "it has no effect with one head; leave it out"
            raise FieldError(option, settings.method[option], why)


def _second(settings, info, num_epochs):
    """The settings of the router's phase: batches four times as large, 512 in the authors' code."""
    larger = 4 * settings.batch_size
    return dataclasses.replace(
        settings,
        batch_size=larger if larger <= info.num_train else settings.batch_size,
        num_epochs=num_epochs,
        optimizer=dataclasses.replace(
            settings.optimizer, momentum=0.9, nesterov=True, weight_decay=5e-4
        ),
    )
