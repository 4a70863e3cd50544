"""Networks that branch: one trunk of early stages, then K copies of the late ones with their heads.

The topology of RIDE (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021), which SADE and BalPoE took over. What the papers call experts are
heads here: they share the trunk, so they are not independent. `BRANCHED` has a row for each network
of NETWORKS that can branch.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.choices import pick
from ltjax.models import Network, classifier_network
from ltjax.models.heads import HEADS, PYTORCH_HEADS
from ltjax.models.imagenet import RESNETS, WIDTHS, ResNet
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


def cifar_branches(
    depth: int, widths: tuple[int, ...], reduced_widths: tuple[int, ...]
) -> Callable[..., Network]:
    """A row of BRANCHED: a CifarResNet that branches after its first stage.

    Args:
      depth: 6 n + 2, with n blocks a stage.
      widths: of all stages.
      reduced_widths: of those of a branch, where these are reduced.
    """
    blocks = (depth - 2) // 6

    def resnet(
        num_classes: int,
        form: str = "winograd",
        num_heads: int = 3,
        reduced: bool = True,
        each: Each = jax.vmap,
        *,
        head: str = "linear",
    ) -> Network:
        make_head = pick(HEADS, head, "config.network.head")
        late = (*widths[:1], *(reduced_widths if reduced else widths[1:]))
        trunk, branch = CifarResNet(blocks, widths, form).split(blocks, late)
        return branched(trunk, branch, make_head(num_classes), num_heads, each)

    return resnet


def imagenet_branches(name: str) -> Callable[..., Network]:
    """A row of BRANCHED: a ResNet that branches after its second stage."""
    convs, blocks = RESNETS[name]

    def resnet(
        num_classes: int,
        form: str = "winograd",
        num_heads: int = 3,
        reduced: bool = True,
        each: Each = jax.vmap,
        *,
        head: str = "linear",
    ) -> Network:
        make_head = pick(PYTORCH_HEADS, head, "config.network.head")
        late = (*WIDTHS[:2], *((192, 384) if reduced else WIDTHS[2:]))
        trunk, branch = ResNet(convs, blocks, form).split(sum(blocks[:2]), late)
        return branched(trunk, branch, make_head(num_classes), num_heads, each)

    return resnet


# name of the network -> (classes, form, heads, reduced, each, *, head) -> its branched counterpart.
# Reduced branches are three quarters as wide, as in RIDE's code on CIFAR and ImageNet-LT.
BRANCHED = {f"resnet{n}": cifar_branches(n, (16, 32, 64), (24, 48)) for n in (8, 20, 32, 56)}
BRANCHED |= {name: imagenet_branches(name) for name in RESNETS}
