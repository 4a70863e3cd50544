"""Install ltjax: `pip install -e .`, or `pip install -e '.[test]'` to run the tests."""

import pathlib
import platform

import jaxlib
import setuptools
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
CONFIGS = sorted([*pathlib.Path("configs").glob("*.py"), *pathlib.Path("configs").glob("*/*.toml")])

# The native CPU kernels: one source, a library for each kind of CPU, chosen when it is loaded. They
# are optional: where there is no compiler, the installation goes on without.
KERNELS = pathlib.Path("ltjax", "kernels")
TARGETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    TARGETS |= {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mfma"]}


def kernels(target, flags):
    return setuptools.Extension(
        f"ltjax.kernels.conv_sums_{target}",
        [str(KERNELS / "targets" / f"{target}.cc")],
        include_dirs=[str(pathlib.Path(jaxlib.__file__).parent / "include")],
        depends=[str(path) for path in (*KERNELS.glob("*.h"), KERNELS / "conv_sums.cc")],
        # Not -ffast-math: NaN and infinity must pass through.
        extra_compile_args=["-O3", "-std=c++20", "-fno-math-errno", "-fno-trapping-math", *flags],
        optional=True,
    )


class WithConfigs(build_py):
    """The configs come along, so that `--config digits` works in any folder (ltjax.config_file).

    They are no package of their own, because an editable installation then is a folder on the path.
    Otherwise a folder named ltjax, such as a clone, would hide it from those who work beside it.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            for path in CONFIGS:
                copy = pathlib.Path(self.build_lib, "ltjax", path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(path), str(copy))

    def get_source_files(self):
        return [*super().get_source_files(), *map(str, CONFIGS)]


setuptools.setup(
    name="ltjax",
    version="0.1.0",
    description="Long-tailed visual recognition in JAX, with independent experts",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["ltjax", "ltjax.*"]),
    package_dir={"": "."},
    cmdclass={"build_py": WithConfigs},
    package_data={"ltjax.kernels": ["*.h", "*.cc", "targets/*.cc"]},
    ext_modules=[kernels(target, flags) for target, flags in TARGETS.items()],
    options={"build_ext": {"parallel": len(TARGETS)}},
    install_requires=[
        "absl-py>=2.1,<3",
        "array_record>=0.5,<1",  # the file format that TFDS reads and writes without TensorFlow
        "flax>=0.12,<1",
        "importlib_resources",  # imported by TFDS's download code, which does not declare it
        "jax>=0.10,<1",
        "ml-collections>=1.1,<2",
        "numpy>=2.0,<3",
        "optax>=0.2.6,<1",
        "orbax-checkpoint>=0.12,<1",
        "pillow>=10",  # decodes and encodes images for TFDS
        "rich>=13,<16",
        "scikit-learn>=1.5,<2",  # bundles the handwritten digits
        "tensorboardX>=2.6,<3",
        "tensorflow-datasets>=4.9.10,<5",
    ],
    extras_require={
        "cuda": ["jax[cuda12]>=0.10,<1"],
        "tpu": ["jax[tpu]>=0.10,<1"],
        # Preparing the stock CIFAR data sets of TFDS needs TensorFlow; nothing else does.
        "prepare": ["tensorflow-cpu>=2.16"],
        "test": [
            "hypothesis>=6",  # property tests
            "ipykernel>=6",
            "matplotlib>=3.8",  # the notebook's plots
            "nbmake>=1.5",
            "pytest>=8,<9.2",  # with 9.2, pytest-xdist 3.8 loses its groups of tests
            "pytest-xdist>=3.5",
            "ruff>=0.8",
        ],
    },
)
