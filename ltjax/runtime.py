"""The process and its machine: memory, the cache of compiled programs, and devices in words.

On CPU, XLA allocates its temporary arrays again in every step. glibc maps them afresh each time and
gives them back, and the operating system clears some sixty thousand pages an expert and step: 40 %
of the time (benchmarks/README.md).
"""

import ctypes
import enum
import hashlib
import os
import pathlib
import platform
import re
import stat
import sys
import warnings

import jax

from ltjax.errors import UserError, shown

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8

# Switches of JAX on which results depend, and the values that leave them as they are, the default
# first. Matrix products may be made more exact than a machine's default, not less.
SWITCHES = {
    "jax_enable_x64": (False,),
    "jax_explicit_x64_dtypes": ("warn", "error"),
    "jax_numpy_dtype_promotion": ("standard",),
    "jax_numpy_rank_promotion": ("allow", "warn"),
    "jax_default_matmul_precision": (None, "default", "highest", "float32"),
    "jax_default_prng_impl": ("threefry2x32",),
    "jax_threefry_partitionable": (True,),
    "jax_random_seed_offset": (0,),
    "jax_high_dynamic_range_gumbel": (False,),
    "jax_softmax_custom_jvp": (False,),
    "jax_disable_jit": (False,),
    "jax_no_tracing": (False,),
    "jax_no_execution": (False,),
    "jax_transfer_guard": (None, "allow", "log"),
    "jax_transfer_guard_host_to_device": (None, "allow", "log"),
    "jax_transfer_guard_device_to_host": (None, "allow", "log"),
    "jax_transfer_guard_device_to_device": (None, "allow", "log"),
}
ROUNDINGS = ("XLA_FLAGS", "LTJAX_KERNELS", "NVIDIA_TF32_OVERRIDE", "JAX_DEFAULT_MATMUL_PRECISION")


def keep_freed_memory() -> bool:
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


def check_switches() -> None:
    """Refuse switches of JAX, in the environment or set by the program, that change results.

    A config means the same numbers everywhere, to rounding; so it does not say which kind of random
    numbers, types or precision they are of. What only checks, or shows more, is allowed.

    Raises:
      UserError: naming the switch and what to do.
    """
    for name, allowed in SWITCHES.items():
        value = getattr(jax.config, name, allowed[0])  # missing in another version of JAX
        value = value.name.lower() if isinstance(value, enum.Enum) else value
        if value not in allowed:
            given, variable = shown(value), name.upper()
            what = f"it must be {' or '.join(map(repr, allowed))}, because results depend on it"
            if variable in os.environ:
                given = shown(os.environ[variable])
                raise UserError(f"{variable} is {given} in the environment; {what}. Unset it.")
            undo = f"jax.config.update({name!r}, {allowed[0]!r})"
            raise UserError(f"jax.config.{name} is {given}; {what}. Call {undo}.")


def environment() -> dict[str, str]:
    """{variable: value} of the environment's variables that may move the roundings of results."""
    return {name: os.environ[name] for name in ROUNDINGS if os.environ.get(name)}


def peak_bytes() -> dict[str, int | None]:
    """The peak of bytes in use so far, None if unknown.

    'process' is the resident memory of this process, 'device' that of the fullest local device.
    """
    devices = [device.memory_stats() for device in jax.local_devices()]
    used = [
        stats["peak_bytes_in_use"] for stats in devices if stats and "peak_bytes_in_use" in stats
    ]
    return {"process": _resident(), "device": max(used, default=None)}


def use_cache() -> pathlib.Path | None:
    """Keep compiled programs in the user's cache folder, for this process and later ones.

    The folder is ltjax/ under XDG_CACHE_HOME or ~/.cache, with one for each kind of CPU: programs
    for one may not run on another. A cache that was set up already, by JAX_COMPILATION_CACHE_DIR,
    is not changed. Not used for programs of several CPU devices: XLA crashes when it runs these
    from a cache (jaxlib 0.10.2).

    What is in the cache is run. So the folder is used only if it is this user's, and no one else
    can write to it. An entry that is damaged or cannot be stored costs time, and nothing else.

    Returns:
      The folder; None without such a cache, or without a folder that can be used.
    """
    is_cpu = jax.default_backend() == "cpu"
    if jax.config.jax_compilation_cache_dir or (is_cpu and jax.device_count() > 1):
        return None
    try:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        root.mkdir(parents=True, exist_ok=True)
        folder = root / "ltjax" / _cpu()
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
            if not _only_ours(one):
                return None
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    for what in ("reading", "writing"):
        warnings.filterwarnings("ignore", f"Error {what} persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder


def _only_ours(folder: pathlib.Path) -> bool:
    """Whether this user may write to a folder, and no one else."""
    its = folder.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return its.st_uid == os.geteuid() and not its.st_mode & others and os.access(folder, os.W_OK)


def device() -> str:
    """The available devices, in words."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    width = next((name for name in ("avx512f", "avx2") if name in text), platform.machine())
    name = f"{model[1]} with {width}" if model else width
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{len(devices)} CPU device, {cores} core{'s' * (cores != 1)}, {name}"


def _resident():
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu() -> str:
    """A name for what this CPU can do."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
