"""Networks that split into branches: one trunk, a last block for each branch, one head on all."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.models import Network
from ltjax.models.stages import Staged


class Bilateral(NamedTuple):
    """A network with K branches, as functions of its variables.

    init: (key, image [B, H, W, channels]) -> (params, stats), dicts with the groups 'backbone' (the
      trunk), one by the name of each branch, and 'head'. Trunk and one branch together have the
      arrays, and their names, of the backbone that was split.
    maps: (variables, image, names, train) -> (maps [B, h, w, D] of each branch named, stats). With
      train, batch norm uses the batch's own statistics, and running ones move, in the trunk and in
      the branches named.
    head: (variables, features f32[B, K D], those of all branches in a row) -> logits f32[B, C].
    """

    init: Callable[..., tuple[dict, dict]]
    maps: Callable[..., tuple[list[jax.Array], dict]]
    head: Callable[..., jax.Array]


def bilateral(network: Network, names: tuple[str, ...]) -> Bilateral:
    """A network with its last block once for each branch.

    Args:
      network: that can be split; see ltjax.models.Network.
      names: of the branches.
    """
    trunk, block, one_head = network.split(Staged.before_and_last_block)

    def init(key, image):
        params, stats, in_a_row = {}, {}, []
        x, params["backbone"], stats["backbone"] = trunk.init(key, image, "backbone")
        for name in names:
            maps, params[name], stats[name] = block.init(key, x, name)
            in_a_row.append(maps[:, 0, 0])  # one place, for its shape
        params["head"] = one_head.init(key, jnp.concatenate(in_a_row, -1), "head")
        return params, stats

    def maps(variables, image, names, train):
        params, stats = variables.params, dict(variables.stats)
        x, stats["backbone"] = trunk.maps(params["backbone"], stats["backbone"], image, train)
        found = []
        for name in names:
            own, stats[name] = block.maps(params[name], stats[name], x, train)
            found.append(own)
        return found, stats

    def head(variables, features):
        return one_head.logits(variables.params["head"], features)

    return Bilateral(init, maps, head)
