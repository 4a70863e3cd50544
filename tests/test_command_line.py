"""The command line: what it says of itself, and of mistakes."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

from ltjax import config_file
from ltjax.config.settings import all_fields

BROKEN = {
    "syntax.py": "def get_config(:\n",
    "nothing.py": "x = 1\n",
    "none.py": "def get_config():\n    pass\n",
    "three.py": "def get_config():\n    return 3\n",
    "key.py": "def get_config():\n    return {}['lost']\n",
    "reads.py": "def get_config():\n    return open('images.csv')\n",
    "bytes.py": "x = 1\0\n",
    "imports.py": "import lost\n",
    "exits.py": "import sys\nsys.exit(3)\n",
    "list.py": (
        "import ml_collections\n"
        "def get_config():\n    return ml_collections.ConfigDict({'seed': [1]})\n"
    ),
    "open.py": (
        "import ml_collections\n"
        "def get_config():\n"
        "    seed = ml_collections.config_dict.required_placeholder(int)\n"
        "    return ml_collections.ConfigDict({'seed': seed})\n"
    ),
    "raises.py": "def get_config():\n    raise RuntimeError('no such thing')\n",
}


@pytest.mark.parametrize(
    "arguments, word",
    [
        ([], "--config"),
        (
            ["--config", "missing.py"],
            "no such file 'missing.py' here. Example: --config digits; cifar10, cifar100 and",
        ),
        (["--config=it's.py", "--config.seed=1"], 'no such file "it\'s.py" here. Example'),
        (["--config"], "--config names no file. Example: --config digits"),
        (["--config", "digits.py", "--config="], "--config names no file"),
        (["--config", "."], "'.' is a folder. Example: --config digits"),
        (["--config", "configs/digits.py"], "'configs/digits.py' here. Example: --config digits"),
        (["--config", "syntax.py"], "syntax"),
        (["--config", "nothing.py"], "'nothing.py' has no function get_config()"),
        (["--config", "none.py"], "get_config() in 'none.py' returned nothing; it must return"),
        (["--config", "none.py", "--config.seed=3"], "'none.py' returned nothing"),
        (["--config", "three.py"], "'three.py' returned a value of type int"),
        (["--config", "key.py"], "'key.py' failed to load: KeyError: 'lost' (line 2)"),
        (["--config", "bytes.py"], "'bytes.py' failed to load: SyntaxError: source code"),
        (["--config", "imports.py"], "ModuleNotFoundError: No module named 'lost' (line 1)"),
        (["--config", "exits.py"], "'exits.py' failed to load: SystemExit: 3 (line 2)"),
        (["--config", "open.py"], "config.seed is missing; it must be set with --config.seed=..."),
        (["--config", "three.py", "--config.seed=3"], "returned a value of type int; it must"),
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
        pytest.param(
            ["--config", "digits.py", "--config.method.name=Ldam_Dr"],
            "did you mean 'ldam_drw'?",
            marks=pytest.mark.slow,
        ),
        (["--config", "digits.py", "--config.seed=x", "--print_config"], "x"),
        pytest.param(
            ["--config", "digits.py", "--config.seed=-1", "--print_config"],
            "config.seed is -1",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", "--compare=crt", "--config.method.name=lws"],
            "Remove --config.method.name",
            marks=pytest.mark.slow,
        ),
        (["--config.seed=3"], "--config.seed overrides a field, but no --config was given"),
        (["--config", "reads.py"], "No such file or directory: 'images.csv'"),
        (["--config", "digits.py", "--xyz"], "Unknown option --xyz. See --help"),
        (["configs/own.py"], "argument 'configs/own.py'. Did you mean --config configs/own.py?"),
        (["digits"], "Unexpected argument 'digits'. Did you mean --config digits?"),
        (["--flagfile=missing"], "--flagfile cannot be read: [Errno 2] No such file"),
        (["--flagfile=digits.pyc"], "--flagfile cannot be read: 'utf-8' codec can't decode"),
        (["--config", "digits.py", "--config.loss=focal"], "use --config.loss.name=focal. See"),
        (
            ["--config", "digits.py", "--config.num_experts=many"],
            "config.num_experts is 'many'; it must be an integer",
        ),
        (["--config", "digits.py", "--config.num-experts=5"], "Did you mean --config.num_experts?"),
        (["--config", "digits.py", "--config.num-expert=5"], "Did you mean --config.num_experts?"),
        (
            ["--config", "digits.py", "--config.sampler.images-per-class=5"],
            "Did you mean --config.sampler.images_per_class?",
        ),
        (
            ["--config", "digits.py", "--config.=5"],
            "Unknown option --config.. Names are of letters",
        ),
        (["--config", "digits.py", "--config.num_experts[0]=5"], "mean --config.num_experts?"),
        (["--config", "digits.py", "--num_processes=two"], "is 'two'; it must be an integer"),
        (["--config", "list.py", "--config.seed=3"], "the config file gives it a list"),
        (
            ["--config", "digits.py", f"--config.num_experts={'9' * 5000}"],
            "config.num_experts is '9999",
        ),
        (["--config", "digits.py", "--seeds="], "--seeds requires --compare"),
        pytest.param(
            ["--config", "digits.py", "--compare="],
            "--compare names no method. Example",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", "--compare=crt", "--seeds="],
            "such as --seeds=0,1,2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", "--compare=crt", f"--seeds={'9' * 5000}"],
            "it must be integers below 2^32, such as 0,1,2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", f"--compare=crt:{'9' * 5000}"],
            "at most 200 characters",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", "--compare=crt:1001"],
            "a number of experts, 1 to 1,000, must",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--config", "digits.py", "--config.schedule.lr=-0.1", "--print_config"],
            "lr is -0.1",
            marks=pytest.mark.slow,
        ),
        (
            ["--config", "digits.py", "--config.loss.name=ldam", "--print_config"],
            "use --config.network.head=cosine",
        ),
        (
            ["--config", "digits.py", "--config.num_epochs=1.0", "--print_config"],
            "config.num_epochs is 1.0; it must be above 1 with schedule 'cosine'",
        ),
        (["--config", "digits.py", "--config.seed.x=3"], "config.seed.x: config.seed is a value"),
        pytest.param(
            ["--config", "digits.py", "--config.nmu_experts=3"],
            "nmu_experts",
            marks=pytest.mark.slow,
        ),
        (["--config", "digits.py", "resume"], "Unexpected argument 'resume'. See --help"),
        (["--config", "digits.py", "--config.optimzer.momentum=0.5"], "optimzer"),
        (["--config", "digits.py", "--num_processes=2"], "--coordinator"),
        (["--config", "digits.py", "--config.num_experts=0"], "config.num_experts is 0"),
    ],
    ids=lambda value: (" ".join(value) if isinstance(value, list) else value)[:60],
)
def test_a_mistake_on_the_command_line_is_one_line_with_exit_code_2(arguments, word, tmp_path):
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "digits.pyc").write_bytes(b"\xff")
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


def test_a_config_that_interrupts_ends_in_a_line(tmp_path):
    (tmp_path / "own.py").write_text("def get_config():\n    raise KeyboardInterrupt\n")
    command = [sys.executable, "-m", "ltjax.main", "--config", "own.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr.splitlines() == ["ltjax: Interrupted."]


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


NUMPY = """
import numpy as np
import ml_collections

