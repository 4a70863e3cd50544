"""Where published results of a method lie, as a test of an implementation at full length.

Of ResNet-32, 200 epochs, crop and flip, the standard split. Each band is about the range of what
several sources report for one network (ltjax.compare.published); the mean of several seeds should
fall inside.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ltjax.errors import plain

EPOCHS = 200.0


class Band(NamedTuple):
    """Accuracies of one network, in percent, that others report for a method."""

    methods: tuple[str, ...]  # rows of METHODS; none with options of their own
    data: str
    low: float
    high: float
    options: tuple[tuple[str, object], ...] = ()  # (field, value) that the row must have


def _bands(methods, cifar10=None, cifar100=None, options=()):
    ranges = {"cifar10": cifar10, "cifar100": cifar100}
    return [Band(methods, data, *of, options) for data, of in ranges.items() if of]


BANDS = [
    *_bands(("classifier",), (70, 72.5), (37.5, 39.9)),
    *_bands(("focal",), (70, 72), (37, 39), (("loss.gamma", 1.0),)),
    *_bands(("cb_softmax", "cb_sigmoid", "cb_focal"), (72, 75), (36, 39.6)),
    *_bands(("class_balanced_sampling",), (70.5, 72.5), (33.4, 35.5)),
    *_bands(("ldam_drw",), (76, 78), (41.3, 43)),
    *_bands(("drw",), (74.5, 76), (40.4, 41.7)),
    *_bands(("balanced_softmax", "logit_adjustment"), (77.5, 80.8), (42, 46)),
    *_bands(("crt", "lws", "tau_norm"), (72.5, 75), (40, 41)),
    *_bands(("bbn",), (79.4, 79.8)),
    *_bands(("cam",), (76, 77), (41, 42)),
    *_bands(("ride",), None, (47.7, 48.6)),
]


def verdicts(rows: Sequence[dict]) -> list[str]:
    """For each row with a band, whether it is inside; rows that are no test, by their reason.

    One network is published, so that of several experts the mean one is compared.

    Args:
      rows: from ltjax.compare.rows.rows.
    """
    found, no_test = [], {}
    for row in rows:
        band = band_of(row)
        if band is None:
            continue
        why = unlike(row["config"])
        if why:
            no_test.setdefault(", ".join(why), []).append(row["method"])
            continue
        value = 100 * sum(row["mean_expert"]) / len(row["mean_expert"])
        side = "below" if value < band.low else "above"
        verdict = "inside" if band.low <= value <= band.high else f"outside, {side}"
        seeds, several = len(row["seeds"]), row["num_experts"] > 1
        of = "the mean expert" if several else "the network"
        found.append(
            f"{row['method']}: {of} has {value:.2f} ({seeds} seed{'s' * (seeds > 1)}), the band of "
            f"published numbers is {band.low:g} to {band.high:g}: {verdict}."
        )
    for why, names in no_test.items():
        untested = f"Not tested against the bands of published numbers ({why})"
        found.append(f"{untested}: {', '.join(names)}.")
    return [plain(line) for line in found]


def band_of(row: dict) -> Band | None:
    """The band of a row's method on its data set, at imbalance factor 100; None without one."""
    config = row["config"]
    data = config["data"]
    for band in BANDS:
        if (
            config["method"]["name"] in band.methods
            and dict(band.options) == row["options"]
            and (data["name"], data["imbalance"], data["imbalance_factor"])
            == (band.data, "exp", 100.0)
        ):
            return band
    return None


def unlike(config: dict) -> list[str]:
    """How a run is not what the bands are of: a shorter budget, another backbone, ..."""
    epochs, schedule, optimizer = config["num_epochs"], config["schedule"], config["optimizer"]
    budget = f"{epochs:g}{f' of {EPOCHS:g}' * (epochs < EPOCHS)} epochs"
    usual = [
        (budget, epochs, EPOCHS),
        ("{}", config["network"]["name"], "resnet32"),
        ("{}", config["augment"]["name"], "pad_crop_flip"),
        ("a part held out", config["data"]["validation"], 0),
        ("batch size {}", config["batch_size"], 128),
        ("schedule {}", schedule["name"], "step"),
        ("learning rate {}", schedule.get("lr"), 0.1),
        ("momentum {}", optimizer["momentum"], 0.9),
        ("weight decay {}", optimizer["weight_decay"], 2e-4),
        ("selection seed {}", config["data"]["seed"], 0),
    ]
    return [said.format(value) for said, value, expected in usual if value != expected]
