"""Networks that branch: one trunk of early stages, then K copies of the late ones with their heads.

The topology of RIDE (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021), which SADE and BalPoE took over. What the papers call experts are
heads here: they share the trunk, so they are not independent. `BRANCHED` has a row for each network
of NETWORKS that can branch.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.choices import pick
from ltjax.models import Network, classifier_network
from ltjax.models.heads import HEADS, PYTORCH_HEADS
from ltjax.models.imagenet import RESNETS, ResNet
from ltjax.models.resnet import CifarResNet

# f of one branch -> the same over a leading axis [K] of its argument's leaves, as jax.vmap
Each = Callable[[Callable], Callable]


def branched(
    trunk: nn.Module, branch: nn.Module, head: nn.Module, num_heads: int, each: Each = jax.vmap
) -> Network:
    """A Network of K heads, each at the end of a branch of its own.

    Args:
      trunk: (image, train) -> maps [B, H, W, I], the group 'backbone'.
      branch: (maps, train) -> maps [B, h, w, D]; the group 'branches', every leaf [K, ...].
      head: features -> logits; the group 'head', every leaf [K, ...].
      num_heads: K.
      each: how branches are compiled; see ltjax.experts.over_experts.

    Returns:
      A Network whose logits are [K, B, C] and features [K, B, D], each of them of one branch.
    """
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
        still = tuple(_GROUPS[group] for group in frozen if group in _GROUPS)

        def of_one(own):
            return one.apply(own, maps, train, still, between, pool)

        params, stats = _of_one(variables.params), _of_one(variables.stats)
        outputs, stats = each(of_one)(variables._replace(params=params, stats=stats, memory=()))
        return outputs, {"backbone": moved.get("batch_stats", {}), **_of_all(stats)}

    return Network(init, apply)


# A branch and its head are, by themselves, a network that reads maps: its name of each group.
_GROUPS = {"branches": "backbone", "head": "head"}


def _of_one(tree: dict) -> dict:
    return {theirs: tree[ours] for ours, theirs in _GROUPS.items() if ours in tree}


def _of_all(tree: dict) -> dict:
    return {ours: tree[theirs] for ours, theirs in _GROUPS.items() if theirs in tree}


def branching(
    backbone: Callable[..., nn.Module], at: int, reduced_widths: tuple[int, ...], heads: dict
) -> Callable[..., Network]:
    """A row of BRANCHED.

    Args:
      backbone: form -> the whole backbone.
      at: the block that branches begin with, counted from 0.
      reduced_widths: of all its stages, where those of branches are reduced.
      heads: table of heads, as in ltjax.models.heads.
    """

    def resnet(
        num_classes: int,
        form: str = "winograd",
        num_heads: int = 3,
        reduced: bool = True,
        each: Each = jax.vmap,
        *,
        head: str = "linear",
    ) -> Network:
        make_head = pick(heads, head, "config.network.head")
        trunk, branch = backbone(form=form).split(at, reduced_widths if reduced else None)
        return branched(trunk, branch, make_head(num_classes), num_heads, each)

    return resnet


# name of the network -> (classes, form, heads, reduced, each, *, head) -> its branched counterpart:
# after the first stage for small images, after the second for large ones. Reduced branches are
# three quarters as wide, as in RIDE's code on CIFAR and ImageNet-LT.
BRANCHED = {
    f"resnet{6 * n + 2}": branching(functools.partial(CifarResNet, n), n, (16, 24, 48), HEADS)
    for n in (1, 3, 5, 9)
}
BRANCHED |= {
    name: branching(
        functools.partial(ResNet, convs, blocks),
        sum(blocks[:2]),
        (64, 128, 192, 384),
        PYTORCH_HEADS,
    )
    for name, (convs, blocks) in RESNETS.items()
}
