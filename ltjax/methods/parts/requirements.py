"""What methods need of a config; where it is otherwise, the error that says so."""

from ltjax import phases
from ltjax.config.settings import Settings
from ltjax.data.info import DataInfo
from ltjax.errors import UserError
from ltjax.models import Network
from ltjax.models.stages import Staged


def network_with_maps(settings: Settings, info: DataInfo) -> Network:
    """The config's network, for methods that look where in an image something is.

    Raises:
      UserError: if it has no feature maps.
    """
    found = phases.network(settings, info)
    _has(found.maps is not None, "feature maps to look at", settings)
    return found


def network_of_stages(settings: Settings, info: DataInfo) -> Network:
    """The config's network, for methods that have a part of it several times.

    Raises:
      UserError: if its backbone is not a ltjax.models.stages.Staged.
    """
    found = phases.network(settings, info)
    staged = found.modules is not None and isinstance(found.modules[0], Staged)
    _has(staged, "stages of blocks for branches to begin with", settings)
    return found


def linear_head(settings: Settings, why: str) -> None:
    """Refuse a config with another head than a linear one; `why` reads on with "a linear head".

    Raises:
      UserError: naming the head.
    """
    head = settings.network.get("head", "linear")
    if head != "linear":
        raise UserError(
            f"config.network.head is {head!r}, but {why} a linear head: use "
            f"--config.network.head=linear."
        )


def defaults(settings: Settings, *groups: str, because: str) -> None:
    """Refuse a config that chooses something in a group the method has no place for.

    Args:
      settings: to look at.
      groups: of "loss", "reweight", "mixing" and the like, which must be as by default.
      because: reads on from the method's name.

    Raises:
      UserError: naming the first such choice.
    """
    for group in groups:
        default = getattr(Settings(), group)
        for key, value in getattr(settings, group).items():
            if default.get(key) != value:
                raise UserError(
                    f"config.{group}.{key} is {value!r}, but config.method.name="
                    f"{settings.method['name']!r} {because}; leave config.{group} out."
                )


def more_than_an_epoch(settings: Settings, option: str, share: float, whose: str) -> None:
    """Refuse a config that leaves a phase with a cosine schedule no epoch with a rate above 0.

    Args:
      settings: of the run.
      option: of the method, the one that gives the phase its share of epochs.
      share: its value.
      whose: reads on with "take".

    Raises:
      UserError: naming both numbers.
    """
    epochs = share * settings.num_epochs
    if epochs <= 1:
        raise UserError(
            f"config.num_epochs is {settings.num_epochs:g}, of which {whose} take {epochs:g} "
            f"(config.method.{option}={share:g}), and they need more than one, as the rate of a "
            f"cosine schedule is 0 in its last: choose more of either."
        )


def _has(it: bool, what: str, settings: Settings) -> None:
    if not it:
        raise UserError(
            f"config.network.name is {settings.network['name']!r}, which has no {what}; choose "
            f"another network, such as resnet32."
        )
