"""predictions.npz: what each expert says of each image, kept at the end of a run."""

import json

import numpy as np
import pytest
import toy

from ltjax import predict, storage, train
from ltjax.errors import UserError
from ltjax.run.predictions import PREDICTIONS, load, packed

CONFIG = toy.RUN | {"network": {"name": "tiny"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    held_out = toy.splits_with_held_out([3, 3, 3, 1])
    report = train.run(CONFIG, str(folder), splits=held_out)
    return folder, report, held_out


def test_they_are_the_outputs_of_the_experts_that_the_report_is_of(finished):
    folder, report, splits = finished
    found = load(folder)
    assert sorted(found) == ["test", "validation"]
    for name, one in found.items():
        images = splits.evaluated()[name]
        logits = predict.load(folder).predict(images.image).logits
        np.testing.assert_allclose(one.logits, logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one.label, images.label)
        right = (one.logits.argmax(-1) == one.label).mean(-1)
        np.testing.assert_allclose(
            right, [of["accuracy"] for of in report["splits"][name]["experts"]]
        )
    assert found["test"].experts.tolist() == [1, 2] and found["test"].heads is None
    assert report["predictions"] == {"dtype": "float32", "rounding": 0.0}


def test_a_file_that_is_not_what_was_written_is_made_again(finished, capsys):
    folder, report, splits = finished
    path = folder / PREDICTIONS
    good, expected = path.read_bytes(), load(folder)["test"]
    rng, refused = np.random.default_rng(0), 0
    for _ in range(200):
        changed = bytearray(good)
        changed[rng.integers(len(good))] ^= 1 << rng.integers(8)
        cut = good[: rng.integers(len(good))]
        for content in (changed, cut):
            path.write_bytes(content)
            try:
                toy.assert_trees_equal(load(folder)["test"], expected)  # a part that says nothing
            except storage.Damaged as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 350
    path.unlink()
    with pytest.raises(UserError, match="report.json"):
        load(folder)
    again = train.run(CONFIG, str(folder), splits=splits)
    assert f"{path} is missing or damaged. It is written again." in capsys.readouterr().out
    np.testing.assert_array_equal(load(folder)["test"].logits, expected.logits)
    assert again["splits"]["test"]["average"] == report["splits"]["test"]["average"]


def test_each_part_is_checked_and_nothing_is_unpickled(tmp_path):
    logits, label, experts = np.zeros((2, 3, 4), np.float32), np.arange(3), np.arange(2)
    good = {"test_logits": logits, "test_label": label, "test_experts": experts}
    storage.write_arrays(tmp_path / PREDICTIONS, good)
    assert load(tmp_path)["test"].logits.shape == (2, 3, 4)
    for wrong in (
        {"test_logits": logits[0]},
        {"test_logits": logits.astype(np.float64)},
        {"test_label": label[:2]},
        {"test_label": label + 2},
        {"test_label": label - 1},
        {"test_experts": np.arange(3)},
        {"test_heads": np.zeros((2, 3, 2, 5), np.float32)},
        {"test_nonsense": label},
        {"test_logits": np.full_like(logits, np.nan)},
        {"test_label": label.astype(float)},
        {"test_label": label.astype(bool)},
        {"test_logits": logits[:0], "test_experts": experts[:0]},
        {"test_logits": logits[:, :0], "test_label": label[:0]},
        {"test_label": np.array([{}, {}, {}], object)},
    ):
        storage.write_arrays(tmp_path / PREDICTIONS, good | wrong)
        with pytest.raises(storage.Damaged, match="predictions.npz is damaged"):
            load(tmp_path)
    storage.write_arrays(tmp_path / PREDICTIONS, {"validation_logits": logits})
    with pytest.raises(storage.Damaged):
        load(tmp_path)


def test_half_the_space_says_how_far_it_rounds(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=20, size=(2, 50, 4)).astype(np.float32)
    logits[0, 0, 0] = 1e6  # more than float16 holds
    label = rng.integers(4, size=50)
    of = load_packed(tmp_path, {"logits": logits, "label": label, "experts": [1, 3]}, "float16")
    arrays, said, found = of
    assert arrays["test_logits"].dtype == np.float16 and said["dtype"] == "float16"
    assert said["rounding"] == pytest.approx(1e6 - 65504)
    assert np.isfinite(found.logits).all() and found.logits.dtype == np.float32
    np.testing.assert_allclose(found.logits[1], logits[1], rtol=2**-11)
    assert found.experts.tolist() == [1, 3]


def load_packed(folder, fields, dtype):
    from ltjax.run.predictions import Predictions

    arrays, said = packed({"test": Predictions(**fields)}, dtype)
    storage.write_arrays(folder / PREDICTIONS, arrays)
    return arrays, said, load(folder)["test"]


def test_they_may_be_left_out_and_a_run_of_before_them_is_complete(tmp_path):
    report = train.run(CONFIG | {"predictions": "none"}, str(tmp_path), splits=toy.splits())
    assert report["predictions"] is None and not (tmp_path / PREDICTIONS).exists()
    with pytest.raises(UserError, match="not with config.predictions=none"):
        load(tmp_path)
    train.run(CONFIG, str(tmp_path), splits=toy.splits())  # may change, and has an effect
    assert load(tmp_path)["test"].logits.shape[0] == 2
    text = json.loads((tmp_path / "report.json").read_text())
    del text["predictions"]
    (tmp_path / "report.json").write_text(json.dumps(text))
    assert "predictions" not in train.run(CONFIG, str(tmp_path), splits=toy.splits())
