"""The command line: `python -m ltjax.main --config configs/digits.py`."""

import os
import shlex
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from ltjax import config_file, environment, overrides, processes
from ltjax.errors import UserError, shown
from ltjax.terminal import Interrupts, fail, finish, show

try:
    _CONFIG = config_flags.DEFINE_config_file(
        "config",
        help_string="Config file, such as configs/digits.py, or the name of one that comes with "
        "ltjax, such as digits; --config.x.y=v overrides field x.y.",
        lock_config=False,
        accept_new_attributes=True,  # ltjax.config.settings checks all fields
    )
except (
    flags.Error,
    UnicodeDecodeError,
) as error:  # it reads the command line, and files of absl's --flagfile
    sys.exit(fail(overrides.explained(error, None, ())))
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
    wrong = overrides.misnamed(argv)
    if wrong:
        return fail(wrong)
    path = None
    try:
        overrides.accept_numpy()
        located, path = config_file.located(argv)
        rest = flags.FLAGS(located)[1:]
        config = _CONFIG.value  # raises if the file failed to load
        config_file.check(config, path)
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:  # raised by the file, or where another program called main
        return fail("Interrupted.", code=130)
    except (Exception, SystemExit) as error:  # config files and overrides may raise anything
        names = [flag.name for flag in _OPTIONS]
        why = config_file.failed(path, error) or overrides.explained(error, path, names)
        return fail(why)
    if rest:
        meant = rest[0] if rest[0].endswith(".py") or rest[0] in config_file.examples() else None
        guess = f"Did you mean --config {meant}?" if meant and path is None else "See --help."
        return fail(f"Unexpected argument {shown(rest[0])}. {guess}")
    if config is None and not _LIST.value:
        return fail("No --config was given. Example: --config digits.")
    by_hand = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if by_hand.count(None) not in (0, 3):
        return fail(
            "Give --coordinator, --num_processes and --process_id together, or none of them."
        )
    only_prints = _LIST.value or _PRINT_CONFIG.value
    together = (_DISTRIBUTED.value or None not in by_hand) and not only_prints
    try:
        environment.check()
        from ltjax import runtime

        runtime.keep_freed_memory()
        if together:
            processes.join(*by_hand)
        environment.check_devices()
    except UserError as error:
        return fail(str(error))
    if only_prints:
        return _list() if _LIST.value else _print(config)
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
    from ltjax.recipes import checked

    try:
        show(str(ConfigDict(as_dict(checked(config)))))
    except UserError as error:
        return fail(str(error))
    return 0


def _seeds(config) -> list[int]:
    if _SEEDS.value is None:
        return [config.get("seed", 0)]
    if not all(seed.isdecimal() and len(seed) <= 10 for seed in _SEEDS.value):
        given = shown(",".join(_SEEDS.value))
        raise UserError(f"--seeds is {given}; it must be integers below 2^32, such as 0,1,2.")
    return [int(seed) for seed in _SEEDS.value]


def _list() -> int:
    from ltjax import catalogue
    from ltjax.run.console import own_console

    for table in catalogue.tables():
        own_console().print(table, end="\n\n")
    return 0


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
            "ltjax/config/settings.py documents each field. --list prints all choices by",
            "name and their options, such as config.sampler.q.",
            "--config F --print_config checks a config and prints it, with the fields that",
            "its method sets.",
        ]
    )


def _all_fields() -> Iterator[tuple[str, Any]]:
    from ltjax.config.settings import all_fields

    return all_fields()


if __name__ == "__main__":
    finish(main(sys.argv, Interrupts()))
