"""Measured numbers in the documents, taken from files of results.

`python -m ltjax.compare.measured README.md docs/*.md results/README.md` renews the lines between

    <!-- measured: results/a.json; accuracy, ece; classifier:3 as cross-entropy; ride -->
    <!-- end of measured -->

The file is named from the folder of the document; columns and rows are in the order given, a row by
its name in the file and, after "as", what the document calls it. Without rows, all are shown.
"""

import pathlib
import re
import statistics
import sys
from collections.abc import Sequence

from ltjax import storage
from ltjax.compare import quoted
from ltjax.errors import UserError
from ltjax.report.wording import in_percent, with_spread

_BLOCK = re.compile(
    r"(<!-- measured: ([^;>]+); ([^;>]+)((?:; [^;>]+)*) -->\n).*?(<!-- end of measured -->)",
    re.DOTALL,
)


def _gain(row):
    pairs = zip(row["test"]["accuracy"], row["mean_expert"], strict=True)
    return [average - expert for average, expert in pairs]


def _used(row):
    """What a program that stops when it is sure would spend on an image, on average."""
    values = [sum(one.get("multiply_adds_used", ())) for one in row["measures"]]
    return f"{(statistics.mean(values) or row['multiply_adds']) / 1e6:.1f} M"


def _disagreement(row):
    values = [value for value in row["disagreement"] if value is not None]
    return in_percent(values) if values else ""


COLUMNS = {  # what a block may name: (title, cell)
    "mean expert": ("mean expert", lambda row: with_spread(row["mean_expert"])),
    "accuracy": ("average", lambda row: with_spread(row["test"]["accuracy"])),
    "gain": ("gain", lambda row: with_spread(_gain(row))),
    "many": ("many", lambda row: in_percent(row["test"].get("many"))),
    "medium": ("medium", lambda row: in_percent(row["test"].get("medium"))),
    "few": ("few", lambda row: in_percent(row["test"].get("few"))),
    "ece": ("ECE", lambda row: in_percent(row["test"].get("ece"))),
    "disagreement": ("disagreement", _disagreement),
    "seeds": ("seeds", lambda row: str(len(row["seeds"]))),
    "epochs": ("epochs", lambda row: f"{row['epochs']:.3g}"),
    "multiply-adds": ("multiply-adds", lambda row: f"{row['multiply_adds'] / 1e6:.1f} M"),
    "multiply-adds used": ("multiply-adds used", _used),
    "minutes": ("minutes", lambda row: f"{statistics.mean(row['train_seconds']) / 60:.1f}"),
    "published": ("published", quoted.shortly),
}


def renewed(text: str, path: pathlib.Path) -> str:
    """A document with its blocks of measured numbers as the files of results have them.

    Args:
      text: of the document.
      path: of the document.

    Raises:
      UserError: if a block names a file, a column or a row that is not there.
    """

    def block(found):
        start, file, columns, rows, end = found.groups()
        held = storage.read_json(path.parent / file.strip(), "Restore it.")
        if held is None:
            raise UserError(f"{path}: no such file {file.strip()}.")
        names = [name.strip() for name in columns.split(",")]
        chosen = [one.strip().partition(" as ") for one in rows.split(";") if one.strip()]
        of = {row["method"]: row for row in held["rows"]}
        chosen = [(name, title or f"`{name}`") for name, _, title in chosen]
        chosen = chosen or [(name, f"`{name}`") for name in of]
        for what, known, given in (
            ("column", COLUMNS, names),
            ("row", of, [name for name, _ in chosen]),
        ):
            missing = [name for name in given if name not in known]
            if missing:
                raise UserError(f"{path}: no {what} {missing[0]!r}; there are {', '.join(known)}.")
        lines = ["| | " + " | ".join(COLUMNS[name][0] for name in names) + " |"]
        lines.append("|---" * (len(names) + 1) + "|")
        for name, title in chosen:
            cells = [COLUMNS[column][1](of[name]) for column in names]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        table = "\n".join(lines)
        return f"{start}\n{table}\n\n{end}"

    return _BLOCK.sub(block, text)


def main(paths: Sequence[str]) -> int:
    """Renew documents in place; returns the exit code."""
    return quoted.renew(paths, renewed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
