"""Checks that a training step is right on the available device, in six comparisons.

    python -m ltjax.bench check --json check.json

Three ResNet-8 experts on noise: the device against the CPU in plain float32, the ways to map
experts against one another, bfloat16 against float32, and many steps a call against one. The tests
in tests/ run on CPU; this is what of them matters elsewhere. It takes some minutes. The exit code
is 1 if one fails.
"""

import json
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from ltjax import storage
from ltjax.bench import jax_step
from ltjax.bench.arguments import parser_for, positive
from ltjax.mesh import fetch
from ltjax.recipes import recipe_of
from ltjax.run.compiled import Compiled

NUM_EXPERTS, STEPS = 3, 8
FORMS = {
    "vmap": {"experts_over": "vmap"},
    "map": {"experts_over": "map"},
    "blocks": {"experts_over": "vmap", "convolution": "blocks"},
}
ROUNDING = 2.0**-9  # of a number stored in bfloat16


def main(arguments: Sequence[str]) -> int:
    """Compare, print, and write what was found; returns the exit code."""
    parser = parser_for("check", __doc__)
    parser.add_argument("--json", type=pathlib.Path, help="a file for what was found")
    parser.add_argument("--batch-size", type=positive, default=32, help="images per expert; 32")
    args = parser.parse_args(arguments)
    jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
    device, found = jax.devices()[0], {}
    if device.platform == "cpu":
        print("There is no accelerator: the first check compares the CPU with itself.")

    def check(name, result, expected, forward, gradient):
        found[name] = one = _compared(result, expected, forward, gradient)
        shown = ", ".join(f"{of} {one[of]:.1e} (up to {one['most'][of]:.0e})" for of in one["most"])
        print(f"{'right' if one['right'] else 'WRONG':5} {name}: {shown}", flush=True)
        if args.json:
            result = {"device": device.device_kind, "jax": jax.__version__, "checks": found}
            storage.write_text(args.json, json.dumps(result, indent=2) + "\n")  # NaN, too

    # Gradients: a ReLU whose input rounds to the other side of zero moves a tensor by up to 1 %;
    # one counted twice, or an expert mixed up with another, moves it by 100 %. After 8 steps such
    # differences have grown.
    experts = Experts(args.batch_size)
    exact, *_, singly = experts.trained(device, calls=(1,) * STEPS)
    (on_cpu,) = experts.trained(jax.devices("cpu")[0])
    check("device against CPU", exact, on_cpu, 1e-4, 3e-2)
    for name, fields in FORMS.items():
        (other,) = experts.trained(device, **fields)
        check(f"{name} against unroll", other, exact, 1e-4, 3e-2)
    (rounded,) = experts.trained(device, dtype="bfloat16")
    check("bfloat16 against float32", rounded, exact, 4 * ROUNDING, 0.25)
    (together,) = experts.trained(device, calls=(STEPS,))
    check(f"{STEPS} steps in a call against {STEPS} calls", together, singly, 5e-2, 0.25)
    return 0 if all(one["right"] for one in found.values()) else 1


class Experts:
    """Three experts at their beginning, and what training makes of them."""

    def __init__(self, batch_size: int):
        self._batch_size, self._images = batch_size, jax_step.random_images()
        self._start = None

    def trained(self, device, calls=(1,), **compute) -> list[tuple]:
        """(losses [E], statistics, momentum) after each of `calls`, numbers of steps; NumPy."""
        compute = {"convolution": "plain", "experts_over": "unroll"} | compute
        settings = jax_step.settings(NUM_EXPERTS, "resnet8", self._batch_size, **compute)
        images = self._images
        info = jax_step.info_of(settings, images)
        (phase,) = recipe_of(settings, info)
        compiled = Compiled(phase, images, settings.compute, devices=[device])
        if self._start is None:  # the same for all, and compiled once
            self._start = compiled.initial(info.example)
        state = jax.device_put(self._start, device, may_alias=False)
        done, results = 0, []
        for count in calls:
            state, metrics = compiled.update(state, compiled.requests(done, count))
            results.append(fetch((metrics["loss"], state.variables.stats, state.opt_state)))
            done += count
        return results


def _compared(found, expected, forward, gradient):
    """Relative distances: of losses and statistics, which are continuous, and of gradients."""
    distances = {
        "loss": _distance(found[0], expected[0]),
        "statistics": _distance(found[1], expected[1]),
        "gradients": _distance(found[2], expected[2]),
    }
    most = {"loss": forward, "statistics": forward, "gradients": gradient}
    return {**distances, "most": most, "right": all(distances[of] <= most[of] for of in most)}


def _distance(found, expected):
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    apart, size = 0.0, 0.0
    for x, y in leaves:
        if y.dtype.kind in "iu":  # a count of steps
            continue
        apart, size = apart + np.sum((x - np.float64(y)) ** 2), size + np.sum(np.float64(y) ** 2)
    return float(np.sqrt(apart / size))
