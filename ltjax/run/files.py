"""The files of a run's folder by name, and how its report and data.json are read, without JAX."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ltjax import storage
from ltjax.data.info import DataInfo, from_json
from ltjax.errors import UserError, plain

CONFIG, DATA, LOG, REPORT = "config.json", "data.json", "log.jsonl", "report.json"
LOCK = ".lock"
FORMAT = 1  # of report.json and comparison.json; a later one is refused

_MISSING = object()
_NUMBER, _NAMED = (int, float), {"name": str}
_SHARE = (int, float, type(None))  # None for lack of classes
_SHAPE = {  # what comparisons read of a report
    "config": {
        "seed": int,
        "num_experts": int,
        "num_epochs": _NUMBER,
        "batch_size": int,
        "data": {
            "name": str,
            "imbalance": str,
            "imbalance_factor": _NUMBER,
            "seed": int,
            "validation": _NUMBER,
        },
        "optimizer": {"momentum": _NUMBER, "nesterov": bool, "weight_decay": _NUMBER},
        **dict.fromkeys(("method", "network", "schedule", "augment"), _NAMED),
        **dict.fromkeys(("sampler", "loss", "reweight", "mixing"), _NAMED),
    },
    "splits": {
        "test": {
            "average": {
                "accuracy": _NUMBER,
                **dict.fromkeys(("many", "medium", "few", "ece", "nll"), _SHARE),
            },
            "experts": [{"accuracy": _NUMBER}],
            "disagreement": [[_NUMBER]],
        }
    },
    "epochs": _NUMBER,
    "cost": {"train_seconds": _NUMBER, "parameters": int, "multiply_adds": int},
    "device": str,
    "versions": dict,
}


def load_report(path: pathlib.Path) -> dict[str, Any]:
    """The report of a finished run.

    Reports without a format number, written by earlier versions, are read, too.

    Args:
      path: of its report.json.

    Raises:
      UserError: if the file cannot be read, is not that of a report, or has a later format.
    """
    remedy = "Delete this file and repeat the command of its run, which evaluates the state again."
    report = storage.read_json(path, remedy)
    if report is None:
        raise UserError(f"{path} cannot be read: there is no such file.")
    number = report.get("format", FORMAT) if isinstance(report, Mapping) else None
    if isinstance(number, int) and number > FORMAT:
        raise UserError(
            f"{path} has format {number}; this version of ltjax reads formats up to {FORMAT}. "
            f"Use a later version."
        )
    wrong = _mismatch(report, _SHAPE, "")
    if number is None or number != FORMAT or wrong:
        what = f"{wrong or 'format'} is missing or not what it should be"
        raise storage.Damaged(f"{path} is damaged: {what}. {remedy}")
    try:
        return _plain(report)
    except RecursionError as error:
        raise storage.Damaged(f"{path} is damaged: it is nested too deep. {remedy}") from error


def read_data(folder: pathlib.Path) -> DataInfo | None:
    """What data.json in the folder of a run says; None if it is missing.

    Raises:
      UserError: if the file is damaged, or has a later format.
    """
    remedy = "Delete it and report.json, if there is one; the command of the run writes both again."
    value = storage.read_json(folder / DATA, remedy)
    return None if value is None else from_json(value, str(folder / DATA), remedy)


def _plain(value):
    """A value of JSON whose texts are of one line and obey no terminal: it may be anybody's."""
    if isinstance(value, dict):
        return {plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return plain(value).replace("\n", "\\n") if isinstance(value, str) else value


def _mismatch(value, shape, path):
    """The dotted name of the first part that does not fit the shape; "" if all fit."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return path or "the whole"
        wrong = (
            _mismatch(value.get(key, _MISSING), part, f"{path}.{key}".strip("."))
            for key, part in shape.items()
        )
    elif isinstance(shape, list):
        if not isinstance(value, list) or not value:
            return path
        wrong = (_mismatch(one, shape[0], f"{path}[{i}]") for i, one in enumerate(value))
    else:
        return "" if isinstance(value, shape) else path
    return next(filter(None, wrong), "")
