"""Experts that share what they begin with or see: where diversity comes from."""

import functools

import jax
import pytest
import toy

from ltjax import phases
from ltjax.config.settings import Share
from ltjax.data.feeds import MAIN, feed
from ltjax.errors import UserError
from ltjax.experts import take
from ltjax.methods.parts.sharing import sharing
from ltjax.train import run


@functools.cache
def trainer():
    """Three experts, compiled once: what is shared is where they begin and what they are asked."""
    return toy.Trainer(toy.phase(network={"name": "tiny"}), 3)


def shared(**what):
    """The experts' variables in the beginning and after three steps, and what they were shown."""
    ours = trainer()
    phase = sharing(toy.phase(network={"name": "tiny"}), Share(**what))
    train = toy.splits().train
    index = feed(train, phases.draws(phase, train.label), 0, 0, 3)
    state = phase.begin(ours.init(), None)
    before = toy.numbers(state)[1]
    for step in range(3):
        state, _ = ours.update(state, index.host_batch(step))
    return before, toy.numbers(state)[1], index.host_batch(5)[MAIN]


def alike(variables):
    leaves = jax.tree.leaves(variables.params)
    return all((leaf[0] == leaf[i]).all() for leaf in leaves for i in (1, 2))


@pytest.mark.parametrize(
    ("what", "begin_alike", "end_alike"),
    [
        ((), False, False),
        (("initialisation",), True, False),
        (("order",), False, False),
        (("initialisation", "order"), True, False),
        (("initialisation", "augmentation"), True, False),
        (("initialisation", "order", "augmentation"), True, True),
    ],
)
def test_what_is_shared_and_what_is_not(what, begin_alike, end_alike):
    before, after, index = shared(**dict.fromkeys(what, True))
    assert (alike(before), alike(after)) == (begin_alike, end_alike)
    assert (index[0] == index[1]).all() == ("order" in what)


def test_the_first_expert_is_the_one_that_shares_nothing():
    _, alone, _ = shared()
    _, together, _ = shared(initialisation=True, order=True, augmentation=True)
    toy.assert_trees_equal(take(together, 2), take(alone, 0))


@pytest.mark.slow
def test_a_run_shares_what_its_config_says(tmp_path):
    fields = {
        "network": {"name": "tiny"},
        "schedule": {"name": "step", "lr": 0.05, "drop_at": ()},
        "num_experts": 2,
        "batch_size": 16,
        "num_epochs": 1.0,
    }
    everything = {"initialisation": True, "order": True, "augmentation": True}
    report = run(fields | {"share": everything}, str(tmp_path / "all"), splits=toy.splits())
    first, second = (one["nll"] for one in report["splits"]["test"]["experts"])
    assert first == second
    preset = {"name": "same_init_and_order"}
    report = run(fields | {"method": preset}, str(tmp_path / "preset"), splits=toy.splits())
    share = {"initialisation": True, "order": True, "augmentation": False}
    assert report["config"]["share"] == share
    first, second = (one["nll"] for one in report["splits"]["test"]["experts"])
    assert first != second


def test_one_expert_shares_with_nobody():
    phase = toy.phase("joint", network={"name": "tiny"})
    with pytest.raises(
        UserError, match=r"config.share.order needs at least two experts.*--config.num_experts=3"
    ):
        sharing(phase, Share(order=True))
