"""predictions.npz in the folder of a run: what each expert says of each image of a split.

All that is asked after training is a function of it (`ltjax.analysis`). Nothing here needs JAX.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ltjax import storage
from ltjax.errors import UserError

PREDICTIONS = "predictions.npz"
_REMEDY = "Delete it and report.json; the command of the run writes both again."


_RANGE = {name: (np.finfo(name).min, np.finfo(name).max) for name in ("float32", "float16")}
# What NumPy and zipfile raise for files that are not what was written.
_OF_CONTENT = (ValueError, TypeError, KeyError, EOFError, AttributeError, MemoryError, RuntimeError)


class Predictions(NamedTuple):
    """Of one split, in its order."""

    logits: np.ndarray  # f32[E, N, C], of the experts that are not set aside
    label: np.ndarray  # i64[N]
    experts: np.ndarray  # i64[E], their numbers, from 1
    heads: np.ndarray | None = None  # f32[E, N, K, C], of networks with several heads


def packed(
    splits: Mapping[str, Predictions], dtype: str = "float32"
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What predictions.npz holds.

    Args:
      splits: by name.
      dtype: of the logits in the file, 'float32', or 'float16' in half the space.

    Returns:
      Arrays by name, and what the report says of them: 'dtype' and 'rounding', by how much a logit
      is changed at most.
    """
    arrays, rounding = {}, 0.0
    for split, predictions in splits.items():
        for name, of in predictions._asdict().items():
            if of is None:
                continue
            if name in ("logits", "heads"):
                kept = np.clip(of, *_RANGE[dtype]).astype(dtype)
                rounding = max(rounding, float(np.abs(of - kept.astype(np.float32)).max()))
                of = kept
            arrays[f"{split}_{name}"] = np.asarray(of)
    return arrays, {"dtype": dtype, "rounding": rounding}


def load(folder: str | pathlib.Path) -> dict[str, Predictions]:
    """The predictions of a run by split.

    Raises:
      UserError: if there are none.
      Damaged: if the file is not what was written.
    """
    folder = pathlib.Path(folder)
    path = folder / PREDICTIONS
    if not path.is_file():
        raise UserError(
            f"{folder} has no {PREDICTIONS}. It is written at the end of a run, but not with "
            f"config.predictions=none. Delete report.json and repeat the run's command."
        )
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        splits = {}
        for name, of in arrays.items():
            split, _, what = name.rpartition("_")
            splits.setdefault(split, {})[what] = (
                of.astype(np.float32) if of.dtype == np.float16 else of
            )
        found = {split: Predictions(**parts) for split, parts in splits.items()}
        if "test" not in found or not all(map(_fits, found.values())):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path} cannot be read ({storage.reason(error)}).") from error
    except (*_OF_CONTENT, zipfile.BadZipFile, zlib.error) as error:
        raise storage.Damaged(f"{path} is damaged. {_REMEDY}") from error
    return found


def is_good(folder: str | pathlib.Path) -> bool:
    """Whether predictions.npz is there, and what was written."""
    try:
        load(folder)
    except UserError:
        return False
    return True


def _fits(one):
    experts, images, classes = one.logits.shape
    return (
        min(one.logits.shape) > 0
        and one.logits.dtype == np.float32
        and np.isfinite(one.logits).all()
        and one.label.dtype.kind == one.experts.dtype.kind == "i"
        and one.label.shape == (images,)
        and one.experts.shape == (experts,)
        and one.label.min(initial=0) >= 0
        and one.label.max(initial=0) < classes
        and (one.heads is None or one.heads.shape[::3] == (experts, classes))
    )
