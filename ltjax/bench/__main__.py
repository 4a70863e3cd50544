"""Measurements on this machine, each a command of its own.

python -m ltjax.bench              times a training step (--help shows its options)
python -m ltjax.bench check        is a step right on this device?
python -m ltjax.bench parts        times what a step does besides the networks
python -m ltjax.bench launches     counts the kernels that a step launches on an accelerator
"""

import sys

from ltjax.bench import check, launches, parts, steps
from ltjax.errors import UserError

COMMANDS = {"check": check.main, "parts": parts.main, "launches": launches.main}


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names; returns the exit code."""
    try:
        if arguments and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]](arguments[1:])
        return steps.main(arguments)
    except UserError as error:
        print(f"ltjax: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
