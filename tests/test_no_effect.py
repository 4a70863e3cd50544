"""What a config says and nothing would read is refused, with the field that turns it off."""

import pytest
import toy

from ltjax.errors import FieldError
from ltjax.recipes import recipe_of, settings_of

RIDE = {"network": {"name": "tiny", "head": "cosine"}}


def ride(**options):
    return RIDE | {"method": {"name": "ride", **options}}


def schedule(**options):
    return {"schedule": {"name": "step", "lr": 0.1, **options}}


IDLE = [
    (schedule(warmup_from=0.5), "schedule.warmup_from is 0.5, but .* while warmup_epochs is 0"),
    (schedule(drop_at=(), drop_by=0.1), "schedule.drop_by is 0.1, but .* while drop_at is \\(\\)"),
    (schedule(drop_at=(0.5,), drop_by=1.0), "schedule.drop_by is 1.0; it must be .* below 1"),
    (
        schedule(drop_by=0.1) | {"method": {"name": "cam"}},
        "schedule.drop_by is 0.1, but method 'cam' sets its own",
    ),
    ({"optimizer": {"momentum": 0.0}}, "nesterov is True, but .* use --config.optimizer.nesterov"),
    ({"compute": {"steps_per_call": 51}}, "steps_per_call is 51; .* at most log_every_steps, 50"),
    (
        {"mixing": {"name": "remix", "tau": 0.0, "kappa": 2.0}},
        "mixing.kappa is 2.0, but .* while tau is 0.0",
    ),
    (
        {"mixing": {"name": "remix", "tau": 0.0, "per_sample": False}},
        "mixing.per_sample is False, but .* while tau is 0.0",
    ),
    (
        {"loss": {"name": "equalization", "gamma": 0.0, "below": 0.05}},
        "loss.below is 0.05, but .* while gamma is 0.0",
    ),
    (
        {"loss": {"name": "label_aware_smoothing", "head": 0.1, "shape": "linear"}},
        "loss.shape is 'linear', but .* head and tail are equal",
    ),
    (ride(gamma=0.0, start=0.5), "method.start is 0.5, but .* while gamma is 0.0"),
    (ride(diversity=0.0, gamma=0.5), "method.gamma is 0.5, but .* while diversity is 0.0"),
    (ride(num_heads=1, routing=False, start=0.5), "method.start is 0.5, but .* with one head"),
    (ride(num_heads=1, routing=False, diversity=0.4), "diversity is 0.4, but .* with one head"),
    (ride(distill_weight=2.0), "method.distill_weight is 2.0, but .* while distill is False"),
    (ride(distill=True, distill_weight=0.0), "distill_weight is 0.0; it must be above 0"),
    (ride(routing=False, routing_lr=0.1), "method.routing_lr is 0.1, but .* while routing is"),
    (
        RIDE | {"method": {"name": "sade", "passes": 3}},
        "method.passes is 3, but .* while aggregate is False",
    ),
    ({"share": {"order": True}, "num_experts": 1}, "share.order needs at least two experts"),
    ({"share": {"augmentation": True}, "num_experts": 1}, "share.augmentation needs at least two"),
    ({"sampler": {"name": "instance_balanced", "start": 0.5}}, "sampler.start is 0.5, but"),
    ({"sampler": {"start": 0.5}}, "sampler.start is 0.5, but 'instance_balanced' is also used"),
    ({"loss": {"start": 0.5}}, "loss.start is 0.5, but 'cross_entropy' is also used before"),
    ({"reweight": {"name": "none", "start": 0.5}}, "reweight.start is 0.5, but 'none' is also"),
    ({"loss": {"divide_by": "examples"}}, "loss.divide_by is 'examples', but without re-weight"),
    ({"loss": {"divide_by": "weights"}}, "loss.divide_by is 'weights', but without re-weight"),
]


@pytest.mark.parametrize("change, words", IDLE, ids=[words[:45] for _, words in IDLE])
def test_what_has_no_effect_is_refused(change, words):
    config = {"network": {"name": "tiny"}, "batch_size": 16, "num_experts": 2, "num_epochs": 8.0}
    with pytest.raises(FieldError, match=words):
        recipe_of(settings_of(config | change), toy.info())


def test_what_has_an_effect_again_is_not():
    config = {"network": {"name": "tiny"}, "batch_size": 16, "num_epochs": 8.0}
    for change in (
        schedule(warmup_epochs=2, warmup_from=0.5),
        {"optimizer": {"momentum": 0.0, "nesterov": False}},
        {"compute": {"steps_per_call": 51}, "log_every_steps": 51},
        {"loss": {"start": 0.5, "divide_by": "examples"}, "reweight": {"name": "cost_sensitive"}},
    ):
        assert recipe_of(settings_of(config | change), toy.info())
