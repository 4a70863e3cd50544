"""What a user would run instead: the same experts in PyTorch, one after another.

As fast as PyTorch does it on CPU without a compiler: its fast layout `channels_last`, images
resident and padded once, augmentation as one gather a batch, ReLU and sums in place. With bfloat16,
by automatic mixed precision. On a GPU also compiled, where that works, with TF32 as JAX has it, and
nothing waits for the device within a turn.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ltjax.config.settings import Settings
from ltjax.data.datasets import Dataset
from ltjax.data.images import Images

NETWORKS = ("resnet8", "resnet20", "resnet32", "resnet56")


def steps(
    settings: Settings,
    dataset: Dataset,
    images: Images,
    depth: int,
    num_parameters: int,
    steps_per_turn: int = 1,
) -> Iterator[np.ndarray]:
    """Train ResNets of `depth` layers as `settings` says, at a constant rate.

    Yields f32[E] losses after every `steps_per_turn` steps, which are complete when it yields.
    `num_parameters` is what an expert of ltjax has, and what one has here.
    """
    device, compiled = _device(), _compiler()[0]
    label, pad = torch.from_numpy(images.label).to(device), dataset.pad
    padded = functional.pad(torch.from_numpy(images.image), (0, 0, pad, pad, pad, pad)).to(device)
    num_classes, channels = int(label.max()) + 1, padded.shape[-1]
    networks = [ResNet(depth, channels, num_classes) for _ in range(settings.num_experts)]
    for network in networks:
        network.to(device, memory_format=torch.channels_last).train()
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == num_parameters, (count, num_parameters)
    optimizers = [
        torch.optim.SGD(
            network.parameters(),
            lr=settings.schedule["lr"],
            momentum=settings.optimizer.momentum,
            nesterov=settings.optimizer.nesterov,
            weight_decay=settings.optimizer.weight_decay,
            fused=True if device.type == "cuda" else None,
        )
        for network in networks
    ]
    networks = [compiled(network) for network in networks]
    orders = [_batches(len(label), settings.batch_size, device) for _ in networks]
    cross_entropy = nn.CrossEntropyLoss()
    bfloat16 = settings.compute.dtype == "bfloat16"

    def update(network, optimizer, index):
        image = augmented(padded, index, dataset)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = cross_entropy(network(image), label[index])
        loss.backward()
        optimizer.step()
        return loss

    while True:
        for _ in range(steps_per_turn):
            experts = zip(networks, optimizers, orders, strict=True)
            losses = [
                update(network, optimizer, next(order)) for network, optimizer, order in experts
            ]
        yield torch.stack(losses).detach().cpu().numpy()  # waits for the device, once a turn


def described(dtype: str) -> str:
    """How PyTorch trains here, in a few words."""
    mixed = ", autocast to bfloat16" if dtype == "bfloat16" else ""
    return (
        f"PyTorch {torch.__version__} on {_device().type}, channels_last{mixed}, {_compiler()[1]}"
    )


def augmented(padded: torch.Tensor, index: torch.Tensor, dataset: Dataset) -> torch.Tensor:
    """What `ltjax.augmentation.augments` does, as one gather from images that were padded once.

    Args:
      padded: u8[N, H + 2 pad, W + 2 pad, channels].
      index: i64[B], which of them.

    Returns:
      f32[B, channels, H, W], whose memory is that of [B, H, W, channels]: channels_last.
    """
    batch, pad, device = len(index), dataset.pad, padded.device
    height, width = (size - 2 * pad for size in padded.shape[1:3])
    top, left = torch.randint(2 * pad + 1, (2, batch, 1), device=device)
    mirror = torch.rand(batch, 1, device=device) < (0.5 if dataset.flip else 0)
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    rows = top + rows  # [B, H]
    columns = left + torch.where(mirror, width - 1 - columns, columns)  # [B, W]
    where = index[:, None, None], rows[:, :, None], columns[:, None, :]
    image = padded[where]  # [B, H, W, channels]
    mean, std = (_constant(of, device) for of in (dataset.mean, dataset.std))
    return image.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


class ResNet(nn.Module):
    """`ltjax.models.resnet_cifar.CifarResNet` and a linear head, in PyTorch."""

    def __init__(self, depth: int, channels: int, num_classes: int):
        super().__init__()
        self.stem = _conv3x3(channels, 16)
        self.norm = nn.BatchNorm2d(16)
        blocks = [
            Block(inputs if block == 0 else width, width, width // inputs if block == 0 else 1)
            for inputs, width in ((16, 16), (16, 32), (32, 64))
            for block in range((depth - 2) // 6)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image):
        """Image [B, channels, H, W] -> logits [B, C]."""
        x = functional.relu(self.norm(self.stem(image)), inplace=True)
        return self.head(self.blocks(x).mean((2, 3)))


class Block(nn.Module):
    """`ltjax.models.resnet_cifar.Block` in PyTorch; ReLU and sum work in place."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = _conv3x3(inputs, features, stride), nn.BatchNorm2d(features)
        self.conv2, self.norm2 = _conv3x3(features, features), nn.BatchNorm2d(features)
        self.stride, self.new = stride, features - inputs

    def forward(self, x):
        """X [B, I, H, W] -> [B, features, ceil(H / stride), ceil(W / stride)]."""
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.new // 2, self.new // 2))
        y += x
        return functional.relu(y, inplace=True)


def _device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def _compiler() -> tuple[Callable[[nn.Module], nn.Module], str]:
    """What compiles a network, and whether it does, which a small one tells on a GPU."""

    def as_it_is(network):
        return network

    def compiled(network):  # kernel launches as CUDA graphs
        return torch.compile(network, mode="reduce-overhead")

    device = _device()
    if device.type == "cpu":
        return as_it_is, "not compiled"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    network = compiled(ResNet(8, 3, 10).to(device, memory_format=torch.channels_last))
    try:
        for _ in range(3):  # run, record the graph, replay it
            network(torch.zeros(8, 3, 32, 32, device=device)).sum().backward()
    except RuntimeError as error:  # no Triton, no C compiler
        return as_it_is, f"not compiled ({str(error).strip().splitlines()[0]})"
    return compiled, "compiled"


@functools.cache
def _constant(values, device):
    return torch.tensor(values, device=device)  # once: a copy to a GPU waits for it


def _conv3x3(inputs, features, stride=1):
    return nn.Conv2d(inputs, features, 3, stride, padding=1, bias=False)


def _batches(size, batch_size, device):
    """Shuffled epochs without end, i64[B] each; the rest of an epoch is dropped."""
    while True:
        yield from torch.randperm(size, device=device).split(batch_size)[: size // batch_size]
