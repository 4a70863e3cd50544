"""What is measured of a set of predictors: sums over examples in JAX, numbers at the end in NumPy.

`sums` runs inside the compiled evaluation step; its leaves add up over batches and devices, and
padded examples (mask 0) count nothing. `summary` turns the totals into the numbers of a report.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NUM_BINS = 15  # of confidence, for the calibration error


def sums(logits: jax.Array, label: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Count what E experts and their averages get right in one batch.

    Predictors M are, in this order: the E experts; the average of the softmax outputs of the first
    k of them, for k = 1..E; the softmax of the average of all logits.

    Args:
      logits: f32[E, B, C].
      label: i32[B].
      mask: f32[B], 1 for examples that count and 0 for padding.

    Returns:
      Sums over the batch: images f32[C], right f32[M, C] by true class, right_in_5 f32[M],
      nll f32[M], brier f32[M], bins f32[M, 15, 3] (count, confidence, right), against
      f32[2, E, C, 2, 2] (first axis: the average of softmax outputs, of logits; then expert right
      or wrong, average right or wrong), disagree f32[E, E].
    """
    num_experts, _, num_classes = logits.shape
    log_probs = predictors(logits)  # [M, B, C]
    one_hot = jax.nn.one_hot(label, num_classes) * mask[:, None]  # [B, C]
    prediction = log_probs.argmax(-1)  # [M, B]
    right = (prediction == label).astype(mask.dtype)
    own = jnp.take_along_axis(log_probs, label[None, :, None], -1)  # [M, B, 1]
    before = jnp.arange(num_classes) < label[:, None]  # ties are ranked by class number
    rank = ((log_probs > own) | ((log_probs == own) & before)).sum(-1)  # [M, B]
    probs = jnp.exp(log_probs)
    brier = ((probs - jax.nn.one_hot(label, num_classes)) ** 2).sum(-1)
    experts, average = right[:num_experts], right[jnp.array([2 * num_experts - 1, -1])]
    pairs = prediction[:num_experts, None] != prediction[None, :num_experts]  # [E, E, B]
    return {
        "images": one_hot.sum(0),
        "right": right @ one_hot,
        "right_in_5": (rank < 5) @ mask,
        "nll": -own[..., 0] @ mask,
        "brier": brier @ mask,
        "bins": _bins(probs.max(-1), right, mask),
        "against": jnp.einsum(
            "ebi,abj,bc->aecij", _right_or_wrong(experts), _right_or_wrong(average), one_hot
        ),
        "disagree": pairs @ mask,
    }


def predictors(logits: jax.Array) -> jax.Array:
    """Log-probabilities f32[2E + 1, B, C] of all predictors that `sums` names; logits [E, B, C]."""
    experts = jax.nn.log_softmax(logits)
    count = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)[:, None, None]
    # log of the mean of probabilities, taken in logs so that a tiny one is not lost
    first_k = lax.cumlogsumexp(experts, axis=0) - jnp.log(count)
    return jnp.concatenate([experts, first_k, jax.nn.log_softmax(logits.mean(0))[None]])


