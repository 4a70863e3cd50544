"""N independent experts: one learner's functions over a leading expert axis.

The whole update is mapped, not only the loss: optimiser moments, clipping, random keys and batch
statistics are each expert's own. (Sharing the optimiser would let, say, clipping by the global
norm mix the experts.)
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax.config.settings import Compute
from ltjax.learner import Learner, PyTree
from ltjax.models.layers import is_native


def independent(one: Learner, over: str = "vmap") -> Learner:
    """Many experts that share nothing, each a copy of `one` with its own state and batch.

    Args:
      one: the learner of a single expert.
      over: see `over_experts`.

    Returns:
      A learner whose functions take and return a leading axis [E] on every leaf. `init` and
      `predict` take one batch, shared by all experts.
    """

    method = one.method

    def predict(variables, batch):
        return over_experts(lambda own: method.predict(own, batch), over)(variables)

    def after_eval(memory, evaluation):
        found = dict(zip(evaluation["expert_numbers"], evaluation["experts"], strict=True))

        def one(i):
            own = take(memory, i)
            if i + 1 not in found:  # set aside
                return own
            return method.after_eval(own, evaluation | {"own": found[i + 1]})

        return stack([one(i) for i in range(len(jax.tree.leaves(memory)[0]))])

    return Learner(
        # No convolution is computed in init (only shapes are used), so vmap is right anywhere;
        # expert i is bitwise what one.init(key[i]) gives.
        init=jax.vmap(one.init, (0, None)),
        update=over_experts(one.update, over),
        method=method._replace(predict=predict, after_eval=after_eval),
    )


def over_experts(f: Callable, over: str) -> Callable:
    """Map f over a leading expert axis [E] of every leaf of its arguments.

    Args:
      f: a function of one expert.
      over: how the map is compiled; the results agree to rounding. 'vmap' computes all experts in
        each operation: right for native kernels and for block-diagonal convolutions. XLA turns
        others, with a kernel per expert, into grouped ones: on CPU many times slower than 'unroll',
        which compiles one copy of f per expert. 'map' is a loop: it compiles once and needs the
        memory of one expert.
    """
    if over == "vmap":
        return jax.vmap(f)
    if over == "map":
        return lambda *own: lax.map(lambda one: f(*one), own)
    assert over == "unroll", over
    return lambda *own: stack([f(*take(own, i)) for i in range(len(jax.tree.leaves(own)[0]))])


def best_over(compute: Compute) -> str:
    """The `over` of a config, or the fastest one if it is 'auto'."""
    if compute.experts_over != "auto":
        return compute.experts_over
    together = compute.convolution == "blocks" or is_native(compute.convolution, compute.dtype)
    # On CPU this is measured. For accelerators it is an assumption: 'unroll' launches as many
    # kernels as there are experts, but the grouped convolutions of 'vmap' have slow gradients on
    # GPUs (jax-ml/jax #13800). benchmarks/gpu.py measures all forms.
    return "vmap" if together else "unroll"


def seeded_keys(seed: int, phase: int, num_experts: int) -> jax.Array:
    """One key an expert, key[E]; the key of an expert does not depend on their number."""
    key = jax.random.fold_in(jax.random.key(seed), phase)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_experts))


def take(tree: PyTree, i: int) -> PyTree:
    """Expert i's slice of a tree with a leading expert axis."""
    return jax.tree.map(lambda x: x[i], tree)


def without(tree: PyTree, aside: Sequence[int]) -> PyTree:
    """A tree with a leading expert axis, without some of the experts.

    aside: their numbers, from 1.
    """
    if not aside:
        return tree
    count = len(jax.tree.leaves(tree)[0])
    kept = np.array([i for i in range(count) if i + 1 not in aside])
    return jax.tree.map(lambda x: x[kept], tree)


def stack(trees: list[PyTree]) -> PyTree:
    """One tree with a leading expert axis from one tree per expert."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
