"""Options of the command line that override a config's fields, and what is wrong with them."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from ltjax.config.settings import all_fields
from ltjax.config_file import returned
from ltjax.errors import FieldError, printable, shortened, shown

_KINDS = {bool: "True or False", int: "an integer", float: "a number"}
_OF_FLAGS = {"bool": "True or False", "int": "an integer"}
_NAME = re.compile(r"--?(no)?config(\.[A-Za-z_]\w*)+")


class _NumPyParser(flags.ArgumentParser):
    """Reads a number of one of NumPy's types."""

    def __init__(self, kind, parser):
        self._kind, self._parser = kind, parser

    def parse(self, argument: Any) -> Any:
        """Text, or a number that the config file holds already."""
        return self._kind(self._parser.parse(argument) if isinstance(argument, str) else argument)

    def flag_type(self) -> str:
        """As absl asks."""
        return self._parser.flag_type()


def accept_numpy() -> None:
    """Let options override fields that hold numbers of NumPy's types."""
    of = {
        np.signedinteger: flags.IntegerParser(),
        np.unsignedinteger: flags.IntegerParser(),
        np.floating: flags.FloatParser(),
        np.bool_: flags.BooleanParser(),
    }
    for kind in {np.dtype(code).type for code in np.typecodes["AllInteger"] + "efd?"}:
        parser = next(parser for base, parser in of.items() if issubclass(kind, base))
        config_flags.register_flag_parser_for_type(kind, _NumPyParser(kind, parser))


def misnamed(argv: Sequence[str]) -> str | None:
    """What to say of the first option that looks like a config's field and cannot be one."""
    for word in argv[1:]:
        name = word.partition("=")[0]
        if name.startswith(("--config.", "-config.")) and not _NAME.fullmatch(name):
            meant = name.lstrip("-").replace("-", "_")
            known = [f"config.{path}" for path, _ in all_fields()]
            close = difflib.get_close_matches(meant[:100], known, n=1, cutoff=0.9)
            if not close and _NAME.fullmatch(f"--{meant}"):  # an option of a row
                close = [meant]
            guess = f" Did you mean --{close[0]}?" if close else " See --help."
            unknown = f"Unknown option {shortened(name)}."
            return f"{unknown} Names are of letters, digits and underscores.{guess}"
    return None


def explained(error: Exception, path: str | None, options: Iterable[str]) -> str:
    """One line for an error that absl or ml_collections raised on an option.

    Args:
      error: what was raised.
      path: the config file.
      options: the names of all others, for a guess.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, path, options)
    if isinstance(error, flags.CantOpenFlagFileError | UnicodeDecodeError):
        return f"--flagfile cannot be read: {printable(str(error.__context__ or error))}."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    lookup = re.search(r"<class '(\w+)'>\S* does not exist .* lookup: ([\w.]*\w)", first)
    if lookup:
        parent = lookup[2].rpartition(".")[0]
        if not parent:  # of the config itself
            return returned(path, lookup[1])
        return (
            f"Unknown config field config.{lookup[2]}: config.{parent} is a value, not a group of "
            f"fields. See --help."
        )
    if isinstance(error, KeyError):
        name, *hint = str(error.args[0]).splitlines()  # 'name', in quotes; did you mean ...?
        hint = hint[0] if hint else "Check its spelling, or add it to the file."
        return f"The config file has no group of fields {printable(name)}. {printable(hint)}"
    group = re.match(r"flag --config\.(\S+?)=(.*): .* as a ConfigDict", first)
    if group:
        name = f"{group[1]}.name"
        use = f"; to choose by name, use --config.{name}={shortened(group[2])}"
        return (
            f"config.{group[1]} is a group of fields and cannot be set to {shown(group[2])}"
            f"{use if name in dict(all_fields()) else ''}. See --help."
        )
    unsupported = re.match(r"Type <class '([\w.]+)'> of field config\.(\S+) is not supp", first)
    if unsupported:
        kind, field = unsupported.groups()
        return f"config.{field} cannot be overridden: the config file gives it a {kind}."
    wrong = re.match(r"flag --(\S+?)=(.*?): ", first)
    if wrong:
        return _wrong_value(wrong[1], wrong[2]) or _short(first)
    return _short(first)


def _wrong_value(name, value):
    if name.startswith("config."):
        field = name.removeprefix("config.")
        kind = _KINDS.get(type(dict(all_fields()).get(field)))
        return str(FieldError(field, value, f"it must be {kind}")) if kind else None
    kind = _OF_FLAGS.get(flags.FLAGS[name].flag_type()) if name in flags.FLAGS else None
    return f"--{name} is {shown(value)}; it must be {kind}." if kind else None


def _unknown(name, path, options):
    """With a guess at what was meant: an option, or a field of the config."""
    if name.startswith("config.") and path is None:
        return f"--{shortened(name)} overrides a field, but no --config was given. See --help."
    known = {}
    for field, _ in all_fields():
        group, _, last = field.rpartition(".")
        known.setdefault(group if last == "name" else last, f"config.{field}")
    known |= {option: option for option in options}
    close = difflib.get_close_matches(name[:100], known, n=1)
    guess = f" (did you mean --{known[close[0]]}?)" if close else ""
    return f"Unknown option --{shortened(name)}{guess}. See --help."


def _short(text):
    text = printable(" ".join(text.split()))
    return text if len(text) <= 300 else f"{text[:280]}..."
