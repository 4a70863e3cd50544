"""Networks that branch: one trunk of early stages, then K copies of the late ones with their heads.

The topology of RIDE (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021), which SADE and BalPoE took over. What the papers call experts are
heads here: they share the trunk, so they are not independent.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax.models import Network, classifier_network

# f of one branch -> the same over a leading axis [K] of its argument's leaves, as jax.vmap
Each = Callable[[Callable], Callable]


def branched(
    network: Network, num_heads: int, reduced: bool = True, each: Each = jax.vmap
) -> Network:
    """A network with K branches, each with a head of its own.

    Args:
      network: whose backbone has `trunk_and_branch`, see ltjax.models.stages.Staged.
      num_heads: K.
      reduced: whether branches are three quarters as wide as the network's late stages.
      each: how branches are compiled; see ltjax.experts.over_experts.

    Returns:
      A Network whose logits are [K, B, C] and features [K, B, D], each of them of one branch. Its
      variables have the groups 'backbone', which is the trunk, and 'branches' and 'head', every
      leaf of which is [K, ...].
    """
    backbone, head = network.modules
    trunk, branch = backbone.trunk_and_branch(reduced)
    one = classifier_network(branch, head)

    def init(key, image):
        trunk_key, key = jax.random.split(key)
        variables = trunk.init(trunk_key, image, train=False)
        maps = jax.eval_shape(lambda: trunk.apply(variables, image, train=False))
        maps = jnp.zeros(maps.shape, maps.dtype)  # only the shape is used
        keys = jax.random.split(key, num_heads)
        params, stats = jax.vmap(lambda key: one.init(key, maps))(keys)
        return (
            {"backbone": variables["params"], **_of_all(params)},
            {"backbone": variables.get("batch_stats", {}), **_of_all(stats)},
        )

    def apply(variables, image, train, frozen=(), between=None, pool=None):
        tree = {"params": variables.params["backbone"], "batch_stats": variables.stats["backbone"]}
        moves = train and "backbone" not in frozen
        maps, moved = trunk.apply(tree, image, train=moves, mutable=["batch_stats"])
        # A copy for each branch: their gradients are then slices that are added. Of maps that are
        # mapped over as they are, XLA:CPU sums them over an axis, which takes 80 times as long.
        copies = jnp.stack([maps] * num_heads)
        still = tuple(_GROUPS[group] for group in frozen if group in _GROUPS)

        def of_one(own):
            return one.apply(*own, train, still, between, pool)

        params, stats = _of_one(variables.params), _of_one(variables.stats)
        own = variables._replace(params=params, stats=stats, memory=())
        outputs, stats = each(of_one)((own, copies))
        return outputs, {"backbone": moved.get("batch_stats", {}), **_of_all(stats)}

    return Network(init, apply)


# A branch and its head are, by themselves, a network that reads maps: its name of each group.
_GROUPS = {"branches": "backbone", "head": "head"}


def _of_one(tree: dict) -> dict:
    return {theirs: tree[ours] for ours, theirs in _GROUPS.items() if ours in tree}


def _of_all(tree: dict) -> dict:
    return {ours: tree[theirs] for ours, theirs in _GROUPS.items() if theirs in tree}
