"""Methods that are a combination of choices: what each of them puts into a config.

`config.method.name = "ldam_drw"` stands for the loss, re-weighting and head below, and trains them
as the method "classifier" does. What is not named here stays as the config says, so that
`method=mixup` with `loss=balanced_softmax` is both. Numbers are those of the authors' code; where a
data set has others of its own, they are under its name.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ltjax.errors import UserError


class Preset(NamedTuple):
    """A named combination."""

    about: str  # what it does, and its source
    config: dict[str, dict]  # group -> its fields
    on: Mapping[str, dict[str, dict]] = MappingProxyType({})  # data set -> what differs there
    may_change: tuple[str, ...] = ()  # groups in which another choice may be named


_EFFECTIVE = {"name": "effective_number", "beta": 0.9999}
# Zhang et al. (Bag of Tricks), AAAI 2021, found 0.9 better on CIFAR-100-LT.
_ON_CIFAR100 = {"cifar100": {"reweight": {"beta": 0.9}}}
_DRW = {"reweight": {**_EFFECTIVE, "start": 0.8}}

PRESETS = {
    # re-sampling
    "over_sampling": Preset(
        "Random over-sampling. Japkowicz and Stephen, 2002.",
        {"sampler": {"name": "over_sampling"}},
    ),
    "under_sampling": Preset(
        "Random under-sampling, a choice of its own for each expert. Japkowicz and Stephen, 2002.",
        {"sampler": {"name": "under_sampling"}},
    ),
    "class_balanced_sampling": Preset(
        "Every class equally often. Kang et al. (Decoupling), ICLR 2020.",
        {"sampler": {"name": "class_balanced"}},
    ),
    "square_root_sampling": Preset(
        "Class j in proportion to the root of its size. Mahajan et al., ECCV 2018.",
        {"sampler": {"name": "square_root"}},
    ),
    "progressive_sampling": Preset(
        "From instance- to class-balanced sampling. Kang et al. (Decoupling), ICLR 2020.",
        {"sampler": {"name": "progressively_balanced"}},
    ),
    "drs": Preset(
        "Deferred re-sampling, class-balanced from 80 % on. Cao et al., NeurIPS 2019.",
        {"sampler": {"name": "class_balanced", "start": 0.8}},
    ),
    # re-weighting
    "drw": Preset(
        "Deferred re-weighting, effective number from 80 % on. Cao et al., NeurIPS 2019.", _DRW
    ),
    "cb_softmax": Preset(
        "Class-balanced cross-entropy. Cui et al., CVPR 2019.",
        {
            "loss": {"name": "cross_entropy", "divide_by": "examples"},
            "reweight": _EFFECTIVE,
        },
        on=_ON_CIFAR100,
    ),
    "cb_sigmoid": Preset(
        "Class-balanced sigmoids. Cui et al., CVPR 2019.",
        {"loss": {"name": "sigmoid"}, "reweight": _EFFECTIVE},
        on=_ON_CIFAR100,
    ),
    "cb_focal": Preset(
        "Class-balanced focal loss. Cui et al., CVPR 2019.",
        {"loss": {"name": "focal", "gamma": 1.0}, "reweight": _EFFECTIVE},
        on=_ON_CIFAR100,
    ),
    "cost_sensitive": Preset(
        "Cross-entropy by inverse class size. Zhang et al. (Bag of Tricks), AAAI 2021.",
        {"reweight": {"name": "cost_sensitive"}},
    ),
    # losses
    "focal": Preset(
        "Focal loss over sigmoids. Lin et al., ICCV 2017.", {"loss": {"name": "focal"}}
    ),
    "focal_softmax": Preset(
        "Focal loss on the softmax. Cao et al. (LDAM-DRW), NeurIPS 2019.",
        {"loss": {"name": "focal_softmax"}},
    ),
    "ldam": Preset(
        "Larger margins for smaller classes. Cao et al., NeurIPS 2019.",
        {"loss": {"name": "ldam"}, "network": {"head": "cosine"}},
    ),
    "ldam_drw": Preset(
        "LDAM, re-weighted from 80 % of training on. Cao et al., NeurIPS 2019.",
        {"loss": {"name": "ldam"}, "network": {"head": "cosine"}, **_DRW},
    ),
    "seql": Preset(
        "Softmax equalization. Tan et al., CVPR 2020.",
        {"loss": {"name": "equalization"}},
        on={"cifar10": {"loss": {"below": 0.05}}, "digits": {"loss": {"below": 0.05}}},
    ),
    "balanced_softmax": Preset(
        "Cross-entropy of z + log n. Ren et al., NeurIPS 2020.",
        {"loss": {"name": "balanced_softmax"}},
    ),
    "logit_adjustment": Preset(
        "Cross-entropy of z + tau log(prior). Menon et al., ICLR 2021.",
        {"loss": {"name": "logit_adjustment"}},
    ),
    "posthoc_logit_adjustment": Preset(
        "Cross-entropy, predictions from z - tau log(prior). Menon et al., ICLR 2021.",
        {"method": {"posthoc_tau": 1.0}},
    ),
    "cdt": Preset(
        "Class-dependent temperature. Ye et al., arXiv 2020.",
        {"loss": {"name": "class_dependent_temperature"}},
    ),
    "label_smoothing": Preset(
        "Soft targets. Szegedy et al., CVPR 2016.", {"loss": {"name": "label_smoothing"}}
    ),
    "label_aware_smoothing": Preset(
        "Softer targets for larger classes. Zhong et al. (MiSLAS), CVPR 2021.",
        {"loss": {"name": "label_aware_smoothing"}},
    ),
    # several heads
    "ride": Preset(
        "Diverse heads on one trunk, as many as an image needs. Wang et al. (RIDE), ICLR 2021.",
        {"loss": {"name": "ldam"}, "network": {"head": "cosine"}, **_DRW},
        may_change=("loss", "reweight"),
    ),
    # deep ensembles (Lakshminarayanan et al., NeurIPS 2017) with something in common: ablations
    "same_init": Preset(
        "Experts that begin alike. An ablation of deep ensembles, NeurIPS 2017.",
        {"share": {"initialisation": True}},
    ),
    "same_order": Preset(
        "Experts whose batches hold the same images. An ablation of deep ensembles, NeurIPS 2017.",
        {"share": {"order": True}},
    ),
    "same_init_and_order": Preset(
        "Experts that differ only by augmentation. An ablation of deep ensembles, NeurIPS 2017.",
        {"share": {"initialisation": True, "order": True}},
    ),
    # mixing
    "mixup": Preset(
        "Blends of two images. Zhang et al., ICLR 2018.", {"mixing": {"name": "mixup"}}
    ),
    "manifold_mixup": Preset(
        "Blends of two feature vectors. Verma et al., ICML 2019.",
        {"mixing": {"name": "manifold_mixup"}},
    ),
    "remix": Preset(
        "Mixup whose label leans to the smaller class. Chou et al., ECCVW 2020.",
        {"mixing": {"name": "remix"}},
    ),
    "bag_of_tricks": Preset(
        "Mixup, CAM-based sampling, fine-tuning. Zhang et al., AAAI 2021.",
        {"mixing": {"name": "mixup"}},
    ),
    # several heads on one trunk
    "sade": Preset(
        "Heads for the long tail, a balanced world and the reversed tail. Zhang et al., NeurIPS "
        "2022.",
        {"network": {"head": "cosine"}},
        on={"cifar10": {"method": {"reduced": False}}},
    ),
    "balpoe": Preset(
        "Heads with logit adjustments from weak to strong, and mixup. Sanchez Aimar et al. "
        "(BalPoE), CVPR 2023.",
        {
            "network": {"head": "cosine"},
            "mixing": {"name": "mixup", "alpha": 0.4},
        },
        on={"cifar10": {"mixing": {"alpha": 0.8}}},
        may_change=("mixing",),
    ),
}


def with_preset(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with what its method stands for filled in.

    Args:
      config: plain nested dicts; `method.name` may be a row of PRESETS.

    Raises:
      UserError: if the config names another choice than the method does.
    """
    name, data = _name(config, "method"), _name(config, "data")
    if name not in PRESETS:
        return dict(config)
    preset, filled = PRESETS[name], dict(config)
    here = preset.on.get(data, {})
    for field in preset.config | here:
        group = {**preset.config.get(field, {}), **here.get(field, {})}
        given = {} if config.get(field) is None else config[field]
        if not isinstance(given, Mapping):
            continue  # an error, and said where types are checked
        means = group.get("name")
        if means and given.get("name", means) != means:
            if field in preset.may_change:
                continue
            raise UserError(
                f"config.{field}.name is {given['name']!r}, but config.method.name={name!r} means "
                f"{means!r}; leave one of them out (method=classifier takes any)."
            )
        filled[field] = {**group, **given}
    return filled


def _name(config, field):
    group = config.get(field)
    name = group.get("name") if isinstance(group, Mapping) else None
    return name if isinstance(name, str) else None  # what else it is, is an error said elsewhere
