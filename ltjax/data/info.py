"""A data set in numbers and names: enough to build a recipe and to predict, without images."""

from typing import Any, NamedTuple

import numpy as np

from ltjax.errors import UserError

FORMAT = 1  # of data.json in the folder of a run


class DataInfo(NamedTuple):
    """A data set in numbers and names, as data.json in the folder of a run keeps it."""

    name: str  # row of ltjax.data.datasets.DATASETS
    class_names: tuple[str, ...]  # [C]
    class_counts: np.ndarray  # i64[C], training images
    image_shape: tuple[int, int, int]  # H, W, channels
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]
    std: tuple[float, ...]
    pad: int  # pixels of random shift in training
    flip: bool  # whether mirrored images mean the same
    num_validation: int = 0  # images held out of the training set
    num_test: int = 0

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_counts)

    @property
    def num_train(self) -> int:
        """N, the training images."""
        return int(np.sum(self.class_counts))

    @property
    def example(self) -> dict[str, np.ndarray]:
        """A batch of one black image, for shapes."""
        image = np.zeros((1, *self.image_shape), np.uint8)
        return {"image": image, "label": np.zeros(1, np.int32), "index": np.zeros(1, np.int32)}

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the number of their format; `from_json` reads them."""
        fields = self._asdict() | {"class_counts": np.asarray(self.class_counts).tolist()}
        return {"format": FORMAT, **fields}


def from_json(value: Any, where: str, remedy: str) -> DataInfo:
    """The inverse of `DataInfo.as_json`.

    Args:
      value: as read.
      where: the file it is from, for messages.
      remedy: what to do if it is damaged, a sentence.

    Raises:
      UserError: if it has another form or a later format.
    """
    if isinstance(value, dict) and value.get("format") not in (None, FORMAT):
        raise UserError(
            f"{where} has format {value['format']}, and this version of ltjax reads format "
            f"{FORMAT}. Use the version that wrote it."
        )
    try:
        fields = {
            name: tuple(value[name]) if isinstance(value[name], list) else value[name]
            for name in DataInfo._fields
        }
        counts = np.array(fields["class_counts"], np.int64)
        info = DataInfo(**(fields | {"class_counts": counts}))
        whole = len(info.class_names) == len(counts) and len(info.image_shape) == 3
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{where} is damaged ({error!r}). {remedy}") from None
    if not whole:
        raise UserError(f"{where} is damaged: its lists differ in length. {remedy}")
    return info
