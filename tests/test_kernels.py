"""The native kernels against their plain twins, in every way that they are called."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from ltjax import kernels
from ltjax.mesh import EXPERTS, mesh_for, over_mesh
from ltjax.models import conv_plain as plain
from ltjax.models import layers

needs_kernels = pytest.mark.skipif(
    not kernels.target(), reason=f"no native kernels: {kernels.why_not()}"
)

# images, height, width, channels in, out, stride, affine
SHAPES = [
    (20, 32, 32, 16, 16, 1, True),
    (9, 16, 16, 32, 32, 1, True),
    (33, 8, 8, 64, 64, 1, True),
    (8, 32, 32, 3, 16, 1, False),
    (8, 16, 16, 16, 32, 2, False),
    (3, 9, 6, 5, 20, 2, True),
    (2, 7, 5, 3, 10, 1, True),
    (7, 4, 4, 33, 17, 1, True),
    (1, 1, 1, 1, 1, 1, True),
    (3, 1, 9, 2, 3, 2, False),
]


def operands(images, height, width, channels, features, stride, affine, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, height, width, channels))
    a, c = rng.normal(size=(2, channels)) if affine else (None, None)
    w = rng.normal(size=(3, 3, channels, features)) * (2 / (9 * channels)) ** 0.5
    y = (images, -(-height // stride), -(-width // stride), features)
    cotangents = tuple(rng.normal(size=shape) for shape in (y, features, features))
    return jax.tree.map(lambda v: jnp.asarray(v, dtype), ((x, a, c, w), cotangents))


def results(form, inputs, cotangents, stride):
    """Outputs and gradients of conv_sums."""
    outputs, gradients = jax.vjp(functools.partial(conv_sums, form, stride), *inputs)
    return jax.device_get((outputs, gradients(cotangents)))


def conv_sums(form, stride, x, a, c, w):
    return layers.conv_sums(x, a, c, w, stride, form)


def error(found, expected):
    """The norm of the difference, relative; the largest of a tree's leaves."""
    errors = jax.tree.map(
        lambda x, y: np.linalg.norm(np.float64(x) - y) / np.linalg.norm(y), found, expected
    )
    return np.max(jax.tree.leaves(errors))  # NaN if one is


@needs_kernels
@pytest.mark.parametrize("form", ["winograd", "direct"])
@pytest.mark.parametrize(
    "shape",
    [*SHAPES, pytest.param((128, *SHAPES[0][1:]), marks=pytest.mark.slow)],
    ids=str,
)
def test_the_native_form_is_the_plain_one_in_float64(shape, form):
    stride = shape[5]
    with jax.enable_x64(True):
        expected = results("plain", *operands(*shape, dtype=np.float64), stride)
    inputs, cotangents = operands(*shape)
    # measured: plain float32 up to 6e-7, direct up to 9e-7, winograd up to 3.2e-6
    assert error(results(form, inputs, cotangents, stride), expected) < 5e-6


@needs_kernels
@pytest.mark.parametrize(("channels", "stride"), [(None, 1), (8, 1), (8, 2), (3, 1), (3, 2)])
def test_the_end_of_a_block_is_the_plain_one(channels, stride):
    rng = np.random.default_rng(0)
    shapes = [(5, 3, 4, 8), (8,), (8,)] + (
        [(5, 3 * stride, 4 * stride, channels)] if channels else []
    )
    y, a, c, *x = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    x, dh = x[0] if x else None, jnp.asarray(rng.normal(size=(5, 3, 4, 8)), jnp.float32)

    def both(form):
        h, gradient = jax.vjp(lambda *args: layers.add_relu(*args, stride, form), y, a, c, x)
        return jax.device_get((h, gradient(dh)))

    assert error(both("winograd"), both("plain")) < 1e-6


