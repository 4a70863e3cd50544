"""Stochastic gradient descent and its learning-rate schedules.

Schedules count whole epochs, as the authors' code does: the rate is constant within an epoch.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from ltjax.errors import FieldError
from ltjax.limits import above, at_least, at_most, at_most_values, below, only_with

Schedule = Callable[..., object]  # step i32[] -> learning rate f32[]
Rate = Annotated[float, above(0), at_most(1e30)]
Epochs = Annotated[int, at_least(0), at_most(1_000_000)]


def sgd(
    schedule: Schedule,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    rates: Mapping[str, float] = MappingProxyType({}),
) -> optax.GradientTransformation:
    """SGD as PyTorch defines it.

    g = grad + weight_decay * p; m = momentum * m + g; p -= lr * m, or lr * (g + momentum * m) with
    Nesterov's form. The rate multiplies after the momentum, so a change takes effect at once.

    Args:
      schedule: step -> learning rate.
      momentum: in [0, 1).
      nesterov: whether the momentum takes Nesterov's form.
      weight_decay: of every parameter.
      rates: {group of params: factor of its learning rate}, where that is not 1.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(momentum, nesterov=nesterov) if momentum else optax.identity(),
        optax.scale_by_learning_rate(schedule),
        *([_by_group(rates)] if rates else ()),
    )


def _by_group(rates: Mapping[str, float]) -> optax.GradientTransformation:
    def scaled(updates, params):
        del params
        unknown = set(rates) - set(updates)
        assert not unknown, f"no groups {unknown} among {list(updates)}"
        each = {group: rates.get(group, 1.0) for group in updates}
        return {
            group: jax.tree.map(functools.partial(jnp.multiply, each[group]), update)
            for group, update in updates.items()
        }

    return optax.stateless(scaled)


def step(
    num_epochs: float,
    steps_per_epoch: int,
    *,
    lr: Rate,
    warmup_epochs: Epochs = 0,
    warmup_from: Annotated[float, at_least(0), at_most(1), only_with("warmup_epochs")] = 0.0,
    drop_at: Annotated[tuple, at_most_values(100)] = (0.8, 0.9),
    drop_by: Annotated[float, above(0), below(1), only_with("drop_at")] = 0.01,
) -> Schedule:
    """Warm up linearly, hold, and multiply by `drop_by` at each of some fractions of training.

    Cao et al., NeurIPS 2019 (LDAM-DRW), 200 epochs: lr e / 5 in the first five epochs e = 1..5,
    then lr, lr / 100 after epoch 160, lr / 10,000 after epoch 180.

    Args:
      num_epochs: of the phase.
      steps_per_epoch: updates in one epoch.
      lr: the highest learning rate, above 0.
      warmup_epochs: epochs e = 1, 2, ... with rate lr e / warmup_epochs.
      warmup_from: share of lr that the warm-up starts from, as if in an epoch 0; 1/3 in the code of
        Bag of Tricks (Zhang et al., AAAI 2021).
      drop_at: increasing fractions of num_epochs, each in (0, 1).
      drop_by: factor at each drop, in (0, 1).
    """
    fractions = all(_is_number(at) and 0 < at < 1 for at in drop_at)
    if not fractions or any(early >= late for early, late in itertools.pairwise(drop_at)):
        why = "it must hold increasing fractions, each above 0, below 1"
        raise FieldError("drop_at", drop_at, why)

    def schedule(count):
        epoch = count // steps_per_epoch  # from 0
        starts = [max(1, round(at * num_epochs)) for at in drop_at]
        drops = sum((epoch >= start).astype(float) for start in starts)
        return _warmup(epoch, warmup_epochs, warmup_from) * lr * jnp.power(drop_by, drops)

    return lambda count: schedule(jnp.asarray(count))


def cosine(
    num_epochs: float,
    steps_per_epoch: int,
    *,
    lr: Rate,
    warmup_epochs: Epochs = 0,
    ahead: bool = True,
) -> Schedule:
    """Fall from lr to 0 along half a cosine: lr (1 + cos(pi e / E)) / 2 in epoch e = 1..E.

    Loshchilov and Hutter, "SGDR", ICLR 2017, as Decoupling's code steps it (Kang et al. 2020): at
    the start of each epoch, so the first epoch is already below lr and the last one at 0.

    Args:
      num_epochs: of the phase.
      steps_per_epoch: updates in one epoch.
      lr: the highest learning rate, above 0.
      warmup_epochs: the rate is also multiplied by e / warmup_epochs in the first epochs.
      ahead: False steps it at the end of each epoch, as RIDE's code: e - 1 in place of e, so the
        first epoch has lr.
    """
    epochs = math.ceil(num_epochs)
    if ahead and epochs < 2:
        why = "it must be above 1 with schedule 'cosine', whose rate is 0 in its last epoch"
        raise FieldError("num_epochs", num_epochs, why, use={"schedule.name": "step"})

    def schedule(count):
        epoch = count // steps_per_epoch  # from 0
        falling = (1 + jnp.cos(jnp.pi * (epoch + ahead) / epochs)) / 2
        return _warmup(epoch, warmup_epochs) * lr * falling

    return lambda count: schedule(jnp.asarray(count))


SCHEDULES = {"step": step, "cosine": cosine}


def _warmup(epoch, warmup_epochs, start=0.0):
    if not warmup_epochs:
        return 1.0
    share = jnp.minimum(1.0, (epoch + 1) / warmup_epochs)
    return start + (1 - start) * share


def _is_number(value) -> bool:
    return isinstance(value, int | float)
