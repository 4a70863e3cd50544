"""python -m ltjax.analysis: what the predictions of finished runs say."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from reports import report, save

from ltjax import storage
from ltjax.analysis import __main__ as command
from ltjax.analysis import ensembles, priors
from ltjax.data.info import DataInfo
from ltjax.run.predictions import PREDICTIONS, Predictions, packed

CLASSES, COUNTS = 4, np.array([160, 60, 25, 10])
CONFIG = {"data": {"name": "cifar10", "imbalance_factor": 16.0, "validation": 0.2}}


def made(folder, seed=0, experts=3, held_out=True, counts=COUNTS, **changes):
    """A finished run whose experts are right more often on large classes."""
    rng = np.random.default_rng(seed)

    def drawn(label):
        logits = rng.normal(size=(experts, len(label), CLASSES)) + np.log(COUNTS)
        logits[:, np.arange(len(label)), label] += 1.5
        return Predictions(logits.astype(np.float32), label, np.arange(1, experts + 1))

    config = CONFIG | {"network": {"name": "resnet8"}, "num_experts": experts} | changes
    save(folder, report(seed=seed, config=config))
    splits = {"test": drawn(np.repeat(np.arange(CLASSES), 100))}
    if held_out:
        splits["validation"] = drawn(np.repeat(np.arange(CLASSES), COUNTS // 5))
    storage.write_arrays(folder / PREDICTIONS, packed(splits)[0])
    names = tuple("abcd")
    info = DataInfo("cifar10", names, counts, (8, 8, 3), (0.5,) * 3, (0.5,) * 3, 4, True)
    storage.write_json(folder / "data.json", info.as_json())
    return splits


def analysis(*arguments, tmp_path):
    path = tmp_path / "found.json"
    assert command.main([*map(str, arguments), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_numbers_are_those_of_the_functions(tmp_path, capsys):
    splits = made(tmp_path / "a", experts=6)
    (found,) = analysis(tmp_path / "a", tmp_path=tmp_path).values()
    test, label = splits["test"].logits, splits["test"].label
    average = ensembles.average(test)
    accuracy = (average.argmax(-1) == label).mean()
    assert found["numbers"]["average probs"]["accuracy"] == pytest.approx(accuracy)
    assert found["interval"]["low"] < accuracy < found["interval"]["high"]
    assert [one["number"] for one in found["by_number"]] == [1, 2, 3, 4, 5, 6]
    assert [(one["size"], one["number"]) for one in found["ensembles"]] == [(1, 6), (2, 3), (3, 2)]
    tail = COUNTS / COUNTS.sum()
    shifted = priors.shifted(average, tail, priors.uniform(CLASSES))
    expected = (shifted.argmax(-1) == label).mean()
    row = found["priors"]["uniform"]
    assert row["from train, known"] == pytest.approx(expected) and expected > accuracy + 0.02
    assert row["as it is"] == row["from uniform, known"] == pytest.approx(accuracy)
    assert set(found["priors"]) >= {"train", "forward 50", "backward 2"}
    assert found["conformal"]["coverage"]["many"] is not None
    said = capsys.readouterr().out
    assert f"Accuracy of the average probs of 6 experts: {100 * accuracy:.2f} %" in said
    assert "at T = " in said and "held-out images" in said


def test_without_held_out_images_nothing_is_fitted(tmp_path, capsys):
    made(tmp_path / "a", experts=1, held_out=False)
    (found,) = analysis(tmp_path / "a", tmp_path=tmp_path).values()
    assert found["temperature"] is None and found["conformal"] is None
    assert list(found["numbers"]) == ["mean expert"] and found["ensembles"] == []
    assert "the run held none out" in capsys.readouterr().out


def test_experts_of_several_runs_are_one_ensemble(tmp_path):
    one, other = made(tmp_path / "a"), made(tmp_path / "b", seed=1, experts=2)
    found = analysis(tmp_path / "a", tmp_path / "b", "--together", tmp_path=tmp_path)
    (name, together), _ = *found.items(), None
    assert name == f"{tmp_path / 'a'} + {tmp_path / 'b'}" and together["experts"] == 5
    logits = np.concatenate([one["test"].logits, other["test"].logits])
    right = (ensembles.average(logits).argmax(-1) == one["test"].label).mean()
    assert together["numbers"]["average probs"]["accuracy"] == pytest.approx(right)
    assert len(analysis(tmp_path / "a", tmp_path / "b", tmp_path=tmp_path)) == 2


def test_a_prior_of_ones_own(tmp_path):
    splits = made(tmp_path / "a")
    (tmp_path / "prior.txt").write_text("3 1\n0\n0\n")
    (found,) = analysis(
        tmp_path / "a", "--prior", tmp_path / "prior.txt", tmp_path=tmp_path
    ).values()
    prediction = ensembles.average(splits["test"].logits).argmax(-1)
    label = splits["test"].label
    first, second = ((prediction[label == c] == c).mean() for c in (0, 1))
    assert found["priors"]["own"]["as it is"] == pytest.approx(0.75 * first + 0.25 * second)


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "1 2 3 -1", "a b c d", "0 0 0 0", "nan 1 1 1", "inf 1 1 1", "1,2,3,4"]
)
def test_a_prior_that_is_none_is_refused(tmp_path, capsys, text):
    made(tmp_path / "a", held_out=False)
    (tmp_path / "prior.txt").write_text(text)
    assert command.main([str(tmp_path / "a"), "--prior", str(tmp_path / "prior.txt")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "prior.txt" in said.err and said.out == ""


def test_mistakes_are_said_in_a_line(tmp_path, capsys):
    made(tmp_path / "a")
    made(tmp_path / "other", data={"name": "cifar100"}, held_out=False)
    made(tmp_path / "held", data=CONFIG["data"] | {"validation": 0.1})
    made(tmp_path / "others", counts=COUNTS[::-1])
    made(tmp_path / "logits", combine="logits")
    (tmp_path / "empty").mkdir()
    made(tmp_path / "old")
    (tmp_path / "old" / PREDICTIONS).unlink()
    made(tmp_path / "without")
    (tmp_path / "without" / "data.json").unlink()
    for arguments, words in (
        (["nowhere"], "no such folder"),
        (["empty"], "it is not a finished run"),
        (["old"], "Delete report.json and repeat the run's command"),
        (["without"], "has no data.json"),
        (["a", "other", "--together"], "is of other test images"),
        (["a", "held", "--together"], "held out other images"),
        (["a", "a/../a"], "is given twice"),
        (["a", "others", "--together"], "was trained on other class counts"),
        (["a", "logits", "--together"], "averages logits"),
        (["x" * 300], "no such folder"),
        (["a", "--json", "."], "cannot be written"),
        (["a", "--bins", "0"], "--bins is 0"),
        (["a", "--prior", "nowhere"], "nowhere cannot be read"),
        (["a", "--json", "x/y.json"], "y.json cannot be written"),
    ):
        named = [one if one[0] in "-0" else str(tmp_path / one) for one in arguments]
        assert command.main(named) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and words in said.err, said.err


@pytest.mark.parametrize("width", [80, 40])
def test_numbers_stay_whole_on_a_narrow_console(tmp_path, capsys, monkeypatch, width):
    made(tmp_path / "a")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(tmp_path)
    assert command.main(["a", "--markdown", "page.md"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width and "…" not in said
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# a\n") and "| backward 50 |" in page.replace("  ", "")


def test_the_command_does_without_jax():
    code = "import sys, ltjax.analysis.__main__; print({'jax', 'flax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr
