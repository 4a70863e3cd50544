"""Planned tables: what a TOML file says, and what is wrong with one."""

import runpy
import textwrap

import pytest

from ltjax.compare import plan as plans
from ltjax.compare.work import check, write_config
from ltjax.errors import UserError

GOOD = """
title = "Two methods"
base = "digits"
seeds = [0, 3]
mean_expert = true

[for_all]
num_epochs = 3.0
schedule.warmup_epochs = 1

[[columns]]
name = "digits, 20"
data.imbalance_factor = 20.0

[[columns]]
name = "digits, balanced: all"
data.imbalance_factor = 1.0
num_epochs = 2.0

[[rows]]
recipe = "classifier:3"

[[rows]]
name = "ours"
recipe = "balanced_softmax+mixing.name=mixup:2"
network.head = "cosine"
"""


def written(cell, folder):
    """The config that the run of a cell gets, as plain dicts."""
    return runpy.run_path(str(write_config(cell, folder)))["get_config"]().to_dict()


def read(tmp_path, text=GOOD):
    (tmp_path / "plan.toml").write_text(text)
    return plans.read(str(tmp_path / "plan.toml"))


def test_each_place_of_the_table_is_a_run_for_each_seed(tmp_path):
    plan = read(tmp_path)
    assert plan.rows == ("classifier:3", "ours") and plan.mean_expert and not plan.best_published
    assert len(plan.cells) == 2 * 2 * 2
    first, second = plan.of("ours", "digits, balanced: all")
    assert (first.seed, second.seed) == (0, 3)
    assert second.folder == "digits-balanced-x-all/ours-3"
    config = second.config
    assert config["seed"] == 3 and config["num_experts"] == 2
    assert config["num_epochs"] == 2.0  # a column overrides what is for all
    assert config["schedule"]["warmup_epochs"] == 1 and config["schedule"]["name"] == "cosine"
    assert config["network"] == {"name": "resnet8", "head": "cosine"}
    assert config["method"] == {"name": "balanced_softmax"}
    assert config["mixing"] == {"name": "mixup"}
    check(plan, tmp_path / "nothing yet")
    assert write_config(second, tmp_path).name == "digits-balanced-x-all--ours-3.py"
    assert written(second, tmp_path) == config


