"""Published top-1 accuracies, in percent, of the methods here: others' numbers, not ours.

A source begins with how it was read: "S", in a primary document (a paper's text, the authors'
README, slides or logs); "S2", in a secondary one (another paper's table, a leaderboard, an issue);
"M", from memory and not checked. Papers that print an error were converted, 100 - error. BoT is Bag
of Tricks (Zhang et al., AAAI 2021), whose numbers are of the epoch that is best on the test split.
Documents and comparisons quote these rows: ltjax.compare.quoted.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Published(NamedTuple):
    """One number."""

    method: str  # as a variant of a comparison, "focal+loss.gamma=1.0"
    data: str  # a row of ltjax.data.datasets.DATASETS, or imagenet_lt
    factor: float  # the imbalance factor
    backbone: str  # as in ltjax.models.NETWORKS, or another that the source names
    epochs: float | None  # None: the source does not say
    augmentation: str | None  # a row of AUGMENTS; "strong": AutoAugment, RandAugment, Cutout, ...
    value: float  # accuracy on the balanced test split, of all classes, in percent
    source: str
    groups: str = ""  # "67.0/49.9/25.7": of many, medium and few


# (backbone, epochs, augmentation) -> "method | source | data factor=accuracy ... | data ...". A
# line that begins with | continues the one above it. The recipe of 13,000 updates of 512 images is
# 594 epochs of CIFAR-10-LT at factor 200, and 700 and 528 of CIFAR-100-LT at 200 and 50.
_NUMBERS = {
    ("resnet32", 200, "pad_crop_flip"): """
classifier | S, CB paper | cifar10 200=65.68 100=70.36 50=74.81 20=82.23 10=86.39
  | cifar100 200=34.84 100=38.32 50=43.85 20=51.14 10=55.71
classifier | S, BoT | cifar10 100=71.95 50=76.45 | cifar100 100=37.73 50=43.78
classifier | S, imbalanced-DL | cifar10 100=71.23 | cifar100 100=38.46
classifier | S, re-run of logit adjustment | cifar10 100=71.27 | cifar100 100=39.85
classifier | S, MiSLAS slides | cifar10 100=72.3 | cifar100 50=46.1
classifier | S2, a user, LDAM-DRW issue 4 | cifar10 100=73.17
classifier | S, RIDE's model zoo | cifar100 100=39.1(66.1/37.3/10.6)
classifier | S, OpenLT | cifar100 100=40.3
classifier | S2, SADE's table | cifar100 100=41.4
class_balanced_sampling | S, LDAM paper | cifar10 100=70.55 10=86.79 | cifar100 100=33.44 10=55.06
class_balanced_sampling | S, BoT | cifar10 100=72.45 50=78.08 | cifar100 100=35.24 50=39.46
square_root_sampling | S, BoT | cifar10 100=71.42 50=77.68 | cifar100 100=36.79 50=41.13
progressive_sampling | S, BoT | cifar10 100=71.98 50=78.57 | cifar100 100=39.04 50=43.12
classifier+sampler.name=reversed | S, BoT | cifar10 100=71.62 50=78.11
  | cifar100 100=37.06 50=42.03
drs | S, BoT | cifar10 100=75.07 50=80.73 | cifar100 100=40.64 50=45.42
classifier+sampler.name=square_root+sampler.start=0.8 | S, BoT | cifar10 100=73.22
  | cifar100 100=40.36
classifier+sampler.name=progressively_balanced+sampler.start=0.8 | S, BoT | cifar10 100=73.85
  | cifar100 100=40.41
classifier+reweight.name=effective_number | S, LDAM paper | cifar10 100=72.37 10=86.54
  | cifar100 100=33.99 10=57.12
cost_sensitive | S, BoT | cifar10 100=68.3 50=76.8 | cifar100 100=32.27 50=36.51
classifier+reweight.name=cost_sensitive+reweight.start=0.8 | S, BoT | cifar10 100=74.82 50=79.82
  | cifar100 100=41.62 50=46.8
