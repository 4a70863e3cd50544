"""The block-diagonal form: the same numbers, from dense convolutions only."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_kernels import conv_sums, error, operands, results
from toy import Trainer, assert_trees_close, numbers

from ltjax.config.settings import Compute
from ltjax.experts import best_over, take
from ltjax.models.conv_plain import conv3x3
from ltjax.models.layers import described

# images, height, width, channels in, out, stride, affine
SHAPES = [(6, 8, 8, 5, 7, 1, True), (6, 8, 8, 5, 7, 2, True), (3, 9, 6, 3, 4, 2, False)]


def of_one(stride, inputs, cotangents):
    outputs, gradients = jax.vjp(functools.partial(conv_sums, "blocks", stride), *inputs)
    return outputs, gradients(cotangents)


def three(shape):
    """Operands of three experts."""
    return jax.tree.map(lambda x: jnp.stack([x, 2 * x, x - 1]), operands(*shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_those_of_each_expert(shape):
    own = three(shape)
    found = jax.jit(jax.vmap(functools.partial(of_one, shape[5])))(*own)
    for i in range(3):
        assert error(take(found, i), results("plain", *take(own, i), shape[5])) < 1e-6


def test_experts_of_experts_are_blocks_too():
    """Two vmaps, as several joint networks need; the images are the same for all."""
    (x, _, _, w), _ = operands(2, 6, 6, 3, 4, 1, False)
    ws = w * jnp.arange(1.0, 7.0).reshape(2, 3, 1, 1, 1, 1)

    def each(conv):
        return jax.vmap(jax.vmap(lambda w: conv(x, w)))

    def blocks(x, w):
        return conv_sums("blocks", 1, x, None, None, w)[0]

    np.testing.assert_allclose(each(blocks)(ws), each(conv3x3)(ws), atol=1e-5)
    program = jax.jit(each(blocks)).lower(ws).as_text()
    assert groups(program) == {1} and "1x3x3x18x24xf32" not in program
    assert "tensor<3x3x18x24xf32>" in program  # 2 * 3 experts, from 3 to 4 channels


def groups(program):
    """The numbers of groups of all convolutions of a lowered program."""
    return {int(n) for n in re.findall(r"(?:feature|batch)_group_count = (\d+)", program)}


@functools.cache
def step(method, form):
    ours = Trainer(toy.phase(method, compute={"convolution": form}), 3, over="vmap")
    program = ours.sharded.update.lower(
        ours.init(), ours.feed.arrays, ours.feed.host_batches(0, 1)
    ).as_text()
    return numbers(ours.update(ours.init(), ours.feed.host_batch(0))[0]), program


@pytest.mark.slow
@pytest.mark.parametrize("method", ["classifier", "joint"])
def test_a_step_is_that_of_the_plain_form_without_grouped_convolutions(method):
    (plain, grouped), (found, program) = (step(method, form) for form in ("plain", "blocks"))
    assert_trees_close(found, plain, atol=2e-6)
    assert groups(program) == {1} and groups(grouped) > {1}


def test_all_experts_at_once_is_the_only_way():
    assert best_over(Compute("blocks")) == "vmap"
    assert described(Compute("blocks")) == "block-diagonal, plain JAX"
