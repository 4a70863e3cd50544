"""From images to the features that a head reads, and to logits."""

import jax

from ltjax.learner import Variables
from ltjax.models import Network, SeveralHeads
from ltjax.models.parts import pooled


def features(
    network: Network | SeveralHeads,
    variables: Variables,
    image: jax.Array,
    train: bool,
    frozen: tuple[str, ...] = (),
) -> tuple[jax.Array, dict]:
    """(f32[B, D], the means of its maps, or f32[K, B, D] of K heads; stats); see Network.maps."""
    if isinstance(network, SeveralHeads):
        return network.features(variables, image, train, frozen)
    maps, stats = network.maps(variables, image, train, frozen)
    return pooled(maps), stats


def features_of(
    network: Network | SeveralHeads, variables: Variables, image: jax.Array
) -> jax.Array:
    """Features under running statistics, f32[B, D], or f32[K, B, D] of K heads."""
    found, _ = features(network, variables, image, train=False)
    return found


def logits_of(network: Network | SeveralHeads, variables: Variables, image: jax.Array) -> jax.Array:
    """Logits under running statistics, f32[B, C], or f32[K, B, C] of K heads."""
    return network.head(variables, features_of(network, variables, image))
