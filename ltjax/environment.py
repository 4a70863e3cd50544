"""What the environment says to JAX and XLA, checked before they read it.

JAX raises on a value that it cannot read while it is imported; XLA ends the process. So nothing
here imports JAX before its variables are checked.
"""

import os
import re
import subprocess
import sys

from ltjax.errors import UserError, printable, shown

MOST_CPU_DEVICES = 1024  # of a process; a hundred thousand are never made
# Prints why XLA refuses its flags, and ends as ltjax itself would.
_TRY_FLAGS = "from jaxlib import xla_client; xla_client.CompileOptions()"


def check() -> None:
    """Refuse variables of JAX and XLA that these cannot read.

    Raises:
      UserError: naming the variable.
    """
    _check_flags_of_xla()
    try:
        import jax
    except ValueError as error:
        found = re.search(r"jax_\w+", str(error), re.IGNORECASE)
        if not found or found[0].upper() not in os.environ:
            raise
        raise UserError(_says(found[0].upper(), f"which JAX refuses ({error})")) from None
    number = jax.config.jax_num_cpu_devices
    if not (number == -1 or 1 <= number <= MOST_CPU_DEVICES):
        why = f"but it must be an integer, at least 1, at most {MOST_CPU_DEVICES:,}"
        raise UserError(_says("JAX_NUM_CPU_DEVICES", why))


def check_devices() -> None:
    """Refuse a choice of devices that are not there; processes are joined before.

    Raises:
      UserError: naming the variable that chooses them, or what JAX says.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # JAX's own, of several kinds; one has no text
        said = " ".join(str(error).split())
        for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
            if os.environ.get(name):
                why = "but JAX finds no such device here, or cannot use it"
                raise UserError(
                    _says(name, f"{why}{said and f' ({printable(said[:150])})'}")
                ) from None
        raise UserError(f"JAX finds no device: {printable(said[:250])}") from None


def _check_flags_of_xla():
    if not os.environ.get("XLA_FLAGS", "").strip():
        return
    command = [sys.executable, "-P", "-c", _TRY_FLAGS]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode and "XLA_FLAGS" in done.stderr:
        line = next((line for line in done.stderr.splitlines() if ".cc:" in line), "")
        said = printable(line.partition("] ")[2][:200])
        raise UserError(_says("XLA_FLAGS", f"which XLA refuses ({said})"))


def _says(name, why):
    return (
        f"{name} is {shown(os.environ.get(name))} in the environment, {why}. Correct or unset it."
    )
