"""The settings of a config, checked and typed: the tree that everything else reads.

This file is the list of all config fields: their names, types, defaults, meanings and limits. A
config (`configs/*.py`) is an ml_collections.ConfigDict with these names. A missing field takes the
default below; an unknown field is an error. Configs are not locked: a lock would refuse the option
of another row (`--config.sampler.q`), and its messages say less than the checks here.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from ltjax.errors import FieldError, UserError, shortened, shown
from ltjax.limits import Limit, above, at_least, at_most, below, conform, guess, one_of, plain

CONVOLUTIONS = ("winograd", "direct", "plain", "blocks")
DTYPES = ("float32", "bfloat16")
Seed = Annotated[int, at_least(0), below(2**32)]
Images = Annotated[int, at_least(1), at_most(1_000_000)]  # of a batch
PATH = Limit(
    "a path of 1 to 1,000 printable characters",
    lambda value: 1 <= len(value) <= 1000 and value.isprintable(),
)
METHOD_GROUPS = ("method", "loss", "reweight", "sampler", "mixing")  # in which methods differ


def named(name: str, **options: Any) -> Any:
    """A field for a choice by name, with the name and options that it has by default."""
    return dataclasses.field(default_factory=lambda: {"name": name, **options})


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images, and how long the tail of the training set is."""

    name: str = "digits"  # a row of ltjax.data.datasets.DATASETS
    # How class sizes fall from head to tail.
    imbalance: Annotated[str, one_of("exp", "step")] = "exp"
    # Largest class / smallest; 1: balanced.
    imbalance_factor: Annotated[float, at_least(1), at_most(1_000_000)] = 1.0
    seed: Seed = 0  # which images of a class stay
    validation: Annotated[float, at_least(0), below(1)] = 0.0  # share of training images held out
    dir: Annotated[str | None, PATH] = None  # where TFDS keeps data sets; None: TFDS's own default
    download: bool = False  # may TFDS download what is not prepared?
    # Where images are while training: "resident" on the devices, "streaming" from the host, or
    # "auto" by their size (ltjax.data.feeds). Batches are the same.
    feed: Annotated[str, one_of("auto", "resident", "streaming")] = "auto"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """Stochastic gradient descent, as PyTorch's SGD defines it."""

    momentum: Annotated[float, at_least(0), below(1)] = 0.9
    nesterov: bool = True
    # On every parameter, biases and batch norm too.
    weight_decay: Annotated[float, at_least(0), at_most(100)] = 2e-4

    def __post_init__(self) -> None:
        """Refuse what has no effect, as PyTorch does."""
        if self.nesterov and not self.momentum:
            why = "it has no effect without momentum"
            raise FieldError("optimizer.nesterov", True, why, use=False)


@dataclasses.dataclass(frozen=True)
class Share:
    """What experts have in common, to see where their diversity comes from; by default, nothing."""

    initialisation: bool = False
    order: bool = False  # which images are in a batch
    augmentation: bool = False  # and all else drawn inside a step, such as partners of mixing

    def names(self) -> list[str]:
        """The names of what is shared."""
        return [name for name, yes in dataclasses.asdict(self).items() if yes]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How experts and images are spread over devices."""

    # Devices along the expert axis; 0: gcd(experts, devices).
    expert: Annotated[int, at_least(0), at_most(1000)] = 0


@dataclasses.dataclass(frozen=True)
class Compute:
    """How the same sums are computed; results agree to the rounding of `dtype`."""

    # On CPU, "winograd" and "direct" are native kernels, with or without Winograd's transforms for
    # convolutions of stride 1. "plain" is JAX alone, and so are these without kernels.
    # "blocks" is for accelerators: one dense convolution of all experts (conv_block_diagonal).
    convolution: Annotated[str, one_of(*CONVOLUTIONS)] = "winograd"
    experts_over: Annotated[str, one_of("auto", "vmap", "unroll", "map")] = "auto"  # ltjax.experts
    # Of images and activations. Parameters, statistics, logits and the optimiser are float32 in any
    # case, and so are sums. On CPU "bfloat16" is for trying things out: it is slow.
    dtype: Annotated[str, one_of(*DTYPES)] = "float32"
    # Of the compiled program; 0: ltjax.run.steps_per_call chooses.
    steps_per_call: Annotated[int, at_least(0), at_most(10_000)] = 0
    cache: bool = True  # keep compiled programs in the user's cache folder (ltjax.runtime)

    def __post_init__(self) -> None:
        """Refuse options that exclude each other."""
        if self.convolution == "blocks" and self.experts_over in ("unroll", "map"):
            why = "that takes one expert at a time, and convolution 'blocks' takes all at once"
            raise FieldError("compute.experts_over", self.experts_over, why, use="auto")


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run."""

    seed: Seed = 0  # initialisation, data order and augmentation
    data: Data = dataclasses.field(default_factory=Data)
    # Named choices: a name and the options of that row. A field that the config does not set is set
    # by the method (ltjax.methods); if the method does not set it either, the default is below.
    method: Mapping[str, Any] = named("classifier")
    network: Mapping[str, Any] = named("resnet32")
    schedule: Mapping[str, Any] = named("step", lr=0.1)
    augment: Mapping[str, Any] = named("pad_crop_flip")
    # These three may start late: `start`, a fraction of the phase, is an option of their rows.
    sampler: Mapping[str, Any] = named("instance_balanced")
    loss: Mapping[str, Any] = named("cross_entropy")
    reweight: Mapping[str, Any] = named("none")  # of classes, in the loss
    mixing: Mapping[str, Any] = named("none")  # of images, or features
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    num_experts: Annotated[int, at_least(1), at_most(1000)] = 3
    batch_size: Images = 128  # images per expert and step, over all devices
    # An epoch is ceil(training images / batch_size) steps.
    num_epochs: Annotated[float, above(0), at_most(1_000_000)] = 200.0
    share: Share = dataclasses.field(default_factory=Share)
    # What the average of experts averages.
    combine: Annotated[str, one_of("probs", "logits")] = "probs"
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    compute: Compute = dataclasses.field(default_factory=Compute)
    eval_batch_size: Images = 500  # images per step of evaluation, over all devices
    # 0: only at the end.
    eval_every_epochs: Annotated[float, at_least(0), at_most(1_000_000)] = 0.0
    # If an expert's numbers are no longer finite: "stop" the run, or "set_aside" that expert, and
    # finish with the others (ltjax.run.divergence).
    on_divergence: Annotated[str, one_of("stop", "set_aside")] = "stop"
    # Of the logits in predictions.npz, which the end of a run writes; float16 halves the file.
    predictions: Annotated[str, one_of("float32", "float16", "none")] = "float32"
    # These do not change what is learned, so a resumed run may override them.
    log_every_steps: Annotated[int, at_least(1), at_most(1_000_000_000)] = 50
    save_every_epochs: Annotated[float, above(0), at_most(1_000_000)] = 1.0

    def __post_init__(self) -> None:
        """Refuse calls that would pass a step at which the loop logs: it would make none."""
        steps = self.compute.steps_per_call
        if steps > self.log_every_steps:
            why = f"it must be at most log_every_steps, {self.log_every_steps}"
            raise FieldError("compute.steps_per_call", steps, why)


