"""One expert: a Method, and the Learner that trains it with an optimiser.

The walk of an image: a feed (`ltjax.data.feeds`) hands a batch to `Learner.update`, which calls
`Method.loss`; that augments the images (`ltjax.phases.on_images`), shows them to a network and asks
a loss for a value an example. The mean, its gradient and the optimiser's update are here.

A Method says what is learned, in pure functions of one expert and one batch; a Learner adds how
its parameters move. Neither knows how many experts or devices there are. The mean over the batch
is taken only here, so that the author of a method never writes one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ltjax.axes import DATA

PyTree = Any
Batch = dict[str, Any]


class Variables(NamedTuple):
    """All that a method reads."""

    params: dict[str, PyTree]  # moved by gradients; grouped by role: backbone, head, ...
    stats: dict[str, PyTree]  # running statistics of batch norm, in the same groups
    memory: PyTree = ()  # the method's own arrays: class counts, centroids, teachers, ...


class LossOutput(NamedTuple):
    """What a method's loss returns."""

    values: jax.Array  # f32[B], one loss per example
    weights: jax.Array  # f32[B], ones unless the method re-weights
    stats: PyTree
    memory: PyTree
    metrics: dict[str, jax.Array]  # each f32[B] or f32[]


class Prediction(NamedTuple):
    """The outputs of a method for a batch. XLA prunes the parts that a caller does not use."""

    logits: jax.Array  # f32[B, C]
    # Of a network with several heads: the logits of each head, f32[K, B, C].
    heads: jax.Array | None = None
    # Further numbers of each example, {name: f32[B]}; their means are reported.
    measures: Mapping[str, jax.Array] = {}


def unchanged(memory: PyTree, evaluation: dict) -> PyTree:
    """The `after_eval` of methods that learn nothing from an evaluation."""
    del evaluation
    return memory


class Method(NamedTuple):
    """What one expert learns.

    A batch is a dict: 'image' [B, H, W, channels], 'label' i32[B], 'index' i32[B] (the position in
    the training set), and further streams nested under their names.
    """

    init: Callable[[jax.Array, Batch], Variables]  # (key, batch); every leaf in its final shape
    loss: Callable[
        [Variables, Batch, jax.Array, jax.Array], LossOutput
    ]  # (.., key, progress in [0, 1])
    predict: Callable[[Variables, Batch], Prediction]
    # (memory, evaluation of the held-out split), on the host: the result of metrics.summary, with
    # the numbers of this expert under 'own'. Without a held-out split it is never called.
    after_eval: Callable[[PyTree, dict], PyTree] = unchanged
    frozen: tuple[str, ...] = ()  # groups of params that do not change, statistics included
    head_names: tuple[str, ...] = ()  # in reports, where heads differ by more than chance
    # How heads are combined into the logits, for reports; "" for the mean of their logits.
    combined: str = ""


class TrainState(NamedTuple):
    """The state of training between steps; with experts, each leaf has a leading axis [E]."""

    step: jax.Array  # i32[], updates done in this phase
    key: jax.Array  # key[], constant; each step folds its number in
    variables: Variables
    opt_state: PyTree


class Learner(NamedTuple):
    """A Method and its optimiser. With experts, the same functions over a leading axis [E]."""

    init: Callable[[jax.Array, Batch], TrainState]
    update: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
    method: Method  # with experts, its `predict` and `after_eval` have the leading axis, too


def learner(method: Method, optimizer: optax.GradientTransformation, num_steps: int) -> Learner:
    """Train `method` with `optimizer` for `num_steps` updates.

    The objective is sum(values * weights) / sum(weights) over the *global* batch, as PyTorch's
    weighted cross-entropy has it (LDAM-DRW's code relies on that), exact on any number of devices.
    `update` runs where the axis 'data' is bound (see `ltjax.mesh.sharded`).
    """

    # XLA divides by a constant by multiplying with its reciprocal, which rounds: a loss that
    # starts at 0.8 of training would start a step late. So quotients are taken here.
    times = (np.arange(num_steps + 1) / max(num_steps, 1)).astype(np.float32)

    def init(key, batch):
        key, init_key = jax.random.split(key)
        variables = method.init(init_key, batch)
        trained, _ = _split(variables.params, method.frozen)
        return TrainState(jnp.zeros((), jnp.int32), key, variables, optimizer.init(trained))

    def update(state, batch):
        key = jax.random.fold_in(state.key, state.step)
        progress = jnp.asarray(times)[state.step]
        trained, kept = _split(state.variables.params, method.frozen)

        def share_of_loss(trained):
            """This device's part of the loss: parts add up to it over 'data'."""
            variables = state.variables._replace(params=trained | kept)
            out = method.loss(variables, batch, key, progress)
            return jnp.sum(out.values * out.weights) / lax.psum(jnp.sum(out.weights), DATA), out

        # shard_map runs unchecked (convolutions with a custom gradient need it), and there the
        # gradient of the local part is local: it is summed over devices here. Summing the loss
        # inside the differentiated function instead would count it once more per device.
        (loss, out), grads = jax.value_and_grad(share_of_loss, has_aux=True)(trained)
        loss, grads = lax.psum((loss, grads), DATA)
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        params = optax.apply_updates(trained, updates) | kept
        variables = Variables(params, out.stats, out.memory)
        metrics = {name: lax.pmean(jnp.mean(x), DATA) for name, x in out.metrics.items()}
        return TrainState(state.step + 1, state.key, variables, opt_state), {
            "loss": loss,
            **metrics,
        }

    return Learner(init, update, method)


def _split(params: dict[str, PyTree], frozen: tuple[str, ...]) -> tuple[dict, dict]:
    """The groups that gradients move, and those that stay."""
    assert set(frozen) <= set(params), f"no groups {frozen} among {list(params)}"
    trained = {name: group for name, group in params.items() if name not in frozen}
    return trained, {name: params[name] for name in frozen}
