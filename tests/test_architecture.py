"""The house: a file imports only from floors below, packages have one door, rows know no path."""

import ast
import graphlib

import pytest
from conftest import ROOT

# Wings and files of ltjax/; a floor may import what is on floors below it, and a wing itself.
FLOORS = [
    ["main", "bench"],
    ["overrides", "environment", "processes"],
    ["catalogue", "compare"],
    ["train", "predict", "analysis"],
    ["recipes", "report"],
    ["run", "methods"],
    ["build", "evaluation"],
    ["sizes"],
    ["phases"],
    ["experts", "mesh"],
    ["learner", "optim", "augmentation", "models"],
    ["data"],
    ["losses"],
    ["config"],
    ["limits", "axes", "kernels", "runtime"],
    ["storage", "terminal", "config_file"],
    ["errors"],
]
# Nothing here needs JAX, so that it starts at once: it may be read from any floor.
PLAIN = ("run.files", "run.predictions", "report.tables", "report.wording")

# package -> the files that may name it
DOORS = {
    "flax": ["models"],
    "orbax": ["run.checkpoint", "run.saving"],
    "PartitionSpec": ["mesh"],
    "absl": ["main", "overrides"],
    "ml_collections": ["main", "overrides"],
    "tensorboardX": ["run.folder"],
    "rich": [
        "terminal",
        "run",
        "report",
        "train",
        "bench.steps",
        "catalogue",
        "compare",
        "analysis",
    ],
    "tensorflow_datasets": ["data.builders", "data.stored", "data.preparing"],
    "array_record": ["data.stored"],
    "PIL": ["data.builders", "data.encoded"],
    "tensorflow": [],
}


def modules():
    for path in sorted((ROOT / "ltjax").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "ltjax").with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def wing(module):
    return module.partition(".")[0]


def floor(module):
    for number, names in enumerate(FLOORS):
        if wing(module) in names:
            return number
    raise AssertionError(
        f"ltjax.{module} is on no floor; give it one in tests/test_architecture.py"
    )


def imports(path):
    """(what a file imports, as dotted names)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = {name: path for name, path in modules() if path.read_text().count("\n") > 1}


def imported(module):
    """The modules of ltjax that a module imports."""
    for name in imports(MODULES[module]):
        if name.startswith("ltjax.") and name != "ltjax.__version__":
            yield max(
                (other for other in MODULES if f"{name}.".startswith(f"ltjax.{other}.")), key=len
            )


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below(module):
    for other in imported(module):
        allowed = wing(module) == wing(other) or floor(other) > floor(module)
        assert allowed or other in PLAIN, f"ltjax.{module} imports ltjax.{other}"


def test_no_files_import_each_other_in_a_circle():
    order = graphlib.TopologicalSorter({name: set(imported(name)) - {name} for name in MODULES})
    order.prepare()  # raises a CycleError with the circle


# What should never be, as (who, whom it never imports).
NEVERS = [
    ("run", "report"),  # the loop knows the report
    ("config", "methods"),  # the list of fields knows method names
    ("config", "recipes"),
    ("data", "learner"),  # data stands on the learner
    ("models", "losses"),  # a network knows a loss
    ("report", "recipes"),  # words about a run know recipes
    ("report", "methods"),
    ("report", "build"),
    ("run", "methods"),  # the loop names a method
]


@pytest.mark.parametrize("who, whom", NEVERS)
def test_what_should_never_be(who, whom):
    for module in MODULES:
        if wing(module) == who and module not in PLAIN:
            assert whom not in map(wing, imported(module)), module


def test_only_build_and_recipes_bind_names():
    """But for the command line's comparison and the list of choices, which only look them up."""
    binders = {
        module
        for module, path in MODULES.items()
        if {"ltjax.config.choices.choose", "ltjax.config.choices.choose_with_start"}
        & set(imports(path))
    }
    assert binders == {"build", "recipes"}


@pytest.mark.parametrize("module", MODULES)
def test_each_package_has_one_door(module):
    for name in imports(MODULES[module]):
        for package, doors in DOORS.items():
            if package in name.split("."):
                inside = any(module == door or module.startswith(f"{door}.") for door in doors)
                assert inside, f"ltjax.{module} imports {name}; only {doors} may"


def strings(path):
    """All string literals of a file, but for docstrings and other strings that stand alone."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


ROWS = ("losses", "data.sampling", "data.sampling_cycles", "augmentation", "models", "methods")


@pytest.mark.parametrize("wing", [*ROWS, "optim"])
def test_rows_of_tables_know_no_path_of_the_config(wing):
    """A FieldError names an option of the row, or a field as "network.head"; the rest is added."""
    files = [path for name, path in MODULES.items() if f"{name}.".startswith(f"{wing}.")]
    assert files
    for path in files:
        assert [text for text in strings(path) if "config." in text] == [], path


def test_configs_import_nothing_from_the_library():
    for path in (ROOT / "configs").glob("*.py"):
        assert not [name for name in imports(path) if name.startswith("ltjax")], path


def test_no_file_is_longer_than_300_lines():
    """But for the table of methods, which grows by a row with each of them."""
    long = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {k: v for k, v in long.items() if v > 300 and k != "methods"}
