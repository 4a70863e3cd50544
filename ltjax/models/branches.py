"""Networks with branches: a trunk of early stages, then K copies of the late ones with their heads.

The topology of RIDE (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021), which SADE and BalPoE took over. What the papers call experts are
heads here: they share the trunk, so they are not independent.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax.models import Network, SeveralHeads
from ltjax.models.parts import pooled

# f of one branch -> the same over a leading axis [K] of its argument's leaves, as jax.vmap
Each = Callable[[Callable], Callable]


def branched(
    network: Network, num_heads: int, reduced: bool = True, each: Each = jax.vmap
) -> SeveralHeads:
    """A network with K branches, each with a head of its own.

    Args:
      network: that can be split; see ltjax.models.Network.
      num_heads: K.
      reduced: whether branches are three quarters as wide as the network's late stages.
      each: how branches are compiled; see ltjax.experts.over_experts.

    Returns:
      A network whose variables have the groups 'backbone', which is the trunk, and
      'branches' and 'head', every leaf of which is [K, ...].
    """
    trunk, branch, one_head = network.split(lambda staged: staged.trunk_and_branch(reduced))

    def init(key, image):
        trunk_key, key = jax.random.split(key)
        x, params, stats = trunk.init(trunk_key, image)

        def one(key):  # draws what a network of this backbone and head does
            maps, params, stats = branch.init(key, x, "backbone")
            of_head = one_head.init(key, maps[:, 0, 0], "head")  # one place, for its shape
            return {"branches": params, "head": of_head}, {"branches": stats}

        own_params, own_stats = jax.vmap(one)(jax.random.split(key, num_heads))
        return {"backbone": params} | own_params, {"backbone": stats} | own_stats

    def features(variables, image, train, frozen=()):
        params, stats = variables.params, variables.stats
        moves = {group: train and group not in frozen for group in ("backbone", "branches")}
        x, of_trunk = trunk.maps(params["backbone"], stats["backbone"], image, moves["backbone"])
        # A copy for each branch: their gradients are then slices that are added. Of maps that are
        # mapped over as they are, XLA:CPU sums them over an axis, which takes 80 times as long.
        copies = jnp.stack([x] * num_heads)

        def one(own):
            maps, stats = branch.maps(*own, moves["branches"])
            return pooled(maps), stats

        found, of_branches = each(one)((params["branches"], stats["branches"], copies))
        return found, {"backbone": of_trunk, "branches": of_branches}

    def head(variables, features):
        return each(lambda own: one_head.logits(*own))((variables.params["head"], features))

    return SeveralHeads(init, features, head)
