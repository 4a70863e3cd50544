"""Several processes that train together: where they meet, checked before JAX gets it.

The processes trust each other: what one sends the others is neither encrypted nor signed. So the
service through which they meet listens at the named host alone.
"""

import os
import socket

from ltjax.errors import UserError, printable, shown

BIND = "JAX_COORDINATOR_BIND_ADDRESS"  # overrides where process 0 listens


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes; called before JAX makes its devices.

    Args:
      coordinator: host:port of process 0. Without it, and without the other two, the cluster's
        scheduler says where the processes are.
      num_processes: of all.
      process_id: of this one, from 0.

    Raises:
      UserError: if one of these cannot be, if process 0 cannot listen there, or if there is no
        cluster.
    """
    bind = None
    if coordinator is not None:
        check(coordinator, num_processes, process_id)
        if process_id == 0 and BIND not in os.environ:
            bind = coordinator
            _check_free(coordinator)
    import jax

    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            coordinator_bind_address=bind,
            heartbeat_timeout_seconds=60,  # after which the others notice that a process is gone
            shutdown_timeout_seconds=30,
        )
    except (ValueError, RuntimeError) as error:
        option = "--distributed finds no cluster" if coordinator is None else "--coordinator failed"
        said = printable(" ".join(str(error).split())[:200])
        raise UserError(f"{option}: {said}") from None


def check(coordinator: str, num_processes: int, process_id: int) -> None:
    """Refuse what cannot be the address of process 0, a number of processes or one of them.

    Raises:
      UserError: naming the option.
    """
    if num_processes < 1 or num_processes > 100_000:
        raise UserError(
            f"--num_processes is {shown(num_processes)}; it must be at least 1, at most 100,000."
        )
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id is {shown(process_id)}; it must be at least 0, below {num_processes}, "
            f"which --num_processes says."
        )
    host, port = _split(coordinator)
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--coordinator is {shown(coordinator)}, but this host is not known here "
            f"({printable(str(error))})."
        ) from None


def _split(coordinator):
    """(host, port) of an address; a host of numbers and colons, as IPv6 has, is in brackets."""
    host, _, port = coordinator.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    whole = bare and (bare != host or ":" not in bare) and not any(map(str.isspace, coordinator))
    number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else 0
    if not whole or not 1 <= number <= 65535:
        raise UserError(
            f"--coordinator is {shown(coordinator)}; it must be host:port of process 0, the port "
            f"from 1 to 65535, such as 10.0.0.1:1234 or [::1]:1234."
        )
    return bare, number


def _check_free(coordinator):
    """Refuse an address at which process 0 cannot listen; the runtime would end the process."""
    host, port = _split(coordinator)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    try:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise UserError(
            f"--coordinator is {shown(coordinator)}, and process 0 cannot listen there "
            f"({error.strerror}). Give an address and a free port of its machine; where these "
            f"differ from those that the others reach, set {BIND}."
        ) from None
