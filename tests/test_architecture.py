"""The house: a file imports only from floors below, packages have one door, rows know no path."""

import ast

import pytest
from conftest import ROOT

FLOORS = [
    ["main", "bench"],
    ["catalogue", "compare.sweep", "compare.__main__"],
    ["train", "compare.tables", "predict"],
    ["run.loop"],
    ["report.summary", "compare.quoted", "compare.rows"],
    ["recipes"],
    ["compare", "report", "evaluation.evaluate", "run"],
    ["methods"],
    ["build"],
    ["phases", "losses.mixing"],
    ["experts", "mesh", "run.steps_per_call", "data.feeds", "augmentation.augments"],
    ["losses.objective", "optim", "models", "data.datasets"],
    ["learner", "data.sources"],
    ["data.builders", "augmentation.policies"],
    ["data.splits", "data.sampling", "data.images", "losses.classification", "evaluation"],
    ["losses.reweighting", "data.sampling_cycles", "data.info"],
    ["config.settings", "config.choices"],
    ["config", "axes", "kernels", "runtime", "augmentation", "data.rng", "run.files"],
    ["limits"],
    ["errors"],
]

# package -> the files that may name it
DOORS = {
    "flax": ["models"],
    "orbax": ["run.checkpoint"],
    "PartitionSpec": ["mesh"],
    "absl": ["main"],
    "ml_collections": ["main"],
    "tensorboardX": ["run.folder"],
    "rich": ["run", "report", "train", "bench", "catalogue", "compare"],
    "tensorflow_datasets": ["data.builders", "data.sources"],
    "tensorflow": [],
}


def modules():
    for path in sorted((ROOT / "ltjax").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "ltjax").with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def floor(module):
    """The floor of the longest name that a module's begins with."""
    found = {
        name: number
        for number, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    }
    if found:
        return found[max(found, key=len)]
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


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below(module):
    for name in imports(MODULES[module]):
        if not name.startswith("ltjax.") or name == "ltjax.__version__":
            continue
        known = [other for other in MODULES if f"{name}.".startswith(f"ltjax.{other}.")]
        other = max(known, key=len)
        same_package = (
            module.split(".")[0] == other.split(".")[0] in ("methods", "models", "run", "bench")
        )
        assert same_package or floor(other) > floor(module), f"ltjax.{module} imports {name}"


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
