"""From images to logits: a network's maps, their means, and its head on these."""

import jax

from ltjax.learner import Variables
from ltjax.models import Network
from ltjax.models.conv_plain import wide


def pooled(maps: jax.Array) -> jax.Array:
    """The means of maps over their places, f[.., B, h, w, D] -> f32[.., B, D]."""
    return wide(maps).mean((-3, -2))


def features_of(network: Network, variables: Variables, image: jax.Array) -> jax.Array:
    """Features under running statistics, f32[B, D], or f32[K, B, D] of a network of K heads."""
    maps, _ = network.maps(variables, image, train=False)
    return pooled(maps)


def logits_of(network: Network, variables: Variables, image: jax.Array) -> jax.Array:
    """Logits under running statistics, f32[B, C], or f32[K, B, C] of a network of K heads."""
    return network.head(variables, features_of(network, variables, image))