# Fields that a resumed run may change, because they do not change what is learned.
MAY_CHANGE_ON_RESUME = (
    "on_divergence",
    "predictions",
    "log_every_steps",
    "save_every_epochs",
    "data.dir",
    "data.download",
    "data.feed",
    "compute.cache",
)


def settings_from(config: Mapping[str, Any]) -> Settings:
    """Check a config and freeze it, field by field; `ltjax.recipes.settings_of` also checks names.

    Args:
      config: an ml_collections.ConfigDict, or any mapping, with the names of `Settings`.

    Raises:
      UserError: for an unknown field, a wrong type, or a value outside its limits.
    """
    return _read(Settings, plain_dict(config), "")


def all_fields(kind: type = Settings, path: str = "") -> Iterator[tuple[str, Any]]:
    """All fields as (dotted name, default), in order; a named choice is one field, its name."""
    for field, default in zip(dataclasses.fields(kind), dataclasses.astuple(kind()), strict=True):
        hint = typing.get_type_hints(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from all_fields(hint, f"{path}{field.name}.")
        elif isinstance(default, Mapping):
            yield from ((f"{path}{field.name}.{key}", value) for key, value in default.items())
        else:
            yield f"{path}{field.name}", default


def as_dict(settings: Settings) -> dict[str, Any]:
    """Settings as plain nested dicts, for JSON; tuples become lists."""
    return _plain(dataclasses.asdict(settings))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> dict[str, tuple]:
    """{field: (old value, new value)} where two nested dicts differ; not MAY_CHANGE_ON_RESUME."""
    found = {}
    for key in [*old, *(key for key in new if key not in old)]:
        where = f"{path}{key}"
        before, after = old.get(key), new.get(key)
        groups = [x for x in (before, after) if isinstance(x, Mapping)]
        if groups and all(x is None or isinstance(x, Mapping) for x in (before, after)):
            found |= differences(before or {}, after or {}, f"{where}.")
        elif before != after and where not in MAY_CHANGE_ON_RESUME:
            found[where] = (before, after)
    return found


def _read(kind: type, config: Mapping[str, Any], path: str = "") -> Any:
    """`path` is the fields' group and a dot; empty for those at the top."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    _check_names(config, path)
    for name in config:
        if name not in fields:
            unknown = f"Unknown config field config.{path}{shortened(name)}"
            whole = [field for field, _ in all_fields() if field.endswith(f".{name}")]
            if not path and whole:
                raise UserError(f"{unknown} (did you mean config.{whole[0]}?).")
            known = sorted(fields)
            raise UserError(f"{unknown}{guess(name, known)}. Known fields: {', '.join(known)}.")
        values[name] = _value(config[name], hints[name], f"{path}{name}", fields[name])
    return kind(**values)


def _check_names(config: Mapping, path: str) -> None:
    for name in config:
        if not isinstance(name, str):
            unknown = f"Unknown config field config.{path}{shown(name)}"
            raise UserError(f"{unknown}: names of fields are strings.")


def _value(value: Any, hint: Any, path: str, field: dataclasses.Field) -> Any:
    if dataclasses.is_dataclass(hint):
        return _read(hint, conform(value, dict, path), f"{path}.")
    if typing.get_origin(hint) is typing.get_origin(Mapping[str, Any]):
        group = conform(value, dict, path)
        if "name" not in group:
            group = {**field.default_factory(), **group}
        conform(group["name"], str, f"{path}.name")
        _check_names(group, f"{path}.")
        return {key: plain(option, f"{path}.{key}") for key, option in group.items()}
    return conform(value, hint, path)


def plain_dict(config: Any, levels: int = 2) -> Any:
    """A config as plain dicts: itself and its groups, which hold no further groups."""
    if not levels or not (isinstance(config, Mapping) or hasattr(config, "to_dict")):
        return config
    return {name: plain_dict(value, levels - 1) for name, value in config.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
