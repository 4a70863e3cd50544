"""Times a training step of E independent ResNet-32 experts, in ltjax and in PyTorch, on CPU.

    pip install torch==2.13.0
    python benchmarks/step_against_torch.py --experts 1 3

A step updates every expert once, on 100 classes and 128 images each, in float32: draw the batch,
cut it out of the resident uint8 images, shift and mirror, normalise, gradients, SGD. ltjax takes
the path of its own training loop, the request that the host makes included. PyTorch trains the
same networks one after another in its fast layout, `channels_last`, without torch.compile.

Compare ratios, not times. All candidates live in one process and take turns, one step of each a
round; a ratio is the median over rounds of ltjax's time divided by PyTorch's in the same round,
below 1 where ltjax is faster. Taking turns evens out a slow drift, not another job: PyTorch's
threads wait for one another by spinning, and beside other jobs on two cores its step with two
threads took six times as long as with one, which flatters ltjax. Measure on an idle machine.

The images are random and as many as CIFAR-100-LT has at imbalance factor 100, so no data set is
needed: the time of a step does not depend on pixels.
"""

import argparse
import itertools
import os
import pathlib
import platform
import re
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np

from ltjax.choices import choose
from ltjax.data.datasets import DATASETS
from ltjax.data.feeds import resident
from ltjax.data.images import Images
from ltjax.data.splits import long_tailed_counts
from ltjax.experts import best_over, independent, seeded_keys
from ltjax.mesh import EXPERT_BATCHES, WHOLE, fetch, mesh_for, place, sharded
from ltjax.methods import METHODS
from ltjax.phases import Info
from ltjax.settings import settings_from

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ModuleNotFoundError:
    print("This benchmark compares with PyTorch: pip install torch==2.13.0", file=sys.stderr)
    sys.exit(2)

DATASET = DATASETS["cifar100"]
CLASS_COUNTS = long_tailed_counts(100, largest=500, imbalance_factor=100.0)  # 10,847 images
LR, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 2e-4
PARAMETERS = 470_004  # of one expert; both libraries must have them
BUSY = 0.5  # load average from which on ratios are doubtful
WARM_UP = 3  # rounds: ltjax compiles in the first, memory settles in the others


def main() -> None:
    """Print the machine, the time of each candidate and, last, the ratios."""
    args = _arguments()
    jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(_machine(args.threads), flush=True)
    load = os.getloadavg()[0]
    if load > BUSY:
        print(
            f"Load average {load:.1f}: the machine is busy, do not trust ratios.", file=sys.stderr
        )

    images = _random_images()
    candidates = {
        (library, num_experts): steps(images, num_experts, args.batch_size)
        for num_experts in args.experts
        for library, steps in (("ltjax", ltjax_steps), ("torch", torch_steps))
    }
    times = {name: [] for name in candidates}  # ms of a whole step
    for number in range(WARM_UP + args.rounds):
        turns = list(candidates.items())
        for name, steps in reversed(turns) if number % 2 else turns:  # nobody is always first
            milliseconds = _timed(steps)
            if number >= WARM_UP:
                times[name].append(milliseconds)

    for (library, num_experts), values in times.items():
        layout = " (channels_last)" if library == "torch" else ""
        per_expert = np.median(values) / num_experts
        print(f"E={num_experts} {library}{layout}: {per_expert:.1f} ms per expert-step")
    for num_experts in args.experts:
        ours, theirs = (np.array(times[library, num_experts]) for library in ("ltjax", "torch"))
        print(f"E={num_experts}: {np.median(ours / theirs):.2f} of torch (channels_last)")


def ltjax_steps(images: Images, num_experts: int, batch_size: int) -> Iterator[np.ndarray]:
    """Train as `ltjax.loop` does, yielding f32[E] losses; each step is complete when it yields."""
    settings = settings_from(
        {
            "data": {"name": "cifar100"},
            "network": {"name": "resnet32"},
            "schedule": {"name": "step", "lr": LR},
            "optimizer": {"momentum": MOMENTUM, "nesterov": True, "weight_decay": WEIGHT_DECAY},
            "num_experts": num_experts,
            "batch_size": batch_size,
        }
    )
    info = Info(DATASET, images.image.shape[1:], images.label, CLASS_COUNTS)
    (phase,) = choose(METHODS, "method", **settings.method)(settings, info)
    mesh = mesh_for(num_experts, expert=settings.mesh.expert)
    feed = resident(images, phase.draw, settings.seed, 0, num_experts)
    many = sharded(independent(phase.learner, best_over(settings.compute)), mesh, feed.load)
    state = many.init(seeded_keys(settings.seed, 0, num_experts), info.example)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.variables.params))
    assert count == num_experts * PARAMETERS, count

    arrays = place(feed.arrays, mesh, WHOLE)
    for number in itertools.count():
        request = place(feed.request(number), mesh, EXPERT_BATCHES)
        state, metrics = many.update(state, arrays, request)
        jax.block_until_ready(state)
        yield fetch(metrics)["loss"]


