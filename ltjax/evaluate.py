"""One pass over a split: experts predict, and their softmax outputs are averaged."""

import time
from collections.abc import Callable

import jax
import numpy as np
from jax import lax

from ltjax import mesh, metrics
from ltjax.axes import DATA, EXPERT
from ltjax.data.images import Images, evaluation_batches
from ltjax.data.splits import groups
from ltjax.learner import Learner, TrainState


def evaluator(many: Learner, on: mesh.Mesh, batch_size: int) -> Callable[..., dict]:
    """Compile an evaluation.

    Args:
      many: a learner with a leading expert axis.
      on: the mesh that its states lie on.
      batch_size: images per step, over all devices of the data axis; rounded up to a multiple of
        these, which changes no result.

    Returns:
      evaluate(state, images, class_counts, combine) -> dict; see metrics.summary for what is in
      it, plus 'images_per_second'.
    """

    def step(state, batch):
        logits = many.predict(state, batch)  # [E on this device, B on this device, C]
        logits = lax.all_gather(logits, EXPERT, axis=0, tiled=True)  # [E, B, C]
        return lax.psum(metrics.sums(logits, batch["label"], batch["mask"]), DATA)

    compiled = jax.jit(mesh.over_mesh(step, on, (mesh.EXPERTS, mesh.EXAMPLES), mesh.WHOLE))

    warm: set[int] = set()  # batch sizes that are compiled

    def evaluate(
        state: TrainState, images: Images, class_counts: np.ndarray, combine: str = "probs"
    ) -> dict:
        size = _round_up(min(batch_size, len(images.label)), on.shape[DATA])
        if size not in warm:  # compile first, so that it is not counted
            first = next(evaluation_batches(images, size))
            jax.block_until_ready(compiled(state, mesh.place(first, on, mesh.EXAMPLES)))
            warm.add(size)
        start = time.perf_counter()
        totals = [
            compiled(state, mesh.place(batch, on, mesh.EXAMPLES))
            for batch in evaluation_batches(images, size)
        ]
        totals = [jax.tree.map(np.float64, one) for one in mesh.fetch(totals)]
        totals = jax.tree.map(lambda *parts: sum(parts), *totals)
        seconds = time.perf_counter() - start
        result = metrics.summary(totals, groups(class_counts), combine)
        return result | {"images_per_second": len(images.label) / seconds}

    return evaluate


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
