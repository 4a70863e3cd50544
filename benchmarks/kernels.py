"""Counts the kernels that a training step launches on an accelerator, from a profile.

    python benchmarks/kernels.py --json kernels.json --convolution blocks --dtype bfloat16

A step of small networks is bound by launches rather than arithmetic, if there are many and each is
short. On CPU there is no device in the profile, and nothing is counted.
"""

import argparse
import collections
import json
import pathlib
import tempfile

import jax
from jax.profiler import ProfileData

from ltjax.bench import jax_step
from ltjax.config.settings import CONVOLUTIONS, DTYPES, settings_from
from ltjax.experts import best_over

CALLS = 3


def main() -> None:
    """Profile a few calls, and write what ran."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--json", type=pathlib.Path, required=True)
    add("--experts", type=int, default=3)
    add("--batch-size", type=int, default=128)
    add("--network", default="resnet32")
    add("--convolution", choices=CONVOLUTIONS, default="plain")
    add("--experts-over", default="auto")
    add("--dtype", choices=DTYPES, default="float32")
    args = parser.parse_args()
    compute = {name: getattr(args, name) for name in ("convolution", "experts_over", "dtype")}
    settings = settings_from(
        {
            "data": {"name": "cifar100"},
            "network": {"name": args.network},
            "num_experts": args.experts,
            "batch_size": args.batch_size,
            "compute": compute,
        }
    )
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
    args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


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


if __name__ == "__main__":
    main()
