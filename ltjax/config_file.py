"""The file that --config names: where it is found, and what is wrong with it.

The configs of this repository come with ltjax, so that `--config digits` works in any folder.
Nothing here needs JAX.
"""

import os
import pathlib
import traceback
from collections.abc import Sequence
from typing import Any

from ltjax.errors import FieldError, Missing, UserError, shortened, shown

_OURS = pathlib.Path(__file__).parent


def examples() -> dict[str, str]:
    """{name: file} of the configs that come with ltjax."""
    clone = _OURS.parent
    folder = clone / "configs" if (clone / "setup.py").exists() else _OURS / "configs"
    return {path.stem: str(path) for path in sorted(folder.glob("*.py"))}


def located(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """A command line with the file of an example in place of its name, and the config file.

    Args:
      argv: with --config F or --config=F, perhaps with an argument of get_config after a colon.

    Returns:
      The command line, and the file; None without --config.

    Raises:
      UserError: if there is no such file.
    """
    words, path = [*argv, ""], None
    for number, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            given, *argument = (value if equals else words[number + 1]).split(":", 1)
            path = _found(given)
            whole = ":".join([path, *argument])
            words[number if equals else number + 1] = f"{name}={whole}" if equals else whole
    return words[: len(argv)], path


def check(config: Any, path: str | None) -> None:
    """Refuse what get_config() of a file returned, if it is no config or not a whole one.

    Raises:
      UserError: naming the file.
    """
    if path is None:
        return
    if not hasattr(config, "keys"):
        raise UserError(returned(path, type(config).__name__))
    field = _open_field(config)
    if field:
        why = f"it must be set with --config.{field}=..., because {shown(path)} requires that"
        raise FieldError(field, Missing(), why)


def returned(path: str | None, kind: str) -> str:
    """What to say where get_config() returned a value of another type."""
    what = "nothing" if kind == "NoneType" else f"a value of type {shortened(kind)}"
    return (
        f"--config: get_config() in {shown(path)} returned {what}; it must return an "
        f"ml_collections.ConfigDict."
    )


def failed(path: str | None, error: BaseException) -> str | None:
    """Why a config file failed to load, in a line; None if an error has nothing to do with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if isinstance(error, AttributeError) and "attribute 'get_config'" in lines[0]:
        return f"--config: {shown(path)} has no function get_config(). Example: {_example()}."
    own = isinstance(error, SyntaxError | OSError | SystemExit)
    if "config file" in lines[0]:  # a traceback, which ends with the error of the file
        cause = lines[-1]
    elif own or _line_in(path, error):
        cause = f"{type(error).__name__}: {lines[0].rpartition('failure to load:')[2].strip()}"
    else:
        return None
    line = _line_in(path, error)
    at = f" (line {line})" if line else ""
    return f"--config: {shown(path)} failed to load: {_short(cause.removesuffix(': '))}{at}."


def _found(given):
    if os.path.isfile(given):
        return given
    if given in examples():
        return examples()[given]
    if not given:
        raise UserError(f"--config names no file. Example: {_example()}.")
    if os.path.exists(given):
        what = "a folder" if os.path.isdir(given) else "not a regular file"
        raise UserError(f"--config: {shown(given)} is {what}. Example: {_example()}.")
    raise UserError(f"--config: no such file {shown(given)} here. Example: {_example()}.")


def _example():
    *names, last = examples() or ["digits"]
    ours = f"{', '.join(names)} and {last} come with ltjax" if names else f"{last} comes with ltjax"
    return f"--config {last}; {ours}"


def _line_in(path, error):
    """The last line of the file that raised an error; None if the file did not."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        frame.lineno
        for frame in frames
        if path is not None and os.path.realpath(frame.filename) == os.path.realpath(path)
    ]
    return lines[-1] if lines else None


def _open_field(config, path=""):
    """The first field that is a placeholder without a value, or None."""
    for name in config:
        try:
            value = config[name]
        except Exception:  # ml_collections' own error for that
            return f"{path}{name}"
        if hasattr(value, "to_dict"):
            inside = _open_field(value, f"{path}{name}.")
            if inside:
                return inside
    return None


def _short(text):
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:180]}..."
