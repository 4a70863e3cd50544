"""The documentation tells the truth: README and extending.md run, tables are whole, links work."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from conftest import ROOT
from test_analysis import made

from ltjax import train
from ltjax.catalogue import rows
from ltjax.compare.plan import examples, read
from ltjax.compare.work import check
from ltjax.config.settings import as_dict
from ltjax.data.datasets import DATASETS
from ltjax.losses.classification import LOSSES
from ltjax.recipes import TABLES, settings_of
from ltjax.run import folder

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "results" / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(DOCS.glob("*.md")),
]


def blocks(page):
    """The Python in a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def all_rows():
    """All rows of all tables."""
    return [(table, name) for table in (*TABLES.values(), DATASETS) for name in list(table)]


@pytest.fixture
def extended():
    """What docs/extending.md defines: all but the last block, which trains."""
    before, page = all_rows(), {}
    for block in blocks(DOCS / "extending.md")[:-1]:
        exec(compile(block, "docs/extending.md", "exec"), page)
    yield page
    for table, name in all_rows():
        if (table, name) not in before:
            del table[name]


def falls(losses):
    assert (losses[-5:].mean(0) < 0.7 * losses[:5].mean(0)).all(), losses


def test_a_loss_of_ones_own_is_one_function_and_one_row(extended):
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    label, ones = np.array([0, 1, 2, 3, 0, 1]), jnp.ones(6)
    probability = np.asarray(jax.nn.softmax(logits))[np.arange(6), label]
    power = LOSSES["power"]
    error, _ = power(None, q=1.0)(logits, label, ones, None)
    np.testing.assert_allclose(error, 1 - probability, rtol=1e-5)
    near, _ = power(None, q=1e-3)(logits, label, ones, None)
    np.testing.assert_allclose(near, -np.log(probability), rtol=1e-2)

    phase = toy.phase(loss={"name": "power", "q": 0.5}, network={"name": "tiny"})
    _, losses = toy.Trainer(phase, 2).steps(40)
    assert (losses[-5:].mean(0) < 0.5 * losses[:5].mean(0)).all()


def test_a_sampler_of_ones_own_draws_a_share_balanced(extended):
    labels = np.repeat(np.arange(4), toy.CLASS_COUNTS)
    for share, smallest in ((0.0, 5 / 75), (0.5, (5 / 75 + 1 / 4) / 2), (1.0, 1 / 4)):
        draw = extended["half_balanced"](labels, 15, 100, share=share)
        drawn = labels[np.concatenate([draw((0, 0, 0), step) for step in range(200)])]
        assert abs(np.mean(drawn == 3) - smallest) < 0.03  # 3,000 images: 4 standard deviations
    phase = toy.phase(sampler={"name": "half_balanced", "share": 0.3}, network={"name": "tiny"})
    falls(toy.Trainer(phase, 2).steps(40)[1])


def test_a_network_of_ones_own_has_the_parts_that_methods_need(extended):
    phase = toy.phase(network={"name": "small"})
    state, losses = toy.Trainer(phase, 2).steps(40)
    falls(losses)
    assert set(state.variables.params) == {"backbone", "head"}
    assert len(toy.recipe("tau_norm", network={"name": "small"})) == 1


def test_a_method_of_ones_own_keeps_the_backbone_in_its_second_phase(extended):
    first, second = toy.recipe("new_head", network={"name": "tiny"})
    assert second.num_steps == first.num_steps / 4
    trained, _ = toy.Trainer(first, 2).steps(20)
    trainer = toy.Trainer(second, 2)
    start = trainer.compiled.begin(toy.info().example, trained.variables)
    kept = toy.numbers(trained)[1].params["backbone"]
    fresh = toy.numbers(start)[1].params["head"]
    state, losses = trainer.steps(10, start)
    falls(losses)
    params = toy.numbers(state)[1].params
    toy.assert_trees_equal(params["backbone"], kept)
    with pytest.raises(AssertionError):
        toy.assert_trees_equal(params["head"], fresh)


