"""The command line: what it says of itself, and of mistakes."""

import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from ltjax.config.settings import all_fields

BROKEN = {
    "syntax.py": "def get_config(:\n",
    "nothing.py": "x = 1\n",
    "none.py": "def get_config():\n    pass\n",
    "three.py": "def get_config():\n    return 3\n",
    "key.py": "def get_config():\n    return {}['lost']\n",
    "reads.py": "def get_config():\n    return open('images.csv')\n",
    "raises.py": "def get_config():\n    raise RuntimeError('no such thing')\n",
}


@pytest.mark.parametrize(
    "arguments, word",
    [
        ([], "--config"),
        (
            ["--config", "missing.py"],
            "no such file 'missing.py'. Example: --config configs/digits.py",
        ),
        (["--config=it's.py", "--config.seed=1"], 'no such file "it\'s.py". Example'),
        (["--config"], "no such file ''"),
        (["--config", "."], "no such file '.'"),
        (["--config", "syntax.py"], "syntax"),
        (["--config", "nothing.py"], "'nothing.py' has no function get_config()"),
        (["--config", "none.py"], "get_config() in 'none.py' returned nothing; it must return"),
        (["--config", "none.py", "--config.seed=3"], "'none.py' returned nothing"),
        (["--config", "three.py"], "'three.py' returned a value of type int"),
        (["--config", "key.py"], "'key.py' failed to load: 'lost'"),
        (["--config", "raises.py"], "no such thing"),
        (["--confg", "x"], "--confg (did you mean --config?)"),
        (
            ["--config", "digits.py", "--method=ride"],
            "--method (did you mean --config.method.name?)",
        ),
        (["--config", "digits.py", "--epochs=3"], "(did you mean --config.num_epochs?)"),
        (["--config", "digits.py", "--dataset=x"], "(did you mean --config.data.name?)"),
        (["--config", "digits.py", "--optimizer=adam"], "Unknown option --optimizer. See --help"),
        (
            ["--config", "digits.py", "--config.lr=1"],
            "config.lr (did you mean config.schedule.lr?)",
        ),
        (["--config", "digits.py", "--config.method.name=Ldam_Dr"], "did you mean 'ldam_drw'?"),
        (["--config", "digits.py", "--config.seed=x", "--print_config"], "x"),
        (["--config", "digits.py", "--config.seed=-1", "--print_config"], "config.seed is -1"),
        (
            ["--config", "digits.py", "--compare=crt", "--config.method.name=lws"],
            "Remove --config.method.name",
        ),
        (["--config.seed=3"], "--config.seed overrides a field, but no --config was given"),
        (["--config", "reads.py"], "No such file or directory: 'images.csv'"),
        (["--config", "digits.py", "--xyz"], "Unknown option --xyz. See --help"),
        (["--config", "digits.py", "--config.method=ride"], "--config.method.name=joint"),
        (
            ["--config", "digits.py", "--config.num_experts=many"],
            "config.num_experts is 'many'; it must be an integer",
        ),
        (["--config", "digits.py", "--config.num-experts=5"], "did you mean --config.num_experts?"),
        (["--config", "digits.py", "--config.seed.x=3"], "config.seed.x: config.seed is a value"),
        (["--config", "digits.py", "--config.nmu_experts=3"], "nmu_experts"),
        (["--config", "digits.py", "resume"], "Unexpected argument 'resume'. See --help"),
        (["--config", "digits.py", "--config.optimzer.momentum=0.5"], "optimzer"),
        (["--config", "digits.py", "--num_processes=2"], "--coordinator"),
        (["--config", "digits.py", "--config.num_experts=0"], "config.num_experts is 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_mistake_on_the_command_line_is_one_line_with_exit_code_2(arguments, word, tmp_path):
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "digits.py").write_text((ROOT / "configs" / "digits.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "ltjax.main", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stdout + done.stderr
    assert word in done.stderr and done.stderr.startswith("ltjax: ")
    assert not (tmp_path / "runs").exists()


def test_help_lists_all_fields_and_print_config_shows_the_overrides():
    def said(*arguments):
        command = [sys.executable, "-m", "ltjax.main", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    text = said("--help")
    assert all(f"--config.{name}=" in text for name, _ in all_fields())
    printed = said("--config", "configs/digits.py", "--config.num_experts=7", "--print_config")
    assert "num_experts: 7" in printed
    printed = said(
        *("--config", "configs/digits.py", "--config.method.name=ldam_drw"), "--print_config"
    )
    assert "beta: 0.9999" in printed  # what the name stands for


def test_an_interruption_while_modules_are_imported_ends_at_once(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "ltjax.main", "--config"]
    started = subprocess.Popen(
        [*command, str(ROOT / "configs" / "digits.py"), "--workdir", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in started.stderr:
        if "| " in line and "jax._src" in line:  # in the middle of importing JAX
            started.send_signal(signal.SIGINT)
            break
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert "ltjax: Interrupted. Training has not begun." in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()
