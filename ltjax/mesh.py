"""Experts and images over devices: the only file that names a PartitionSpec.

A mesh has two axes, ('expert', 'data'). Experts go to separate devices first, because then they
need no communication; what devices remain share each expert's batch. The compiled step is
jit over `jax.shard_map`, which is what `jax.pmap` itself is made of since JAX 0.8.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ltjax.axes import DATA, EXPERT
from ltjax.errors import FieldError, UserError
from ltjax.learner import Learner, PyTree

# Where the leading axes of an array lie.
EXPERTS = PartitionSpec(EXPERT)  # [E, ...]
REQUESTS = PartitionSpec(None, EXPERT, DATA)  # [S, E, B, ...], of S steps
EXAMPLES = PartitionSpec(DATA)  # [B, ...], one batch that all experts see
OUTPUTS = PartitionSpec(None, DATA)  # [E, B, ...], what all experts say of such a batch
WHOLE = PartitionSpec()  # the same everywhere


def mesh_for(num_experts: int, devices: Sequence[Any] | None = None, expert: int = 0) -> Mesh:
    """The mesh of a run.

    Args:
      num_experts: E.
      devices: the devices to use; all of them by default.
      expert: devices along the expert axis; 0 takes gcd(E, devices), the most that divides both.

    Raises:
      UserError: if `expert` does not divide both the experts and the devices.
    """
    devices = jax.devices() if devices is None else devices
    best = math.gcd(num_experts, len(devices))
    expert = expert or best
    if len(devices) % expert or num_experts % expert:
        why = f"it must divide both {num_experts} experts and {len(devices)} devices (0: automatic)"
        raise FieldError("mesh.expert", expert, why, use=best)
    shape = (expert, len(devices) // expert)
    return jax.make_mesh(shape, (EXPERT, DATA), devices=devices, axis_types=(AxisType.Auto,) * 2)


def check_batch(mesh: Mesh, batch_size: int, stream_size: int) -> None:
    """Refuse a batch that the devices of the data axis cannot share equally.

    Args:
      mesh: of the run.
      batch_size: of the config.
      stream_size: images in one of the streams of such a batch, in most methods all.

    Raises:
      UserError: naming the next size that works.
    """
    share = mesh.shape[DATA]
    if stream_size % share:
        unit = batch_size * share // math.gcd(stream_size, batch_size * share)
        part = "" if stream_size == batch_size else f" and its stream of {stream_size}"
        why = f"it must be a multiple of {unit}: {share} devices share each expert's batch{part}"
        raise FieldError("batch_size", batch_size, why, use=-(-batch_size // unit) * unit)


# For what runs once. XLA:CPU takes 15 s (JAX 0.10) or 70 s (0.12) to optimise the 31 random draws
# of ResNet-32; with less effort it takes 3 to 4 s, and the numbers are the same.
QUICK = {"xla_backend_optimization_level": 1}


class Sharded(NamedTuple):
    """A Learner of many experts, compiled for a mesh."""

    init: Callable[[jax.Array, PyTree], PyTree]  # (keys [E], example batch) -> state
    update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, dict]]  # (state, arrays, requests)
    is_finite: Callable[[PyTree], jax.Array]  # state -> bool[E], whether all numbers are finite


def sharded(many: Learner, mesh: Mesh, load: Callable = lambda arrays, request: request) -> Sharded:
    """Compile a learner of many experts over a mesh.

    Args:
      many: a learner with a leading expert axis, from `ltjax.experts.independent`.
      mesh: from `mesh_for`.
      load: (arrays, request) -> batch, the part of a feed that runs inside the step; the request
        has leaves [E, B, ...], the arrays are whole on every device.

    Returns:
      Sharded; `update` takes requests [S, E, B, ...] of S steps, donates the state that it is
      given, and returns the metrics of the last step; a loss that is not finite in any of them is
      NaN there.
    """

    def update(state, arrays, requests):
        def step(state, request):
            return many.update(state, load(arrays, request))

        if len(jax.tree.leaves(requests)[0]) == 1:  # nothing to repeat
            return step(state, _at(requests, 0))
        state, metrics = lax.scan(step, state, requests)
        last, losses = _at(metrics, -1), metrics["loss"]  # [S, E]
        return state, last | {"loss": jnp.where(jnp.isfinite(losses).all(0), last["loss"], jnp.nan)}

    return Sharded(
        init=jit_once(many.init, mesh),
        update=jax.jit(
            over_mesh(update, mesh, (EXPERTS, WHOLE, REQUESTS), (EXPERTS, EXPERTS)),
            donate_argnums=0,
        ),
        is_finite=jax.jit(over_mesh(_is_finite, mesh, (EXPERTS,), EXPERTS)),
    )


def jit_once(f: Callable, mesh: Mesh) -> Callable:
    """f, which runs once and returns leaves [E, ...], compiled with little effort for a mesh."""
    is_cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        f,
        out_shardings=NamedSharding(mesh, EXPERTS),
        compiler_options=QUICK if is_cpu else None,
    )


def _at(tree: PyTree, step: int) -> PyTree:
    return jax.tree.map(lambda x: x[step], tree)


def _is_finite(state: PyTree) -> jax.Array:
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).reshape(len(x), -1).all(1) for x in floats]).all(0)


def over_mesh(f: Callable, mesh: Mesh, ins: tuple, outs: Any) -> Callable:
    """shard_map with the settings that this library needs.

    check_vma is off because a convolution with its own gradient is refused under it. Then a
    collective inside a differentiated function is its own transpose; `ltjax.learner` relies on it.
    """
    return jax.shard_map(f, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)


def place(tree: PyTree, mesh: Mesh, spec: PartitionSpec) -> PyTree:
    """Host arrays, the same on every process, as global arrays; each device gets its part."""
    sharding = NamedSharding(mesh, spec)

    def one(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

    return jax.tree.map(one, tree)


def fetch(tree: PyTree) -> PyTree:
    """Global arrays as NumPy arrays, whole, on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def process_zero_first(f: Callable[[], None]) -> None:
    """Let process 0 call f, then the others: what it wrote is there when they look.

    Raises:
      UserError: on all processes, if f raises it on one; none is left waiting.
    """
    for mine in (jax.process_index() == 0, jax.process_index() != 0):
        error = None
        if mine:
            try:
                f()
            except UserError as caught:
                error = caught
        if jax.process_count() > 1:
            failed = multihost_utils.process_allgather(np.int32(error is not None)).any()
            error = error or (
                UserError("Another process failed; see its message.") if failed else None
            )
        if error:
            raise error
