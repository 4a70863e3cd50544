"""A run's folder is enough to predict: neither its data nor its optimiser is needed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import toy
from conftest import ROOT

from ltjax import predict, train
from ltjax.errors import UserError

pytestmark = pytest.mark.xdist_group("predict")  # one run is read by all
CONFIG = dict(
    network={"name": "tiny"},
    augment={"name": "none"},
    schedule={"name": "step", "lr": 0.05, "drop_at": ()},
    num_experts=2,
    batch_size=16,
    num_epochs=2.0,
    compute={"experts_over": "map"},
)


def trained(folder, method="classifier", **changed):
    config = CONFIG | {"method": {"name": method}} | changed
    return train.run(config, str(folder), splits=toy.splits())["splits"]["test"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, to read."""
    folder = tmp_path_factory.mktemp("finished")
    trained(folder)
    return folder


@pytest.fixture
def own(finished, tmp_path):
    """A copy of it, to damage."""
    return shutil.copytree(finished, tmp_path / "own")


@pytest.mark.parametrize("combine", ["probs", pytest.param("logits", marks=pytest.mark.slow)])
def test_predictions_of_a_folder_are_those_that_were_evaluated(tmp_path, combine):
    report = trained(tmp_path, combine=combine)
    model, test = predict.load(tmp_path), toy.splits().test
    probs = model.probs(test.image)
    assert probs.shape == (36, 4) and probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    right = probs.argmax(-1) == test.label
    assert right.mean() == pytest.approx(report["average"]["accuracy"])
    nll = -np.log(probs[np.arange(36), test.label]).mean()
    assert nll == pytest.approx(report["average"]["nll"], rel=1e-5)
    assert model.class_names == ("a", "b", "c", "d")
    logits = model.predict(test.image).logits
    accuracies = [one["accuracy"] for one in report["experts"]]
    assert (logits.argmax(-1) == test.label).mean(-1).tolist() == pytest.approx(accuracies)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bbn", "sade", "ncm", "posthoc_logit_adjustment"])
def test_what_a_method_makes_of_its_network_is_in_its_predictions(tmp_path, method):
    report, test = trained(tmp_path, method), toy.splits().test
    found = predict.load(tmp_path).predict(test.image)
    accuracies = [one["accuracy"] for one in report["experts"]]
    assert (found.logits.argmax(-1) == test.label).mean(-1).tolist() == pytest.approx(accuracies)
    if "heads" in report:
        heads = (found.heads.argmax(-1) == test.label).mean(-1).reshape(-1)
        assert heads.tolist() == pytest.approx([one["accuracy"] for one in report["heads"]])
    else:
        assert found.heads is None


def test_batches_make_no_difference(finished):
    model, image = predict.load(finished), toy.splits().test.image
    many = np.tile(image, (8, 1, 1, 1))  # 288 images: the last batch is filled up
    assert len(many) % predict.BATCH and len(many) > predict.BATCH
    found = model.probs(many)
    np.testing.assert_allclose(found, np.tile(model.probs(image), (8, 1)), atol=1e-6)


def test_images_of_another_shape_or_type_are_refused(finished):
    model = predict.load(finished)
    for images in (np.zeros((2, 9, 8, 1), np.uint8), np.zeros((2, 8, 8, 1)), np.zeros((8, 8, 1))):
        with pytest.raises(UserError, match=r"This model reads uint8\[N, 8, 8, 1\]"):
            model.probs(images)


def test_what_is_no_run_is_refused_in_a_line(tmp_path, own):
    with pytest.raises(UserError, match="holds no run"):
        predict.load(tmp_path)
    (own / "data.json").unlink()
    with pytest.raises(UserError, match=r"data\.json is missing"):
        predict.load(own)


def test_a_later_format_of_the_data_is_refused(own):
    path = own / "data.json"
    value = json.loads(path.read_text())
    assert value["format"] == 1 and value["class_counts"] == toy.CLASS_COUNTS.tolist()
    path.write_text(json.dumps(value | {"format": 2}))
    with pytest.raises(UserError, match="has format 2, and this version of ltjax reads format 1"):
        predict.load(own)
    for damaged in ('{"format": 1}', "{", "[]"):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"data\.json is damaged.* Delete it") as caught:
            predict.load(own)
        assert "\n" not in str(caught.value)
    path.write_text(json.dumps(value))
    (own / "config.json").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"config\.json is damaged: it is not JSON"):
        predict.load(own)


def test_a_run_is_not_resumed_on_other_data(own):
    (own / "report.json").unlink()  # as if it were still training
    other = toy.splits()
    other = other._replace(info=other.info._replace(class_counts=np.array([40, 20, 10, 6])))
    with pytest.raises(UserError, match="run on other data .class_counts differ"):
        train.run(CONFIG | {"method": {"name": "classifier"}}, str(own), splits=other)


@pytest.mark.slow
def test_five_lines_predict_where_there_is_no_data(tmp_path, data_dir):
    """digits, in a process of its own that could not read any data set."""
    command = [
        sys.executable, "-m", "ltjax.main", "--config", str(ROOT / "configs" / "digits.py"),
        "--workdir", str(tmp_path / "run"), f"--config.data.dir={data_dir}",
        "--config.num_epochs=2.0", "--config.schedule.warmup_epochs=0",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    code = f"""
import sys
sys.modules["array_record"] = None
import numpy as np
from ltjax import predict
model = predict.load({str(tmp_path / "run")!r})
images = np.zeros((3, 8, 8, 1), np.uint8)
print(model.probs(images).shape, len(model.class_names))
"""
    environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "nothing"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "(3, 10) 10\n", done.stderr
