"""Install ltjax: `pip install -e .`, or `pip install -e '.[test]'` to run the tests."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="ltjax",
    version="0.1.0",
    description="Long-tailed visual recognition in JAX, with independent experts",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["ltjax", "ltjax.*"]),
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
            "ipykernel>=6",
            "matplotlib>=3.8",  # the notebook's plots
            "nbmake>=1.5",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.8",
        ],
    },
)
