"""The house: a file imports only from floors below it, and some packages have one door."""

import ast

import pytest
from conftest import ROOT

FLOORS = [
    ["main", "bench"],
    ["catalogue", "comparison"],
    ["train", "standings", "entrant"],
    ["loop"],
    ["report", "tables", "evaluate", "checkpoint", "rundir", "console", "signals"],
    ["methods", "sharing"],
    ["needs"],
    ["phases"],
    ["mixing"],
    ["experts", "mesh", "strides", "data.feeds", "data.augment", "cost", "objective"],
    ["learner", "optim", "models", "data.datasets", "data.foreground"],
    ["data.builders", "data.policies"],
    ["data.splits", "data.sampling", "data.images", "losses", "metrics", "settings"],
    ["reweighting", "data.cycles"],
    [
        "choices",
        "axes",
        "kernels",
        "memory",
        "compilation",
        "presets",
        "data.operations",
        "data.draws",
        "data.jitter",
    ],
    ["errors"],
]

# package -> the files that may name it
DOORS = {
    "flax": ["models"],
    "orbax": ["checkpoint"],
    "PartitionSpec": ["mesh"],
    "absl": ["main"],
    "ml_collections": ["main"],
    "tensorboardX": ["rundir"],
    "rich": ["console", "tables", "train", "loop", "bench", "catalogue", "standings"],
    "tensorflow_datasets": ["data.builders", "data.datasets"],
    "tensorflow": [],
}


def modules():
    for path in sorted((ROOT / "ltjax").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "ltjax").with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def floor(module):
    for number, names in enumerate(FLOORS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return number
    raise AssertionError(f"ltjax.{module} is on no floor; give it one in tests/test_layers.py")


def imports(path):
    """(what a file imports, as dotted names)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = {name: path for name, path in modules() if name not in ("__init__", "data")}


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below(module):
    for name in imports(MODULES[module]):
        if not name.startswith("ltjax.") or name == "ltjax.__version__":
            continue
        known = [other for other in MODULES if f"{name}.".startswith(f"ltjax.{other}.")]
        other = max(known, key=len)
        same_package = module.split(".")[0] == other.split(".")[0] in ("methods", "models", "bench")
        assert same_package or floor(other) > floor(module), f"ltjax.{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_each_package_has_one_door(module):
    for name in imports(MODULES[module]):
        for package, doors in DOORS.items():
            if package in name.split("."):
                inside = any(module == door or module.startswith(f"{door}.") for door in doors)
                assert inside, f"ltjax.{module} imports {name}; only {doors} may"


def test_configs_import_nothing_from_the_library():
    for path in (ROOT / "configs").glob("*.py"):
        assert not [name for name in imports(path) if name.startswith("ltjax")], path


def test_no_file_is_longer_than_300_lines():
    long = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert max(long.values()) <= 300, {k: v for k, v in long.items() if v > 300}
