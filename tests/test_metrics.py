"""Evaluation numbers against the field's code, and against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden

from ltjax.data.splits import groups
from ltjax.evaluation import metrics

sums = jax.jit(metrics.sums)  # soon compiled as a whole, slowly op by op


def evaluate(logits, label, class_counts, combine="probs"):
    totals = sums(
        jnp.asarray(logits), jnp.asarray(label, jnp.int32), jnp.ones(len(label), logits.dtype)
    )
    totals = jax.tree.map(lambda x: np.asarray(x, np.float64), totals)
    return metrics.summary(totals, groups(class_counts), combine)


def pooled(result, cell):
    """Accuracies over all images of [everything, many, medium, few] from the cross tables."""
    tables = [result["against_average"][0][name] for name in ("all", "many", "medium", "few")]
    return [(t["both_right"] + t[cell]) / sum(t.values()) for t in tables]


@pytest.mark.usefixtures("float64")
def test_the_test_average_is_its_definition():
    file = golden("test_average")
    logits, label, counts = file["expert_logits"], file["target"], file["class_counts"]
    result = evaluate(logits.astype(np.float64), label, counts)

    predictors = metrics.predictors(jnp.asarray(logits, jnp.float64))
    average = predictors["first_k"][-1]
    np.testing.assert_allclose(np.exp(average), file["mean_prob"], rtol=1e-9)
    np.testing.assert_array_equal(predictors["experts"].argmax(-1), file["pred_expert"])
    np.testing.assert_array_equal(average.argmax(-1), file["pred_average"])
    logit_average = predictors["logits"][0].argmax(-1)
    np.testing.assert_array_equal(logit_average, file["pred_logit_average"])

    accuracies = [one["accuracy"] for one in result["experts"]]
    np.testing.assert_allclose(accuracies, file["acc_experts"][:, 0], atol=1e-12)
    np.testing.assert_allclose(pooled(result, "average_only"), file["acc_average"], atol=1e-12)
    np.testing.assert_allclose(pooled(result, "expert_only"), file["acc_experts"][0], atol=1e-12)
    other = evaluate(logits.astype(np.float64), label, counts, combine="logits")
    np.testing.assert_allclose(pooled(other, "average_only"), file["acc_logit_average"], atol=1e-12)
    first = [one["accuracy"] for one in result["first_k"]]
    np.testing.assert_allclose(first, file["acc_average_of_first_n"][:, 0], atol=1e-12)

    def table(t):
        return [[t["both_right"], t["expert_only"]], [t["average_only"], t["both_wrong"]]]

    first = result["against_average"][0]
    found = [table(first[name]) for name in ("all", "many", "medium", "few")]
    np.testing.assert_array_equal(found, file["cross_table_expert1_vs_average"])
    found = [table(one["all"]) for one in result["against_average"]]
    np.testing.assert_array_equal(found, file["cross_table_each_expert_vs_average"])
    np.testing.assert_allclose(result["disagreement"], file["pairwise_disagreement"], atol=1e-12)
    np.testing.assert_allclose(result["average"]["nll"], file["nll_average"], rtol=1e-9)
    nll = [one["nll"] for one in result["experts"]]
    np.testing.assert_allclose(nll, file["nll_experts"], rtol=1e-9)


@pytest.mark.parametrize("case", ["shot", "shot2", "shot3_nofew"])
def test_group_accuracies_are_decouplings(case):
    file = golden("sm_metrics")
    counts, pred, label = (
        file[f"{case}/{key}" if f"{case}/{key}" in file.files else f"shot/{key}"]
        for key in ("train_counts", "pred", "label")
    )
    logits = np.asarray(jax.nn.one_hot(pred, len(counts)))[None]
    found = evaluate(logits, label, counts)["average"]
    for ours, theirs in (("many", "many"), ("medium", "median"), ("few", "low")):
        expected = file[f"{case}/{theirs}"]
        assert (found[ours] is None and expected == 0) or abs(found[ours] - expected) < 1e-12
    if f"{case}/micro" in file.files:
        np.testing.assert_allclose(found["accuracy"], file[f"{case}/micro"], atol=1e-12)
    per_class = [x for x in found["per_class"] if x is not None]
    np.testing.assert_allclose(per_class, file[f"{case}/per_class"], atol=1e-12)


@pytest.mark.parametrize("case", ["a", "b"])
def test_the_calibration_error_is_temperature_scalings(case):
    file = golden("sm_metrics")
    logits, label = file[f"ece/{case}/logits"], file[f"ece/{case}/labels"]
    found = evaluate(logits.astype(np.float32)[None], label, np.full(logits.shape[1], 50))
    expected = file[f"ece/{case}/bins15/ece"]
    np.testing.assert_allclose(found["average"]["ece"], expected, atol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", ["a", "b"])
def test_bins_of_confidence_are_those_of_mislas(case):
    file = golden("sm_metrics")
    logits, label = file[f"ece/{case}/logits"], file[f"ece/{case}/labels"]
    totals = sums(logits.astype(np.float64)[None], label, np.ones(len(label)))
    bins = np.asarray(totals["experts"]["bins"])[0]
    theirs = f"ece/{case}/bins15/mislas"
    counts = file[f"{theirs}/counts"]
    np.testing.assert_array_equal(bins[:, 0], counts)
    np.testing.assert_allclose(bins[:, 1], counts * file[f"{theirs}/confidences"], atol=1e-5)
    np.testing.assert_allclose(bins[:, 2], counts * file[f"{theirs}/accuracies"], atol=1e-9)
    expected = file[f"{theirs}/expected_calibration_error"]
    np.testing.assert_allclose(metrics.calibration_error(bins), expected, atol=1e-6)


def test_the_gain_is_the_difference_of_the_two_counts():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 7, 500)
    logits = rng.normal(size=(3, 500, 7)) + 1.5 * np.eye(7)[label]
    result = evaluate(logits.astype(np.float32), label, [200, 150, 90, 50, 30, 10, 5])
    for expert, table in zip(result["experts"], result["against_average"], strict=True):
        gain = result["average"]["accuracy"] - expert["accuracy"]
        counts = table["all"]["average_only"] - table["all"]["expert_only"]
        assert abs(gain - counts / 500) < 1e-12


def test_padded_examples_count_nothing():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 10, 6)).astype(np.float32)
    label = jnp.asarray(rng.integers(0, 6, 10), jnp.int32)
    mask = jnp.arange(10.0) < 7
    whole = sums(logits, label, mask.astype(jnp.float32))
    part = sums(logits[:, :7], label[:7], jnp.ones(7))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), whole, part)


def test_an_empty_group_is_none_not_zero():
    logits = np.eye(3, dtype=np.float32)[None]
    average = evaluate(logits, [0, 1, 2], [500, 300, 200])["average"]
    assert average["many"] == 1 and average["medium"] is None and average["few"] is None


def test_numbers_worked_by_hand():
    # p = (3/4, 1/4) for label 0, then for label 1: one right, one wrong
    logits = np.log(np.array([[[0.75, 0.25], [0.75, 0.25]]], np.float32))
    average = evaluate(logits, [0, 1], [200, 10])["average"]
    assert average["accuracy"] == 0.5
    np.testing.assert_allclose(average["nll"], -(np.log(0.75) + np.log(0.25)) / 2, rtol=1e-6)
    np.testing.assert_allclose(average["brier"], (2 * 0.25**2 + 2 * 0.75**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(average["ece"], 0.25, rtol=1e-6)  # confidence 3/4, accuracy 1/2
    assert (average["many"], average["few"]) == (1.0, 0.0)


def test_equal_scores_are_ranked_by_class_number():
    logits = np.zeros((1, 2, 9), np.float32)
    average = evaluate(logits, [4, 5], np.full(9, 50))["average"]
    assert (average["accuracy"], average["top5"]) == (0.0, 0.5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_bins", [10, 15, 20])
@pytest.mark.parametrize("case", ["a", "b"])
def test_calibration_is_that_of_both_codes_with_other_numbers_of_bins(case, num_bins, monkeypatch):
    file = golden("sm_metrics")
    logits, label = file[f"ece/{case}/logits"], file[f"ece/{case}/labels"]
    monkeypatch.setattr(metrics, "NUM_BINS", num_bins)
    # not the compiled `sums`, which has 15 of them
    totals = metrics.sums(jnp.asarray(logits)[None], jnp.asarray(label), jnp.ones(len(label)))
    bins = np.asarray(totals["experts"]["bins"])[0]
    ece = metrics.calibration_error(bins)
    np.testing.assert_allclose(ece, file[f"ece/{case}/bins{num_bins}/ece"], atol=1e-6)
    theirs = f"ece/{case}/bins{num_bins}/mislas"
    np.testing.assert_allclose(ece, file[f"{theirs}/expected_calibration_error"], atol=1e-6)
    counts, confidence, right = bins.T
    np.testing.assert_array_equal(counts, file[f"{theirs}/counts"])
    there = np.maximum(counts, 1)
    np.testing.assert_allclose(confidence / there, file[f"{theirs}/confidences"], atol=1e-6)
    np.testing.assert_allclose(right / there, file[f"{theirs}/accuracies"], atol=1e-12)
    largest = np.abs((right - confidence) / there).max()
    np.testing.assert_allclose(largest, file[f"{theirs}/max_calibration_error"], atol=1e-6)
    np.testing.assert_allclose(right.sum() / len(label), file[f"{theirs}/avg_accuracy"], atol=1e-12)
    mean = confidence.sum() / len(label)
    np.testing.assert_allclose(mean, file[f"{theirs}/avg_confidence"], atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_accuracies_by_groups_and_the_spread_of_experts_are_the_definition():
    file = golden("test_average")
    logits, label = jnp.asarray(file["expert_logits"], jnp.float64), jnp.asarray(file["target"])
    of_groups = groups(file["class_counts"])
    found = np.select([of_groups[name] for name in ("many", "medium", "few")], [0, 1, 2], -1)
    np.testing.assert_array_equal(found, file["class_group"])
    totals = jax.tree.map(np.asarray, sums(logits, label, jnp.ones(len(label))))

    def pooled_over_groups(right):
        where = [np.ones(len(found), bool), *(found == group for group in range(3))]
        images = totals["images"]
        return [right[group].sum() / images[group].sum() for group in where]

    for name, key in (("experts", "acc_experts"), ("first_k", "acc_average_of_first_n")):
        accuracies = [pooled_over_groups(right) for right in totals[name]["right"]]
        np.testing.assert_allclose(accuracies, file[key], atol=1e-12)
    own = np.exp(metrics.predictors(logits)["experts"])[:, np.arange(len(label)), label]
    expected = file["per_sample_variance_of_target_prob"]
    np.testing.assert_allclose(own.var(0), expected, rtol=1e-9, atol=1e-12)
