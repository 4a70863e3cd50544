"""The documentation tells the truth: its code runs, its tables are whole."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax.catalogue import rows
from ltjax.losses.classification import LOSSES
from ltjax.recipes import TABLES

DOCS = ROOT / "docs"


def code(page):
    """The Python in a page, all of it."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))


@pytest.fixture
def power():
    exec(compile(code("losses.md"), "docs/losses.md", "exec"), {})
    yield LOSSES["power"]
    del LOSSES["power"]


def test_a_loss_of_ones_own_is_one_function_and_one_row(power):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    label, ones = np.array([0, 1, 2, 3, 0, 1]), jnp.ones(6)
    probability = np.asarray(jax.nn.softmax(logits))[np.arange(6), label]
    error, _ = power(None, q=1.0)(logits, label, ones, None)
    np.testing.assert_allclose(error, 1 - probability, rtol=1e-5)
    near, _ = power(None, q=1e-3)(logits, label, ones, None)
    np.testing.assert_allclose(near, -np.log(probability), rtol=1e-2)

    phase = toy.phase(loss={"name": "power", "q": 0.5}, network={"name": "tiny"})
    _, losses = toy.Trainer(phase, 2).steps(40)
    assert (losses[-5:].mean(0) < 0.5 * losses[:5].mean(0)).all()


@pytest.mark.parametrize(
    "page, field",
    [
        ("losses.md", "loss"),
        ("losses.md", "reweight"),
        ("sampling.md", "sampler"),
        ("mixing.md", "mixing"),
        ("augmentation.md", "augment"),
    ],
)
def test_a_page_has_every_row_of_its_table(page, field):
    text = (DOCS / page).read_text()
    missing = [name for name in TABLES[field] if f"`{name}`" not in text]
    assert [name for name in missing if name != "none"] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS.glob("*.md")], ids=lambda p: p.name)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    named = re.findall(r"`((?:docs|ltjax|tests|configs|benchmarks|colabs)/[\w./]+)`", text)
    named += [f"tests/{name}" for name in re.findall(r"`(test_\w+\.py)`", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_choice_is_listed_with_its_source():
    without = [
        (field, name)
        for field, name, text in rows()
        if not re.search(r"\b\d{4}\b", text) and name not in ("toy", "tiny")  # the tests' own
    ]
    # what needs no paper
    assert set(without) <= {
        ("method", "classifier"),
        ("sampler", "instance_balanced"),
        ("loss", "cross_entropy"),
        ("reweight", "none"),
        ("mixing", "none"),
        ("augment", "none"),
        ("augment", "pad_crop_flip"),
    }
