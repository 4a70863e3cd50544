"""Networks: the one door to Flax. A Network is a few pure functions over plain trees.

`NETWORKS` is the table of architectures; a row makes a Network for a number of classes, with
convolutions of a form (see `ltjax.models.layers.conv_sums`).
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax

from ltjax.limits import one_of
from ltjax.models import parts
from ltjax.models.heads import HEADS, PYTORCH_HEADS
from ltjax.models.resnet_cifar import CifarResNet
from ltjax.models.resnet_imagenet import RESNETS, ResNet
from ltjax.models.stages import Staged

HeadName = Annotated[str, one_of(*HEADS)]  # PYTORCH_HEADS has the same names


class Network(NamedTuple):
    """A network as its parts, functions of its variables, which have the fields params and stats.

    The user of the network computes the features that the head reads from the maps: most methods
    by ltjax.models.parts.pooled, the pooling of all residual networks.

    init: (key, image [B, H, W, channels]) -> (params, stats), dicts with the groups 'backbone' and
      'head'; only the image's shape is used.
    maps: (variables, image, train, frozen=()) -> (maps [B, h, w, D], stats). With train, batch norm
      uses the batch's own statistics, over all devices of the axis 'data', and returns running ones
      moved towards them; a group in `frozen` keeps using, and returns unchanged, its running ones.
    head: (variables, features f32[B, D]) -> logits f32[B, C].
    weights: variables -> (kernel f32[D, C], bias f32[C] or None), the weights of each class in the
      head; of a cosine head, before they are made unit vectors. None where there is no
      single head with such weights.
    split: cut -> (trunk, rest, head), the backbone in two ltjax.models.parts.Layers, and the Head;
      `cut` is a function of a ltjax.models.stages.Staged to two of these. None where the backbone
      is not made of stages. Networks with branches are made of these parts.
    """

    init: Callable[..., tuple[dict, dict]]
    maps: Callable[..., tuple[jax.Array, dict]]
    head: Callable[..., jax.Array]
    weights: Callable[..., tuple[jax.Array, jax.Array | None]] | None = None
    split: Callable[..., tuple[parts.Layers, parts.Layers, parts.Head]] | None = None


class SeveralHeads(NamedTuple):
    """A network of K heads, each of which reads features of its own.

    These are pooled where each head's maps are made, so that maps need not be stacked: where heads
    are compiled one by one, XLA would write them to memory for that.

    init: (key, image [B, H, W, channels]) -> (params, stats), dicts of groups.
    features: (variables, image, train, frozen=()) -> (f32[K, B, D], stats), the means of maps; see
      Network.
    head: (variables, features f32[K, B, D]) -> logits f32[K, B, C].
    """

    init: Callable[..., tuple[dict, dict]]
    features: Callable[..., tuple[jax.Array, dict]]
    head: Callable[..., jax.Array]


def classifier_network(backbone: nn.Module, head: nn.Module) -> Network:
    """A Network of a module (image, train) -> maps [B, h, w, D] and another features -> logits."""
    as_layers, as_head = parts.layers(backbone), parts.head(head)

    def init(key, image):
        maps, params, stats = as_layers.init(key, image, "backbone")
        of_head = as_head.init(key, maps[:, 0, 0], "head")  # one place, for its shape
        return {"backbone": params, "head": of_head}, {"backbone": stats}

    def maps(variables, image, train, frozen=()):
        params, stats = variables.params["backbone"], variables.stats["backbone"]
        found, stats = as_layers.maps(params, stats, image, train and "backbone" not in frozen)
        return found, variables.stats | {"backbone": stats}

    def logits(variables, features):
        return as_head.logits(variables.params["head"], features)

    def weights(variables):
        return as_head.weights(variables.params["head"])

    def split(cut):
        trunk, rest = cut(backbone)
        return parts.layers(trunk), parts.layers(rest), as_head

    return Network(
        init,
        maps,
        logits,
        weights if as_head.weights else None,
        split if isinstance(backbone, Staged) else None,
    )


def _cifar_resnet(depth: int) -> Callable[..., Network]:
    def resnet(num_classes: int, form: str = "winograd", *, head: HeadName = "linear") -> Network:
        backbone = CifarResNet((depth - 2) // 6, form=form)
        return classifier_network(backbone, HEADS[head](num_classes))

    resnet.__doc__ = f"ResNet-{depth} for small images. He et al., CVPR 2016, section 4.2."
    return resnet


def _imagenet_resnet(name: str) -> Callable[..., Network]:
    def resnet(num_classes: int, form: str = "winograd", *, head: HeadName = "linear") -> Network:
        backbone = ResNet(*RESNETS[name], form)
        return classifier_network(backbone, PYTORCH_HEADS[head](num_classes))

    title = name.replace("resnet", "ResNet-").replace("resnext", "ResNeXt-")
    resnet.__doc__ = f"{title}, for large images, as in the code of Kang et al., ICLR 2020."
    return resnet


NETWORKS = {f"resnet{depth}": _cifar_resnet(depth) for depth in (8, 20, 32, 56)}
NETWORKS |= {name: _imagenet_resnet(name) for name in RESNETS}