@pytest.mark.slow
def test_all_of_ones_own_together_train_and_predict(extended, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = dict(extended)
    exec(compile(blocks(DOCS / "extending.md")[-1], "docs/extending.md", "exec"), page)
    assert page["report"]["splits"]["test"]["average"]["accuracy"] > 0.9
    np.testing.assert_allclose(page["probs"].sum(-1), 1, rtol=1e-5)
    assert page["probs"].shape == (60, 3)


def test_the_five_lines_of_the_readme_predict(tmp_path, monkeypatch, capsys):
    from configs.digits import get_config

    (block,) = blocks(ROOT / "README.md")
    (named,) = re.findall(r'load\("(.*?)"\)', block)
    assert named == str(folder.default(as_dict(settings_of(get_config())), "classifier"))
    compute = {"experts_over": "map"}
    config = dict(network={"name": "tiny"}, batch_size=16, num_epochs=1.0, compute=compute)
    monkeypatch.chdir(tmp_path)
    train.run(config, named, splits=toy.splits())
    capsys.readouterr()
    exec(compile(block, "README.md", "exec"), {})
    assert len(re.findall("'[abcd]'", capsys.readouterr().out)) == 10


def test_the_lines_of_the_analysis_run(tmp_path, monkeypatch):
    (block,) = blocks(DOCS / "analysis.md")
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "runs" / "mine")
    exec(compile(block, "analysis.md", "exec"), page := {})
    assert (
        0
        < page["priors"].accuracy(page["average"].argmax(-1), page["test"].label, page["forward"])
        < 1
    )


def test_the_table_in_the_documentation_can_be_run(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", (DOCS / "running.md").read_text(), re.DOTALL)
    (tmp_path / "mine.toml").write_text(block)
    plan = read(str(tmp_path / "mine.toml"))
    check(plan, tmp_path / "runs")
    assert len(plan.cells) == 6


def test_the_documentation_names_every_table():
    text = (DOCS / "running.md").read_text()
    assert [name for name in examples() if f"| `{name}` |" not in text] == []


def test_the_readme_begins_with_the_commands_that_are_tested():
    """The first lines that .ci/run takes from it, each alone on an indented line."""
    lines = (ROOT / "README.md").read_text().splitlines()
    digits = [line for line in lines if "python -m ltjax.main --config configs/digits.py" in line]
    assert digits[0] == "    pip install -e . && python -m ltjax.main --config configs/digits.py"
    tests = [line for line in lines if "python -m pytest" in line]
    assert tests == ["    pip install -e '.[test]' && python -m pytest"]


def test_every_room_has_a_line_in_the_architecture():
    text = (DOCS / "architecture.md").read_text()
    tree = re.search(r"```\nltjax/\n(.*?)```", text, re.DOTALL)[1]
    named = re.findall(r"^  (\S+)", tree, re.MULTILINE)
    library = ROOT / "ltjax"
    files = [path.name for path in library.glob("*.py") if path.name != "__init__.py"]
    folders = [f"{path.parent.name}/" for path in library.glob("*/__init__.py")]
    assert sorted(named) == sorted(files + folders)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    named = re.findall(r"`((?:docs|ltjax|tests|configs|benchmarks|colabs|results)/[\w./]+)`", text)
    named += [f"tests/{name}" for name in re.findall(r"`(test_\w+\.py)`", text)]
    assert [name for name in named if not (ROOT / name).exists()] == []
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?://)([^)#\s]+)", prose)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_dependency_has_its_licence():
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    table = (DOCS / "security.md").read_text().rpartition("|---|---|")[2]
    assert sorted(re.findall(r"[\w.-]+(?=, | \|\n)", table), key=str.lower) == sorted(
        names, key=str.lower
    )


def test_the_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text] == []


def test_every_choice_is_listed_with_its_source():
    without = [
        (field, name)
        for field, name, text in rows()
        if not re.search(r"\b\d{4}\b", text) and name not in toy.NAMES  # the tests' own
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
