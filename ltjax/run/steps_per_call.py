"""How many steps one call of the compiled program takes."""

from collections.abc import Iterator, Sequence

import jax

from ltjax.config.settings import Compute


def most_steps(compute: Compute) -> int:
    """Steps of a call at most: config.compute.steps_per_call, or a default if that is 0.

    On CPU the cost of a call is negligible next to that of a step. For accelerators 16 is an
    assumption, not measured: few enough that Ctrl-C is answered soon.
    """
    return compute.steps_per_call or (1 if jax.default_backend() == "cpu" else 16)


def strides(start: int, stop: int, every: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Cut the steps from `start` to `stop` into calls of `most` steps or of one.

    No call passes `stop` or a multiple of a number in `every`, where the loop logs, evaluates or
    saves. Calls of `most` steps are counted from the last of these boundaries. So a resumed run
    takes each step in the same program as a run that was never stopped, and is bitwise equal.

    Yields:
      (steps done before the call, steps that it takes).
    """
    while start < stop:
        before = max(start // n * n for n in every)
        after = min(stop, min((start // n + 1) * n for n in every))
        whole = (start - before) % most == 0 and start + most <= after
        count = most if whole else 1
        yield start, count
        start += count