@pytest.mark.parametrize(
    "change, words",
    [
        (("seeds = [0, 3]", "seeds = [0, 0]"), "seeds is [0, 0]; it must be different integers"),
        (("seeds = [0, 3]", "seeds = 3"), "seeds is 3"),
        (("title =", "titel ="), "unknown field 'titel'. Known fields: title"),
        (('base = "digits"', ""), "base is missing; it must be a text"),
        (('base = "digits"', 'base = "digit"'), "no such file 'digit'"),
        (("mean_expert = true", "mean_expert = 1"), "mean_expert is 1; it must be true or false"),
        (('recipe = "classifier:3"', ""), "each of rows needs a name or a recipe"),
        (('name = "ours"', 'name = "classifier:3"'), "two of rows are named 'classifier:3'"),
        (('name = "ours"', 'name = "classifier-x3"'), "have the folder digits-20/classifier-x3-0"),
        (('name = "digits, 20"', ""), "each of columns needs a name"),
        (("[[rows]]", "[[lines]]"), "unknown field 'lines'"),
        (("[for_all]", "for_all = 3\n[other]"), "unknown field 'other'"),
        (("title =", "title == "), "is no TOML file"),
        ((":2", ":0"), "a number of experts, 1 to 1,000"),
        (("[for_all]", "[for_all]\nseed = 7"), "seed is 7; the seeds of a table are its seeds"),
        (('recipe = "classifier:3"', "name = 'a'\nrecipe = 3"), "recipe is 3 in rows"),
        (('name = "digits, 20"', 'name = "a"\nrecipe = "crt"'), "a recipe is of a row"),
        (('head = "cosine"', 'head = "cosine"\nmethod.name = "crt"'), "method.name is 'crt'"),
        (("network.head", "num_experts = 4\nnetwork.head"), "and so does num_experts. Remove one"),
        (("3.0", "3" * 5000), "is no TOML file"),
        (("title = ", "x = " + "[" * 5000 + "]" * 5000 + "\ntitle = "), "plan.toml"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_what_is_no_plan_is_said_in_a_line(tmp_path, change, words):
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD.replace(*change))
    message = str(caught.value)
    assert words in message and "\n" not in message and message.startswith("--table: ")


@pytest.mark.parametrize(
    "change, words",
    [
        (("num_epochs = 2.0", "num_epoch = 2.0"), "Unknown config field config.num_epoch"),
        (("20.0", "0.5"), "config.data.imbalance_factor is 0.5"),
        (("balanced_softmax+", "balanced+"), "config.method.name is 'balanced'"),
        (('head = "cosine"', 'head = "round"'), "config.network.head is 'round'"),
    ],
)
def test_a_cell_that_cannot_be_run_is_found_before_any_is(tmp_path, change, words):
    plan = read(tmp_path, GOOD.replace(*change))
    with pytest.raises(UserError, match="^row '.*', column '.*': ") as caught:
        check(plan, tmp_path / "runs")
    assert words in str(caught.value)


def test_a_file_that_is_missing_names_those_that_come_with_ltjax():
    with pytest.raises(UserError, match="no such file 'quik'; .*quick.* come with ltjax"):
        plans.read("quik")


@pytest.mark.parametrize("name", plans.examples())
def test_tables_that_come_with_ltjax_can_be_run(name, tmp_path):
    plan = plans.read(name)
    check(plan, tmp_path)
    assert plan.about and len({cell.folder for cell in plan.cells}) == len(plan.cells)


def test_values_of_all_kinds_reach_the_run_as_they_are(tmp_path):
    own = tmp_path / "own base.py"
    own.write_text(
        "def get_config(size='small'):\n    return {'num_epochs': 40, 'batch_size': len(size)}"
    )
    text = textwrap.dedent(f"""
        title = "Values"
        base = "{own}:large"
        [for_all]
        num_epochs = 40.5
        schedule.drop_at = [0.5, 0.75]
        optimizer.nesterov = false
        [[columns]]
        name = "a"
        data.dir = "2024"
        [[rows]]
        recipe = "focal+loss.gamma=None"
    """)
    (cell,) = read(tmp_path, text).cells
    assert cell.config["batch_size"] == 5 and cell.config["num_epochs"] == 40.5
    assert cell.config["data"] == {"dir": "2024"} and cell.config["loss"] == {"gamma": None}
    found = written(cell, tmp_path)
    assert found.pop("schedule")["drop_at"] in ([0.5, 0.75], (0.5, 0.75))
    assert found == {name: of for name, of in cell.config.items() if name != "schedule"}


BASES = {
    "exits.py": "import sys\nsys.exit(3)",
    "fails.py": "1 / 0",
    "none.py": "def get_config():\n    return None",
    "empty.py": "def get_config():\n    return {}",
}


@pytest.mark.parametrize("name", BASES)
def test_a_base_that_is_none_is_said_in_a_line(tmp_path, name):
    (tmp_path / name).write_text(BASES[name])
    text = GOOD.replace('base = "digits"', f'base = "{tmp_path / name}"')
    text = text.replace("mean_expert = true", "held_out = true")
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("--table: ")


@pytest.mark.parametrize("name", ["..", ".", "table.md", "configs", "/", "???"])
def test_a_name_that_leaves_the_tables_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be the name of a folder. Rename it"):
        read(tmp_path, GOOD.replace("digits, 20", name))
    plan = read(tmp_path, GOOD.replace("digits, 20", "../.hidden"))
    assert plan.cells[0].folder.startswith("hidden/")
