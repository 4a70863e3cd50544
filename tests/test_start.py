"""What a process does before it trains: memory, the compilation cache, the benchmark's command."""

import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax import kernels, runtime
from ltjax.runtime import use_cache

CACHED = """
import jax
from ltjax.runtime import use_cache
folder = use_cache()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x + 1)(1.0)
print(folder, *(f.name for f in folder.iterdir()) if folder else ())
"""


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_programs_are_cached_in_the_users_folder(tmp_path):
    done = run("-c", CACHED, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder, *files = done.stdout.split()
    assert folder.startswith(str(tmp_path / "ltjax")) and files


@pytest.mark.slow
def test_a_cache_is_used_only_if_no_one_else_can_write_to_it(tmp_path):
    def folder():
        done = run("-c", CACHED, XDG_CACHE_HOME=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()[0]

    made = pathlib.Path(folder())
    assert [made.stat().st_mode & 0o777, made.parent.stat().st_mode & 0o777] == [0o700, 0o700]
    for one in (made, made.parent):
        for mode in (0o770, 0o702):
            one.chmod(mode)
            assert folder() == "None"
        one.chmod(0o755)
        assert folder() == str(made)
        if os.geteuid() == 0:
            os.chown(one, 65534, 65534)
            assert folder() == "None"
            os.chown(one, 0, 0)


def test_a_file_in_place_of_the_cache_is_no_error(tmp_path):
    (tmp_path / "ltjax").write_text("")
    done = run("-c", CACHED, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:40] + bytes([content[40] ^ 4]) + content[41:],
    "emptied": lambda content: b"",
    "another": lambda content: b"abc" * 100,
}
SHOWS = "\nprint(jax.jit(lambda x: x + 1)(1.0))"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_of_the_cache_is_compiled_again(tmp_path, damage):
    assert run("-c", CACHED, XDG_CACHE_HOME=str(tmp_path)).returncode == 0
    entries = list(tmp_path.rglob("*-cache"))
    for path in entries:
        path.write_bytes(damage(path.read_bytes()))
    done = run("-c", CACHED + SHOWS, XDG_CACHE_HOME=str(tmp_path))
    assert entries and (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2.0"


def test_a_full_disk_under_the_cache_is_no_error(tmp_path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    done = run("-c", limit + CACHED + SHOWS, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2.0"


def test_a_cache_that_is_set_up_already_is_kept(tmp_path):
    done = run("-c", CACHED, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == ["None"], done.stderr


def test_no_cache_where_a_cpu_plays_several_devices():
    assert jax.local_device_count() == 8 and use_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


FAULTS = """
import resource, statistics, sys
import jax, jax.numpy as jnp
from ltjax import runtime
if sys.argv[1] == "keep":
    assert runtime.keep_freed_memory()
step = jax.jit(lambda x: x + 1)
x = jnp.zeros((64, 2**18))  # 64 MiB; up to 32 MiB glibc learns to keep by itself
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(step(x))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(statistics.median([faults() for _ in range(30)][10:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_memory_that_is_kept_is_not_asked_for_again():
    kept, anew = (float(run("-c", FAULTS, how).stdout) for how in ("keep", "let go"))
    assert kept < 100 and anew >= 2**26 / 4096


def test_the_peak_of_memory_is_known():
    before = runtime.peak_bytes()["process"]
    held = np.ones(2**26)  # 512 MiB
    assert runtime.peak_bytes()["process"] >= max(before, held.nbytes)


def test_help_needs_no_jax():
    done = run("-X", "importtime", "-m", "ltjax.main", "--help")
    assert done.returncode == 0 and "--config.compute.cache=True" in done.stdout
    assert not re.search(r"\| +jax$", done.stderr, re.MULTILINE)


@pytest.mark.slow
def test_the_benchmark_prints_its_table_and_fits_80_columns():
    done = run(
        *("-m", "ltjax.bench", "--experts", "1", "2", "--rounds", "1", "--batch-size", "4"),
        *("--network", "resnet8"),
        COLUMNS="80",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in done.stdout
    assert (kernels.target() or "no") + " " in done.stdout
    one, two = (line.split() for line in lines if re.match(r" *[12] +[0-9]", line))
    assert (one[0], one[-1], two[0]) == ("1", "1.00", "2")
    # what the rows say is consistent: 4 images an expert and step
    for row in (one, two):
        step, expert, rate = (float(value.replace(",", "")) for value in row[1:4])
        assert step == pytest.approx(expert * int(row[0]), abs=0.2)
        assert rate == pytest.approx(4 * int(row[0]) / (step / 1e3), rel=0.05)


@pytest.mark.slow
def test_the_benchmark_measures_every_form_by_the_step():
    done = run(
        *("-m", "ltjax.bench", "--experts", "2", "--rounds", "1", "--batch-size", "4"),
        *("--network", "resnet8", "--convolution", "blocks", "--dtype", "bfloat16"),
        *("--steps-per-call", "2"),
        COLUMNS="80",
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "convolutions: block-diagonal, plain JAX in bfloat16" in done.stdout
    assert "experts over vmap, 2 steps a call, bfloat16" in done.stdout


@pytest.mark.slow
def test_the_benchmark_says_what_it_needs():
    done = run("-m", "ltjax.bench", "--experts", "0")
    assert done.returncode == 2 and "at least 1" in done.stderr
    done = run("-m", "ltjax.bench", "--convolution", "blocks", "--experts-over", "map")
    assert done.returncode == 2 and "experts_over=auto" in done.stderr
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        done = run("-m", "ltjax.bench", "--against", "torch")
        assert done.returncode == 2 and "pip install torch" in done.stderr


def test_the_torch_step_trains_the_same_network():
    torch = pytest.importorskip("torch")
    from ltjax.bench import torch_step
    from ltjax.learner import Variables
    from ltjax.models import NETWORKS

    image = np.random.default_rng(0).normal(size=(5, 32, 32, 3)).astype(np.float32)
    network = NETWORKS["resnet8"](10)
    params, stats = network.init(jax.random.key(0), image)
    theirs = torch_step.ResNet(8, 3, 10).eval()
    convolutions = [m for m in theirs.modules() if isinstance(m, torch.nn.Conv2d)]
    layers = [params["backbone"]["stem"]]
    layers += [
        params["backbone"][f"stage{stage}_block0"][f"conv{i}"]
        for stage in (1, 2, 3)
        for i in (1, 2)
    ]
    with torch.no_grad():
        for convolution, layer in zip(convolutions, layers, strict=True):
            kernel = np.array(layer["kernel"]).transpose(3, 2, 0, 1)
            convolution.weight.copy_(torch.from_numpy(kernel))
        theirs.head.weight.copy_(torch.from_numpy(np.array(params["head"]["kernel"]).T))
        theirs.head.bias.copy_(torch.from_numpy(np.array(params["head"]["bias"])))
        expected = theirs(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    (logits, _), _ = toy.outputs(network, Variables(params, stats), image)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