def get_config():
    config = ml_collections.ConfigDict()
    config.batch_size, config.num_experts = np.int64(64), np.int32(2)
    config.num_epochs, config.compute = np.float32(2.5), {"cache": np.bool_(False)}
    config.schedule = {"lr": np.float64(0.5)}
    return config
"""


def test_numbers_of_numpy_in_a_config_may_be_overridden(tmp_path):
    (tmp_path / "numpy_config.py").write_text(NUMPY)
    command = [sys.executable, "-m", "ltjax.main", "--config", "numpy_config.py", "--print_config"]
    more = ["--config.num_experts=3", "--config.num_epochs=4", "--config.compute.cache=True"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    for line in ("batch_size: 64", "num_experts: 3", "num_epochs: 4.0", "cache: true", "lr: 0.5"):
        assert line in done.stdout, done.stdout + done.stderr


def test_an_example_is_found_by_its_name_in_any_folder(tmp_path):
    command = [sys.executable, "-m", "ltjax.main", "--config=digits", "--config.seed=7"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--print_config"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "seed: 7" in done.stdout and "resnet8" in done.stdout, done.stderr


def test_a_file_has_its_name_before_an_example_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, path = config_file.located(["main", "--config", "digits:x", "--list"])
    assert words == ["main", "--config", f"{path}:x", "--list"]
    assert path == config_file.examples()["digits"]
    (tmp_path / "digits").write_text("")
    assert config_file.located(["main", "--config=digits"]) == (
        ["main", "--config=digits"],
        "digits",
    )
    assert config_file.located(["main", "--list"]) == (["main", "--list"], None)


def test_every_config_of_the_repository_is_an_example():
    assert set(config_file.examples()) == {path.stem for path in (ROOT / "configs").glob("*.py")}
