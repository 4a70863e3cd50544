"""The environment: what JAX or XLA cannot read, and what would change results unseen."""

import enum
import os
import socket
import subprocess
import sys

import jax
import pytest
import toy
from conftest import ROOT

from ltjax import predict, processes, runtime, train
from ltjax.errors import UserError

DIGITS = ("--config", str(ROOT / "configs" / "digits.py"))


def said(tmp_path, *arguments, **variables):
    """What the command line says on standard error, in a folder of its own; it must be refused."""
    done = subprocess.run(
        [sys.executable, "-m", "ltjax.main", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == "", done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir()), done.stderr
    return done.stderr


@pytest.mark.parametrize("arguments", [DIGITS, ["--list"], [*DIGITS, "--print_config"]])
def test_a_device_that_is_not_there_is_refused_in_a_line(arguments, tmp_path):
    line = said(tmp_path, *arguments, JAX_PLATFORMS="nonsense")
    assert line.startswith(
        "ltjax: JAX_PLATFORMS is 'nonsense' in the environment, but JAX finds no"
    )


VARIABLES = [
    ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS is 'cuda' in the environment"),
    ({"JAX_PLATFORMS": "", "JAX_PLATFORM_NAME": "rocm"}, "JAX_PLATFORM_NAME is 'rocm'"),
    ({"JAX_NUM_CPU_DEVICES": "abc"}, "JAX_NUM_CPU_DEVICES is 'abc' in the environment, which JAX"),
    ({"JAX_NUM_CPU_DEVICES": "0"}, "JAX_NUM_CPU_DEVICES is '0' in the environment, but it must"),
    ({"JAX_NUM_CPU_DEVICES": "100000"}, "at least 1, at most 1,024. Correct or unset it"),
    ({"JAX_ENABLE_X64": "maybe"}, "JAX_ENABLE_X64 is 'maybe' in the environment, which JAX"),
    ({"XLA_FLAGS": "--nonsense"}, "which XLA refuses (Unknown flag in XLA_FLAGS: --nonsense)"),
    ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=perhaps"}, "which XLA refuses (Couldn't interpret"),
    ({"XLA_FLAGS": "lost.txt"}, "which XLA refuses (Could not open file"),
    ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64 is '1' in the environment; it must be False"),
    ({"JAX_DISABLE_JIT": "1"}, "JAX_DISABLE_JIT is '1' in the environment; it must be False"),
]


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="such a device is here")
@pytest.mark.parametrize("variables, words", VARIABLES, ids=[words[:40] for _, words in VARIABLES])
def test_a_variable_that_cannot_be_used_is_named(variables, words, tmp_path):
    assert words in said(tmp_path, *DIGITS, **variables)


SWITCHED = {
    "jax_enable_x64": True,
    "jax_explicit_x64_dtypes": "allow",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 1,
    "jax_high_dynamic_range_gumbel": True,
    "jax_softmax_custom_jvp": True,
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_no_execution": True,
    "jax_transfer_guard": "disallow",
    "jax_transfer_guard_host_to_device": "disallow",
    "jax_transfer_guard_device_to_host": "disallow",
    "jax_transfer_guard_device_to_device": "disallow",
}


def test_every_switch_is_tried():
    assert SWITCHED.keys() == runtime.SWITCHES.keys()


@pytest.fixture
def switch():
    """Sets an option of JAX for the length of a test."""
    before = {}

    def update(name, value):
        if not hasattr(jax.config, name):
            pytest.skip(f"this version of JAX has no {name}")
        found = getattr(jax.config, name)
        before[name] = found.name.lower() if isinstance(found, enum.Enum) else found
        jax.config.update(name, value)

    yield update
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("name", SWITCHED)
def test_a_switch_that_changes_results_is_refused(name, switch, tmp_path):
    runtime.check_switches()
    switch(name, SWITCHED[name])
    for refused in (
        runtime.check_switches,
        lambda: train.run({}, str(tmp_path / "run"), splits=toy.splits()),
        lambda: predict.load(tmp_path / "run"),
    ):
        with pytest.raises(UserError, match=rf"jax\.config\.{name} is .*; it must be .* Call") as e:
            refused()
        assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_more_exact_matrix_products_are_allowed(switch):
    switch("jax_default_matmul_precision", "highest")
    runtime.check_switches()


def test_a_report_says_what_may_move_roundings(monkeypatch):
    for name in runtime.ROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    assert runtime.environment() == {}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("LTJAX_KERNELS", "none")
    assert runtime.environment() == {"LTJAX_KERNELS": "none", "NVIDIA_TF32_OVERRIDE": "0"}


ADDRESSES = [
    "127.0.0.1",
    ":1234",
    "",
    "host:",
    ":notaport",
    "127.0.0.1:0",
    "127.0.0.1:99999",
    "127.0.0.1:-1",
    "127.0.0.1:+80",
    "127.0.0.1:²",
    "::1:1234",
    "[]:1234",
    "127.0.0.1: 80",
    "a b:80",
    "127.0.0.1:8\n0",
    "x" * 100_000,
]


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: repr(address)[:20])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(UserError, match="--coordinator is .*; it must be host:port") as caught:
        processes.check(address, 2, 0)
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_a_host_that_nobody_knows_is_refused():
    for host in ("no-such-host.invalid", "." * 70, "x" * 300):
        with pytest.raises(UserError, match="but this host is not known here"):
            processes.check(f"{host}:1234", 2, 0)


@pytest.mark.parametrize(
    "number, this, words",
    [
        (0, 0, "--num_processes is 0; it must be at least 1"),
        (-1, 0, "--num_processes is -1"),
        (10**400, 0, "at most 100,000"),
        (2, -1, "--process_id is -1; it must be at least 0, below 2"),
        (2, 2, "--process_id is 2; it must be at least 0, below 2"),
    ],
)
def test_a_process_that_cannot_be_is_refused(number, this, words):
    with pytest.raises(UserError, match=words):
        processes.check("127.0.0.1:1234", number, this)


def test_good_addresses_are_taken():
    for address in ("127.0.0.1:1234", "localhost:65535"):
        processes.check(address, 2, 1)


@pytest.mark.slow
def test_process_zero_does_not_listen_where_it_cannot(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = (f"--coordinator=127.0.0.1:{taken.getsockname()[1]}", "--num_processes=1")
        assert "cannot listen there (Address already in use)" in said(
            tmp_path, *DIGITS, *options, "--process_id=0"
        )
    assert "cannot listen there" in said(
        tmp_path, *DIGITS, "--coordinator=192.0.2.1:1234", "--num_processes=2", "--process_id=0"
    )


LISTENING = """
import socket, sys
from ltjax import processes
processes.join(f"127.0.0.1:{sys.argv[1]}", 1, 0)
lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}")]
port = f":{int(sys.argv[1]):04X}"
print({line[1].removesuffix(port) for line in lines if line[1].endswith(port) and line[3] == "0A"})
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/net")
def test_the_service_of_the_processes_listens_at_the_named_host_alone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, str(port)], capture_output=True, text=True, timeout=120
    )
    loopback = "0100007F"  # in IPv6, after ::ffff
    assert done.stdout.strip().strip("{'}") in (loopback, f"{'0' * 16}FFFF0000{loopback}"), done
