import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from conftest import golden

from ltjax import optim
from ltjax.config.choices import choose
from ltjax.errors import UserError


def per_epoch(schedule, num_epochs, steps_per_epoch=7):
    """The rate in every epoch, and that it does not change within one."""
    rates = jax.vmap(schedule)(jnp.arange(num_epochs * steps_per_epoch)).reshape(num_epochs, -1)
    assert (rates == rates[:, :1]).all()
    return rates[:, 0]


def test_the_step_schedule_is_ldam_drws():
    schedule = optim.step(200, 7, lr=0.1, warmup_epochs=5, drop_at=(0.8, 0.9), drop_by=0.01)
    expected = golden("sm_schedules")["ldam_drw_lr"]
    np.testing.assert_allclose(per_epoch(schedule, 200), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name, drops, drop_by, warms_up",
    [
        ("cifar_baseline_200_lr0.1", (159, 179), 0.01, True),
        ("cifar_mixup_400_lr0.1", (319, 359), 0.01, True),
        ("cifar100_cam_stage2_40_lr0.001_warmup", (19,), 0.01, True),
        ("imagenetlt_baseline_100_lr0.2", (59, 79), 0.1, False),
        ("imagenetlt_stage1_160_lr0.2", (119, 159), 0.1, False),
    ],
)
def test_the_step_schedule_can_be_those_of_bag_of_tricks(name, drops, drop_by, warms_up):
    expected = golden("sm_schedules")[f"bot_{name}"]
    epochs, warmup = len(expected), dict(warmup_epochs=5, warmup_from=1 / 3) if warms_up else {}
    drop_at = tuple(epoch / epochs for epoch in drops)
    found = optim.step(epochs, 7, lr=expected.max(), drop_at=drop_at, drop_by=drop_by, **warmup)
    np.testing.assert_allclose(per_epoch(found, epochs), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "method, epochs, share, name",
    [
        ("crt", 30, 0.15, "cifar_crt_lws_30_lr0.1"),
        ("lws", 30, 0.15, "cifar_crt_lws_30_lr0.1"),
        ("finetuned", 20, 0.05, "finetune_20_lr0.001"),
        ("cam", 40, 0.2, "cifar10_cam_stage2_40_lr0.001_multistep"),
    ],
)
def test_second_phases_have_the_authors_schedules(method, epochs, share, name, monkeypatch):
    asked, step = [], optim.step

    @functools.wraps(step)  # its options are told by its signature
    def spy(num_epochs, steps_per_epoch, **options):
        asked.append((num_epochs, options))
        return step(num_epochs, steps_per_epoch, **options)

    monkeypatch.setattr(optim, "step", spy)
    toy.recipe(method, num_epochs=epochs / share)
    num_epochs, options = asked[-1]
    assert num_epochs == pytest.approx(epochs)
    found = per_epoch(step(num_epochs, 7, **options), epochs)
    np.testing.assert_allclose(found, golden("sm_schedules")[f"bot_{name}"], rtol=1e-5)


@pytest.mark.parametrize(
    "name, epochs", [("feat90", 90), ("crt10", 10), ("lws5", 5), ("crt_inat30", 30)]
)
def test_the_cosine_schedule_is_decouplings(name, epochs):
    expected = golden("sm_schedules")[f"cbal_cosine_{name}_lr0.2"]
    found = per_epoch(optim.cosine(epochs, 7, lr=0.2), epochs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_epochs", [0.5, 1.0, 1.5, 2.0])
def test_short_runs_begin_at_the_full_rate(num_epochs):
    schedule = optim.step(num_epochs, 7, lr=0.1)
    np.testing.assert_allclose([schedule(0), schedule(6)], 0.1, rtol=1e-6)


def test_a_fraction_of_an_epoch_more_is_an_epoch_to_the_cosine():
    np.testing.assert_allclose(
        per_epoch(optim.cosine(2.5, 7, lr=0.1), 3), per_epoch(optim.cosine(3, 7, lr=0.1), 3)
    )


@pytest.mark.parametrize("nesterov, key", [(True, "sgd_nesterov"), (False, "sgd_heavyball")])
@pytest.mark.usefixtures("float64")
def test_sgd_is_pytorchs(nesterov, key):
    file = golden("sm_schedules")
    rates, grads = jnp.asarray(file["sgd/lrs"]), jnp.asarray(file["sgd/grads"])
    optimizer = optim.sgd(
        lambda count: rates[count],
        momentum=float(file["sgd/momentum"]),
        nesterov=nesterov,
        weight_decay=float(file["sgd/weight_decay"]),
    )
    params = jnp.asarray(file["sgd/init"])
    state = optimizer.init(params)
    for grad, expected in zip(grads, file[f"{key}/params"], strict=True):
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(lr=0.0), r"config\.schedule\.lr is 0\.0"),
        (dict(lr=0.1, warmup_epochs=-1), "warmup_epochs is -1"),
        (dict(lr=0.1, drop_at=(0.9, 0.8)), r"config\.schedule\.drop_at is \(0\.9, 0\.8\)"),
        (dict(lr=0.1, drop_at=("a",)), "drop_at"),
        (dict(lr=0.1, drop_by=0.0), "drop_by is 0.0"),
    ],
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        choose(optim.SCHEDULES, "schedule", "step", **options)(10, 7)