@needs_kernels
def test_it_runs_under_every_transformation():
    inputs, cotangents = operands(6, 8, 8, 8, 16, 1, True)
    together = jax.tree.map(lambda x: jnp.stack([x, 2 * x, x - 1]), (inputs, cotangents))

    def step(inputs, cotangents):
        outputs, gradients = jax.vjp(functools.partial(conv_sums, "winograd", 1), *inputs)
        return outputs, gradients(cotangents)

    def checkpointed(inputs, cotangents):
        f = jax.checkpoint(functools.partial(conv_sums, "winograd", 1))
        outputs, gradients = jax.vjp(f, *inputs)
        return outputs, gradients(cotangents)

    alone = [step(*jax.tree.map(lambda x: x[i], together)) for i in range(3)]  # noqa: B023
    expected = jax.tree.map(lambda *x: np.stack(x), *alone)
    mesh = mesh_for(3, jax.devices()[:3])
    ways = {
        "vmap": jax.jit(jax.vmap(step)),
        "map": jax.jit(lambda *args: jax.lax.map(lambda own: step(*own), args)),
        "remat": jax.jit(jax.vmap(checkpointed)),
        "shard_map": jax.jit(over_mesh(jax.vmap(step), mesh, (EXPERTS, EXPERTS), EXPERTS)),
    }
    for name, way in ways.items():
        found = jax.device_get(way(*together))
        jax.tree.map(
            functools.partial(np.testing.assert_array_equal, err_msg=name), found, expected
        )


@needs_kernels
def test_a_shared_image_serves_all_experts():
    (x, a, c, w), _ = operands(6, 8, 8, 8, 16, 1, True)
    ws = jnp.stack([w, 2 * w])
    found = jax.vmap(lambda w: layers.conv_sums(x, a, c, w))(ws)[0]
    np.testing.assert_array_equal(found[1], layers.conv_sums(x, a, c, ws[1])[0])


