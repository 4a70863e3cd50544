"""Names, paths and reports of others reach terminals and pages as text."""

import ast
import io
import json
import re
import subprocess
import sys

import pytest
import toy
from conftest import ROOT
from reports import report, save
from rich.console import Console

from ltjax import train
from ltjax.compare import rows, tables
from ltjax.compare.__main__ import main
from ltjax.errors import plain
from ltjax.run.console import own_console
from ltjax.run.files import load_report
from ltjax.storage import Damaged
from ltjax.terminal import fail, say, show

HOSTILE = "[red]a[/red] [/] :smile: \x1b[2J\x1b]0;title\x07\x9b31m\u202e\r\b"
SHOWN = r"[red]a[/red] [/] :smile: \x1b[2J\x1b]0;title\x07\x9b31m\u202e\r\x08"


def obeyed(text):
    """Characters that a terminal obeys."""
    return set(re.findall(r"[^\n -~\xa0-\u2027\u202f-\U0010ffff]", text))


def test_text_that_a_terminal_obeys_is_written_as_an_escape():
    assert plain(HOSTILE) == SHOWN and not obeyed(SHOWN) and obeyed(HOSTILE)
    assert plain("29.74 ± 0.26\nübung 日本") == "29.74 ± 0.26\nübung 日本"
    assert plain("\udcff") == r"\udcff"


@pytest.mark.parametrize("show", [show, lambda text: say(own_console(), text), fail])
def test_every_way_to_print_is_plain(show, capsys):
    show(HOSTILE)
    out = "".join(capsys.readouterr())
    assert out.removeprefix("ltjax: ") == f"{SHOWN}\n"


@pytest.mark.slow
def test_hostile_class_names_go_through_a_run(tmp_path, capsys):
    splits = toy.splits()
    names = (HOSTILE, "[/]", "\x1b[31m", "d")
    splits = splits._replace(info=splits.info._replace(class_names=names))
    config = dict(
        network={"name": "tiny"}, batch_size=16, num_epochs=1.0, compute={"experts_over": "map"}
    )
    folder = tmp_path / ":smile:"
    for _ in range(2):  # trained, and shown again
        train.run(config, folder, splits=splits)
        assert not obeyed("".join(capsys.readouterr()))
    assert not obeyed((folder / "report.md").read_text())
    assert json.loads((folder / "data.json").read_text())["class_names"] == list(names)


def hostile(value):
    """A report with a hostile text wherever there is a text."""
    if isinstance(value, dict):
        return {key: hostile(one) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_reports_are_compared(tmp_path, capsys):
    for seed in (0, 1):
        one = hostile(report("classifier", seed))
        one["options"] = {HOSTILE: HOSTILE}
        one["versions"] = {HOSTILE: "1\nFORGED LINE"}
        save(tmp_path / f"run-{seed}", one)
    page = tmp_path / "page.md"
    assert main([str(tmp_path), "--markdown", str(page)]) == 0
    out = "".join(capsys.readouterr())
    for text in (out, page.read_text()):
        assert not obeyed(text) and "[red]a[/red]" in text
        assert not re.search("^FORGED", text, re.MULTILINE)


def test_markup_is_text_in_a_table_of_methods(tmp_path):
    run = save(tmp_path / "run", report("classifier"))
    (row,) = rows.rows([("[red]x[/] :smile:", run)])
    out = io.StringIO()
    Console(file=out, width=200).print(tables.table([row], 200))
    assert "[red]x[/] :smile:" in out.getvalue()


def test_a_report_that_is_nested_too_deep_is_damaged(tmp_path):
    one = report("classifier")
    text = json.dumps(one)[:-1] + ', "deep": ' + "[" * 3000 + "]" * 3000 + "}"
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(Damaged, match="nested too deep|not JSON"):
        load_report(path)


def test_the_command_line_does_not_repeat_what_a_terminal_obeys():
    words = ("-m", "ltjax.main", "--config", f"no {HOSTILE}.py")
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not obeyed(done.stdout + done.stderr)


# What runs a text or a file of others as a program.
CALLS = ("eval", "exec", "compile", "__import__")
MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml")
ATTRIBUTES = ("os.system", "os.popen", "torch.load", "np.load", "numpy.load", "jnp.load")
OPTIONS = ("allow_pickle", "shell")


def dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def executes(path):
    """What in a file might run a text or a file of others."""
    tree = ast.parse(path.read_text())
    plain_arrays = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(
            one.arg == "allow_pickle" and not ast.literal_eval(one.value) for one in node.keywords
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = [getattr(node, "module", None)]
            names = [alias.name for alias in node.names] if module == [None] else module
            yield from (name for name in names if (name or "").partition(".")[0] in MODULES)
        elif (
            isinstance(node, ast.Attribute)
            and dotted(node) in ATTRIBUTES
            and node not in plain_arrays
        ):
            yield dotted(node)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            yield from (
                option.arg
                for option in node.keywords
                if option.arg in OPTIONS and getattr(option.value, "value", True) is not False
            )


@pytest.mark.parametrize(
    "code, found",
    [
        ("np.load(path)", ["np.load"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle", "np.load"]),
        ("np.load(path, allow_pickle=False)", []),
        ("import pickle", ["pickle"]),
        ("eval(text)", ["eval"]),
        ("subprocess.run(text, shell=True)", ["shell"]),
    ],
)
def test_what_would_run_data_is_seen(code, found, tmp_path):
    (tmp_path / "some.py").write_text(code)
    assert sorted(executes(tmp_path / "some.py")) == found


@pytest.mark.parametrize("path", sorted((ROOT / "ltjax").rglob("*.py")), ids=str)
def test_nothing_in_the_library_runs_data_as_a_program(path):
    assert list(executes(path)) == []
