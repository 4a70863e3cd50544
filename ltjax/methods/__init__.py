"""The table of methods: name -> recipe(settings, info, **options) -> tuple of phases."""

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
from ltjax.presets import PRESETS

METHODS = {
    "classifier": classifier.recipe,
    "joint": joint.recipe,
    "crt": decoupled.crt,
    "lws": decoupled.lws,
    "tau_norm": decoupled.tau_norm,
    "ncm": decoupled.ncm,
    "finetuned": finetuned.recipe,
    "cam": cam.recipe,
    "feature_augmentation": feature_augmentation.recipe,
    "bbn": bbn.recipe,
    "oltr": oltr.recipe,
    "lfme": lfme.recipe,
    **dict.fromkeys(PRESETS, classifier.recipe),
    "bag_of_tricks": cam.bag_of_tricks,
    "ride": ride.recipe,
    "sade": sade.recipe,
    "balpoe": balpoe.recipe,
    "ncl": ncl.recipe,
}