@needs_kernels
@pytest.mark.parametrize("form", ["winograd", "direct"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_passes_through(bad, form):
    (x, a, c, w), cotangents = operands(4, 8, 8, 8, 16, 1, True)
    x = x.at[2, 3, 4, 5].set(bad)
    a = jnp.abs(a)  # so that the ReLU lets infinity through
    (y, total, squares), (dx, *_) = results(form, (x, a, c, w), cotangents, 1)
    reached = y[2, 2:5, 3:6]
    assert not np.isfinite(reached).any() and np.isfinite(y[[0, 1, 3]]).all()
    assert not np.isfinite(total).any() and not np.isfinite(squares).any()
    assert not np.isfinite(dx[2]).all() and np.isfinite(dx[[0, 1, 3]]).all()


@needs_kernels
def test_the_gradient_of_images_is_computed_where_it_is_asked_for():
    (x, _, _, w), _ = operands(2, 4, 4, 3, 8, 1, False)

    def total(x, w):
        return (layers.conv_sums(x, None, None, w)[0] ** 2).sum()

    for argument in (0, 1):
        program = jax.jit(jax.grad(total, argument)).lower(x, w).as_text()
        assert f"need_dx = {1 - argument} :" in program
        assert f"need_dx = {argument} :" not in program

    def plainly(x, w):
        return (plain.conv3x3(x, w) ** 2).sum()

    np.testing.assert_allclose(jax.grad(total)(x, w), jax.grad(plainly)(x, w), rtol=1e-4, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("arguments", [(1, 2), (1,), (2,), (3,), (0, 3), (2, 3)], ids=str)
def test_any_arguments_may_be_differentiated(arguments):
    inputs, _ = operands(3, 4, 4, 3, 8, 1, True)

    def total(form, *inputs):
        y, first, squares = conv_sums(form, 1, *inputs)
        return (y**3).sum() + (first * squares).sum()

    found, expected = (
        jax.grad(functools.partial(total, form), arguments)(*inputs)
        for form in ("winograd", "plain")
    )
    assert error(jax.device_get(found), jax.device_get(expected)) < 1e-5


@pytest.mark.parametrize("form", ["winograd", "plain"])
def test_shapes_that_do_not_fit_are_refused(form):
    (x, a, c, w), _ = operands(2, 4, 4, 3, 8, 1, True)
    for bad in [(x, a[:1], c, w), (x, a, c[:2], w), (x[..., :2], a, c, w), (x[0], a, c, w)]:
        with pytest.raises(ValueError, match="does not take"):
            layers.conv_sums(*bad, form=form)
    with pytest.raises(ValueError, match="stride 3"):
        layers.conv_sums(x, a, c, w, 3, form)
    y = jnp.ones((2, 4, 4, 3))
    for bad in [(y, a[:1], c, x), (y, a, c, x[:1]), (y[..., :2], a[:2], c[:2], x)]:
        with pytest.raises(ValueError, match="does not take"):
            layers.add_relu(*bad, form=form)
    with pytest.raises(ValueError, match="not 'wino'"):
        layers.conv_sums(x, a, c, w, form="wino")


@needs_kernels
def test_what_it_cannot_do_is_said():
    (x, a, c, w), _ = operands(2, 4, 4, 3, 8, 1, True)
    with pytest.raises(ValueError, match="empty"):
        layers.conv_sums(x[:0], a, c, w)

    def total(w):
        return (layers.conv_sums(x, a, c, w)[0] ** 2).sum()

    with pytest.raises(NotImplementedError, match="convolution=plain"):
        jax.jacrev(jax.grad(total))(w)


@needs_kernels
def test_other_platforms_get_the_plain_form():
    (x, a, c, w), _ = operands(2, 4, 4, 3, 8, 1, True)

    def total(w):
        y, *_ = layers.conv_sums(x, a, c, w)
        return layers.add_relu(y, jnp.ones(8), jnp.zeros(8), None).sum()

    on = {
        platform: jax.export.export(
            jax.jit(jax.value_and_grad(total)),
            platforms=[platform],
            disabled_checks=[
                jax.export.DisabledSafetyCheck.custom_call(name) for name in kernels.HANDLERS
            ],
        )(w).mlir_module()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "@ltjax_conv_sums_gradient" in on["cpu"] and "stablehlo.convolution" not in on["cpu"]
    for platform in ("cuda", "tpu"):
        assert "@ltjax" not in on[platform] and "stablehlo.convolution" in on[platform]


SCRIPT = """
import os, sys
if sys.argv[1] != "all":
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[: int(sys.argv[1])])
sys.path.insert(0, {tests!r})
import hashlib, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 1)
from ltjax import kernels
from test_kernels import SHAPES, error, operands, results
digest = hashlib.sha256()
for shape in (SHAPES[2], SHAPES[4], SHAPES[5]):
    inputs, cotangents = operands(*shape)
    found = results("winograd", inputs, cotangents, shape[5])
    assert error(found, results("plain", inputs, cotangents, shape[5])) < 5e-6
    for leaf in jax.tree.leaves(found):
        digest.update(leaf.tobytes())
print(kernels.target(), digest.hexdigest())
"""


def in_a_process_of_its_own(cpus="all", **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(tests=str(ROOT / "tests")), cpus],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_kernels
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="one CPU only, or no way to use fewer",
)
@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_threads():
    assert in_a_process_of_its_own("1") == in_a_process_of_its_own("2")


@needs_kernels
@pytest.mark.slow
def test_every_kind_of_cpu_below_this_one_has_its_library():
    best = kernels.TARGETS.index(kernels.target())
    for name in kernels.TARGETS[:best]:
        assert in_a_process_of_its_own(LTJAX_KERNELS=name)[0] == name


@needs_kernels
def test_a_library_that_cannot_run_here_is_refused():
    best = kernels.TARGETS.index(kernels.target())
    for name in (*kernels.TARGETS[best + 1 :], "avx3"):
        done = subprocess.run(
            [sys.executable, "-c", "from ltjax import kernels; kernels.target()"],
            env=os.environ | {"LTJAX_KERNELS": name},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, (name, done.returncode)
        assert f"UserError: LTJAX_KERNELS is '{name}'" in done.stderr


def test_kernels_can_be_turned_off():
    assert in_a_process_of_its_own(LTJAX_KERNELS="none")[0] == "None"


@pytest.mark.slow  # each is compiled anew; .ci/run runs them
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="baseline"),
        pytest.param(["-fsanitize=thread"], id="threads"),
        pytest.param(["-mavx2", "-mfma"], id="avx2"),
        # as the other targets cut their work, on vectors that this machine puts together
        pytest.param(["-DLTJAX_V=16", "-DLTJAX_REGISTERS=32"], id="avx512"),
        pytest.param(["-DLTJAX_V=4", "-DLTJAX_REGISTERS=32"], id="neon"),
    ],
)
def test_no_kernel_reads_or_writes_outside_its_buffers(options, tmp_path):
    if "-mavx2" in options and kernels.target() not in ("avx2", "avx512"):
        pytest.skip("no AVX2 here")
    program = tmp_path / "kernels"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if "-fsanitize=thread" in options:  # races, which cannot be looked for together with those
        checks = []
    headers = f"-I{pathlib.Path(kernels.__file__).parent}"
    subprocess.run(
        ["g++", "-O1", "-std=c++20", "-Wno-psabi", *checks, *options, headers]
        + [str(ROOT / "tests" / "kernels.cc"), "-o", str(program), "-lpthread"],
        check=True,
    )
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
