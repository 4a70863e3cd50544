"""Every config file: it says how to run it, and it trains."""

import importlib.util

import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax import train
from ltjax.config.choices import choose
from ltjax.config.settings import all_fields, plain_dict, settings_from
from ltjax.data import datasets
from ltjax.data.images import InMemory
from ltjax.data.splits import long_tailed_counts
from ltjax.models import NETWORKS
from ltjax.recipes import TABLES, filled, functions_of, settings_of

CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def read(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mock(data):
    """Noise in the shapes of the data set."""
    rng = np.random.default_rng(0)
    classes, shape = {"digits": (10, (8, 8, 1)), "cifar10": (10, (32, 32, 3))}.get(
        data.name, (100, (32, 32, 3))
    )
    counts = long_tailed_counts(classes, 200.0, 20)
    dataset = datasets.DATASETS[data.name]

    def noise(label):
        return InMemory(rng.integers(0, 256, (len(label), *shape)).astype(np.uint8), label)

    train = noise(np.repeat(np.arange(classes), counts))
    names = [str(c) for c in range(classes)]
    manifest = {"train": {"rule": "noise", "sha256": "", "class_counts": counts.tolist()}}
    test = noise(np.arange(classes))
    return datasets.assembled(data, dataset, train, test, names, manifest)


@pytest.mark.parametrize(
    "path",
    [
        # differs from cifar100.py in the number of classes
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == "cifar10"))
        for path in CONFIGS
    ],
)
def test_a_config_takes_a_step_on_noise(path, tmp_path):
    module = read(path)
    assert f"--config configs/{path.name}" in module.__doc__
    config = module.get_config()
    cosine = config.schedule.name == "cosine"  # needs two epochs; these have three steps each
    config.num_epochs, config.batch_size = (2.0, 336) if cosine else (1e-3, 8)
    config.compute = dict(experts_over="map")
    assert config.network.name in NETWORKS.keys() - toy.NAMES
    config.network.name = "tiny"  # soon compiled
    splits = mock(settings_of(config).data)
    report = train.run(config, workdir=str(tmp_path), splits=splits)
    assert report["steps"] <= 6
    assert len(report["splits"]["test"]["experts"]) == config.num_experts


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_other_choice_is_one_name_away(path):
    """What a config says of one row of a table does not stand in the way of another row."""
    needed = {"power": {"q": 0.5}, "cutout": {"size": 4}}
    for field, table in TABLES.items():
        for name in table:
            config = read(path).get_config()
            config[field].name = name
            spec = getattr(settings_from(filled(plain_dict(config))), field)
            choose(functions_of(field), field, **{**spec, **needed.get(name, {})})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_numbers_that_may_be_fractions_are_written_as_fractions(path):
    """A field that holds an int takes no fraction on the command line."""
    written = flat(read(path).get_config().to_dict())
    for name, default in all_fields():
        assert type(written.get(name, 0.0)) is not int or type(default) is int, name
    assert type(written["schedule.lr"]) is float


def flat(config, path=""):
    found = {}
    for name, value in config.items():
        found |= flat(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found
