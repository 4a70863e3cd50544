"""Checks at the end of a session that the golden keys said to be compared were read.

`golden_keys.KEYS` names the test that compares a key, and `conftest.READ` collects what each test
reads. A file is checked if all its tests ran and passed, which the slow ones among them need: a key
that its test did not read, or an input that no test read, makes the session fail.
"""

import collections
import re

import numpy as np
import pytest
from conftest import READ, SHARED, function_of
from golden_keys import INPUT, KEYS, OMITTED

COLLECTED = collections.defaultdict(set)  # function -> ids of its tests, one for each parameter
PASSED = set()  # ids of tests


def patterns_of(name):
    """[(pattern of keys, what is said of them)] of a golden file."""
    rows = [row for file, row in KEYS.items() if re.fullmatch(file, name)]
    assert len(rows) == 1, f"golden_keys.KEYS has {len(rows)} rows for {name}"
    return [
        (pattern, said)
        for said, patterns in rows[0].items()
        for pattern in ((patterns,) if isinstance(patterns, str) else patterns)
    ]


def said_of(name, key):
    """INPUT, the test that compares a key, or OMITTED and the reason."""
    found = [(p, said) for p, said in patterns_of(name) if re.fullmatch(p, key)]
    assert len(found) == 1, f"{len(found)} patterns of golden_keys.KEYS match {name}: {key}"
    return found[0][1]


def compared_by(name):
    """The tests that compare keys of a golden file."""
    said = {said for _, said in patterns_of(name)}
    return {one for one in said if one != INPUT and not one.startswith(OMITTED)}


def unread():
    """What is said of a golden key and was not done, as lines."""
    files = {path.stem: np.load(path).files for path in (SHARED / "golden").glob("*.npz")}
    every_test = set().union(*map(compared_by, files))
    by_any = set().union(*READ.values())
    for name in sorted(files):
        tests = compared_by(name) or every_test  # a file of inputs alone may be any test's
        if not all(COLLECTED[test] and COLLECTED[test] <= PASSED for test in tests):
            continue
        for key in files[name]:
            said = said_of(name, key)
            if said == INPUT and (name, key) not in by_any:
                yield f"{name}: no test reads the input {key}"
            if said in tests and (name, key) not in READ[said]:
                yield f"{name}: {said} does not read {key}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Note all parameters of a test, also those that markers leave out afterwards."""
    if not any("::" in arg for arg in config.args):  # a test by name may lack parameters
        for item in items:
            COLLECTED[function_of(item.nodeid)].add(item.nodeid)


def pytest_runtest_logreport(report):
    """Note what passed."""
    if report.when == "call" and report.passed:
        PASSED.add(report.nodeid)


def pytest_sessionfinish(session):
    """Hand over what this process noted, or check what all processes did."""
    if hasattr(session.config, "workeroutput"):
        noted = [{name: sorted(of[name]) for name in of} for of in (READ, COLLECTED)]
        session.config.workeroutput["golden"] = noted
    elif lines := list(unread()):
        session.config.pluginmanager.getplugin("terminalreporter").write_line(
            "\n".join(["", "tests/golden_keys.py says that these are read:", *lines])
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take over what a process of pytest-xdist noted."""
    for ours, theirs in zip(
        (READ, COLLECTED), getattr(node, "workeroutput", {}).get("golden", ()), strict=False
    ):
        for name, found in theirs.items():
            ours[name] |= {tuple(x) if isinstance(x, list) else x for x in found}
