"""The measured step: that of the training loop, compiled in the same way."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ltjax.config.settings import Settings
from ltjax.data.datasets import DATASETS, assembled
from ltjax.data.images import InMemory
from ltjax.data.info import DataInfo
from ltjax.data.splits import long_tailed_counts
from ltjax.mesh import fetch
from ltjax.models import cost
from ltjax.recipes import recipe_of, settings_of
from ltjax.run.compiled import Compiled
from ltjax.run.steps_per_call import most_steps

CLASS_COUNTS = long_tailed_counts(100, largest=500, imbalance_factor=100.0)  # 10,847 images


def settings(num_experts: int, network: str, batch_size: int, **compute: Any) -> Settings:
    """CIFAR-100's settings with these networks; `compute`: fields of config.compute.

    Raises:
      UserError: if there is no such network, or a value is out of range.
    """
    return settings_of(
        {
            "data": {"name": "cifar100"},
            "network": {"name": network},
            "schedule": {"name": "step", "lr": 0.1},
            "num_experts": num_experts,
            "batch_size": batch_size,
            "log_every_steps": max(1, compute.get("steps_per_call", 1)),
            "compute": compute,
        }
    )


def random_images() -> InMemory:
    """Noise of CIFAR-100-LT's size at imbalance factor 100: no step's time depends on pixels."""
    generator = np.random.default_rng(0)
    label = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
    image = generator.integers(0, 256, (len(label), 32, 32, 3), np.uint8)
    return InMemory(image, label)


def info_of(settings: Settings, images: InMemory) -> DataInfo:
    """That of CIFAR-100 with these training images."""
    names = [str(label) for label in range(len(CLASS_COUNTS))]
    return assembled(settings.data, DATASETS["cifar100"], images, images, names, {}).info


class Step:
    """A compiled training step of `settings.num_experts` experts, and its costs."""

    def __init__(self, settings: Settings, images: InMemory):
        """Initialise the experts and compile."""
        self.settings = settings
        self.steps_per_call = most_steps(settings.compute)
        info = info_of(settings, images)
        (phase,) = recipe_of(settings, info)
        self._compiled = Compiled(phase, images, settings.compute, seed=settings.seed)
        self._state = self._compiled.initial(info.example)
        began = time.perf_counter()
        arguments = self._state, self._compiled.arrays(), self._requests(0)
        self._update = self._compiled.programs.update.lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - began
        self.temporary_bytes = self._update.memory_analysis().temp_size_in_bytes
        one = jax.eval_shape(phase.learner.init, jax.random.key(0), info.example).variables
        self.num_parameters = cost.parameters(one.params)
        # The forward pass, and about as much for each of the two gradients.
        predict = phase.learner.method.predict
        forward = cost.multiply_adds(lambda *args: predict(*args).logits, one, info.example)
        self.multiply_adds = 3 * forward * settings.batch_size * settings.num_experts

    def losses(self) -> Iterator[np.ndarray]:
        """Train, yielding f32[E] losses after each call; its steps are complete when it yields."""
        number, arrays = 0, self._compiled.arrays()
        while True:
            self._state, metrics = self._update(self._state, arrays, self._requests(number))
            jax.block_until_ready(self._state)
            yield fetch(metrics)["loss"]
            number += self.steps_per_call

    def _requests(self, number):
        return self._compiled.requests(number, self.steps_per_call)
