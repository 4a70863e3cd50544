"""The command line: `python -m ltjax.main --config configs/digits.py`."""

import os
import shlex
import sys
import warnings

from absl import flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Config file, such as configs/digits.py; --config.x.y=v overrides field x.y.",
    lock_config=False,
    accept_new_attributes=True,  # ltjax.settings knows all fields and says what is wrong with one
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default one under runs/.")
_PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the config and stop.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes: call jax.distributed.initialize()."
)


def main(argv: list[str]) -> int:
    """Run from a command line; returns the exit code: 0, 1 diverged, 2 the user's mistake."""
    logging.set_verbosity(logging.ERROR)  # TFDS and Orbax say much that is not for users
    try:
        flags.FLAGS(argv)
    except Exception as error:  # noqa: BLE001, whatever a config file or an override may raise
        return _fail(_first_line(error))
    config = _CONFIG.value
    if config is None:
        return _fail("Which config? Add --config, for example --config configs/digits.py.")
    if _PRINT_CONFIG.value:
        print(config)
        return 0
    import jax  # after the flags, so that --help and mistakes are answered at once

    if _DISTRIBUTED.value:
        jax.distributed.initialize()
    from ltjax.errors import UserError
    from ltjax.loop import Diverged, Stopped
    from ltjax.train import run

    try:
        run(config, _WORKDIR.value)
    except UserError as error:
        return _fail(str(error))
    except Diverged as error:
        return _fail(str(error), code=1)
    except Stopped as stopped:
        again = shlex.join(["python", "-m", "ltjax.main", *argv[1:]])
        print(f"{stopped}\nTo go on: {again}", flush=True)
        return stopped.exit_code
    return 0


def _fail(message: str, code: int = 2) -> int:
    print(f"ltjax: {message}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
