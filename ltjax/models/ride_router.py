"""RIDE's router: after each branch but the last, a gate that says whether an image needs the next.

Wang et al., ICLR 2021 ("expert assignment"), as in the authors' code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ltjax.models.heads import Linear, unit

HIDDEN = 16


class Router(nn.Module):
    """u_i = v . [top-k of the mean logits of heads 1..i, relu(A_i g_i / |g_i| + a_i)] + b.

    g_i are the features of head i. The gates share v and b, and have A_i and a_i of their own.
    Weights start as Kaiming normal.
    """

    top_k: int  # of the mean logits, the largest first

    @nn.compact
    def __call__(self, features, logits):
        """(features [G, B, D], logits [G, B, C]) of heads 1..G -> gates u [G, B]."""
        heads = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)
        best, _ = lax.top_k(jnp.cumsum(logits, 0) / heads[:, None, None], self.top_k)
        directions = unit(features, axis=-1)
        decide = Linear(1, name="decide")

        def gate(i):
            hidden = jax.nn.relu(Linear(HIDDEN, name=f"hidden{i + 1}")(directions[i]))
            return decide(jnp.concatenate([best[i], hidden], -1))[:, 0]

        return jnp.stack([gate(i) for i in range(len(logits))])


def init(key: jax.Array, features: jax.Array, logits: jax.Array, top_k: int) -> dict:
    """Params of the gates after each of G heads; of features and logits only shapes are used."""
    return Router(top_k).init(key, features, logits)["params"]


def gates(params: dict, features: jax.Array, logits: jax.Array, top_k: int) -> jax.Array:
    """See Router: f32[G, B], above 0 where an image is to go on to the next branch."""
    return Router(top_k).apply({"params": params}, features, logits)
