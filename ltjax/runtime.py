"""Memory: keeping what the allocator has, and how much was used at most.

On CPU, XLA asks for its temporary arrays anew in every step. glibc maps them afresh each time and
gives them back, and the operating system clears some sixty thousand pages an expert and step: a
quarter of the time (benchmarks/README.md).
"""

import ctypes
import sys

import jax

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep() -> bool:
    """Let glibc keep what this process frees, for the rest of its life.

    `python -m ltjax.main` does so; a library does not do it to others' processes. Call it before
    JAX computes anything, or set MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=2147483647 and
    MALLOC_ARENA_MAX=1 in the environment. It has no effect on results.

    Returns:
      Whether it could be done: on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_ARENA_MAX: 1}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def peak() -> dict[str, int | None]:
    """Bytes used at most so far, None where that is not known.

    'process' is the resident memory of this process, 'device' that of the fullest local device.
    """
    devices = [device.memory_stats() for device in jax.local_devices()]
    used = [
        stats["peak_bytes_in_use"] for stats in devices if stats and "peak_bytes_in_use" in stats
    ]
    return {"process": _resident(), "device": max(used, default=None)}


def _resident():
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
