"""What all tests share: eight CPU devices, and the way to what lies beside the project."""

import collections
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

pytest_plugins = ["golden_reads"]
READ = collections.defaultdict(set)  # test function -> {(golden file, key)} that it reads


def function_of(test_id):
    """'test_file.py::test_name' of the id of a test, without its folder and parameters."""
    return test_id.split("[")[0].split(" ")[0].rsplit("/", 1)[-1]


def pytest_configure(config):
    """Compile quick tests in less time; slow ones see the rounding that users see."""
    if config.option.markexpr == "not slow" and jax.__version_info__ < (0, 11):  # later: no choice
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"


def pytest_runtest_teardown():
    """Drop compiled programs before Linux refuses a process more memory maps, 65,530 by default."""
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
        jax.clear_caches()


class Golden:
    """Arrays of a golden file by their keys; notes which test reads which."""

    def __init__(self, path):
        self._name, self._file = path.stem, np.load(path, allow_pickle=False)
        self.files = self._file.files

    def __getitem__(self, key):
        value, running = self._file[key], os.environ.get("PYTEST_CURRENT_TEST")
        if running:  # not while tests are collected
            READ[function_of(running)].add((self._name, key))
        return value


def golden(name):
    """Outputs of the original authors' code, or a skip where they are not at hand."""
    path = SHARED / "golden" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no golden vectors: {path} is missing (set LTJAX_SHARED)")
    return Golden(path)


def uniform(seed, shape):
    """Numbers from -1 to 1 that the golden notes give by a seed, not yet rounded to float32."""
    return np.random.RandomState(seed).uniform(-1, 1, shape)


def by_formula(keys, shapes, seed):
    """{name: f32 tensor} of a state dict that is not stored: the golden notes' formula."""
    tensors = {}
    for number, (name, shape) in enumerate(zip(keys, shapes, strict=True)):
        shape = tuple(int(size) for size in shape.strip("[]").split(",") if size)
        u = uniform(seed + number, shape)
        if len(shape) == 4:
            u = u * (6 / np.prod(shape[1:])) ** 0.5
        elif len(shape) == 2:
            u = u * (3 / shape[1]) ** 0.5
        elif shape:
            u = 1 + 0.2 * u if name.endswith(("running_var", "weight")) else 0.1 * u
        tensors[str(name)] = np.float32(u)
    return tensors


@pytest.fixture
def float64():
    """64-bit floats for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder of this session's own."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def as_a_user():
    """A function that gives up the rights of root, who may do all, and hands over a folder."""

    def become(folder):
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, 65534, 65534)
            for above in folder.parents[:-2]:  # so that the user gets there
                above.chmod(above.stat().st_mode | 0o111)
            os.seteuid(65534)

    yield become
    os.seteuid(os.getuid())
