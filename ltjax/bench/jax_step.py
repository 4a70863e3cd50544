"""What is measured: the step of `ltjax.run.loop`, compiled and called as the loop does."""

import time
from collections.abc import Iterator

import jax
import numpy as np

from ltjax.config.choices import choose
from ltjax.config.settings import Settings
from ltjax.data.datasets import DATASETS
from ltjax.data.feeds import MAIN, resident
from ltjax.data.images import Images
from ltjax.data.splits import long_tailed_counts
from ltjax.experts import best_over, independent, seeded_keys
from ltjax.mesh import REQUESTS, WHOLE, fetch, mesh_for, place, sharded
from ltjax.methods import METHODS
from ltjax.models import cost
from ltjax.phases import Info
from ltjax.run.steps_per_call import most_steps

DATASET = DATASETS["cifar100"]
CLASS_COUNTS = long_tailed_counts(100, largest=500, imbalance_factor=100.0)  # 10,847 images


def random_images() -> Images:
    """Noise of CIFAR-100-LT's size at imbalance factor 100: no step's time depends on pixels."""
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
    image = generator.integers(0, 256, (len(label), 32, 32, 3), np.uint8)
    return Images(image, label)


class Step:
    """A compiled training step of `settings.num_experts` experts, and its costs."""

    def __init__(self, settings: Settings, images: Images):
        """Initialise the experts and compile."""
        self.settings = settings
        self.steps_per_call = most_steps(settings.compute)
        info = Info(DATASET, images.image.shape[1:], images.label, CLASS_COUNTS)
        (phase,) = choose(METHODS, "method", **settings.method)(settings, info)
        self._mesh = mesh_for(phase.num_experts, expert=settings.mesh.expert)
        self._feed = resident(images, {MAIN: phase.draw}, settings.seed, 0, phase.num_experts)
        learner = independent(phase.learner, best_over(settings.compute))
        many = sharded(learner, self._mesh, self._feed.load)
        keys = seeded_keys(settings.seed, 0, phase.num_experts)
        self._state = many.init(keys, info.example)
        self._arrays = place(self._feed.arrays, self._mesh, WHOLE)
        began = time.perf_counter()
        arguments = self._state, self._arrays, self._requests(0)
        self._update = many.update.lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - began
        self.temporary_bytes = self._update.memory_analysis().temp_size_in_bytes
        one = jax.eval_shape(phase.learner.init, keys[0], info.example)
        self.num_parameters = cost.parameters(one.variables.params)
        # The forward pass, and about as much for each of the two gradients.
        forward = cost.multiply_adds(phase.learner.predict, one, info.example)
        self.multiply_adds = 3 * forward * settings.batch_size * settings.num_experts

    def losses(self) -> Iterator[np.ndarray]:
        """Train, yielding f32[E] losses after each call; its steps are complete when it yields."""
        number = 0
        while True:
            self._state, metrics = self._update(self._state, self._arrays, self._requests(number))
            jax.block_until_ready(self._state)
            yield fetch(metrics)["loss"]
            number += self.steps_per_call

    def _requests(self, number):
        return place(self._feed.host_batches(number, self.steps_per_call), self._mesh, REQUESTS)
