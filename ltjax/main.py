"""The command line: `python -m ltjax.main --config configs/digits.py`."""

import difflib
import itertools
import os
import re
import shlex
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from ltjax.errors import FieldError, UserError
from ltjax.terminal import Interrupts, fail, finish, show

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Config file, such as configs/digits.py; --config.x.y=v overrides field x.y.",
    lock_config=False,
    accept_new_attributes=True,  # ltjax.config.settings checks all fields
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: one under runs/.")
_LIST = flags.DEFINE_bool("list", False, "Print all choices with their options, and exit.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the config and exit.")
_COMPARE = flags.DEFINE_list(
    "compare",
    None,
    "Methods to run one after another and compare in a table, or all; see --list. ldam:3 trains "
    "3 experts; focal+loss.gamma=1.0 sets an option for that method alone.",
)
_SEEDS = flags.DEFINE_list(
    "seeds", None, "Seeds of the runs of --compare, such as 0,1,2; default: config.seed."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "This process is one of several started by SLURM, Kubernetes or a TPU pod.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, for processes started by hand."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Used with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Used with --coordinator; from 0.")

_EXAMPLE = "Example: --config configs/digits.py."
_KINDS = {bool: "True or False", int: "an integer", float: "a number"}
_OPTIONS = (_CONFIG, _WORKDIR, _COMPARE, _SEEDS, _LIST, _PRINT_CONFIG, _DISTRIBUTED)
_OPTIONS += (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)


def main(argv: list[str], interrupts: Interrupts | None = None) -> int:
    """Run from a command line.

    Args:
      argv: as sys.argv.
      interrupts: if this process is for this run alone.

    Returns:
      The exit code: 0; 1 if the run diverged or could not be stored; 2 for a mistake of the user;
      128 and the signal's number if it was stopped.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS and Orbax log much that users need not see
    if {"--help", "-h", "-help"} & set(argv[1:]):
        show(_help())
        return 0
    path = _config_path(argv)
    if path is not None and not os.path.isfile(path):
        return fail(f"--config: no such file {path!r}. {_EXAMPLE}")
    for word in argv[1:]:
        name = word.partition("=")[0]
        if name.startswith(("--config.", "-config.")) and "-" in name.lstrip("-"):
            meant = f"--{name.lstrip('-').replace('-', '_')}"
            return fail(f"Unknown option {name}. Names have underscores: did you mean {meant}?")
    try:
        rest = flags.FLAGS(argv)[1:]
        config = _CONFIG.value
        if path is not None and not hasattr(config, "keys"):  # raises if the file failed to load
            return fail(_returns(path, type(config).__name__))
    except Exception as error:  # config files and overrides may raise anything
        return fail(_what_failed(error, path))
    if rest:
        return fail(f"Unexpected argument {rest[0]!r}. See --help.")
    if _LIST.value:
        return _list()
    if config is None:
        return fail(f"No --config was given. {_EXAMPLE}")
    by_hand = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if by_hand.count(None) not in (0, 3):
        return fail(
            "Give --coordinator, --num_processes and --process_id together, or none of them."
        )
    if _PRINT_CONFIG.value:
        return _print(config)
    from ltjax import runtime

    runtime.keep_freed_memory()
    together = _DISTRIBUTED.value or None not in by_hand
    if together:
        try:
            _join_processes()
        except (ValueError, RuntimeError) as error:
            return fail(f"--distributed or --coordinator: {_what_failed(error)}")
    code = _run(config, argv, together, interrupts)
    if together and code:
        os._exit(code)  # an orderly end would wait for the others, which wait for this process
    return code


def _run(config, argv: list[str], together: bool, interrupts: Interrupts | None) -> int:
    # Imported after the flags, so that --help and mistakes are answered at once.
    from ltjax.compare.sweep import compare
    from ltjax.run.divergence import Diverged
    from ltjax.run.loop import Stopped
    from ltjax.storage import NotWritten
    from ltjax.train import run

    again = shlex.join(["python", "-m", "ltjax.main", *argv[1:]])
    if interrupts:
        interrupts.after = f"Earlier checkpoints are kept.\nTo resume: {again}"
        if hasattr(signal, "SIGUSR1"):  # asks for a save, also when there is nothing to save yet
            signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        if _COMPARE.value is not None:
            if any(word.startswith("--config.method.name") for word in argv):
                return fail("--compare chooses the methods. Remove --config.method.name.")
            compare(config, _COMPARE.value, _seeds(config), _WORKDIR.value)
        elif _SEEDS.value is not None:
            return fail("--seeds requires --compare. For a single run, use --config.seed.")
        else:
            run(config, _WORKDIR.value)
    except NotWritten as error:
        return fail(f"{error}\nTo resume, when that is mended: {again}", code=1)
    except UserError as error:
        return fail(str(error))
    except Diverged as error:
        return fail(str(error), code=1)
    except Stopped as stopped:
        show(f"{stopped}\nTo resume: {again}")
        return stopped.exit_code
    except KeyboardInterrupt:  # where another program called main
        return fail(f"Interrupted. Earlier checkpoints are kept.\nTo resume: {again}", code=130)
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
        show(str(ConfigDict(as_dict(settings_of(config)))))
    except UserError as error:
        return fail(str(error))
    return 0


def _seeds(config) -> list[int]:
    if _SEEDS.value is None:
        return [config.get("seed", 0)]
    if not all(seed.isdecimal() for seed in _SEEDS.value):
        raise UserError(
            f"--seeds is {','.join(_SEEDS.value)!r}; it must be integers, such as 0,1,2."
        )
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
    options = [
        textwrap.fill(
            f"  --{flag.name}: {flags.FLAGS[flag.name].help}", 80, subsequent_indent="    "
        )
        for flag in _OPTIONS
    ]
    values = [f"  --config.{name}={value!r}" for name, value in _all_fields()]
    return "\n".join(
        [__doc__, "Options:", *options, "", "Fields of a config, and their defaults:", *values]
        + [
            "",
            "ltjax/config/settings.py documents each field. --list prints all choices by name and",
            "their options, such as config.sampler.q.",
            "--config F --print_config checks a config and prints it, with the fields that its",
            "method sets.",
        ]
    )


def _config_path(argv: list[str]) -> str | None:
    """The file that is given as --config F or --config=F, without an argument after a colon."""
    for word, following in itertools.pairwise([*argv, ""]):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            return (value if equals else following).partition(":")[0]
    return None


def _what_failed(error: Exception, path: str | None = None) -> str:
    """One line for an error from the config file `path` or from an option."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown_option(error.flagname)
    if isinstance(error, AttributeError) and "attribute 'get_config'" in lines[0]:
        return f"--config: {path!r} has no function get_config(). See configs/digits.py."
    if "config file" in lines[0]:  # a traceback, which ends with the error of the file
        return f"--config: {path!r} failed to load: {lines[-1]}"
    if isinstance(error, SyntaxError | OSError) or _raised_in(path, error):
        cause = lines[0].rpartition("failure to load:")[2].strip()
        return f"--config: {path!r} failed to load: {cause}"
    lookup = re.search(r"<class '(\w+)'>\S* does not exist .* lookup: ([\w.]*\w)", lines[0])
    if lookup:
        parent = lookup[2].rpartition(".")[0]
        if not parent:
            return _returns(path, lookup[1])
        return (
            f"Unknown config field config.{lookup[2]}: config.{parent} is a value, not a group of "
            f"fields. See --help."
        )
    if isinstance(error, KeyError):
        name, *hint = str(error.args[0]).splitlines()  # 'name', in quotes; did you mean ...?
        hint = hint[0] if hint else "Check its spelling, or add it to the file."
        return f"The config file has no group of fields {name}. {hint}"
    if "as a ConfigDict" in lines[0]:
        return (
            "A group of config fields cannot be set to a value. To choose by name, set its name, "
            "as in --config.method.name=joint."
        )
    wrong = re.match(r"flag --config\.(\S+?)=(.*?): ", lines[0])
    kind = wrong and _KINDS.get(type(dict(_all_fields()).get(wrong[1])))
    return str(FieldError(wrong[1], wrong[2], f"it must be {kind}")) if kind else lines[0]


def _raised_in(path: str | None, error: Exception) -> bool:
    """Whether code of the config file raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return path is not None and any(
        os.path.realpath(frame.filename) == os.path.realpath(path) for frame in frames
    )


def _returns(path: str | None, kind: str) -> str:
    what = "nothing" if kind == "NoneType" else f"a value of type {kind}"
    return (
        f"--config: get_config() in {path!r} returned {what}; it must return an "
        f"ml_collections.ConfigDict."
    )


def _all_fields() -> Iterator[tuple[str, Any]]:
    from ltjax.config.settings import all_fields

    return all_fields()


def _unknown_option(name: str) -> str:
    """With a guess at what was meant: an option, or a field of the config."""
    if name.startswith("config."):
        return f"--{name} overrides a field, but no --config was given. {_EXAMPLE}"
    known = {}
    for path, _ in _all_fields():
        group, _, field = path.rpartition(".")
        known.setdefault(group if field == "name" else field, f"config.{path}")
    known |= {flag.name: flag.name for flag in _OPTIONS}
    close = difflib.get_close_matches(name, known, n=1)
    guess = f" (did you mean --{known[close[0]]}?)" if close else ""
    return f"Unknown option --{name}{guess}. See --help."


if __name__ == "__main__":
    finish(main(sys.argv, Interrupts()))
