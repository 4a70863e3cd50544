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
    made = save(folder / f"{variant.replace(':', '-x')}-{seed}", report(variant, seed))
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
    assert [one["p"] for one in found] == significance.holm(p_values)
    assert found[-1]["method"] == "drw" and found[-1]["p"] < 0.001 < found[0]["p"]
    said = lines(found)
    assert said[0].startswith(f"Against {best}, ") and "p < 0.001" in said[-1]
    table = rows(named(runs))
    held = as_file(table, found)
    assert "\n\ndrw: -" in page(held["rows"], held["against_best"])


def test_what_has_no_predictions_or_other_images_is_left_out(tmp_path):
    runs = [
        run(tmp_path, "drw", share=0.5)[0],
        run(tmp_path, "ldam", share=0.7)[0],
        run(tmp_path, "crt", share=None)[0],
        run(tmp_path, "focal", share=0.6, label=LABEL[::-1].copy())[0],
    ]
    assert [one["method"] for one in against_best(named(runs))] == ["drw"]
    assert against_best(named(runs[2:3])) == [] == lines([])
