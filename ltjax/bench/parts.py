"""Times what a training step does besides the networks, each part compiled by itself.

    python -m ltjax.bench parts

Parts: what the host does (drawing indices and handing them over); gathering images, augmenting and
normalising them; the loss of the logits, its gradient and the accuracy; the optimiser. Compiled
alone, a part also writes its result to memory, which inside the step it may not; so their sum is
rather too large. ResNet-32, 100 classes, as `python -m ltjax.bench`.
"""

import functools
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import mesh, optim, runtime
from ltjax.bench import jax_step
from ltjax.bench.arguments import add_step, compute_of, parser_for, positive
from ltjax.build import objective, on_images, phase
from ltjax.experts import seeded_keys
from ltjax.learner import LossOutput, Method
from ltjax.methods.classifier import method_for
from ltjax.run.compiled import Compiled


def main(arguments: Sequence[str]) -> int:
    """Print milliseconds and shares of the whole step; returns the exit code."""
    parser = parser_for("parts", __doc__)
    parser.add_argument("--experts", type=positive, default=3, help="E; 3")
    parser.add_argument("--rounds", type=positive, default=20, help="timed calls of each; 20")
    add_step(parser.add_argument, convolution="winograd")
    args = parser.parse_args(arguments)
    runtime.keep_freed_memory()
    settings = jax_step.settings(args.experts, args.network, args.batch_size, **compute_of(args))
    images = jax_step.random_images()
    whole = jax_step.Step(settings, images).losses()
    todo = {"whole": lambda: next(whole)} | parts(settings, images)
    seconds = {name: [] for name in todo}
    for round_number in range(args.rounds + 2):
        for name, f in todo.items():
            began = time.perf_counter()
            jax.block_until_ready(f())
            if round_number >= 2:  # compiled and warm
                seconds[name].append(time.perf_counter() - began)
    step, *rest = (statistics.median(seconds[name]) for name in todo)
    print(f"the whole step, {args.experts} x {args.network}: {1e3 * step:.1f} ms")
    for name, part in zip(list(todo)[1:], rest, strict=True):
        print(f"{name:<45}{1e3 * part:8.2f} ms {100 * part / step:6.2f} %")
    print(f"{'together':<45}{1e3 * sum(rest):8.2f} ms {100 * sum(rest) / step:6.2f} %")
    return 0


def parts(settings, images) -> dict:
    """{what: a function that does it once}."""
    info = jax_step.info_of(settings, images)
    num_experts, size = settings.num_experts, settings.batch_size
    seen = {}

    def look(variables, batch, key, progress):
        seen["image"] = batch["image"]
        return LossOutput(None, None, None, None, {})

    reader = on_images(Method(None, look, None), info, settings)
    step = Compiled(
        phase(settings, info, reader),
        images,
        settings.compute,
        seed=settings.seed,
        devices=jax.devices()[:1],
    )
    feed, on, arrays = step.feed, step.mesh, step.arrays()
    numbers = iter(range(10**9))

    def host():
        return step.requests(next(numbers))

    def read(keys, arrays, request):
        def of_one(key, request):
            reader.loss(None, feed.load(arrays, request), key, 0.0)
            return seen["image"]

        return jax.vmap(of_one)(keys, jax.tree.map(lambda x: x[0], request))

    keys = seeded_keys(0, 0, num_experts)
    request = host()
    read = compiled(read, on, (mesh.EXPERTS, mesh.WHOLE, mesh.REQUESTS))

    minimised = objective(settings, info.class_counts)

    def judge(logits, label, keys):
        def of_one(logits, label, key):
            def mean(logits):
                values, weights = minimised(logits, label, key, 0.5)
                return (values * weights).sum() / weights.sum()

            accuracy = (logits.argmax(-1) == label).mean()
            return *jax.value_and_grad(mean)(logits), accuracy

        return jax.vmap(of_one)(logits, label, keys)

    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(num_experts, size, info.num_classes)), jnp.float32)
    label = jnp.asarray(rng.integers(0, info.num_classes, (num_experts, size)))
    judge = compiled(judge, on, (mesh.EXPERTS,) * 3)

    sgd = optim.sgd(optim.step(200, 85, lr=0.1), 0.9, True, 2e-4)
    one = phase(settings, info, method_for(settings, info)).learner
    params = jax.vmap(one.init, (0, None))(keys, info.example).variables.params
    state = jax.vmap(sgd.init)(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def optimise(params, state, gradients):
        updates, state = jax.vmap(sgd.update)(gradients, state, params)
        return optax.apply_updates(params, updates), state

    gradients = jax.tree.map(lambda x: 1e-6 * jnp.ones_like(x), params)
    held = [params, state]

    def move():
        held[:] = optimise(*held, gradients)
        return held

    return {
        "host: draw and hand over indices": host,
        "gather, augment, normalise": lambda: read(keys, arrays, request),
        "loss, its gradient, accuracy": lambda: judge(logits, label, keys),
        "optimiser": move,
    }


def compiled(f, on, specs):
    """f over the mesh, as the step is."""
    return jax.jit(mesh.over_mesh(f, on, specs, mesh.EXPERTS))
