"""Networks that split into branches: one trunk, a last block for each branch, one head on all."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models import Network
from ltjax.models.conv_plain import wide


class Bilateral(NamedTuple):
    """A network with K branches, as functions of its parameters.

    init: (key, image [B, H, W, channels]) -> (params, stats), dicts with the groups 'backbone' (the
      trunk), one by the name of each branch, and 'head'. Trunk and one branch together have the
      arrays, and their names, of the backbone that was split.
    features: (variables, image, names, train) -> (one f32[B, D] for each branch named, stats). With
      train, batch norm uses the batch's own statistics, and running ones move, in the trunk and in
      the branches named.
    logits: (variables, features f32[B, K D], those of all branches in a row) -> f32[B, C].
    """

    init: Callable[..., tuple[dict, dict]]
    features: Callable[..., tuple[list[jax.Array], dict]]
    logits: Callable[..., jax.Array]


def bilateral(network: Network, names: tuple[str, ...]) -> Bilateral:
    """A network with its last block once for each branch.

    Args:
      network: whose backbone is a ltjax.models.stages.Staged.
      names: of the branches.
    """
    backbone, head = network.modules
    module = _Bilateral(*backbone.before_and_last_block(), head, names)

    def init(key, image):
        variables = module.init(key, image)
        return dict(variables["params"]), dict(variables.get("batch_stats", {}))

    def features(variables, image, names, train):
        tree = {"params": variables.params, "batch_stats": variables.stats}
        arguments = dict(names=names, train=train, method="features")
        if not train:
            return module.apply(tree, image, **arguments), variables.stats
        found, moved = module.apply(tree, image, **arguments, mutable=["batch_stats"])
        return found, dict(moved.get("batch_stats", {}))

    def logits(variables, features):
        return module.apply({"params": variables.params}, features, method="logits")

    return Bilateral(init, features, logits)


class _Bilateral(nn.Module):
    backbone: nn.Module
    block: nn.Module
    head: nn.Module
    names: tuple[str, ...]

    def setup(self):
        for name in self.names:
            setattr(self, name, self.block.copy())

    def __call__(self, image):
        return self.logits(jnp.concatenate(self.features(image, self.names, train=False), -1))

    def features(self, image, names, train):
        x = self.backbone(image, train=train)
        return [wide(getattr(self, name)(x, train=train)).mean((1, 2)) for name in names]

    def logits(self, features):
        return self.head(features)