def torch_steps(images: Images, num_experts: int, batch_size: int) -> Iterator[list[float]]:
    """Train the same experts one after another in PyTorch, yielding their losses."""
    label, pad = torch.from_numpy(images.label), DATASET.pad
    padded = functional.pad(torch.from_numpy(images.image), (0, 0, pad, pad, pad, pad))
    networks = [TorchResNet32(len(CLASS_COUNTS)) for _ in range(num_experts)]
    for network in networks:
        network.to(memory_format=torch.channels_last).train()
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == PARAMETERS, count
    optimizers = [
        torch.optim.SGD(
            network.parameters(),
            lr=LR,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=WEIGHT_DECAY,
        )
        for network in networks
    ]
    orders = [_batches(len(label), batch_size) for _ in networks]
    cross_entropy = nn.CrossEntropyLoss()

    def update(network, optimizer, index):
        image = torch_augment(padded, index)
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(network(image), label[index])
        loss.backward()
        optimizer.step()
        return loss.item()

    while True:
        experts = zip(networks, optimizers, orders, strict=True)
        yield [update(network, optimizer, next(order)) for network, optimizer, order in experts]


def torch_augment(padded: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """What `ltjax.data.augment` does, as one gather from images that were padded once.

    Args:
      padded: u8[N, H + 2 pad, W + 2 pad, channels].
      index: i64[B], which of them.

    Returns:
      f32[B, channels, H, W], whose memory is that of [B, H, W, channels]: channels_last.
    """
    batch, pad = len(index), DATASET.pad
    height, width = (size - 2 * pad for size in padded.shape[1:3])
    top, left = torch.randint(2 * pad + 1, (2, batch, 1))
    mirror = torch.rand(batch, 1) < 0.5
    rows, columns = top + torch.arange(height), torch.arange(width)  # [B, H], [W]
    columns = left + torch.where(mirror, width - 1 - columns, columns)  # [B, W]
    where = index[:, None, None], rows[:, :, None], columns[:, None, :]
    image = padded[where]  # [B, H, W, channels]
    mean, std = torch.tensor(DATASET.mean), torch.tensor(DATASET.std)
    return image.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


class TorchResNet32(nn.Module):
    """`ltjax.models.resnet.CifarResNet` with 5 blocks a stage and a linear head, in PyTorch."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.stem = _conv3x3(3, 16)
        self.norm = nn.BatchNorm2d(16)
        blocks = [
            TorchBlock(inputs if block == 0 else width, width, width // inputs if block == 0 else 1)
            for inputs, width in ((16, 16), (16, 32), (32, 64))
            for block in range(5)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image):
        """Image [B, 3, H, W] -> logits [B, C]."""
        x = functional.relu(self.norm(self.stem(image)), inplace=True)
        return self.head(self.blocks(x).mean((2, 3)))


class TorchBlock(nn.Module):
    """`ltjax.models.resnet.Block` in PyTorch; ReLU and sum overwrite what nothing reads again."""

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


def _conv3x3(inputs, features, stride=1):
    return nn.Conv2d(inputs, features, 3, stride, padding=1, bias=False)


def _batches(size, batch_size):
    """Shuffled epochs without end, i64[B] each; the rest of an epoch is dropped."""
    while True:
        yield from torch.randperm(size).split(batch_size)[: size // batch_size]


def _random_images():
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
    image = generator.integers(0, 256, (len(label), 32, 32, 3), np.uint8)
    return Images(image, label)


def _timed(steps):
    began = time.perf_counter()
    losses = next(steps)
    milliseconds = 1e3 * (time.perf_counter() - began)
    assert np.isfinite(losses).all(), losses
    return milliseconds


def _machine(threads):
    path = pathlib.Path("/proc/cpuinfo")  # only Linux has it
    text = path.read_text() if path.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    vectors = re.search(r"\bavx512f\b", text) or re.search(r"\bavx2\b", text)
    return ", ".join(
        [
            model[1] if model else platform.machine(),
            vectors[0] if vectors else "no avx2",
            f"{os.cpu_count()} cores",
            f"{threads} threads for torch",
            f"jax {jax.__version__}",
            f"torch {torch.__version__}",
            f"python {platform.python_version()}",
        ]
    )


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experts", type=_positive, nargs="+", default=[1, 3], help="E, one or several; 1 3"
    )
    parser.add_argument("--rounds", type=_positive, default=15, help="timed steps of each; 15")
    parser.add_argument("--batch-size", type=_positive, default=128, help="per expert; 128")
    parser.add_argument(
        "--threads",
        type=_positive,
        default=os.cpu_count(),
        help="of PyTorch, by default one a core; ltjax takes all cores (to use fewer: taskset)",
    )
    return parser.parse_args()


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too few; at least 1")
    return value


if __name__ == "__main__":
    main()
