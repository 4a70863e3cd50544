"""One pass over a split: experts predict, and their softmax outputs are averaged."""

import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ltjax.axes import DATA, EXPERT
from ltjax.data.images import Images, evaluation_batches
from ltjax.data.splits import groups
from ltjax.evaluation import metrics
from ltjax.experts import without
from ltjax.learner import Method, Variables
from ltjax.mesh import EXAMPLES, EXPERTS, OUTPUTS, WHOLE, Mesh, fetch, over_mesh, place


def evaluator(
    method: Method,
    mesh: Mesh,
    batch_size: int,
    class_counts: np.ndarray,
    combine: str = "probs",
) -> Callable[[Variables, Images, Sequence[int]], dict]:
    """Compile an evaluation.

    Args:
      method: of many experts, as ltjax.experts.independent makes it.
      mesh: the mesh that variables lie on.
      batch_size: images per step, over all devices of the data axis; rounded up to a multiple of
        these, which changes no result.
      class_counts: i64[C], training images, by which classes are grouped.
      combine: 'probs' or 'logits', which average is the ensemble.

    Returns:
      evaluate(variables, images, aside, keep) -> what metrics.summary says of the experts that are
      not set aside (`aside`: their numbers, from 1), and 'expert_numbers', those of 'experts';
      'images_per_second'; of networks with several heads 'head_names' and how they are 'combined',
      in words ('heads_mean' only if not to the mean of their logits); 'measures' {name: the mean
      over images for each expert, a list} if the method measures something; if `keep`, 'outputs',
      what these experts say of each image: {'logits': f32[E, N, C]} and with several heads
      'heads', f32[E, N, K, C].
    """

    @functools.cache
    def compiled(aside):
        def step(variables, batch):
            found = method.predict(variables, batch)  # leaves [E on this device, ...]
            found = jax.tree.map(lambda x: lax.all_gather(x, EXPERT, axis=0, tiled=True), found)
            logits, heads, measures = without(found, aside)
            sums = metrics.sums(logits, batch["label"], batch["mask"], heads)
            sums["measures"] = {name: x @ batch["mask"] for name, x in measures.items()}
            said = {"logits": logits}
            if heads is not None:
                said["heads"] = jnp.moveaxis(heads, 2, 1)
            return lax.psum(sums, DATA), said

        return jax.jit(over_mesh(step, mesh, (EXPERTS, EXAMPLES), (WHOLE, OUTPUTS)))

    warm: set[tuple] = set()  # batch sizes, and who is set aside, that are compiled
    share = mesh.shape[DATA]

    def evaluate(
        variables: Variables,
        images: Images,
        aside: Sequence[int] = (),
        keep: bool = False,
    ) -> dict:
        size, aside = -(-min(batch_size, len(images.label)) // share) * share, tuple(aside)
        sums = compiled(aside)
        if (size, aside) not in warm:  # compile first, so that it is not counted
            first = next(evaluation_batches(images, size))
            jax.block_until_ready(sums(variables, place(first, mesh, EXAMPLES)))
            warm.add((size, aside))
        start = time.perf_counter()
        parts, kept, waiting = [], [], None
        for batch in evaluation_batches(images, size):
            part, said = sums(variables, place(batch, mesh, EXAMPLES))
            parts.append(part)
            if keep:  # fetched while the next one is computed
                kept += [] if waiting is None else [fetch(waiting)]
                waiting = said
        parts = [jax.tree.map(np.float64, part) for part in fetch(parts)]
        totals = jax.tree.map(lambda *leaves: sum(leaves), *parts)
        seconds = time.perf_counter() - start

        result = metrics.summary(totals, groups(class_counts), combine)
        all_ = range(1, len(jax.tree.leaves(variables)[0]) + 1)
        result["expert_numbers"] = [number for number in all_ if number not in aside]
        result["images_per_second"] = len(images.label) / seconds
        if "heads" in result:
            result["head_names"], result["combined"] = list(method.head_names), method.combined
            if not method.combined:
                del result["heads_mean"]
        if totals["measures"]:
            means = {name: x / len(images.label) for name, x in totals["measures"].items()}
            result["measures"] = {name: mean.tolist() for name, mean in means.items()}
        if keep:
            kept, count = [*kept, fetch(waiting)], len(images.label)
            result["outputs"] = {
                name: np.concatenate([one[name] for one in kept], 1)[:, :count] for name in said
            }
        return result

    return evaluate
