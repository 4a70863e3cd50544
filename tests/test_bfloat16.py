"""Computing in bfloat16: what changes, by how much, and what stays float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_kernels import SHAPES, error, operands, results
from toy import Trainer, numbers

from ltjax import kernels
from ltjax.config.settings import Compute
from ltjax.experts import best_over
from ltjax.models.layers import described

EPSILON = 2.0**-9  # the most by which storing a number in 8 bits changes it, relatively


@functools.cache
def trainer(method, dtype):
    return Trainer(toy.phase(method, compute={"dtype": dtype}), 3)


@pytest.mark.parametrize(
    "method", ["classifier", *(pytest.param(x, marks=pytest.mark.slow) for x in ("joint", "remix"))]
)
def test_the_loss_falls_and_whatever_is_kept_is_float32(method):
    ours = trainer(method, "bfloat16")
    state, losses = ours.steps(40)
    assert (losses[-5:].mean(0) < 0.5 * losses[:5].mean(0)).all()
    floats = [x.dtype for x in jax.tree.leaves(numbers(state)) if x.dtype.kind not in "iu"]
    assert {losses.dtype, *floats} == {np.dtype(np.float32)}


def test_activations_are_bfloat16_and_logits_float32():
    ours = trainer("classifier", "bfloat16")
    batch = {"image": jnp.asarray(toy.splits().test.image[:5])}
    predict = ours.many.method.predict
    program = str(jax.make_jaxpr(predict)(ours.init().variables, batch))
    convolutions = [line for line in program.splitlines() if "conv_general_dilated[" in line]
    assert convolutions and all("bf16[" in line for line in convolutions)
    assert predict(ours.init().variables, batch).logits.dtype == np.float32
    result = ours.evaluate(ours.steps(40)[0], toy.splits().test)
    assert result["average"]["accuracy"] > 0.5


@pytest.mark.parametrize("shape", [SHAPES[4], SHAPES[5], SHAPES[7]], ids=str)
def test_a_convolution_is_the_one_in_float64_to_eight_bits(shape):
    stride = shape[5]
    (x, a, c, w), (dy, *d_sums) = operands(*shape)
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    found = results("plain", (x, a, c, w), (dy, *d_sums), stride)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)[:2]] == [jnp.bfloat16, np.float32]
    with jax.enable_x64(True):
        same = jax.tree.map(lambda v: v.astype(np.float64), ((x, a, c, w), (dy, *d_sums)))
        expected = results("plain", *same, stride)
    # four numbers are stored on the way to the gradient of x: of w, y, y's and the ReLU's gradient
    assert error(found, expected) < 4 * EPSILON


@pytest.mark.slow
def test_a_step_moves_no_more_than_rounded_parameters_move_it():
    """A bfloat16 step against float32; the yardstick is float32 from parameters of 8 bits.

    Both differ from float32 by the ReLUs that round to the other side of zero, which no bound on
    single roundings tells.
    """
    exact, ours = trainer("classifier", "float32"), trainer("classifier", "bfloat16")
    request = exact.feed.host_batch(0)
    state = exact.init()
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), state.variables.params)
    rounded = state._replace(variables=state.variables._replace(params=params))
    (moved, _), (found, losses) = exact.update(rounded, request), ours.update(ours.init(), request)
    expected, expected_losses = exact.update(exact.init(), request)
    np.testing.assert_allclose(losses["loss"], expected_losses["loss"], rtol=EPSILON)

    def distance(state):
        leaves = [
            jax.tree.leaves(s.opt_state) for s in (state, expected)
        ]  # after a step: gradients
        return np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(*leaves, strict=True)))

    assert distance(found) < 1.5 * distance(moved)  # measured: 1.06
    for stats in (found.variables.stats, moved.variables.stats):
        assert error(stats, expected.variables.stats) < 2 * EPSILON


def test_the_native_kernels_are_for_float32():
    bfloat16 = Compute(dtype="bfloat16")
    assert best_over(bfloat16) == "unroll"  # as without kernels
    assert described(bfloat16).startswith("plain JAX in bfloat16, several times slower")
    if kernels.target():
        assert best_over(Compute()) == "vmap" and described(Compute()).startswith("native")
        assert "they are for float32" in described(bfloat16)
    assert described(Compute("plain", dtype="bfloat16")) == "plain JAX in bfloat16"
