"""The command line: `python -m ltjax.main --config configs/digits.py`."""

import difflib
import itertools
import os
import shlex
import signal
import sys
import textwrap
import traceback
from types import FrameType

from absl import flags, logging
from ml_collections import config_flags

from ltjax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Config file, such as configs/digits.py; --config.x.y=v overrides field x.y.",
    lock_config=False,
    accept_new_attributes=True,  # ltjax.config.settings checks all fields
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default one under runs/.")
_LIST = flags.DEFINE_bool("list", False, "Print what there is to choose from, and stop.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the config and stop.")
_COMPARE = flags.DEFINE_list(
    "compare",
    None,
    "Methods to run one after another and tabulate, or all; see --list. ldam:3: of 3 experts; "
    "focal+loss.gamma=1.0: with options of its own.",
)
_SEEDS = flags.DEFINE_list(
    "seeds", None, "Seeds of the runs that --compare makes, such as 0,1,2; by default config.seed."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes that SLURM, Kubernetes or a TPU pod started."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, for processes that are started by hand."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Used with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Used with --coordinator; from 0.")

_OPTIONS = (_CONFIG, _WORKDIR, _COMPARE, _SEEDS, _LIST, _PRINT_CONFIG, _DISTRIBUTED)
_OPTIONS += (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)


def main(argv: list[str]) -> int:
    """Run from a command line; returns the exit code: 0, 1 diverged, 2 the user's mistake."""
    logging.set_verbosity(logging.ERROR)  # TFDS and Orbax say much that is not for users
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(_help())
        return 0
    path = _config_path(argv)
    if path is not None and not os.path.isfile(path):
        return _fail(f"--config is {path!r}, which is no file; name one, as configs/digits.py is.")
    try:
        rest = flags.FLAGS(argv)[1:]
        config = _CONFIG.value
        if config is not None:
            config.keys()  # a file that failed to load says so when it is first looked at
    except Exception as error:  # whatever a config file or an override may raise
        return _fail(_what_failed(error))
    if rest:
        return _fail(f"What is {' '.join(rest)!r}? Options are --config, --workdir; see --help.")
    if _LIST.value:
        return _list()
    if config is None:
        return _fail("Which config? Add --config, for example --config configs/digits.py.")
    by_hand = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if by_hand.count(None) not in (0, 3):
        return _fail("--coordinator, --num_processes and --process_id go together; give all three.")
    if _PRINT_CONFIG.value:
        return _print(config)
    from ltjax import runtime

    runtime.keep_freed_memory()
    together = _DISTRIBUTED.value or None not in by_hand
    if together:
        try:
            _join_processes()
        except (ValueError, RuntimeError) as error:
            return _fail(f"--distributed or --coordinator: {_what_failed(error)}")
    code = _run(config, argv, together)
    if together and code:
        os._exit(code)  # an orderly end would wait for the others, which wait for this process
    return code


def _run(config, argv: list[str], together: bool) -> int:
    # Imported after the flags, so that --help and mistakes are answered at once.
    from ltjax.compare.sweep import compare
    from ltjax.run.loop import Diverged, Stopped
    from ltjax.train import run

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    again = shlex.join(["python", "-m", "ltjax.main", *argv[1:]])
    try:
        if _COMPARE.value is not None:
            if any(word.startswith("--config.method.name") for word in argv):
                return _fail("--config.method.name is for a single run; --compare names methods.")
            compare(config, _COMPARE.value, _seeds(config), _WORKDIR.value)
        elif _SEEDS.value is not None:
            return _fail("--seeds goes with --compare; for one run there is --config.seed.")
        else:
            run(config, _WORKDIR.value)
    except UserError as error:
        return _fail(str(error))
    except Diverged as error:
        return _fail(str(error), code=1)
    except Stopped as stopped:
        print(f"{stopped}\nTo go on: {again}", flush=True)
        return stopped.exit_code
    except KeyboardInterrupt:  # before training began, or pressed twice
        return _fail(f"Interrupted; what was saved before is kept.\nTo go on: {again}", code=130)
    except Exception:
        if not together:
            raise
        traceback.print_exc()
        return 1
    return 0


def _print(config) -> int:
    from ml_collections import ConfigDict

    from ltjax.config.settings import as_dict
    from ltjax.recipes import settings_of

    try:
        print(ConfigDict(as_dict(settings_of(config))))
    except UserError as error:
        return _fail(str(error))
    return 0


def _seeds(config) -> list[int]:
    if _SEEDS.value is None:
        return [config.get("seed", 0)]
    if not all(seed.isdecimal() for seed in _SEEDS.value):
        raise UserError(f"--seeds is {','.join(_SEEDS.value)!r}; write numbers, such as 0,1,2.")
    return [int(seed) for seed in _SEEDS.value]


def _list() -> int:
    from ltjax import catalogue
    from ltjax.run.console import own_console

    for table in catalogue.tables():
        own_console().print(table, end="\n\n")
    return 0


def _join_processes() -> None:
    import jax

    jax.distributed.initialize(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        heartbeat_timeout_seconds=60,  # after which the others notice that a process is gone
        shutdown_timeout_seconds=30,
    )


def _help() -> str:
    from ltjax.config.settings import all_fields

    options = [
        textwrap.fill(
            f"  --{flag.name}: {flags.FLAGS[flag.name].help}", 80, subsequent_indent="    "
        )
        for flag in _OPTIONS
    ]
    values = [f"  --config.{name}={value!r}" for name, value in all_fields()]
    return "\n".join(
        [__doc__, "Options:", *options, "", "Fields of a config, and their defaults:", *values]
        + [
            "",
            "ltjax/config/settings.py says what each field means. --list prints what is chosen by",
            "name, and the options that it takes, such as config.sampler.q.",
            "--config F --print_config checks a config, and shows it with what its method's name",
            "stands for.",
        ]
    )


def _config_path(argv: list[str]) -> str | None:
    """The file that is given as --config F or --config=F, without an argument after a colon."""
    for word, following in itertools.pairwise([*argv, ""]):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            return (value if equals else following).partition(":")[0]
    return None


def _what_failed(error: Exception) -> str:
    """The line that says what is wrong; of a config file that failed to load, the last one."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown_option(error.flagname)
    if isinstance(error, KeyError):
        name, *hint = str(error.args[0]).splitlines()  # 'name', in quotes; did you mean ...?
        hint = hint[0] if hint else "Is it misspelt, or to be added there?"
        return f"The config file has no group of fields {name}. {hint}"
    if "as a ConfigDict" in str(error):
        return (
            "A group of fields cannot be given a value; a named choice is made by its name, as in "
            "--config.method.name=joint."
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return f"--config: {lines[-1]}" if "config file" in lines[0] else lines[0]


def _unknown_option(name: str) -> str:
    """With a guess at what was meant: an option of ours, or a field of the config."""
    from ltjax.config.settings import all_fields

    if name.startswith("config."):
        return (
            f"Which config is --{name} to change? Add --config, as in --config configs/digits.py."
        )
    known = {}
    for path, _ in all_fields():
        group, _, field = path.rpartition(".")
        known.setdefault(group if field == "name" else field, f"config.{path}")
    known |= {flag.name: flag.name for flag in _OPTIONS}
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean --{known[close[0]]}? " if close else ""
    return f"Unknown option --{name}; {guess}--help lists them all."


def _fail(message: str, code: int = 2) -> int:
    print(f"ltjax: {message}", file=sys.stderr, flush=True)
    return code


def _end(number: int, frame: FrameType | None) -> None:
    """Of Ctrl-C while modules are imported: an exception might be raised where it is swallowed."""
    os._exit(_fail("Interrupted before training began.", code=130))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _end)
    sys.exit(main(sys.argv))