cb_softmax | S, BoT | cifar10 100=70.48 50=77.48 | cifar100 100=38.97 50=43.78
cb_focal | S, BoT | cifar10 100=75.2 50=78.99 | cifar100 100=38.56 50=42.37
cb_focal | S, LDAM paper | cifar100 100=36.02 10=57.99
cb_softmax | S, CB paper, the best of its losses and β
  | cifar10 200=68.89 100=74.57 50=79.27 20=84.36 10=87.49
  | cifar100 200=36.23 100=39.6 50=45.32 20=52.59 10=57.99
cb_sigmoid | S, CB paper, the best of its losses and β
  | cifar10 200=68.89 100=74.57 50=79.27 20=84.36 10=87.49
  | cifar100 200=36.23 100=39.6 50=45.32 20=52.59 10=57.99
cb_focal | S, CB paper, the best of its losses and β
  | cifar10 200=68.89 100=74.57 50=79.27 20=84.36 10=87.49
  | cifar100 200=36.23 100=39.6 50=45.32 20=52.59 10=57.99
classifier+loss.name=sigmoid | S, CB paper | cifar10 200=65.49 100=70.45 50=76.16 20=83.6 10=87.03
  | cifar100 200=35.61 100=38.78 50=44.15 20=51.43 10=55.27
focal+loss.gamma=0.5 | S, CB paper | cifar10 200=64.0 100=70.23 50=76.72 20=82.89 10=86.81
  | cifar100 200=35.0 100=38.69 50=44.12 20=51.1 10=55.7
focal+loss.gamma=1.0 | S, CB paper | cifar10 200=65.29 100=70.38 50=76.71 20=82.76 10=86.66
  | cifar100 200=35.62 100=38.41 50=44.32 20=51.95 10=55.78
focal | S, CB paper | cifar10 200=64.88 100=69.59 50=76.52 20=83.23 10=86.32
  | cifar100 200=34.75 100=38.39 50=43.7 20=51.02 10=55.0
focal | S, BoT | cifar10 100=71.56 50=77.91 | cifar100 100=37.22 50=41.79
ldam | S, LDAM paper | cifar10 100=73.35 10=86.96 | cifar100 100=39.6 10=56.91
ldam | S, BoT | cifar10 100=73.66 50=79.01 | cifar100 100=38.88 50=43.59
ldam_drw | S, LDAM paper | cifar10 100=77.03 10=88.16 | cifar100 100=42.04 10=58.71
ldam_drw | S, MiSLAS slides | cifar10 50=81.1 | cifar100 50=46.7
ldam_drw | S, BoT | cifar10 100=77.73 50=81.6 | cifar100 100=42.47 50=47.29
seql | S, BoT | cifar100 100=40.49 50=44.81
cdt | S, BoT | cifar10 100=77.1 50=81.81 | cifar100 100=39.59 50=44.83
balanced_softmax | S, BoT | cifar10 100=77.54 50=81.11 | cifar100 100=42.99 50=46.55
balanced_softmax | S2, SADE's table | cifar100 100=46.1
balanced_softmax | S2, OpenLT | cifar100 100=46.47
logit_adjustment | S, re-run of a third party | cifar10 100=78.57 | cifar100 100=44.02
logit_adjustment | S2, of its own paper | cifar10 100=80.92 | cifar100 100=42.01 50=47.03 10=57.74
logit_adjustment | S2, of its own paper, another table | cifar100 100=43.89
logit_adjustment | S2, OpenLT | cifar100 100=45.3
posthoc_logit_adjustment | S, re-run of a third party | cifar10 100=78.16 | cifar100 100=44.04
label_smoothing | S, BoT | cifar10 100=72.81 50=76.57 | cifar100 100=38.44 50=42.34
label_aware_smoothing | S, BoT | cifar10 100=72.51 50=77.96 | cifar100 100=37.68 50=43.78
crt | S, BoT | cifar10 100=74.99 50=80.17 | cifar100 100=40.26 50=45.36
crt | S, MiSLAS slides | cifar10 100=75.2 | cifar100 50=48.4
crt+mixing.name=mixup | S, MiSLAS slides | cifar10 100=79.1 50=84.2 10=89.8
  | cifar100 100=45.1 50=50.9 10=62.1
