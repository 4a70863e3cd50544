"""What all tests share: eight CPU devices, and the way to what lies beside the project."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the time of the tests is compiling. Less effort gives the same sums, more slowly.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # compiled programs of processes that tests start

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)

ROOT = pathlib.Path(__file__).parents[1]
SHARED = pathlib.Path(os.environ.get("LTJAX_SHARED", ROOT.parent / "shared"))


def golden(name):
    """Outputs of the original authors' code, or a skip where they are not at hand."""
    path = SHARED / "golden" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no golden vectors: {path} is missing (set LTJAX_SHARED)")
    return np.load(path, allow_pickle=False)


@pytest.fixture
def float64():
    """64-bit floats for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder of this session's own."""
    return str(tmp_path_factory.mktemp("tfds"))
