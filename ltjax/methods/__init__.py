"""The table of methods: name -> recipe(settings, info, **options) -> tuple of phases."""

from ltjax.methods import classifier, joint

METHODS = {
    "classifier": classifier.recipe,
    "joint": joint.recipe,
}
