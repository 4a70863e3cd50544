"""Images of one's own, as arrays: taken for what they are, or refused in one line."""

import numpy as np
import pytest

from ltjax.config.settings import Data
from ltjax.data.datasets import Dataset, assembled
from ltjax.data.images import InMemory
from ltjax.data.sources import of_arrays
from ltjax.errors import UserError

LABELS = np.repeat(np.arange(3), (40, 20, 10))
GOOD = dict(
    train=InMemory(np.zeros((70, 4, 4, 1), np.uint8), LABELS),
    test=InMemory(np.zeros((3, 4, 4, 1), np.uint8), np.arange(3)),
    class_names=("a", "b", "c"),
)


def test_arrays_are_used_unchanged_or_get_a_tail():
    whole = of_arrays(**GOOD).load(Data(imbalance_factor=1.0))
    np.testing.assert_array_equal(whole.train.label, LABELS)
    tail = of_arrays(**GOOD).load(Data(imbalance_factor=10.0))
    # the smallest class sets the largest size: 10, 10 / 10^(1/2), 1
    assert np.bincount(tail.train.label).tolist() == [10, 3, 1]
    assert tail.test.label.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": GOOD["train"]._replace(image=np.zeros((70, 4, 4, 1)))}, "float64[70, 4, 4, 1]"),
        ({"train": GOOD["train"]._replace(image=np.zeros((70, 4, 4), np.uint8))}, "[70, 4, 4]"),
        ({"test": GOOD["test"]._replace(image=np.zeros((3, 5, 4, 1), np.uint8))}, "(5, 4, 1)"),
        ({"test": InMemory(np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, int))}, "N at least 1"),
        ({"train": GOOD["train"]._replace(label=LABELS + 1)}, "from 1 to 3; they must be from 0"),
        ({"train": GOOD["train"]._replace(label=LABELS - 1)}, "from -1 to 1"),
        ({"test": GOOD["test"]._replace(label=np.arange(2))}, "one for each of 3 images"),
        ({"train": GOOD["train"]._replace(label=LABELS.astype(float))}, "must be integers"),
        ({"train": GOOD["train"]._replace(label=np.minimum(LABELS, 1))}, "'c' has no training"),
        ({"class_names": ("a", "b")}, "there are 2 class names"),
    ],
)
def test_other_arrays_are_refused_in_one_line(change, said):
    with pytest.raises(UserError) as caught:
        of_arrays(**(GOOD | change))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, values", [("mean", (127.0,)), ("std", (0.0,)), ("std", (60.0,)), ("mean", (0.5,) * 3)]
)
def test_a_normalisation_that_does_not_fit_the_images_is_refused(name, values):
    images, row = GOOD["train"], {"mean": (0.5,), "std": (0.2,)} | {name: values}
    dataset = Dataset("Of a test.", of_arrays(**GOOD), pad=0, flip=False, **row)
    with pytest.raises(UserError, match=f"The {name} of data set 'digits' is .*for each of 1 chan"):
        assembled(Data(), dataset, images, images, GOOD["class_names"], {})
