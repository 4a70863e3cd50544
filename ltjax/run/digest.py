"""Digests of the numbers of experts, the same wherever they lie."""

import hashlib

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.tree_util import keystr, tree_leaves_with_path

from ltjax.learner import PyTree


def digests(state: PyTree) -> list[str]:
    """SHA-256 of the numbers of each expert, the same on all processes.

    Args:
      state: leaves [E, ...], on any devices of any processes, or as `read_state` gives them.
    """
    leaves = {_name(path): _as_numbers(leaf) for path, leaf in tree_leaves_with_path(state)}
    count = next(iter(leaves.values())).shape[0]
    found = np.zeros((count, 32), np.uint8)  # of experts that are on this process
    here = {name: _here(leaf) for name, leaf in leaves.items()}
    for expert in range(count):
        if all(expert in rows for rows in here.values()):
            total = hashlib.sha256()
            for name in sorted(leaves):
                row = here[name][expert]
                total.update(f"{name} {row.dtype} {row.shape} ".encode())
                total.update(row.tobytes())
            found[expert] = np.frombuffer(total.digest(), np.uint8)
    spread = [leaf for leaf in leaves.values() if isinstance(leaf, jax.Array)]
    if any(not leaf.is_fully_addressable for leaf in spread):  # the same on all processes
        found = multihost_utils.process_allgather(found).max(0)
    return [bytes(row).hex() for row in found]


def _here(leaf):
    """{expert: its row}, of the rows that this process holds."""
    if isinstance(leaf, np.ndarray):
        return dict(enumerate(leaf))
    rows = {}
    for shard in leaf.addressable_shards:
        first = shard.index[0].start or 0 if shard.index else 0
        rows |= {first + i: row for i, row in enumerate(np.asarray(shard.data))}
    return rows


def _as_numbers(leaf):
    typed = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if typed else leaf


def _name(path):
    return keystr(path, simple=True, separator="/")
