"""The residual networks of large images: ResNet and ResNeXt, as on ImageNet-LT.

They follow Decoupling's code (Kang et al., "Decoupling Representation and Classifier for
Long-Tailed Recognition", ICLR 2020), whose ResNet-10, -50, -152 and ResNeXt-50 most results of the
field are reported with. A stage's kind of block is a function (width, stride) -> its convolutions.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax

from ltjax.models.layers import ConvNorm, add_relu, kaiming_normal_fan_out
from ltjax.models.stages import Staged

WIDTHS = (64, 128, 256, 512)


class Conv(NamedTuple):
    """One convolution of a block."""

    features: int
    size: int
    stride: int = 1
    groups: int = 1


def basic(width: int, stride: int) -> tuple[Conv, ...]:
    """Two 3x3 convolutions (He et al., CVPR 2016, Figure 5 left)."""
    return Conv(width, 3, stride), Conv(width, 3)


def bottleneck(width: int, stride: int) -> tuple[Conv, ...]:
    """1x1 down, 3x3, 1x1 up to four times the width (He et al., CVPR 2016, Figure 5 right).

    The paper strides in the first convolution; Decoupling's code, as most since, in the 3x3 one.
    """
    return Conv(width, 1), Conv(width, 3, stride), Conv(4 * width, 1)


def resnext_32x4d(width: int, stride: int) -> tuple[Conv, ...]:
    """A bottleneck whose 3x3 convolution is in 32 groups, of 4 channels each in the first stage.

    Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, Table 1.
    """
    inner = 32 * (4 * width // WIDTHS[0])
    return Conv(inner, 1), Conv(inner, 3, stride, groups=32), Conv(4 * width, 1)


# name -> (kind of block, blocks of each stage)
RESNETS = {
    "resnet10": (basic, (1, 1, 1, 1)),
    "resnet50": (bottleneck, (3, 4, 6, 3)),
    "resnet152": (bottleneck, (3, 8, 36, 3)),
    "resnext50": (resnext_32x4d, (3, 4, 6, 3)),
}


class ResNet(Staged):
    """A 7x7 stem and max pooling, each of stride 2, then four stages 64, 128, 256 and 512 wide.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1; blocks that
    change the shape have a projection as their shortcut (option B). Images of any size: from the
    authors' 224 x 224 the last stage is 7 x 7, all of which is averaged; from 32 x 32 it is 1 x 1.
    """

    convs: Callable[[int, int], tuple[Conv, ...]]  # basic, bottleneck or resnext_32x4d
    blocks: tuple[int, ...]  # of each stage
    form: str = "winograd"  # of 3x3 convolutions; see ltjax.models.layers.conv_sums
    widths: tuple[int, ...] = WIDTHS  # of all stages
    branches_from = 2

    def depths(self) -> tuple[int, ...]:
        """The blocks of each stage."""
        return self.blocks

    @nn.compact
    def __call__(self, x, train):
        """(image [B, H, W, channels], train) -> maps [B, h, w, D], D = 512 (basic) or 2048."""
        if self.start == 0:
            stem = Conv(self.widths[0], 7, stride=2)
            y, a, c = _conv_norm(stem, self.form, "stem")(x, None, None, train)
            x = add_relu(y, a, c, None, form=self.form)
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # padded with -inf
        for stage, block in self.parts():
            convs = self.convs(self.widths[stage], 2 if stage > 0 and block == 0 else 1)
            x = Block(convs, self.form, name=f"stage{stage + 1}_block{block}")(x, train)
        return x


class Block(nn.Module):
    """Convolutions, each with its norm and ReLU between them, plus the shortcut, relu."""

    convs: tuple[Conv, ...]
    form: str = "winograd"

    @nn.compact
    def __call__(self, x, train):
        """x [B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), features of the last]."""
        y, a, c = x, None, None
        for number, conv in enumerate(self.convs, 1):
            y, a, c = _conv_norm(conv, self.form, f"conv{number}")(y, a, c, train)
        return add_relu(y, a, c, self._shortcut(x, y, train), form=self.form)

    def _shortcut(self, x: jax.Array, y: jax.Array, train: bool) -> jax.Array:
        stride = math.prod(conv.stride for conv in self.convs)
        if stride == 1 and x.shape == y.shape:
            return x
        projection = Conv(y.shape[-1], 1, stride)
        x, a, c = _conv_norm(projection, self.form, "projection")(x, None, None, train)
        return (a * x + c).astype(x.dtype)


def _conv_norm(conv: Conv, form: str, name: str) -> ConvNorm:
    make = functools.partial(ConvNorm, kernel_init=kaiming_normal_fan_out, name=name)
    return make(conv.features, conv.stride, form, conv.size, conv.groups)
