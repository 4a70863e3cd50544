"""The residual networks of small images, with which results on long-tailed CIFAR are reported."""

import flax.linen as nn

from ltjax.models.layers import ConvNorm, add_relu
from ltjax.models.stages import Staged


class CifarResNet(Staged):
    """ResNet for small images: a stem and three stages of basic blocks, 16, 32 and 64 wide.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: 6 n + 2
    layers with n blocks a stage, so n = 5 is ResNet-32. Shortcuts have no parameters (option A).
    Initialisation as in LDAM-DRW's code, from which the field took its backbone.
    """

    blocks_per_stage: int
    widths: tuple[int, ...] = (16, 32, 64)  # of all stages
    form: str = "winograd"  # of convolutions; see ltjax.models.layers.conv_sums
    branches_from = 1

    def depths(self) -> tuple[int, ...]:
        """The blocks of each stage."""
        return (self.blocks_per_stage,) * len(self.widths)

    @nn.compact
    def __call__(self, x, train):
        """(image [B, H, W, channels], train) -> feature maps [B, H / 4, W / 4, widths[-1]]."""
        if self.start == 0:
            y, a, c = ConvNorm(self.widths[0], form=self.form, name="stem")(x, None, None, train)
            x = add_relu(y, a, c, None, form=self.form)
        for stage, block in self.parts():
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"stage{stage + 1}_block{block}"
            x = Block(self.widths[stage], stride, self.form, name=name)(x, train)
        return x


class Block(nn.Module):
    """conv - norm - relu - conv - norm, plus the shortcut, relu."""

    features: int
    stride: int
    form: str = "winograd"

    @nn.compact
    def __call__(self, x, train):
        """x [B, H, W, I] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        y, a, c = ConvNorm(self.features, self.stride, self.form, name="conv1")(
            x, None, None, train
        )
        y, a, c = ConvNorm(self.features, form=self.form, name="conv2")(y, a, c, train)
        return add_relu(y, a, c, x, self.stride, self.form)
