"""Modulated attention: features that look at where in a map something is.

Liu et al., "Large-Scale Long-Tailed Recognition in an Open World" (OLTR), CVPR 2019, section 3.2:
self-attention over the places of the last feature maps, let in more at some places than at others.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.heads import Linear, uniform_fan_in
from ltjax.models.layers import kaiming_normal_fan_out


class ModulatedAttention(nn.Module):
    """X + s M: self-attention M of the maps X, weighed by a softmax s over their P = h w places.

    M = softmax(theta(X) phi(X)^T) g(X) mask, without a scale; theta, phi, g and mask are 1x1
    convolutions D -> D / 2 and back, the last without bias. s = softmax(F vec(X) + b). As the
    authors' code starts: its layer sets the mask to zero, which makes the whole the identity, but
    the backbone's initialisation then draws all four kernels anew, N(0, 2 / channels out), biases
    zero.
    """

    zero_mask: bool = False  # start as the identity, as the authors' layer means to

    @nn.compact
    def __call__(self, maps):
        """maps [B, h, w, D] -> (X + s M [B, h, w, D], s [B, h, w], M [B, h, w, D])."""
        size, height, width, dim = maps.shape
        x = maps.reshape(size, height * width, dim)  # [B, P, D]

        def conv1x1(name):
            return nn.Dense(dim // 2, kernel_init=kaiming_normal_fan_out, name=name)(x)

        alike = jnp.einsum("bpd,bqd->bpq", conv1x1("theta"), conv1x1("phi"))
        attended = jax.nn.softmax(alike) @ conv1x1("g")  # [B, P, D / 2]
        start = nn.initializers.zeros if self.zero_mask else kaiming_normal_fan_out
        mask = nn.Dense(dim, use_bias=False, kernel_init=start, name="mask")(attended)
        spatial = Linear(height * width, uniform_fan_in, name="spatial")(x.reshape(size, -1))
        weight = jax.nn.softmax(spatial)  # [B, P]
        out = x + weight[:, :, None] * mask
        return out.reshape(maps.shape), weight.reshape(maps.shape[:3]), mask.reshape(maps.shape)


class ModulatedPooling(nn.Module):
    """relu(W mean(attention(X)) + b): what makes features of maps in the second stage of OLTR.

    The authors' W is from D to 512, and D is 512 where a first stage without W comes before. Here
    it is from D to D, so that a head of that stage can go on reading what follows it.
    """

    zero_mask: bool = False

    @nn.compact
    def __call__(self, maps):
        """maps [B, h, w, D] -> features [B, D]."""
        attended, *_ = ModulatedAttention(self.zero_mask, name="attention")(maps)
        features = attended.mean((1, 2))
        return nn.relu(Linear(features.shape[-1], uniform_fan_in, name="fc_add")(features))
