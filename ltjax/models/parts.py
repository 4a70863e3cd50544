"""Parts that networks are made of: Flax modules as functions of their own params and statistics."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax

from ltjax.models.conv_plain import wide


class Layers(NamedTuple):
    """What turns images, or the maps of other layers, into maps.

    init: (key, x [B, H, W, I], group=None) -> (maps, params, stats); only the shape of x is used.
      From one key, groups of different names draw different numbers; without a name, a key draws
      others still.
    maps: (params, stats, x, train) -> (maps [B, h, w, D], stats); see ltjax.models.Network.
    """

    init: Callable[..., tuple[jax.Array, dict, dict]]
    maps: Callable[..., tuple[jax.Array, dict]]


class Head(NamedTuple):
    """What turns features into logits.

    init: (key, features [B, D], group) -> params; as that of Layers.
    logits: (params, features f32[B, D]) -> f32[B, C].
    weights: params -> (kernel f32[D, C], bias f32[C] or None), the weights of each class. None
      where a head has no such weights.
    """

    init: Callable[..., dict]
    logits: Callable[[dict, jax.Array], jax.Array]
    weights: Callable[[dict], tuple[jax.Array, jax.Array | None]] | None


def pooled(maps: jax.Array) -> jax.Array:
    """The means of maps over their places, f[B, h, w, D] -> f32[B, D]."""
    return wide(maps).mean((1, 2))


def layers(module: nn.Module) -> Layers:
    """The functions of a module (x, train) -> maps."""

    def init(key, x, group=None):
        out, variables = _drawn(module, group).init_with_output(key, x, train=False)
        params, stats = variables.get("params", {}), variables.get("batch_stats", {})
        return (out, params, stats) if group is None else (out, params[group], stats.get(group, {}))

    def maps(params, stats, x, train):
        tree = {"params": params, "batch_stats": stats}
        if not train:
            return module.apply(tree, x, train=False), stats
        out, moved = module.apply(tree, x, train=True, mutable=["batch_stats"])
        return out, moved.get("batch_stats", {})

    return Layers(init, maps)


def head(module: nn.Module) -> Head:
    """The functions of a module features -> logits, such as those of ltjax.models.heads."""

    def init(key, features, group):
        return _drawn(module, group).init(key, features)["params"][group]

    def logits(params, features):
        return module.apply({"params": params}, features)

    return Head(init, logits, getattr(module, "weights", None))


def _drawn(module, group):
    return module if group is None else _Group(module, group)


class _Group(nn.Module):
    """A module as the only one of another, by this name, which its random draws depend on."""

    module: nn.Module
    group: str

    @nn.compact
    def __call__(self, *args, **kwargs):
        return self.module.copy(name=self.group)(*args, **kwargs)
