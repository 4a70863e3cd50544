"""The table of methods: a name, its recipe, and the config fields that it sets.

`config.method.name = "ldam_drw"` sets the loss, re-weighting and head below, and trains them as the
method "classifier" does. All other fields come from the config, so that `method=mixup` with
`loss=balanced_softmax` combines both. Numbers are from the authors' code; numbers for one data set
are under its name.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ltjax.methods import (
    balpoe,
    bbn,
    cam,
    classifier,
    decoupled,
    feature_augmentation,
    finetuned,
    joint,
    lfme,
    ncl,
    oltr,
    ride,
    sade,
)


class Row(NamedTuple):
    """A method."""

    recipe: Callable  # (settings, info, **options) -> tuple of phases
    about: str  # what it does, in a line
    source: str  # paper and year
    config: Mapping[str, dict] = MappingProxyType({})  # {group: the fields that it sets}
    on: Mapping[str, dict[str, dict]] = MappingProxyType({})  # {data set: what differs there}
    may_change: tuple[str, ...] = ()  # groups in which a config may name another choice


_EFFECTIVE = {"name": "effective_number", "beta": 0.9999}
_DEFERRED = {**_EFFECTIVE, "start": 0.8}
# Zhang et al. (Bag of Tricks), AAAI 2021, found 0.9 better on CIFAR-100-LT.
_ON_CIFAR100 = {"cifar100": {"reweight": {"beta": 0.9}}}

METHODS = {
    "classifier": Row(
        classifier.recipe,
        "Independent experts, each trained on the entire training set.",
        "Lakshminarayanan et al., NeurIPS 2017",
    ),
    "joint": Row(
        joint.recipe,
        "Networks trained as one model, on their averaged logits.",
        "Lee et al., arXiv 1511.06314, 2015",
    ),
    "crt": Row(
        decoupled.crt,
        "Classifier re-training, cRT: a new head on class-balanced batches.",
        "Kang et al., ICLR 2020",
    ),
    "lws": Row(
        decoupled.lws,
        "Learnable weight scaling, LWS: a number per class, trained on class-balanced batches.",
        "Kang et al., ICLR 2020",
    ),
    "tau_norm": Row(
        decoupled.tau_norm,
        "tau-normalisation: logits x . w_j / |w_j|^tau, without bias.",
        "Kang et al., ICLR 2020",
    ),
    "ncm": Row(
        decoupled.ncm,
        "Nearest class mean: the class whose mean feature is closest.",
        "Kang et al., ICLR 2020",
    ),
    "finetuned": Row(
        finetuned.recipe,
        "The classifier of the config, then fine-tuned without mixing, balanced, at a small rate.",
        "Zhang et al. (Bag of Tricks), AAAI 2021",
    ),
    "cam": Row(
        cam.recipe,
        "CAM-based re-sampling: foregrounds of tail images moved, in balanced batches.",
        "Zhang et al., AAAI 2021",
    ),
    "feature_augmentation": Row(
        feature_augmentation.recipe,
        "Feature space augmentation: tail-class features pasted onto head-class backgrounds.",
        "Chu et al., ECCV 2020",
    ),
    "bbn": Row(
        bbn.recipe,
        "A branch for images as they come and one for reversed sampling, under one classifier.",
        "Zhou et al. (BBN), CVPR 2020",
    ),
    "oltr": Row(
        oltr.recipe,
        "OLTR: modulated attention, and features enriched by a memory of class centroids.",
        "Liu et al., CVPR 2019",
    ),
    "lfme": Row(
        lfme.recipe,
        "Teachers of many, medium and few, who teach a student of all classes.",
        "Xiang et al. (LFME), ECCV 2020",
    ),
    "over_sampling": Row(
        classifier.recipe,
        "Random over-sampling.",
        "Japkowicz and Stephen, 2002",
        config={"sampler": {"name": "over_sampling"}},
    ),
    "under_sampling": Row(
        classifier.recipe,
        "Random under-sampling, a choice of its own for each expert.",
        "Japkowicz and Stephen, 2002",
        config={"sampler": {"name": "under_sampling"}},
    ),
    "class_balanced_sampling": Row(
        classifier.recipe,
        "Every class equally often.",
        "Kang et al. (Decoupling), ICLR 2020",
        config={"sampler": {"name": "class_balanced"}},
    ),
    "square_root_sampling": Row(
        classifier.recipe,
        "Class j in proportion to the root of its size.",
        "Mahajan et al., ECCV 2018",
        config={"sampler": {"name": "square_root"}},
    ),
    "progressive_sampling": Row(
        classifier.recipe,
        "From instance- to class-balanced sampling.",
        "Kang et al. (Decoupling), ICLR 2020",
        config={"sampler": {"name": "progressively_balanced"}},
    ),
    "drs": Row(
        classifier.recipe,
        "Deferred re-sampling, class-balanced from 80 % on.",
        "Cao et al., NeurIPS 2019",
        config={"sampler": {"name": "class_balanced", "start": 0.8}},
    ),
    "drw": Row(
        classifier.recipe,
        "Deferred re-weighting, effective number from 80 % on.",
        "Cao et al., NeurIPS 2019",
        config={"reweight": _DEFERRED},
    ),
    "cb_softmax": Row(
        classifier.recipe,
        "Class-balanced cross-entropy.",
        "Cui et al., CVPR 2019",
        config={"loss": {"name": "cross_entropy", "divide_by": "examples"}, "reweight": _EFFECTIVE},
        on=_ON_CIFAR100,
    ),
    "cb_sigmoid": Row(
        classifier.recipe,
        "Class-balanced sigmoids.",
        "Cui et al., CVPR 2019",
        config={"loss": {"name": "sigmoid"}, "reweight": _EFFECTIVE},
        on=_ON_CIFAR100,
    ),
    "cb_focal": Row(
        classifier.recipe,
        "Class-balanced focal loss.",
        "Cui et al., CVPR 2019",
        config={"loss": {"name": "focal", "gamma": 1.0}, "reweight": _EFFECTIVE},
        on=_ON_CIFAR100,
    ),
    "cost_sensitive": Row(
        classifier.recipe,
        "Cross-entropy by inverse class size.",
        "Zhang et al. (Bag of Tricks), AAAI 2021",
        config={"reweight": {"name": "cost_sensitive"}},
    ),
    "focal": Row(
        classifier.recipe,
        "Focal loss over sigmoids.",
        "Lin et al., ICCV 2017",
        config={"loss": {"name": "focal"}},
    ),
    "focal_softmax": Row(
        classifier.recipe,
        "Focal loss on the softmax.",
        "Cao et al. (LDAM-DRW), NeurIPS 2019",
        config={"loss": {"name": "focal_softmax"}},
    ),
    "ldam": Row(
        classifier.recipe,
        "Larger margins for smaller classes.",
        "Cao et al., NeurIPS 2019",
        config={"loss": {"name": "ldam"}, "network": {"head": "cosine"}},
    ),
    "ldam_drw": Row(
        classifier.recipe,
        "LDAM, re-weighted from 80 % of training on.",
        "Cao et al., NeurIPS 2019",
        config={"loss": {"name": "ldam"}, "network": {"head": "cosine"}, "reweight": _DEFERRED},
    ),
    "seql": Row(
        classifier.recipe,
        "Softmax equalization.",
        "Tan et al., CVPR 2020",
        config={"loss": {"name": "equalization"}},
        on={"cifar10": {"loss": {"below": 0.05}}, "digits": {"loss": {"below": 0.05}}},
    ),
    "balanced_softmax": Row(
        classifier.recipe,
        "Cross-entropy of z + log n.",
        "Ren et al., NeurIPS 2020",
        config={"loss": {"name": "balanced_softmax"}},
    ),
    "logit_adjustment": Row(
        classifier.recipe,
        "Cross-entropy of z + tau log(prior).",
        "Menon et al., ICLR 2021",
        config={"loss": {"name": "logit_adjustment"}},
    ),
    "posthoc_logit_adjustment": Row(
        classifier.recipe,
        "Cross-entropy, predictions from z - tau log(prior).",
        "Menon et al., ICLR 2021",
        config={"method": {"posthoc_tau": 1.0}},
    ),
    "cdt": Row(
        classifier.recipe,
        "Class-dependent temperature.",
        "Ye et al., arXiv 2020",
        config={"loss": {"name": "class_dependent_temperature"}},
    ),
    "label_smoothing": Row(
        classifier.recipe,
        "Soft targets.",
        "Szegedy et al., CVPR 2016",
        config={"loss": {"name": "label_smoothing"}},
    ),
    "label_aware_smoothing": Row(
        classifier.recipe,
        "Softer targets for larger classes.",
        "Zhong et al. (MiSLAS), CVPR 2021",
        config={"loss": {"name": "label_aware_smoothing"}},
    ),
    "ride": Row(
        ride.recipe,
        "Diverse heads on one trunk, as many as an image needs.",
        "Wang et al. (RIDE), ICLR 2021",
        config={"loss": {"name": "ldam"}, "network": {"head": "cosine"}, "reweight": _DEFERRED},
        may_change=("loss", "reweight"),
    ),
    "same_init": Row(
        classifier.recipe,
        "Experts that begin alike, an ablation.",
        "Lakshminarayanan et al., NeurIPS 2017",
        config={"share": {"initialisation": True}},
    ),
    "same_order": Row(
        classifier.recipe,
        "Experts whose batches hold the same images, an ablation.",
        "Lakshminarayanan et al., NeurIPS 2017",
        config={"share": {"order": True}},
    ),
    "same_init_and_order": Row(
        classifier.recipe,
        "Experts that differ only by augmentation, an ablation.",
        "Lakshminarayanan et al., NeurIPS 2017",
        config={"share": {"initialisation": True, "order": True}},
    ),
    "mixup": Row(
        classifier.recipe,
        "Blends of two images.",
        "Zhang et al., ICLR 2018",
        config={"mixing": {"name": "mixup"}},
    ),
    "manifold_mixup": Row(
        classifier.recipe,
        "Blends of two feature vectors.",
        "Verma et al., ICML 2019",
        config={"mixing": {"name": "manifold_mixup"}},
    ),
    "remix": Row(
        classifier.recipe,
        "Mixup whose label leans to the smaller class.",
        "Chou et al., ECCVW 2020",
        config={"mixing": {"name": "remix"}},
    ),
    "bag_of_tricks": Row(
        cam.bag_of_tricks,
        "Mixup, CAM-based sampling, fine-tuning.",
        "Zhang et al., AAAI 2021",
        config={"mixing": {"name": "mixup"}},
    ),
    "sade": Row(
        sade.recipe,
        "Heads for the long tail, a balanced world and the reversed tail.",
        "Zhang et al., NeurIPS 2022",
        config={"network": {"head": "cosine"}},
        on={"cifar10": {"method": {"reduced": False}}},
    ),
    "balpoe": Row(
        balpoe.recipe,
        "Heads with logit adjustments from weak to strong, and mixup.",
        "Sanchez Aimar et al. (BalPoE), CVPR 2023",
        config={"network": {"head": "cosine"}, "mixing": {"name": "mixup", "alpha": 0.4}},
        on={"cifar10": {"mixing": {"alpha": 0.8}}},
        may_change=("mixing",),
    ),
    "ncl": Row(
        ncl.recipe,
        "Complete networks that teach each other, on all classes and on the hard ones.",
        "Li et al. (NCL), CVPR 2022",
    ),
}
