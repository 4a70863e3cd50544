"""What is measured of a set of predictors: sums over examples in JAX, numbers at the end in NumPy.

`sums` runs inside the compiled evaluation step; its leaves add up over batches and devices, and
padded examples (mask 0) count nothing. `summary` turns the totals into the numbers of a report.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NUM_BINS = 15  # of confidence, for the calibration error


def sums(
    logits: jax.Array, label: jax.Array, mask: jax.Array, heads: jax.Array | None = None
) -> dict[str, dict | jax.Array]:
    """Count what E experts, their averages and their heads get right in one batch.

    Args:
      logits: f32[E, B, C].
      label: i32[B].
      mask: f32[B], 1 for examples that count and 0 for padding.
      heads: f32[E, K, B, C], where the networks have several heads.

    Returns:
      Sums over the batch: 'images' f32[C]; for each kind of predictors (see `predictors`), a dict
      of right f32[M, C] by true class, right_in_5 f32[M], nll f32[M], brier f32[M] and bins
      f32[M, 15, 3] (count, confidence, right); 'against' {'probs', 'logits'}, of each average,
      f32[E, C, 2, 2] (expert right or wrong, average right or wrong); 'disagree' f32[E, E].
    """
    log_probs = predictors(logits, heads)
    one_hot = jax.nn.one_hot(label, logits.shape[-1]) * mask[:, None]  # [B, C]
    prediction = {name: of.argmax(-1) for name, of in log_probs.items()}  # [M, B]
    right = {name: (of == label).astype(mask.dtype) for name, of in prediction.items()}
    experts = prediction["experts"]
    pairs = experts[:, None] != experts[None]  # [E, E, B]
    averages = {"probs": right["first_k"][-1], "logits": right["logits"][0]}
    against = {
        name: jnp.einsum(
            "ebi,bj,bc->ecij", _right_or_wrong(right["experts"]), _right_or_wrong(of), one_hot
        )
        for name, of in averages.items()
    }
    counts = {name: _sums_of(log_probs[name], right[name], label, mask, one_hot) for name in right}
    return {**counts, "images": one_hot.sum(0), "against": against, "disagree": pairs @ mask}


def predictors(logits: jax.Array, heads: jax.Array | None = None) -> dict[str, jax.Array]:
    """Log-probabilities f32[M, B, C] of everything that predicts.

    Args:
      logits: f32[E, B, C], of the experts.
      heads: f32[E, K, B, C], of their heads, if they have several.

    Returns:
      'experts', M = E; 'first_k', the average of the softmax outputs of the first k experts for
      k = 1..E; 'logits', M = 1, the softmax of the average of all logits; with heads, 'heads',
      M = E K, those of each expert in turn, and 'heads_mean', M = E, the mean of their logits.
    """
    experts = jax.nn.log_softmax(logits)
    count = jnp.arange(1, len(logits) + 1, dtype=logits.dtype)[:, None, None]
    # log of the mean of probabilities, taken in logs so that a tiny one is not lost
    first_k = lax.cumlogsumexp(experts, axis=0) - jnp.log(count)
    found = {
        "experts": experts,
        "first_k": first_k,
        "logits": jax.nn.log_softmax(logits.mean(0))[None],
    }
    if heads is not None:
        found["heads"] = jax.nn.log_softmax(heads).reshape(-1, *heads.shape[2:])
        found["heads_mean"] = jax.nn.log_softmax(heads.mean(1))
    return found


def _sums_of(log_probs, right, label, mask, one_hot):
    """Of predictors of one kind, f32[M, B, C]."""
    num_classes = log_probs.shape[-1]
    own = jnp.take_along_axis(log_probs, label[None, :, None], -1)  # [M, B, 1]
    before = jnp.arange(num_classes) < label[:, None]  # ties are ranked by class number
    rank = ((log_probs > own) | ((log_probs == own) & before)).sum(-1)  # [M, B]
    probs = jnp.exp(log_probs)
    brier = ((probs - jax.nn.one_hot(label, num_classes)) ** 2).sum(-1)
    return {
        "right": right @ one_hot,
        "right_in_5": (rank < 5) @ mask,
        "nll": -own[..., 0] @ mask,
        "brier": brier @ mask,
        "bins": _bins(probs.max(-1), right, mask),
    }


def summary(
    totals: dict[str, dict | np.ndarray], class_groups: dict[str, np.ndarray], combine: str
) -> dict:
    """The numbers of an evaluation.

    Args:
      totals: `sums` added up over all batches.
      class_groups: {'many' | 'medium' | 'few': bool[C]}, by training images; see splits.groups.
      combine: 'probs' or 'logits', which average is the ensemble.

    Returns:
      A dict of plain Python numbers (fractions, not percent; NLL in nats), None where a group has
      no class: 'average' and 'other_average' (the one that `combine` is not), 'experts', 'first_k',
      'against_average', 'disagreement', 'classes_per_group', 'seen_per_group' (those of them that
      have images here, over which the group's accuracy is a mean), 'images'; of networks with
      several heads, 'heads' and 'heads_mean' (see `predictors`).
    """
    images = totals["images"]
    numbers = {
        name: _numbers(of, images, class_groups)
        for name, of in totals.items()
        if isinstance(of, dict) and "right" in of
    }
    averages = {"probs": numbers["first_k"][-1], "logits": numbers["logits"][0]}
    other = "logits" if combine == "probs" else "probs"
    where = {"all": np.ones(len(images), bool), **class_groups}
    return {
        "images": int(images.sum()),
        "classes_per_group": {name: int(group.sum()) for name, group in class_groups.items()},
        "seen_per_group": {
            name: int((group & (images > 0)).sum()) for name, group in class_groups.items()
        },
        "combine": combine,
        "average": averages[combine],
        "other_average": averages[other],
        "experts": numbers["experts"],
        "first_k": [
            {name: one[name] for name in ("accuracy", "many", "medium", "few")}
            for one in numbers["first_k"]
        ],
        "against_average": [
            {name: _cross_table(own[group].sum(0)) for name, group in where.items()}
            for own in totals["against"][combine]
        ],
        "disagreement": (totals["disagree"] / images.sum()).tolist(),
        **{name: numbers[name] for name in ("heads", "heads_mean") if name in numbers},
    }


def one_line(split: str, result: dict) -> str:
    """An evaluation in a line."""
    experts = " ".join(f"{100 * one['accuracy']:.2f}" for one in result["experts"])
    return f"{split} accuracy {100 * result['average']['accuracy']:.2f} (experts {experts})"


def scalars(split: str, result: dict, num_experts: int) -> dict:
    """An evaluation as an event of the log.

    Groups without classes are left out; experts that are set aside have None.
    """
    names = ("accuracy", "many", "medium", "few", "nll", "ece")
    average = {f"{split}/{name}": result["average"][name] for name in names}
    found = dict(zip(result["expert_numbers"], result["experts"], strict=True))
    experts = [found[i]["accuracy"] if i in found else None for i in range(1, num_experts + 1)]
    return {k: v for k, v in average.items() if v is not None} | {f"{split}/experts": experts}


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


def _numbers(sums, images, class_groups):
    """Of predictors of one kind, a dict each."""
    count, present = images.sum(), images > 0
    per_class = np.where(present, sums["right"] / np.maximum(images, 1), np.nan)  # [M, C]

    def mean_over(group, accuracy):
        group = group & present
        return float(accuracy[group].mean()) if group.any() else None

    return [
        {
            "accuracy": float(sums["right"][m].sum() / count),
            "top5": float(sums["right_in_5"][m] / count) if len(images) > 5 else None,
            **{name: mean_over(group, own) for name, group in class_groups.items()},
            "balanced_accuracy": mean_over(present, own),
            "nll": float(sums["nll"][m] / count),
            "ece": calibration_error(sums["bins"][m]),
            "brier": float(sums["brier"][m] / count),
            "per_class": [
                float(x) if there else None for x, there in zip(own, present, strict=True)
            ],
        }
        for m, own in enumerate(per_class)
    ]


def _cross_table(table):
    (both, expert_only), (average_only, neither) = table
    return {
        "both_right": int(both),
        "expert_only": int(expert_only),
        "average_only": int(average_only),
        "both_wrong": int(neither),
    }
