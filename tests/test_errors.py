"""Mistakes a user can make: each gives one line that names the value and what would work."""

import pytest
import toy

from ltjax import train
from ltjax.config.settings import settings_from
from ltjax.data import preparing
from ltjax.errors import UserError
from ltjax.methods import METHODS, Row
from ltjax.methods.classifier import recipe
from ltjax.run import folder as rundir

GOOD = dict(
    data={"name": "digits", "imbalance_factor": 20.0},
    method={"name": "classifier"},
    loss={"name": "cross_entropy"},
    network={"name": "resnet8", "head": "linear"},
    sampler={"name": "instance_balanced"},
    schedule={"name": "step", "lr": 0.1},
    num_experts=2,
    batch_size=16,
    num_epochs=1.0,
)

# (what is changed, words of the message)
MISTAKES = [
    ({"num_expert": 3}, ["config.num_expert", "did you mean 'num_experts'"]),
    ({"data": {"nam": "digits"}}, ["config.data.nam", "did you mean 'name'"]),
    ({"optimizer": {"lr": 1.0}}, ["config.optimizer.lr", "momentum"]),
    ({"mesh": {"data": 1}}, ["config.mesh.data", "expert"]),
    ({"method": {"name": "clasifier"}}, ["config.method.name", "did you mean 'classifier'"]),
    ({"method": {"name": "classifier", "los": "x"}}, ["config.method.los", "takes posthoc_tau"]),
    ({"method": {"name": 3}}, ["config.method.name is 3", "a string"]),
    ({"method": {"name": "crt", "extra_share": 0.0}}, ["method.extra_share is 0.0", "above 0"]),
    ({"method": {"name": "crt", "backbone_stats": "no"}}, ["'no'", "moving, frozen"]),
    ({"method": {"name": "ncm", "distance": "l1"}}, ["'l1'", "l2, cos"]),
    (
        {"method": {"name": "tau_norm", "sweep": True}},
        ["config.method.sweep is True", "held-out", "--config.data.validation=0.1"],
    ),
    ({"method": {"name": "tau_norm", "tau": -1.0}}, ["config.method.tau is -1.0", "at least 0"]),
    (
        {"method": {"name": "ldam_drw"}},
        ["'ldam_drw' sets config.loss.name='ldam'", "'cross_entropy'", "'classifier' accepts"],
    ),
    ({"method": {"name": "ride", "num_head": 4}}, ["config.method.num_head", "mean 'num_heads'"]),
    ({"method": {"name": ["crt", "lws"]}}, ["config.method.name is ['crt', 'lws']", "a string"]),
    ({"method": {"name": "ldam"}, "loss": False}, ["config.loss is False", "a group"]),
    (
        {"method": {"name": "tau_norm", "sweep": True, "tau": 0.5}},
        ["config.method.tau is 0.5", "leave one"],
    ),
    ({"method": {"name": "cam", "sampler": "power"}}, ["config.method.sampler is 'power'"]),
    (
        {"method": {"name": "bbn"}, "mixing": {"name": "mixup"}},
        ["config.mixing.name is 'mixup'", "method 'bbn'", "leave it out"],
    ),
    (
        {"method": {"name": "bbn"}, "reweight": {"name": "cost_sensitive"}},
        ["config.reweight.name is 'cost_sensitive'", "method 'bbn'", "leave it out"],
    ),
    (
        {"method": {"name": "cam"}, "schedule": {"name": "cosine", "lr": 0.1}, "num_epochs": 9.0},
        ["config.schedule.name is 'cosine'", "use --config.schedule.name=step"],
    ),
    (
        {"method": {"name": "cam"}, "schedule": {"name": "step", "lr": 0.1, "drop_at": (0.5,)}},
        ["config.schedule.drop_at is (0.5,)", "leave it out"],
    ),
    (
        {"method": {"name": "feature_augmentation"}, "network": {"head": "cosine"}},
        ["config.network.head is 'cosine'", "use --config.network.head=linear"],
    ),
    (
        {"method": {"name": "feature_augmentation", "num_fused": 9}},
        ["config.method.num_fused is 9", "at most 7", "head classes"],
    ),
    (
        {"method": {"name": "feature_augmentation", "head_share": 0.999}},
        ["config.method.head_share is 0.999", "all 10"],
    ),
    (
        {"method": {"name": "feature_augmentation"}, "batch_size": 4},
        ["config.batch_size is 4", "at least 8"],
    ),
    ({"schedule": {"name": "step", "lr": 0.1, "drop_at": (0.8, "1")}}, ["drop_at", "increasing"]),
    ({"loss": {"name": "hinge"}}, ["config.loss.name is 'hinge'", "cross_entropy"]),
    ({"loss": {"name": "focal", "gamma": -1.0}}, ["config.loss.gamma is -1.0", "at least 0"]),
    ({"loss": {"name": "focal", "start": 1.0}}, ["config.loss.start is 1.0", "below 1"]),
    ({"loss": {"name": "focal", "start": "late"}}, ["config.loss.start is 'late'", "a number"]),
    (
        {"loss": {"name": "ldam"}},
        ["config.network.head is 'linear'", "use --config.network.head=cosine"],
    ),
    ({"loss": {"name": "cross_entropy", "divide_by": "2"}}, ["'2'", "weights, examples"]),
    ({"loss": {"name": "label_smoothing", "epsilon": 1.0}}, ["loss.epsilon is 1.0", "below 1"]),
    ({"loss": {"name": "label_aware_smoothing", "shape": "s"}}, ["'s'", "concave, linear"]),
    ({"loss": {"name": "equalization", "below": 0.0}}, ["config.loss.below is 0.0", "above 0"]),
    ({"reweight": {"name": "effective_number", "beta": 1.0}}, ["config.reweight.beta is 1.0"]),
    ({"reweight": {"name": "inverse"}}, ["config.reweight.name", "cost_sensitive"]),
    ({"mixing": {"name": "mixup", "alpha": 0.0}}, ["config.mixing.alpha is 0.0", "above 0"]),
    ({"mixing": {"name": "remix", "kappa": 0.5}}, ["config.mixing.kappa is 0.5", "at least 1"]),
    ({"sampler": {"name": "class_aware", "images_per_class": 0}}, ["images_per_class is 0"]),
    ({"sampler": {"name": "progressively_balanced", "convention": "x"}}, ["'x'", "decoupling"]),
    ({"method": "classifier"}, ["config.method is 'classifier'", "group of fields"]),
    ({"sampler": {"name": "powr"}}, ["config.sampler.name", "did you mean 'power'"]),
    ({"sampler": {"name": "power"}}, ["config.sampler.q is missing"]),
    ({"sampler": {"name": "power", "q": "half"}}, ["config.sampler.q is 'half'", "a number"]),
    ({"sampler": {"name": "power", "q": 9.0}}, ["config.sampler.q is 9.0", "at most 2"]),
    ({"sampler": {"name": "instance_balanced", "q": 1.0}}, ["config.sampler.q", "takes start"]),
    ({"augment": False}, ["config.augment is False", "group of fields"]),
    ({"augment": {"name": "autoaugmnt"}}, ["config.augment.name", "did you mean 'autoaugment'"]),
    ({"augment": {"name": "pad_crop_flip", "size": 4}}, ["config.augment.size", "no options"]),
    ({"augment": {"name": "rotation", "degrees": 181.0}}, ["config.augment.degrees is 181.0"]),
    ({"augment": {"name": "cutout"}}, ["config.augment.size is missing"]),
    ({"augment": {"name": "cutout", "size": 2.5}}, ["config.augment.size is 2.5", "an integer"]),
    ({"augment": {"name": "cutout", "size": 0}}, ["config.augment.size is 0", "at least 1"]),
    ({"augment": {"name": "cutout", "size": 9}}, ["config.augment.size is 9", "at most 8"]),
    ({"augment": {"name": "autoaugment", "cutout": 16}}, ["config.augment.cutout is 16", "8 x 8"]),
    (
        {"augment": {"name": "autoaugment", "cutout": -1}},
        ["config.augment.cutout is -1", "at least 0"],
    ),
    (
        {"augment": {"name": "randaugment", "num_ops": 0}},
        ["config.augment.num_ops is 0", "at least 1"],
    ),
    (
        {"augment": {"name": "randaugment", "magnitude": 11}},
        ["config.augment.magnitude is 11", "at most 10"],
    ),
    ({"augment": {"name": "randaugment", "magnitude": -0.5}}, ["config.augment.magnitude is -0.5"]),
    ({"augment": {"name": "randaugment", "cutout": 9}}, ["config.augment.cutout is 9", "8 x 8"]),
    ({"network": {"name": "resnet33"}}, ["config.network.name", "resnet32"]),
    ({"network": {"name": "resnet8", "head": "cos"}}, ["config.network.head", "cosine"]),
    ({"network": {"name": "resnet10", "head": "cos"}}, ["config.network.head", "linear"]),
    ({"network": {"name": "resnext"}}, ["config.network.name", "did you mean 'resnext50'"]),
    ({"network": {"name": "resnet50", "depth": 50}}, ["config.network.depth", "takes head"]),
    ({"data": {"name": "cifar"}}, ["config.data.name is 'cifar'", "cifar100"]),
    ({"data": {"name": "digits", "imbalance": "pareto"}}, ["'pareto'", "exp, step"]),
    ({"data": {"name": "digits", "imbalance_factor": 0.5}}, ["0.5", "at least 1"]),
    ({"data": {"name": "digits", "imbalance_factor": 500.0}}, ["500", "class 7", "at most 124"]),
    ({"data": {"name": "digits", "validation": 1.0}}, ["config.data.validation", "below 1"]),
    ({"data": {"name": "digits", "validation": 1e-3}}, ["0.001", "too small"]),
    ({"data": {"name": "digits", "seed": -1}}, ["config.data.seed is -1", "at least 0"]),
    ({"num_experts": 0}, ["config.num_experts is 0", "at least 1"]),
    ({"num_experts": -3}, ["config.num_experts is -3"]),
    ({"num_experts": 2.5}, ["config.num_experts is 2.5", "an integer"]),
    ({"num_experts": "three"}, ["'three'", "an integer"]),
    ({"num_experts": True}, ["config.num_experts is True", "an integer"]),
    ({"batch_size": 0}, ["config.batch_size is 0"]),
    ({"batch_size": 4096}, ["config.batch_size is 4096", "at most 417"]),
    ({"batch_size": 18}, ["config.batch_size is 18", "4 devices", "use --config.batch_size=20"]),
    (
        {"mesh": {"expert": 3}},
        ["config.mesh.expert is 3", "2 experts", "use --config.mesh.expert=2"],
    ),
    ({"compute": {"experts_over": "pmap"}}, ["'pmap'", "unroll"]),
    ({"compute": {"steps_per_call": -1}}, ["config.compute.steps_per_call is -1", "at least 0"]),
    (
        {"compute": {"convolution": "blocks", "experts_over": "map"}},
        ["config.compute.experts_over is 'map'", "experts_over=auto"],
    ),
    ({"compute": {"convolution": "block"}}, ["config.compute.convolution is 'block'", "blocks"]),
    ({"compute": {"dtype": "float16"}}, ["config.compute.dtype is 'float16'", "bfloat16"]),
    ({"num_epochs": 0.0}, ["config.num_epochs is 0.0", "above 0"]),
    ({"num_epochs": float("nan")}, ["config.num_epochs is nan", "finite"]),
    ({"schedule": {"name": "linear"}}, ["config.schedule.name", "cosine"]),
    ({"schedule": {"name": "step"}}, ["config.schedule.lr is missing"]),
    ({"schedule": {"name": "step", "lr": 0.1, "warmup_from": 2.0}}, ["warmup_from is 2.0"]),
    ({"schedule": {"name": "step", "lr": 0.0}}, ["config.schedule.lr is 0.0", "above 0"]),
    ({"schedule": {"name": "cosine", "lr": 0.1, "drop_by": 0.1}}, ["config.schedule.drop_by"]),
    ({"schedule": {"name": "step", "lr": 0.1, "drop_at": (0.9, 0.8)}}, ["drop_at", "increasing"]),
    ({"schedule": {"name": "step", "lr": 0.1, "drop_at": 0.8}}, ["drop_at is 0.8", "a tuple"]),
    ({"schedule": {"name": "step", "lr": 0.1, "drop_by": 2.0}}, ["drop_by is 2.0"]),
    ({"schedule": {"name": "step", "lr": 0.1, "warmup_epochs": -1}}, ["warmup_epochs is -1"]),
    ({"optimizer": {"momentum": 1.0}}, ["config.optimizer.momentum is 1.0", "below 1"]),
    ({"optimizer": {"weight_decay": -1.0}}, ["config.optimizer.weight_decay is -1.0"]),
    ({"optimizer": {"nesterov": "yes"}}, ["config.optimizer.nesterov", "True or False"]),
    ({"schedule": {"name": "step", "lr": 0.1, "field": 1}}, ["config.schedule.field"]),
    (
        {"schedule": {"name": "cosine", "lr": 0.1}},
        ["config.num_epochs is 1", "above 1", "--config.schedule.name=step"],
    ),
    ({"combine": "votes"}, ["config.combine is 'votes'", "probs, logits"]),
    ({"log_every_steps": 0}, ["config.log_every_steps is 0"]),
    ({"save_every_epochs": 0.0}, ["config.save_every_epochs is 0.0"]),
    ({"seed": -1}, ["config.seed is -1"]),
    # what does nothing
    (
        {"sampler": {"name": "instance_balanced", "start": 0.5}},
        ["config.sampler.start is 0.5", "leave it out"],
    ),
    (
        {"loss": {"name": "cross_entropy", "start": 0.5}},
        ["config.loss.start is 0.5", "leave it out"],
    ),
    ({"reweight": {"start": 0.5}}, ["config.reweight.start is 0.5", "leave it out"]),
    (
        {"loss": {"name": "cross_entropy", "divide_by": "examples"}},
        ["config.loss.divide_by is 'examples'", "leave it out"],
    ),
    (
        {"method": {"name": "ride", "top_k": 5, "routing": False}, "loss": {}},
        ["config.method.top_k is 5", "routing"],
    ),
    # what would size a program or an array beyond all use
    (
        {"method": {"name": "ride", "num_heads": 1000000}, "loss": {}},
        ["config.method.num_heads is 1000000", "at most 64"],
    ),
    ({"num_experts": 2**31}, ["config.num_experts is 2147483648", "at most 1,000"]),
    ({"num_epochs": 1e9}, ["config.num_epochs is 1000000000.0", "at most 1,000,000"]),
    ({"save_every_epochs": 1e308}, ["config.save_every_epochs is 1e+308", "at most 1,000,000"]),
    (
        {"schedule": {"name": "step", "lr": 0.1, "warmup_epochs": 2**31 - 1}},
        ["config.schedule.warmup_epochs is 2147483647", "at most 1,000,000"],
    ),
    ({"schedule": {"name": "step", "lr": 10**400}}, ["config.schedule.lr is 1000", "finite"]),
]


