"""Changes the code in one place at a time, and lists the changes that no test sees.

    pip install cosmic-ray
    python tests/drills/mutate.py                                    (all: hours, on one core)
    python tests/drills/mutate.py ltjax/data/splits.py --share 0.3   (of its mutants, by a seed)

Cosmic Ray makes the changes, "mutants": another operator, a number one higher or lower, a `not`, a
loop that never runs. They are made in a copy of the project, and each is met by the tests of its
module in a process of its own. A mutant is killed if a test fails, or if they take too long. One
that survives changes nothing that matters, or shows what no test looks at. Left out are changes
inside annotations, which `test_limits.py` and `test_properties.py` are about; bitwise operators in
the place of arithmetic ones, which floats refuse; and the stars of arguments.
"""

import argparse
import ast
import difflib
import math
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

os.environ["JAX_PLATFORMS"] = "cpu"

# What takes long to import is, once, before the tests' processes are forked; nothing of ltjax is.
import flax.linen  # noqa: F401
import jax
import optax  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db

ROOT = pathlib.Path(__file__).parents[2]
LOSSES = ("tests/test_losses_by_hand.py", "tests/test_golden_losses.py")
SAMPLING = ("tests/test_sampling_by_hand.py", "tests/test_sampling.py")
LFME = "tests/test_lfme.py::test_"
TESTS = {
    "ltjax/losses/classification.py": LOSSES,
    "ltjax/losses/mixing.py": ("tests/test_mixing.py",),
    "ltjax/losses/objective.py": ("tests/test_objective.py",),
    "ltjax/losses/reweighting.py": LOSSES,
    "ltjax/evaluation/metrics.py": ("tests/test_metrics_by_hand.py", "tests/test_metrics.py"),
    "ltjax/data/sampling.py": SAMPLING,
    "ltjax/data/sampling_cycles.py": SAMPLING,
    "ltjax/data/splits.py": (
        "tests/test_splits.py",
        f"{LFME}small_data_is_cut_into_thirds_by_rank_and_large_by_size",
        f"{LFME}every_part_is_flatter_than_the_whole_by_each_measure",
        f"{LFME}measures_of_a_tail_worked_by_hand",
    ),
}
COPIED = ("ltjax", "tests", "configs", "pyproject.toml")
TRIVIAL = re.compile(r"_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(RShift|LShift|Bit\w+)$")
OPTIONS = ["-o", "addopts=", "-m", "not slow", "-x", "-q", "-p", "no:cacheprovider"]
OPTIONS += ["-p", "no:nbmake", "-p", "no:hypothesispytest"]  # slow to start
LIMIT = 60  # seconds, of the tests of one mutant


def annotations(path):
    """[(first, last)] of a file's annotations, each (line, column)."""
    nodes = []
    for node in ast.walk(ast.parse(path.read_text())):
        nodes += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
            nodes.append(node)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in nodes
        if node is not None
    ]


def is_star(line, column):
    """Whether this is the star of `*rest` or `**options`, which Cosmic Ray takes for a product."""
    return re.search(r"(^|[(\[{,])\s*$", line[:column]) and re.match(r"\*+[^*\s]", line[column:])


def mutants(module, place):
    """All that are tried of a module, in the order of the file."""
    path = place / module
    left_out, lines = annotations(path), path.read_text().splitlines()
    with use_db(str(place / "mutants.sqlite")) as db:
        init([path], db, {})
        found = [mutation for item in db.work_items for mutation in item.mutations]
    found = [
        one
        for one in found
        if not TRIVIAL.search(one.operator_name)
        and not is_star(lines[one.start_pos[0] - 1], one.start_pos[1])
        and not any(first <= tuple(one.start_pos) < last for first, last in left_out)
    ]
    return sorted(found, key=lambda one: (one.start_pos, one.operator_name, one.occurrence))


def passes(tests, place, keep_bytecode=False):
    """Whether all tests pass in a fork of this process, in time."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(place)
        sys.path[:0] = [str(place), str(place / "tests")]
        sys.dont_write_bytecode = not keep_bytecode
        silence = os.open(place / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        jax.config.update("jax_compilation_cache_dir", str(place / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        os._exit(pytest.main([*OPTIONS, *tests]))
    until = time.monotonic() + LIMIT
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.01)


def changed(before, after):
    """What a mutant changed, as lines of a diff."""
    pair = (text.splitlines() for text in (before, after))
    return list(difflib.unified_diff(*pair, n=0, lineterm=""))[2:]


def mutate(module, place, share, seed, tell=print):
    """Try a share of a module's mutants; returns the numbers (of all, tried, survived)."""
    tests, path = TESTS[module], place / module
    if not passes(tests, place, keep_bytecode=True):
        sys.exit((place / "said.txt").read_text())
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
        stale.unlink()
    every = mutants(module, place)
    random.Random(seed).shuffle(every)  # what a smaller share has, a larger one has, too
    tried = every[: math.ceil(share * len(every))]
    survived = 0
    for one in tried:
        operator = get_operator(one.operator_name)()
        with use_mutation(path, operator, one.occurrence) as (before, after):
            if passes(tests, place):
                survived += 1
                tell("\n".join([module, *changed(before, after)]), flush=True)
    return len(every), len(tried), survived


def main():
    """Run the drill; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--share", type=float, default=1.0, help="of each module's mutants; 1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("LTJAX_SHARED", str(ROOT.parent / "shared"))
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place / name)
        rows = [(module, *mutate(module, place, args.share, args.seed)) for module in args.modules]
    print(f"{'module':32}{'mutants':>9}{'tried':>7}{'killed':>8}{'survived':>10}")
    for module, every, tried, survived in rows:
        print(f"{module:32}{every:9}{tried:7}{tried - survived:8}{survived:10}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
