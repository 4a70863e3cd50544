"""What methods require of a network and of the number of epochs, and the errors for it."""

import math

from ltjax import build
from ltjax.config.settings import Settings
from ltjax.data.info import DataInfo
from ltjax.errors import FieldError
from ltjax.models import Network


def network_with_maps(settings: Settings, info: DataInfo) -> Network:
    """The config's network, for methods that locate a class in an image.

    Raises:
      FieldError: if it has no class weights.
    """
    found = build.network(settings, info)
    _has(found.weights is not None, "class weights to apply to its feature maps", settings)
    return found


def network_of_stages(settings: Settings, info: DataInfo) -> Network:
    """The config's network, for methods that repeat a part of it.

    Raises:
      FieldError: if it cannot be split.
    """
    found = build.network(settings, info)
    _has(found.split is not None, "stages that branches could share", settings)
    return found


def more_than_an_epoch(settings: Settings, option: str, share: float, whose: str) -> None:
    """Refuse a phase with a cosine schedule that has no epoch with a rate above 0.

    Args:
      settings: of the run.
      option: of the method, the one that gives the phase its share of epochs.
      share: its value.
      whose: the subject of "take".

    Raises:
      FieldError: naming both numbers.
    """
    epochs = share * settings.num_epochs
    if epochs <= 1:
        why = (
            f"{whose} take {epochs:g} of them ({option}={share:g}) and need more than one, because "
            "the rate of a cosine schedule is 0 in its last epoch"
        )
        enough = {"num_epochs": math.ceil(min(2 / share, 1e6))}
        raise FieldError("num_epochs", settings.num_epochs, why, use=enough)


def _has(it: bool, what: str, settings: Settings) -> None:
    if not it:
        name = settings.network["name"]
        raise FieldError("network.name", name, f"it has no {what}", use="resnet32")