def summary(
    totals: dict[str, np.ndarray], class_groups: dict[str, np.ndarray], combine: str
) -> dict:
    """The numbers of an evaluation.

    Args:
      totals: `sums` added up over all batches.
      class_groups: {'many' | 'medium' | 'few': bool[C]}, by training images; see splits.groups.
      combine: 'probs' or 'logits', which average is the ensemble.

    Returns:
      A dict of plain Python numbers (fractions, not percent; NLL in nats), None where a group has
      no class: 'average' and 'other_average' (the one that `combine` is not), 'experts', 'first_k',
      'against_average', 'disagreement', 'classes_per_group', 'images'.
    """
    num_experts = totals["disagree"].shape[0]
    numbers = [_numbers(totals, m, class_groups) for m in range(2 * num_experts + 1)]
    averages = {"probs": numbers[2 * num_experts - 1], "logits": numbers[-1]}
    other = "logits" if combine == "probs" else "probs"
    against = totals["against"][0 if combine == "probs" else 1]  # [E, C, 2, 2]
    where = {"all": np.ones(against.shape[1], bool), **class_groups}
    return {
        "images": int(totals["images"].sum()),
        "classes_per_group": {name: int(group.sum()) for name, group in class_groups.items()},
        "combine": combine,
        "average": averages[combine],
        "other_average": averages[other],
        "experts": numbers[:num_experts],
        "first_k": [
            {name: one[name] for name in ("accuracy", "many", "medium", "few")}
            for one in numbers[num_experts : 2 * num_experts]
        ],
        "against_average": [
            {name: _cross_table(own[group].sum(0)) for name, group in where.items()}
            for own in against
        ],
        "disagreement": (totals["disagree"] / totals["images"].sum()).tolist(),
    }


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error, sum over bins of |right - confidence| / N.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017 section 2: 15 equal bins of the top-1
    confidence, open on the left and closed on the right.

    Args:
      bins: [15, 3], sums of count, confidence and right.
    """
    return float(np.abs(bins[:, 2] - bins[:, 1]).sum() / bins[:, 0].sum())


def open_set_f_measure(probs: np.ndarray, label: np.ndarray, threshold: float = 0.1) -> float:
    """F-measure 2 P R / (P + R) of a classifier that may say "unknown".

    Liu et al. (OLTR), CVPR 2019, as in the authors' code: an image is said to be unknown where no
    class has a probability of at least `threshold`. TP are images of known classes that are right,
    FP those that are wrong (said to be unknown among them), FN images of unknown classes that are
    given a known one; P = TP / (TP + FP), R = TP / (TP + FN). 0 without a true positive.

    Args:
      probs: [B, C].
      label: int[B], -1 for images of unknown classes.
      threshold: of the largest probability.
    """
    probs, label = np.asarray(probs), np.asarray(label)
    said = np.where(probs.max(-1) < threshold, -1, probs.argmax(-1))
    known, right = label >= 0, said == label
    true_positives = (known & right).sum()
    others = (known & ~right).sum() + (~known & ~right).sum()  # FP + FN
    return float(2 * true_positives / max(2 * true_positives + others, 1))


def _bins(confidence, right, mask):
    edges = jnp.arange(NUM_BINS) / NUM_BINS
    inside = (confidence[..., None] > edges) & (
        confidence[..., None] <= jnp.append(edges[1:], jnp.inf)  # rounding may exceed 1
    )
    what = jnp.stack([jnp.ones_like(confidence), confidence, right], -1)  # [M, B, 3]
    return jnp.einsum("mbn,mbx,b->mnx", inside.astype(mask.dtype), what, mask)


def _right_or_wrong(right):
    return jnp.stack([right, 1 - right], -1)


def _numbers(totals, m, class_groups):
    images, right = totals["images"], totals["right"][m]
    count = images.sum()
    present = images > 0
    per_class = np.where(present, right / np.maximum(images, 1), np.nan)

    def mean_over(group):
        group = group & present
        return float(per_class[group].mean()) if group.any() else None

    return {
        "accuracy": float(right.sum() / count),
        "top5": float(totals["right_in_5"][m] / count) if len(images) > 5 else None,
        **{name: mean_over(group) for name, group in class_groups.items()},
        "balanced_accuracy": mean_over(present),
        "nll": float(totals["nll"][m] / count),
        "ece": calibration_error(totals["bins"][m]),
        "brier": float(totals["brier"][m] / count),
        "per_class": [
            float(x) if there else None for x, there in zip(per_class, present, strict=True)
        ],
    }


def _cross_table(table):
    (both, expert_only), (average_only, neither) = table
    return {
        "both_right": int(both),
        "expert_only": int(expert_only),
        "average_only": int(average_only),
        "both_wrong": int(neither),
    }
