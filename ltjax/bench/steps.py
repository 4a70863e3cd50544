"""Times a training step of E independent experts, and says what it costs.

    python -m ltjax.bench
    python -m ltjax.bench --against torch          (pip install torch==2.13.0)

Other measurements, each with its own --help: check (is a step right on this device?), parts (what
of a step is not the networks), launches (kernels that a step launches on an accelerator), as in

    python -m ltjax.bench check

A step updates every expert once: draw the batch, cut it out of the resident uint8 images, shift and
mirror, normalise, gradients, SGD, what the host does included. PyTorch trains the same networks one
after another, as fast as a user would have it (ltjax/bench/torch_step.py).

Compare ratios, not times. All candidates live in one process and take turns, one call of each a
round, of as many steps as ltjax takes in one (--steps-per-call); times are those of one step. A
ratio is the median over rounds of the ratios within a round. Measure on an idle machine: taking
turns evens out a slow drift, not another job. PyTorch's threads wait for one another by spinning,
so next to other jobs its step with two threads took six times as long as with one, which flatters
ltjax.

In the table, E x 1 is the time of the step relative to E steps of one expert; temp is what XLA
takes for temporary arrays in a step. GFLOP/s are those of the convolutions as they are defined,
twice the multiply-adds (GMAC); Winograd's transforms need fewer, so that more than the peak is
possible. The peak is that of a product of two large matrices of the same type (--dtype) here.
"""

import importlib.util
import os
import platform
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ltjax import runtime
from ltjax.bench import jax_step
from ltjax.bench.arguments import add_step, compute_of, parser_for, positive
from ltjax.data.datasets import DATASETS
from ltjax.errors import UserError
from ltjax.experts import best_over
from ltjax.models.layers import described
from ltjax.run.steps_per_call import most_steps
from ltjax.runtime import device

BUSY = 0.5  # load average above which ratios are doubtful
WARM_UP = 3  # rounds: memory settles


def main(arguments: Sequence[str]) -> int:
    """Print the machine, a table, and the ratios last; returns the exit code."""
    args = _parsed(arguments)
    runtime.keep_freed_memory()
    if args.against and not importlib.util.find_spec("torch"):
        raise UserError("--against torch needs PyTorch: pip install torch==2.13.0")
    console = Console(highlight=False)
    console.print(f"{device()}, JAX {jax.__version__}, Python {platform.python_version()}")
    compute = _settings(args, 1).compute
    over, count = best_over(compute), most_steps(compute)
    console.print(f"{args.network}, convolutions: {described(compute)}")
    console.print(f"experts over {over}, {count} step{'s' * (count > 1)} a call, {args.dtype}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0
    if load > BUSY:
        console.print(f"Load average {load:.1f}: the machine is busy, do not trust ratios.")
    images = jax_step.random_images()
    peak = _matmul_peak(args.dtype)
    steps = {}
    for num_experts in args.experts:
        if console.is_terminal:
            console.print(f"compiling a step of {num_experts} experts", end="\r")
        steps["ltjax", num_experts] = jax_step.Step(_settings(args, num_experts), images)
    candidates = {name: step.losses() for name, step in steps.items()}
    if args.against:
        candidates |= _torch_steps(args, steps, images)
    times = _take_turns(candidates, args.rounds, count)  # {candidate: ms[rounds]}

    console.print(_table(args, steps, times, peak))
    used = ", ".join(
        f"{v / 2**30:.2f} GiB of the {k}" for k, v in runtime.peak_bytes().items() if v
    )
    console.print(
        f"Matrix product: {peak / 1e9:,.0f} GFLOP/s. Memory at most, all together: {used}"
    )
    if args.against:
        from ltjax.bench import torch_step

        console.print(torch_step.described(args.dtype))
    for num_experts in args.experts if args.against else ():
        ratio = np.median(times["ltjax", num_experts] / times["torch", num_experts])
        milliseconds = np.median(times["torch", num_experts]) / num_experts
        console.print(
            f"E={num_experts}: {ratio:.2f} of torch (channels_last), "
            f"which takes {_digits(milliseconds)} ms an expert"
        )
    return 0


def _settings(args, num_experts):
    return jax_step.settings(num_experts, args.network, args.batch_size, **compute_of(args))


def _torch_steps(args, steps, images):
    import torch

    from ltjax.bench import torch_step

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.network not in torch_step.NETWORKS:
        known = ", ".join(torch_step.NETWORKS)
        raise UserError(f"--against torch knows {known}; not {args.network}.")
    depth = int(args.network.removeprefix("resnet"))
    return {
        ("torch", num_experts): torch_step.steps(
            *(step.settings, DATASETS["cifar100"], images, depth, step.num_parameters),
            steps_per_turn=step.steps_per_call,
        )
        for (_, num_experts), step in steps.items()
    }


def _take_turns(candidates, rounds, steps_per_call):
    times = {name: [] for name in candidates}
    for number in range(WARM_UP + rounds):
        turns = list(candidates.items())
        for name, steps in reversed(turns) if number % 2 else turns:  # nobody is always first
            began = time.perf_counter()
            losses = next(steps)
            milliseconds = 1e3 * (time.perf_counter() - began) / steps_per_call
            assert np.isfinite(losses).all(), (name, losses)
            if number >= WARM_UP:
                times[name].append(milliseconds)
    return {name: np.array(values) for name, values in times.items()}


def _table(args, steps, times, peak) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
    titles = ["E", "ms/step", "ms/expert", "img/s", "GMAC", "GFLOP/s", "of peak", "temp MiB"]
    for title in [*titles, "compile", "E x 1"]:
        table.add_column(title, justify="right", no_wrap=True)
    for num_experts in args.experts:
        step, taken = steps["ltjax", num_experts], times["ltjax", num_experts]
        milliseconds = np.median(taken)
        rate = 2 * step.multiply_adds / (milliseconds / 1e3)
        alone = "-"
        if 1 in args.experts:
            alone = f"{np.median(taken / (num_experts * times['ltjax', 1])):.2f}"
        table.add_row(
            str(num_experts),
            _digits(milliseconds),
            _digits(milliseconds / num_experts),
            f"{num_experts * args.batch_size / (milliseconds / 1e3):,.0f}",
            f"{step.multiply_adds / 1e9:.1f}",
            f"{rate / 1e9:,.0f}",
            f"{rate / peak:.0%}",
            f"{step.temporary_bytes / 2**20:,.0f}",
            f"{step.compile_seconds:.1f} s",
            alone,
        )
    return table


def _digits(milliseconds):
    return f"{milliseconds:.1f}" if milliseconds >= 10 else f"{milliseconds:.3f}"


def _matmul_peak(dtype) -> float:
    """FLOP/s of the fastest of 10 products of two matrices, 2048 or 8192 squared."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    left = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(left, left))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(left, left))
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def _parsed(arguments):
    parser = parser_for("", __doc__)
    add = parser.add_argument
    add("--experts", type=positive, nargs="+", default=[1, 2, 3, 4, 8], help="E; 1 2 3 4 8")
    add("--against", choices=["torch"], help="compare with PyTorch, in turns")
    add("--rounds", type=positive, default=15, help="timed calls of each; 15")
    add_step(add, convolution="winograd")
    add("--steps-per-call", type=positive, default=0, help="1 on CPU, 16 elsewhere")
    add(
        "--threads",
        type=positive,
        default=os.cpu_count(),
        help="of PyTorch, by default one a core; ltjax takes all cores (for fewer: taskset)",
    )
    return parser.parse_args(arguments)
