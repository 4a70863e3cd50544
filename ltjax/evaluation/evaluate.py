"""One pass over a split: experts predict, and their softmax outputs are averaged."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax.axes import DATA, EXPERT
from ltjax.data.images import Images, evaluation_batches
from ltjax.data.splits import groups
from ltjax.evaluation import metrics
from ltjax.learner import Batch, TrainState
from ltjax.mesh import EXAMPLES, EXPERTS, WHOLE, Mesh, fetch, over_mesh, place

Predict = Callable[[TrainState, Batch], jax.Array]  # logits [E, B, C]


def evaluator(predict: Predict, mesh: Mesh, batch_size: int) -> Callable[..., dict]:
    """Compile an evaluation.

    Args:
      predict: (state, batch) -> logits [E, B, C].
      mesh: the mesh that states lie on.
      batch_size: images per step, over all devices of the data axis; rounded up to a multiple of
        these, which changes no result.

    Returns:
      evaluate(state, images, class_counts, combine) -> dict; see metrics.summary for what is in
      it, plus 'images_per_second'.
    """

    def step(state, batch):
        logits = predict(state, batch)  # [E on this device, B on this device, C]
        logits = lax.all_gather(logits, EXPERT, axis=0, tiled=True)  # [E, B, C]
        return lax.psum(metrics.sums(logits, batch["label"], batch["mask"]), DATA)

    compiled = _compiled(step, mesh)

    warm: set[int] = set()  # batch sizes that are compiled

    def evaluate(
        state: TrainState, images: Images, class_counts: np.ndarray, combine: str = "probs"
    ) -> dict:
        size = _batch_size(batch_size, images, mesh)
        if size not in warm:  # compile first, so that it is not counted
            first = next(evaluation_batches(images, size))
            jax.block_until_ready(compiled(state, place(first, mesh, EXAMPLES)))
            warm.add(size)
        start = time.perf_counter()
        totals = _totals(compiled, state, images, size, mesh)
        seconds = time.perf_counter() - start
        result = metrics.summary(totals, groups(class_counts), combine)
        return result | {"images_per_second": len(images.label) / seconds}

    return evaluate


def heads_as_experts(heads: Predict) -> Predict:
    """(state, batch) -> logits [E (K + 1), B, C] from those of K heads each, [E, K, B, C].

    After the heads of each expert comes the mean of their logits.
    """

    def predict(state, batch):
        logits = heads(state, batch)
        logits = jnp.concatenate([logits, logits.mean(1, keepdims=True)], axis=1)
        return logits.reshape(-1, *logits.shape[2:])

    return predict


def measurer(measures: Callable[..., dict], mesh: Mesh, batch_size: int) -> Callable[..., dict]:
    """Compile the means of what a method measures.

    Args:
      measures: (state, batch) -> {name: [E, B]}.
      mesh: the mesh that states lie on.
      batch_size: as that of `evaluator`.

    Returns:
      (state, images) -> {name: the mean over images for each expert, a list [E]}.
    """

    def step(state, batch):
        sums = jax.tree.map(lambda x: x @ batch["mask"], measures(state, batch))
        sums = jax.tree.map(lambda x: lax.all_gather(x, EXPERT, tiled=True), sums)
        return lax.psum(sums, DATA)

    compiled = _compiled(step, mesh)

    def measure(state: TrainState, images: Images) -> dict[str, list[float]]:
        totals = _totals(compiled, state, images, _batch_size(batch_size, images, mesh), mesh)
        return {name: (x / len(images.label)).tolist() for name, x in totals.items()}

    return measure


def _compiled(step, mesh):
    return jax.jit(over_mesh(step, mesh, (EXPERTS, EXAMPLES), WHOLE))


def _totals(compiled, state, images, size, mesh):
    """What `compiled` sums over batches, summed over a split in float64."""
    batches = evaluation_batches(images, size)
    parts = [compiled(state, place(batch, mesh, EXAMPLES)) for batch in batches]
    parts = [jax.tree.map(np.float64, part) for part in fetch(parts)]
    return jax.tree.map(lambda *leaves: sum(leaves), *parts)


def _batch_size(wished, images, mesh):
    return _round_up(min(wished, len(images.label)), mesh.shape[DATA])


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