lws | S, BoT | cifar10 100=72.63 50=78.66 | cifar100 100=40.16 50=45.21
lws | S, MiSLAS slides | cifar10 100=74.0 | cifar100 50=48.6
lws+mixing.name=mixup | S, MiSLAS slides | cifar10 100=76.3 50=82.6 10=89.6
  | cifar100 100=44.2 50=50.7 10=62.3
tau_norm | S, BoT | cifar10 100=72.7 50=79.78 | cifar100 100=40.96 50=45.69
mixup | S, MiSLAS slides | cifar10 100=72.8 50=78.1 10=87.6 | cifar100 100=39.5 50=45.4 10=59.1
drw+mixing.name=mixup | S, imbalanced-DL | cifar10 100=82.11 | cifar100 100=46.91
drw+mixing.name=remix | S, imbalanced-DL | cifar10 100=81.82 | cifar100 100=46.0
cam | S, BoT | cifar10 100=76.9 50=80.72 | cifar100 100=41.95 50=46.73
cam+method.sampler=progressively_balanced | S, BoT | cifar100 100=41.08 50=46.1
cam+method.sampler=square_root | S, BoT | cifar100 100=40.67 50=45.42
bbn | S2, a leaderboard | cifar10 100=79.82 50=82.18 10=88.32
  | cifar100 100=42.56 50=47.02 10=59.12
bbn | S2, users | cifar10 100=79.48
ride | S2, re-run by a table's author | cifar10 100=81.54
ride | S, its model zoo | cifar100 100=48.6(67.0/49.9/25.7)
ride | S2, other papers' tables | cifar100 100=48.0 50=51.7 10=61.8
ride+method.distill=True | S, its model zoo | cifar100 100=49.0(67.6/50.9/25.2)
ride+method.distill=True+method.num_heads=4 | S, its model zoo | cifar100 100=49.4(67.7/51.3/25.7)
ride+method.num_heads=6+method.routing=False | S, its model zoo
  | cifar100 100=50.2(69.3/52.1/25.8)
sade | S2, issue 11 of its repository | cifar10 100=83.8 10=90.8
sade | S, its repository | cifar100 100=49.8
sade | S2, other papers' tables | cifar100 50=53.9 10=63.6
balpoe | S, BalPoE slides | cifar100 100=52.0
balpoe | S2, other papers' tables | cifar100 50=56.3 10=64.8
balpoe | S2, five seeds by others | cifar100 100=51.98(67.6/54.5/30.8)
balpoe+mixing.name=none | S, BalPoE slides | cifar100 100=49.2
""",
    ("resnet32", 200, "strong"): """
classifier | S, DBM paper | cifar10 100=78.48 50=82.73 10=89.91
  | cifar100 100=44.6 50=48.75 10=61.98
drw | S, DBM paper | cifar100 100=48.28(65.9/50.7/24.9) 50=53.89 10=64.25
ldam | S, DBM paper | cifar100 100=45.25 50=50.16 10=62.86
ldam_drw | S, DBM paper | cifar10 100=82.6 50=85.36 10=91.22
  | cifar100 100=48.99 50=54.27 10=64.58
balanced_softmax | S, DBM paper | cifar10 100=83.57 50=86.45 10=91.26
  | cifar100 100=49.35(65.8/50.1/29.3) 50=54.79 10=63.93
balpoe | S, BalPoE slides | cifar100 100=54.7 50=58.7 10=66.3
""",
    ("resnet32", 594, "strong"): """
classifier | S, BALMS | cifar10 200=74.0
balanced_softmax | S, BALMS | cifar10 200=79.8
""",
    ("resnet32", 700, "strong"): """
classifier | S, BALMS | cifar100 200=41.2
balanced_softmax | S, BALMS | cifar100 200=46.7
""",
    ("resnet32", 528, "strong"): """
