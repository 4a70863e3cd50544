"""Rows against the best row, by the predictions of their runs."""

import numpy as np
import pytest
from reports import report, save

from ltjax import storage
from ltjax.analysis import significance
from ltjax.compare.against import against_best, lines
from ltjax.compare.rows import as_file, named, rows
from ltjax.compare.tables import page
from ltjax.run.predictions import PREDICTIONS, Predictions, packed

LABEL = np.random.default_rng(0).integers(4, size=300)


def run(folder, variant, seed=0, share=0.6, label=LABEL):
    """A run that is right on a share of the images; a share of None has no predictions."""
    accuracy = 0.5 if share is None else share
    made = save(folder / f"{variant}-{seed}", report(variant, seed, accuracy))
    if share is not None:
        right = np.random.default_rng((seed, int(100 * share))).random(len(label)) < share
        said = np.where(right, label, (label + 1) % 4)
        logits = np.eye(4, dtype=np.float32)[None, said]
        arrays, _ = packed({"test": Predictions(logits, label, np.array([1]))})
        storage.write_arrays(made.folder / PREDICTIONS, arrays)
        made = made._replace(folder=made.folder)
    return made, (None if share is None else (said == label))


def test_each_row_is_compared_with_the_best_over_its_seeds(tmp_path):
    runs, right = [], {}
    for variant, share in (("drw", 0.5), ("ldam", 0.7), ("crt", 0.69)):
        for seed in (0, 1):
            one, said = run(tmp_path, variant, seed, share)
            runs.append(one)
            right.setdefault(variant, []).append(said)
    found = against_best(named(runs))
    best = max(right, key=lambda name: np.mean(right[name]))
    assert {one["than"] for one in found} == {best} and len(found) == 2
    p_values = []
    for one in found:
        ours, theirs = np.stack(right[one["method"]]), np.stack(right[best])
        assert one["estimate"] == pytest.approx(ours.mean() - theirs.mean()) and one["estimate"] < 0
        assert one["low"] < one["estimate"] < one["high"] and one["seeds"] == [2, 2]
        p_values.append(significance.p_value(ours, theirs))
    # the best of three rows is chosen by the same images: three pairs, not two
    pairs = [min(1, 3 / 2 * one) for one in p_values]
    assert [one["p"] for one in found] == significance.holm(pairs)
    assert found[-1]["method"] == "drw" and found[-1]["p"] < 0.001 < found[0]["p"]
    said = lines(found)
    assert said[0].startswith(f"Against {best}, ") and "p < 0.001" in said[-1]
    table = rows(named(runs))
    held = as_file(table, found)
    assert "\n\ndrw: -" in page(held["rows"], held["against_best"])


def test_what_cannot_be_tested_is_said(tmp_path):
    runs = [
        run(tmp_path, "drw", share=0.5)[0],
        run(tmp_path, "ldam", share=0.9)[0],
        run(tmp_path, "crt", share=None)[0],
        run(tmp_path, "cdt", share=0.4)[0],
        run(tmp_path, "cdt", seed=1, share=None)[0],
        run(tmp_path, "focal", share=0.6, label=LABEL[::-1].copy())[0],
        run(tmp_path, "lws", share=0.6)[0],
        run(tmp_path, "lws", seed=1, share=0.6, label=LABEL[:-1])[0],
    ]
    found = against_best(named(runs))
    why = {one["method"]: one.get("untested") for one in found}
    assert why == {
        "drw": None,
        "crt": "there are no predictions of seed 0",
        "cdt": "there are no predictions of seed 1",
        "focal": "its test images are others",
        "lws": "test images differ from seed to seed",
    }
    said = lines(found)
    assert "Not tested against the best row: crt (there are no predictions of seed 0)." in said
    (runs[1].folder / PREDICTIONS).unlink()  # of the best row
    (line,) = lines(against_best(named(runs[:2])))
    assert line == (
        "Not tested against the best row: ldam (the best row, of which there are no predictions "
        "of seed 0)."
    )
    assert against_best(named(runs[2:3])) == [] == lines([])


def test_of_many_equal_rows_hardly_any_differs_from_the_best():
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(60):
        right = rng.random((12, 400)) < 0.6
        best = right.mean(1).argmax()
        p_values = [significance.mcnemar(of, right[best]) for of in np.delete(right, best, 0)]
        wrong += min(significance.holm([min(1, p * 12 / 2) for p in p_values])) < 0.05
    assert wrong <= 6
