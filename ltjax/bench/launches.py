"""Counts the kernels that a training step launches on an accelerator, from a profile.

    python -m ltjax.bench launches --json launches.json --convolution blocks --dtype bfloat16

A step of small networks is bound by launches rather than arithmetic, if there are many and each is
short. On CPU there is no device in the profile, and nothing is counted.
"""

import collections
import json
import pathlib
import tempfile
from collections.abc import Sequence

import jax
from jax.profiler import ProfileData

from ltjax import storage
from ltjax.bench import jax_step
from ltjax.bench.arguments import add_step, compute_of, parser_for, positive
from ltjax.experts import best_over

CALLS = 3


def main(arguments: Sequence[str]) -> int:
    """Profile a few calls, and write what ran; returns the exit code."""
    parser = parser_for("launches", __doc__)
    parser.add_argument("--json", type=pathlib.Path, required=True, help="a file for what ran")
    parser.add_argument("--experts", type=positive, default=3, help="E; 3")
    add_step(parser.add_argument, convolution="plain")
    args = parser.parse_args(arguments)
    compute = compute_of(args)
    settings = jax_step.settings(args.experts, args.network, args.batch_size, **compute)
    step = jax_step.Step(settings, jax_step.random_images())
    losses = step.losses()
    next(losses)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                next(losses)
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        found = counted(ProfileData.from_file(str(path)), CALLS * step.steps_per_call)
    over = best_over(settings.compute)
    result = {"experts": args.experts, **compute, "experts_over": over, **found}
    storage.write_json(args.json, result)
    print(json.dumps(result))
    return 0


def counted(profile: ProfileData, steps: int) -> dict:
    """Kernels and copies a step, and the time they take, over all streams of the first device.

    Args:
      profile: of a whole number of steps.
      steps: that number.
    """
    devices = [plane for plane in profile.planes if plane.name.startswith("/device:")]
    names, nanoseconds = collections.Counter(), collections.Counter()
    for line in devices[0].lines if devices else ():
        if line.name.startswith("Stream"):  # other lines group the same events by module
            for event in line.events:
                names[event.name] += 1
                nanoseconds[event.name] += event.duration_ns
    copies = sum(count for name, count in names.items() if name.startswith(("Memcpy", "Memset")))
    return {
        "planes": [plane.name for plane in profile.planes],
        "kernels_per_step": (sum(names.values()) - copies) / steps if names else None,
        "copies_per_step": copies / steps if names else None,
        "busy_ms_per_step": sum(nanoseconds.values()) / steps / 1e6 if names else None,
        "longest": [
            {"name": name[:80], "per_step": names[name] / steps, "ms_per_step": taken / steps / 1e6}
            for name, taken in nanoseconds.most_common(10)
        ],
    }
