"""The names of the two mesh axes, and what code inside a compiled step may ask about them."""

import jax
import jax.numpy as jnp
from jax import lax

EXPERT = "expert"
DATA = "data"


def example_keys(key: jax.Array, num_examples: int) -> jax.Array:
    """One random key per example of this device's share of the batch, key[num_examples].

    Keys follow the position in the *global* batch, so eight devices draw what one draws. They do
    not follow the example's index in the data set: re-sampling puts an image into a batch twice,
    and the two copies must be augmented differently. Runs where the axis 'data' is bound.
    """
    first = lax.axis_index(DATA) * num_examples
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(num_examples))