@pytest.mark.parametrize("change, words", MISTAKES, ids=lambda value: str(value)[:60])
def test_a_config_mistake_is_one_line_and_leaves_nothing_behind(change, words, data_dir, tmp_path):
    config = GOOD | change
    if isinstance(config["data"], dict):
        config["data"] = {"dir": data_dir, **config["data"]}
    with pytest.raises(UserError) as caught:
        train.run(config, workdir=str(tmp_path / "run"))
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "row, words",
    [
        (recipe, "it must be a ltjax.methods.Row"),
        (Row(lambda settings, info: None, "", ""), "must return a tuple of ltjax.phases.Phase"),
        (Row(lambda *a: recipe(*a)[0], "", ""), "must return a tuple of ltjax.phases.Phase"),
        (Row(lambda settings, info: (), "", ""), "must return a tuple of ltjax.phases.Phase"),
    ],
)
def test_a_method_of_ones_own_that_cannot_be_run_is_named(row, words, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "own", row)
    message = refused(tmp_path / "run", method={"name": "own"})
    assert message.startswith(("METHODS['own'] is ", "The recipe of METHODS['own'] "))
    assert words in message and not (tmp_path / "run").exists()


def refused(workdir, **change):
    splits = None if "data" in change else toy.splits()
    with pytest.raises(UserError) as caught:
        train.run(GOOD | change, workdir=str(workdir), splits=splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    assert "--workdir" in refused(path) and path.read_text() == "mine"
    assert "--workdir" in refused(path / "below")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "not a run of ltjax" in refused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_workdir_of_another_config_is_refused_with_what_differs(tmp_path):
    with rundir.claimed(tmp_path, settings_from(GOOD)):
        pass
    message = refused(tmp_path, num_experts=4, schedule={"name": "step", "lr": 0.2})
    assert "num_experts was 2, is 4" in message and "schedule.lr was 0.1, is 0.2" in message
    with rundir.claimed(tmp_path, settings_from(GOOD | {"log_every_steps": 1})):
        pass  # decides no result


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[]", b'{"data": 1}'])
def test_a_broken_config_json_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text)
    assert "--workdir" in refused(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == text


def test_a_folder_where_a_run_is_at_work_is_refused(tmp_path):
    with rundir.claimed(tmp_path, settings_from(GOOD)):
        assert "Another process is using" in refused(tmp_path)


def test_a_bucket_is_not_taken_for_a_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "not a local folder" in refused("gs://bucket/run")
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_prepared_name_the_option_that_prepares_them(tmp_path):
    message = refused(tmp_path / "run", data={"name": "cifar100", "dir": str(tmp_path)})
    assert "'cifar100' is not prepared" in message and "--config.data.download=True" in message


def test_preparing_cifar_without_tensorflow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "has_tensorflow", lambda: False)
    data = {"name": "cifar100", "dir": str(tmp_path), "download": True}
    assert "pip install -e '.[prepare]'" in refused(tmp_path / "run", data=data)


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    message = refused(tmp_path / "run", data={"name": "digits", "dir": str(path)})
    assert str(path) in message and "config.data.dir" in message
