"""Predictions of a run for new images, from its folder alone, without its training set.

from ltjax import predict

model = predict.load("runs/digits")
probs = model.probs(images)  # u8[N, H, W, channels] -> f32[N, C]
[model.class_names[label] for label in probs.argmax(-1)]
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path, tree_map_with_path

from ltjax import recipes, storage
from ltjax.data.info import DataInfo
from ltjax.errors import UserError
from ltjax.evaluation.metrics import predictors
from ltjax.experts import best_over, independent, seeded_keys, without
from ltjax.learner import Method, Prediction, Variables
from ltjax.run.checkpoint import read_position, read_state
from ltjax.run.files import CONFIG, DATA, read_data
from ltjax.runtime import check_switches

BATCH = 256  # images at a time, at most


class Model(NamedTuple):
    """The experts of a run, and how they predict."""

    info: DataInfo  # class names, image shape, ...
    method: Method  # of all experts, see ltjax.experts.independent
    variables: Variables  # every leaf [E, ...], without the experts that were set aside
    combine: str  # what the average of experts averages, 'probs' or 'logits'

    def __repr__(self) -> str:
        count = len(jax.tree.leaves(self.variables)[0])
        return f"Model({count} experts, {len(self.class_names)} classes, {self.combine} averaged)"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, [C]."""
        return self.info.class_names

    def predict(self, images: np.ndarray) -> Prediction:
        """All outputs: logits f32[E, N, C], heads f32[E, K, N, C], measures f32[E, N].

        Args:
          images: u8[N, H, W, channels], N at least 1, of the shape that the run was trained on.

        Raises:
          UserError: if the images have another shape or type.
        """
        images, shape = np.asarray(images), tuple(self.info.image_shape)
        if images.shape[1:] != shape or images.dtype != np.uint8 or not len(images):
            raise UserError(
                f"The images are {images.dtype}{list(images.shape)}. This model reads "
                f"uint8[N, {', '.join(map(str, shape))}], N at least 1."
            )
        size, parts = min(BATCH, len(images)), []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filled = np.pad(part, [(0, size - len(part)), *[(0, 0)] * 3])
            parts.append(jax.device_get(_compiled(self.method)(self.variables, {"image": filled})))
        axes = Prediction(1, 2, 1)  # of the images
        logits, heads, measures = (
            jax.tree.map(lambda *of, axis=axis: np.concatenate(of, axis), *found)
            for axis, found in zip(axes, zip(*parts, strict=True), strict=True)
        )
        count = len(images)
        return Prediction(
            logits[:, :count],
            None if heads is None else heads[:, :, :count],
            {name: of[:, :count] for name, of in measures.items()},
        )

    def probs(self, images: np.ndarray) -> np.ndarray:
        """Softmax outputs of the average of the experts: u8[N, H, W, channels] -> f32[N, C].

        Raises:
          UserError: as `predict`.
        """
        found = predictors(self.predict(images).logits)
        average = found["first_k"][-1] if self.combine == "probs" else found["logits"][0]
        return np.exp(average)


@functools.lru_cache(maxsize=8)
def _compiled(method):
    return jax.jit(method.predict)


def load(workdir: str | pathlib.Path) -> Model:
    """The model of a run, from its newest checkpoint.

    Args:
      workdir: the folder of the run, finished or not.

    Raises:
      UserError: if there is no such run, or it has no checkpoint yet.
    """
    check_switches()
    folder = storage.usable(workdir, "workdir")
    remedy = "Restore it: only this file says how the run was trained."
    config = storage.read_json(folder / CONFIG, remedy)
    if config is None:
        raise UserError(f"{folder} holds no run: no such file {folder / CONFIG}.")
    info = read_data(folder)
    if info is None:
        raise UserError(
            f"{folder / DATA} is missing. Delete report.json, if there is one, and repeat the "
            f"run's command, which writes both."
        )
    try:
        settings = recipes.settings_of(config)
    except UserError as error:
        own = "If it is of a file of yours, import that file first."
        raise UserError(f"The config of {folder} does not fit: {error} {own}") from error
    position = read_position(folder)
    phase = recipes.recipe_of(settings, info)[position.phase]
    many = independent(phase.learner, best_over(settings.compute))
    like = jax.eval_shape(many.init, seeded_keys(0, 0, phase.num_experts), info.example).variables
    variables = _as(like, read_state(folder)["variables"])
    kept = without(variables, [expert for expert, *_ in position.set_aside])
    return Model(info, many.method, kept, settings.combine)


def _as(like, tree):
    """The leaves of `tree`, nested dicts, in the tree `like`."""
    leaves = {_name(path): leaf for path, leaf in tree_leaves_with_path(tree)}

    def one(path, leaf):
        found = leaves.get(_name(path))
        if found is None or found.shape != leaf.shape:
            raise UserError(
                f"The trained state has {'no' if found is None else 'another'} {_name(path)}: its "
                f"network is not that of this version of ltjax. Use the version that trained it."
            )
        return found

    return tree_map_with_path(one, like)


def _name(path):
    return keystr(path, simple=True, separator="/")
