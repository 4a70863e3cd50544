"""The compilation cache: programs that were compiled once start at once the next time."""

import hashlib
import os
import pathlib
import platform

import jax


def use_cache() -> pathlib.Path | None:
    """Keep compiled programs in the user's cache folder, for this process and later ones.

    The folder is ltjax/ under XDG_CACHE_HOME or ~/.cache, with one for each kind of CPU: programs
    for one may not run on another. A cache that was set up already, by JAX_COMPILATION_CACHE_DIR,
    is left as it is. Not used for programs of several CPU devices: XLA crashes when it runs these
    from a cache (jaxlib 0.10.2).

    Returns:
      The folder; None where there is no cache of ours, or no folder that can be written to.
    """
    is_cpu = jax.default_backend() == "cpu"
    if jax.config.jax_compilation_cache_dir or (is_cpu and jax.device_count() > 1):
        return None
    try:
        root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = pathlib.Path(root, "ltjax", _cpu())
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder


def _cpu() -> str:
    """A name for what this CPU can do."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
