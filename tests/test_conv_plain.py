"""Plain convolutions of every kind, with their gradients, against lax in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ltjax.models import layers

# height, width, kernel, channels in, out, stride, groups
KINDS = [
    (9, 6, 1, 4, 6, 1, 1),
    (9, 6, 1, 4, 6, 2, 1),
    (9, 6, 3, 8, 12, 1, 4),
    (9, 6, 3, 8, 12, 2, 4),
    (1, 2, 3, 8, 8, 2, 8),
    (9, 6, 7, 3, 4, 2, 1),
    (8, 8, 1, 6, 4, 2, 2),
]


def by_lax(x, w, stride, groups):
    pad = (len(w) // 2,) * 2
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, (stride, stride), (pad, pad), dimension_numbers=dims, feature_group_count=groups
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_convolution_is_that_of_lax_for_every_expert(kind):
    height, width, size, channels, features, stride, groups = kind
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 3, height, width, channels)))  # [E, B, H, W, I]
    w = jnp.asarray(rng.normal(size=(2, size, size, channels // groups, features)))

    def ours(x, w):
        y, total, squares = layers.conv_sums(x, None, None, w, stride, groups=groups)
        np.testing.assert_array_equal(y.shape[:3], (3, -(-height // stride), -(-width // stride)))
        return y, total, squares

    def theirs(x, w):
        y = by_lax(x, w, stride, groups)
        return y, y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))

    def everything(f):
        def objective(x, w):
            return sum((jnp.sin(of) ** 2).sum() for of in f(x, w)), f(x, w)

        return jax.value_and_grad(objective, (0, 1), has_aux=True)

    def compiled(f):
        return jax.jit(f, compiler_options={"xla_backend_optimization_level": 1})

    found = compiled(jax.vmap(everything(ours)))(x, w)
    alone = compiled(everything(theirs))
    for i in range(2):
        expected = alone(x[i], w[i])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9),
            *(jax.tree.map(lambda of, i=i: of[i], found), expected),
        )


def test_groups_that_do_not_fit_are_refused():
    x, w = jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, 3, 4))
    layers.conv_sums(x, None, None, w, groups=2)
    for bad, groups in [(w, 1), (w, 3), (w[..., :3], 2), (w[:2, :2], 2), (w[:1], 2)]:
        with pytest.raises(ValueError, match="does not take"):
            layers.conv_sums(x, None, None, bad, groups=groups)