classifier | S, LADE's notebooks | cifar100 50=45.5
balanced_softmax | S, LADE's notebooks | cifar100 50=49.9
""",
    ("resnet32", None, "pad_crop_flip"): """
bag_of_tricks | S2, a leaderboard | cifar10 100=80.03 50=83.59 | cifar100 100=47.83 50=51.69
classifier:4 | S2, Buchanan et al. 2023, a tenth held out | cifar10 100=69.92
balanced_softmax:4 | S2, Buchanan et al. 2023 | cifar10 100=78.05
""",
    ("resnet32", 400, "pad_crop_flip"): """
mixup | S, BoT | cifar10 100=74.06 50=78.67 | cifar100 100=40.82 50=45.92
manifold_mixup | S, BoT | cifar10 100=75.19 50=79.58 | cifar100 100=39.88 50=45.24
remix | S, BoT | cifar10 100=73.43 50=79.26 | cifar100 100=41.39 50=45.7
""",
    ("resnet32", 300, "pad_crop_flip"): """
drw+mixing.name=remix | S2 | cifar100 100=46.8 10=61.3
""",
    ("resnet32", 420, "pad_crop_flip"): """
bag_of_tricks | S, BoT's code | cifar10 100=79.76 50=83.56 | cifar100 100=47.83 50=52.02
""",
    ("resnet18", 300, "pad_crop_flip"): """
feature_augmentation | S | cifar10 200=77.06 100=80.57 50=84.51 20=88.54 10=91.75
  | cifar100 200=42.84 100=46.57 50=51.9 20=58.69 10=65.08
feature_augmentation | S2, a leaderboard | cifar10 50=84.71
""",
    ("resnet34", 300, "pad_crop_flip"): """
feature_augmentation | S2, a leaderboard | cifar10 100=82.06 50=84.49 10=91.2
feature_augmentation | S | cifar100 200=41.46 100=48.51 50=52.17 20=59.75 10=65.29
""",
    ("resnet32", None, None): """
lfme | S2, a summary | cifar100 100=42.3
lfme+loss.name=ldam | S2, a leaderboard | cifar100 100=43.8
""",
    ("resnet32", 400, "strong"): """
sade | S, BalPoE slides | cifar100 100=52.2 50=57.3 10=65.3
balpoe | S, BalPoE slides | cifar100 100=55.9 50=60.1 10=68.1
balpoe+method.num_heads=7 | S, BalPoE slides | cifar100 100=57.0
ncl | M | cifar10 100=85.5 50=87.3
ncl | S, re-run in the DBM paper | cifar10 100=87.37 50=89.89 10=93.15
  | cifar100 100=56.68(73.9/57.0/36.2) 50=61.65 10=69.46
ncl | S2 / M | cifar100 100=54.2 50=58.2
""",
    ("resnet10", None, None): """
feature_augmentation | S | imagenet_lt 256=35.2(47.3/31.6/14.7)
lfme | M | imagenet_lt 256=37.2(47.1/35.0/17.5)
lfme | S2, a leaderboard, with OLTR | imagenet_lt 256=38.8(47.0/37.9/19.2)
oltr | S | imagenet_lt 256=35.6(43.2/35.1/18.5)
oltr | S, its README | imagenet_lt 256=36.1(44.2/35.2/17.5)
""",
}


def _read(recipe: tuple, text: str) -> Iterator[Published]:
    for line in text.replace("\n  |", " |").strip().splitlines():
        method, source, *parts = (cell.strip() for cell in line.split("|"))
        for part in parts:
            data, *numbers = part.split()
            for number in numbers:
                factor, value, groups = re.fullmatch(
                    r"(\d+)=([\d.]+)(?:\((.+)\))?", number
                ).groups()
                yield Published(
                    method, data, float(factor), *recipe, float(value), source, groups or ""
                )


PUBLISHED: list[Published] = [
    one for recipe, text in _NUMBERS.items() for one in _read(recipe, text)
]
