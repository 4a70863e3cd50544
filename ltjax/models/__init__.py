"""Networks: the one door to Flax. A Network is a few pure functions over plain trees.

`NETWORKS` is the table of architectures; a row makes a Network for a number of classes, with
convolutions of a form (see `ltjax.models.layers.conv_sums`).
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax

from ltjax.limits import one_of
from ltjax.models.conv_plain import wide
from ltjax.models.heads import HEADS, PYTORCH_HEADS
from ltjax.models.resnet_cifar import CifarResNet
from ltjax.models.resnet_imagenet import RESNETS, ResNet

GROUPS = ("backbone", "head")
Head = Annotated[str, one_of(*HEADS)]  # PYTORCH_HEADS has the same names


class Network(NamedTuple):
    """A network as functions of its parameters.

    init: (key, image [B, H, W, channels]) -> (params, stats), dicts with the groups 'backbone' and
      'head'; only the image's shape is used.
    apply: (variables, image, train, frozen=(), between=None, pool=None) -> ((logits [B, C],
      features [B, D]), stats). `variables` has the fields params and stats. The features are
      pool(maps) where that is given, and the head reads between(features) where that is. With
      train, batch norm uses the batch's own statistics, over all devices of the axis 'data', and
      returns running ones moved towards them; a group in `frozen` keeps using, and returns
      unchanged, its running ones.
    maps: (variables, image) -> feature maps [B, h, w, D] under running statistics, whose means over
      h and w are the features. None where no single classifier reads such features.
    modules: (backbone, head), the Flax modules it is made of, of whose parts networks with branches
      are made. None where it is not made of these two.
    """

    init: Callable[..., tuple[dict, dict]]
    apply: Callable[..., tuple[tuple[jax.Array, jax.Array], dict]]
    maps: Callable[..., jax.Array] | None = None
    modules: tuple[nn.Module, nn.Module] | None = None


class _Classifier(nn.Module):
    backbone: nn.Module
    head: nn.Module

    def __call__(self, image, training, between=None, pool=None):
        maps = wide(self.maps(image, train="backbone" in training))
        features = pool(maps) if pool else maps.mean((1, 2))
        return self.head(between(features) if between else features), features

    def maps(self, image, train):
        return self.backbone(image, train=train)


def classifier_network(backbone: nn.Module, head: nn.Module) -> Network:
    """A Network from a backbone (image, train) -> maps [B, h, w, D] and a head features -> logits.

    Features are the means of the maps, the pooling of all residual networks, unless `apply` is
    given another.
    """
    module = _Classifier(backbone, head)

    def init(key, image):
        variables = module.init(key, image, training=())
        return dict(variables["params"]), dict(variables.get("batch_stats", {}))

    def apply(variables, image, train, frozen=(), between=None, pool=None):
        tree = {"params": variables.params, "batch_stats": variables.stats}
        if not train:
            return module.apply(tree, image, (), between, pool), variables.stats
        training = tuple(group for group in GROUPS if group not in frozen)
        outputs, moved = module.apply(tree, image, training, between, pool, mutable=["batch_stats"])
        return outputs, dict(moved.get("batch_stats", {}))

    def maps(variables, image):
        tree = {"params": variables.params, "batch_stats": variables.stats}
        return module.apply(tree, image, train=False, method="maps")

    return Network(init, apply, maps, (backbone, head))


def _cifar_resnet(depth: int) -> Callable[..., Network]:
    def resnet(num_classes: int, form: str = "winograd", *, head: Head = "linear") -> Network:
        backbone = CifarResNet((depth - 2) // 6, form=form)
        return classifier_network(backbone, HEADS[head](num_classes))

    resnet.__doc__ = f"ResNet-{depth} for small images. He et al., CVPR 2016, section 4.2."
    return resnet


def _imagenet_resnet(name: str) -> Callable[..., Network]:
    def resnet(num_classes: int, form: str = "winograd", *, head: Head = "linear") -> Network:
        backbone = ResNet(*RESNETS[name], form)
        return classifier_network(backbone, PYTORCH_HEADS[head](num_classes))

    title = name.replace("resnet", "ResNet-").replace("resnext", "ResNeXt-")
    resnet.__doc__ = f"{title}, for large images, as in the code of Kang et al., ICLR 2020."
    return resnet


NETWORKS = {f"resnet{depth}": _cifar_resnet(depth) for depth in (8, 20, 32, 56)}
NETWORKS |= {name: _imagenet_resnet(name) for name in RESNETS}
