"""The bands of published results, and what is said of a measured row."""

import pytest
from reports import report

from ltjax.compare import bands, published
from ltjax.compare.rows import Run, rows
from ltjax.methods import METHODS

FULL = {
    "data": {"name": "cifar100", "imbalance_factor": 100.0},
    "network": {"name": "resnet32"},
    "augment": {"name": "pad_crop_flip"},
    "num_experts": 1,
}


def verdict(variant, accuracy, config=FULL, seeds=(0,)):
    runs = [(variant, Run(None, report(variant, seed, accuracy, config))) for seed in seeds]
    return bands.verdicts(rows(runs))


@pytest.mark.parametrize(
    "variant, accuracy, said",
    [
        ("ldam_drw", 0.42, "inside"),
        ("ldam_drw", 0.412, "outside, below"),
        ("classifier", 0.41, "outside, above"),
        ("balanced_softmax", 0.42, "inside"),
        ("focal+loss.gamma=1.0", 0.38, "inside"),
    ],
)
def test_a_full_length_run_is_inside_or_outside(variant, accuracy, said):
    (line,) = verdict(variant, accuracy, seeds=(0, 1))
    assert line.startswith(f"{variant}: the network has {100 * accuracy:.2f} (2 seeds), the band")
    assert line.endswith(f": {said}.")


@pytest.mark.parametrize(
    "change, why",
    [
        ({"num_epochs": 40.0}, "40 of 200 epochs"),
        ({"num_epochs": 400.0}, "400 epochs"),
        ({"network": {"name": "resnet8"}}, "resnet8"),
        ({"augment": {"name": "autoaugment"}}, "autoaugment"),
        ({"data": FULL["data"] | {"validation": 0.1}}, "a part held out"),
        ({"data": FULL["data"] | {"seed": 5}}, "selection seed 5"),
        ({"batch_size": 512}, "batch size 512"),
        ({"optimizer": {"weight_decay": 5e-4}}, "weight decay 0.0005"),
    ],
)
def test_another_budget_is_no_test(change, why):
    (line,) = verdict("ldam_drw", 0.3, FULL | change)
    said = f"Not tested against the bands of published numbers ({why}): ldam_drw."
    assert line == said


def test_of_several_experts_the_mean_one_is_compared():
    (line,) = verdict("ldam_drw:3", 0.44)  # experts of .44, .42 and .40
    assert line.startswith("ldam_drw:3: the mean expert has 42.00 (1 seed)")
    assert line.endswith("inside.")


@pytest.mark.parametrize(
    "variant, config",
    [
        ("cdt", FULL),
        ("ldam_drw+loss.max_margin=0.3", FULL),
        ("focal", FULL),
        ("ldam_drw", FULL | {"data": FULL["data"] | {"imbalance_factor": 50.0}}),
        ("ldam_drw", FULL | {"data": FULL["data"] | {"imbalance": "step"}}),
    ],
)
def test_what_no_band_is_of_is_not_judged(variant, config):
    assert verdict(variant, 0.4, config) == []


def test_each_band_is_of_methods_here_and_holds_a_published_number():
    checked = 0
    for band in bands.BANDS:
        assert set(band.methods) <= set(METHODS) and band.low <= band.high
        names = {
            "+".join([name, *(f"{field}={value}" for field, value in band.options)])
            for name in band.methods
        }
        found = [
            one.value
            for one in published.PUBLISHED
            if one.method in names
            and (one.data, one.factor, one.backbone) == (band.data, 100.0, "resnet32")
            and one.augmentation == "pad_crop_flip"
        ]
        checked += bool(found)
        inside = [band.low - 0.1 <= value <= band.high + 0.1 for value in found]
        assert any(inside) or not found, band  # deferred re-weighting is published within others
    assert checked > 15
