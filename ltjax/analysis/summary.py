"""Everything that this wing finds in a run's predictions, as plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ltjax.analysis import calibration, ensembles, priors, recall, selective, significance
from ltjax.data.splits import groups
from ltjax.run.predictions import Predictions

LEVEL = 0.9  # of conformal sets


def analysed(
    splits: Mapping[str, Predictions],
    class_counts: np.ndarray,
    combine: str = "probs",
    bins: int = calibration.BINS,
    own_prior: np.ndarray | None = None,
) -> dict[str, Any]:
    """What can be said after training of a run, or of the experts of several.

    Args:
      splits: 'test', and 'validation' where a part of the training set was held out. Temperature
        and conformal sets are fitted there, each class counting as much as in the test split; the
        test split selects nothing.
      class_counts: i64[C], training images.
      combine: 'probs' or 'logits', which average the run predicts by.
      bins: of the calibration errors.
      own_prior: f64[C], a further test prior that predictions are made for.

    Returns:
      'experts', their number; 'numbers' {name: numbers of `_numbers`} of the mean expert and the
      averages; 'by_number' and 'ensembles' (see ltjax.analysis.ensembles); 'priors'; with a
      held-out split 'temperature' and 'conformal', else None.
    """
    test, held_out = splits["test"], splits.get("validation")
    label, counts = test.label, np.asarray(class_counts)
    average = ensembles.average(test.logits, combine)
    other = "logits" if combine == "probs" else "probs"
    alone = [_numbers(ensembles.average(one[None]), label, bins) for one in test.logits]
    count = len(test.logits)
    found = {
        "experts": count,
        "images": len(label),
        "combine": combine,
        "bins": bins,
        "numbers": {
            "mean expert": {name: float(np.mean([one[name] for one in alone])) for name in alone[0]}
        },
        "by_number": [one._asdict() for one in ensembles.by_number(test.logits, label, combine)],
        "ensembles": [
            _independent(test, size, combine) for size in range(1, count) if count // size > 1
        ],
        "priors": _priors(average, label, counts, own_prior),
        "temperature": None,
        "conformal": None,
    }
    if count > 1:
        found["numbers"] |= {
            f"average {combine}": _numbers(average, label, bins),
            f"average {other}": _numbers(ensembles.average(test.logits, other), label, bins),
        }
    found["interval"] = significance.interval(average.argmax(-1) == label)._asdict()
    if held_out is not None and len(held_out.label):
        found |= _fitted(average, label, held_out, counts, combine, bins)
    return found


def _numbers(log_probs, label, bins):
    """Of one predictor; accuracies, errors and recalls are fractions, NLL in nats."""
    prediction = log_probs.argmax(-1)
    of_classes = recall.per_class(prediction, label, log_probs.shape[1])
    return {
        "accuracy": float((prediction == label).mean()),
        "nll": calibration.nll(log_probs, label),
        "brier": calibration.brier(log_probs, label),
        "ece": calibration.expected_error(log_probs, label, bins),
        "ece_adaptive": calibration.adaptive_error(log_probs, label, bins),
        "ece_classwise": calibration.classwise_error(log_probs, label, bins),
        "mce": calibration.maximum_error(log_probs, label, bins),
        "aurc": selective.area_under_risk(log_probs, label),
        "geometric_mean": recall.geometric_mean(of_classes),
        "worst_class": recall.worst(of_classes),
        "macro_f1": recall.macro_f1(prediction, label, log_probs.shape[1]),
    }


def _independent(test, size, combine):
    """Experts in groups that share none, each group an ensemble of its own."""
    parts = [test.logits[list(group)] for group in ensembles.disjoint(len(test.logits), size)]
    said = [ensembles.average(part, combine).argmax(-1) for part in parts]
    right = [float((prediction == test.label).mean()) for prediction in said]
    return {
        "size": size,
        "number": len(right),
        "mean": float(np.mean(right)),
        "deviation": float(np.std(right, ddof=1)),
    }


def _priors(log_probs, label, counts, own):
    """Accuracies on test sets of other class frequencies; see ltjax.analysis.priors.

    Each as the run predicts; for the known prior, of predictions made for the training prior or
    for a uniform one; and with the prior estimated from the images without labels. Test sets with
    images of a class that there are none of are left out.
    """
    num_classes = len(counts)
    order = np.argsort(-counts, kind="stable")  # the largest class first, whatever its number
    targets = {"uniform": priors.uniform(num_classes), "train": counts / counts.sum()}
    for factor in priors.FACTORS:
        for name, backward in (("forward", False), ("backward", True)):
            target = targets[f"{name} {factor}"] = np.empty(num_classes)
            target[order] = priors.long_tailed(num_classes, factor, backward)
    if own is not None:
        targets["own"] = own
    seen = np.bincount(label, minlength=num_classes) > 0
    sources = {"train": counts / counts.sum(), "uniform": priors.uniform(num_classes)}
    found = {}
    for name, target in targets.items():
        if (target > 0)[~seen].any():  # no image to measure it by
            continue
        weights = priors.weights_of(label, target)
        row = {"as it is": priors.accuracy(log_probs.argmax(-1), label, target)}
        for source, prior in sources.items():
            guess = priors.estimated(log_probs, prior, weights)
            for known, to in (("known", target), ("estimated", guess)):
                shifted = priors.shifted(log_probs, prior, to)
                row[f"from {source}, {known}"] = priors.accuracy(shifted.argmax(-1), label, target)
        found[name] = row
    return found


def _fitted(average, label, held_out, counts, combine, bins):
    """What is fitted on the held-out part, its classes weighted as the test split has them."""
    num_classes = len(counts)
    own = np.bincount(held_out.label, minlength=num_classes)
    tests = np.bincount(label, minlength=num_classes)
    weight = np.divide(tests / tests.sum(), own / own.sum(), where=own > 0, out=np.zeros(len(own)))
    theirs = ensembles.average(held_out.logits, combine)
    fitted = calibration.temperature(theirs, held_out.label, weight[held_out.label])
    mended = _numbers(calibration.scaled(average, fitted), label, bins)
    # of a class that nothing was held out of, nothing is known: it is in every set
    known = np.where(own > 0, weight, np.inf)
    sets = selective.conformal_sets(theirs, held_out.label, average, LEVEL, known)
    where = {"all": np.ones(num_classes, bool), **groups(counts)}
    return {
        "temperature": {"value": fitted, "images": len(held_out.label), "numbers": mended},
        "conformal": {
            "level": LEVEL,
            "classes_not_held_out": int((own == 0).sum()),
            "size": float(sets.sum(-1).mean()),
            "coverage": {
                name: selective.coverage(sets[group[label]], label[group[label]])
                if group[label].any()
                else None
                for name, group in where.items()
            },
        },
    }
