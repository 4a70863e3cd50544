import pytest

from ltjax.config.settings import Compute
from ltjax.run.steps_per_call import most_steps, strides

EVERY = [[50], [50, 85], [7, 3], [1], [1000]]


def counts(*args):
    return [count for _, count in strides(*args)]


def test_calls_are_whole_up_to_a_boundary_then_single():
    assert counts(0, 20, [10], 4) == [4, 4, 1, 1, 4, 4, 1, 1]
    assert counts(0, 12, [4, 6], 4) == [4, 1, 1, 1, 1, 4]
    assert counts(0, 7, [100], 4) == [4, 1, 1, 1]
    assert counts(0, 3, [1], 4) == [1, 1, 1]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("most", [1, 4, 16])
def test_every_step_is_taken_once_and_no_boundary_is_passed(every, most):
    steps = [start + i for start, count in strides(0, 300, every, most) for i in range(count)]
    assert steps == list(range(300))
    ends = {start + count for start, count in strides(0, 300, every, most)}
    assert all(set(range(n, 300, n)) <= ends for n in every)
    assert set(counts(0, 300, every, most)) <= {1, most}


@pytest.mark.parametrize("every", EVERY)
def test_a_run_that_is_gone_on_with_takes_the_same_calls(every):
    whole = list(strides(0, 300, every, 4))
    for i, (start, _) in enumerate(whole):
        assert list(strides(start, 300, every, 4)) == whole[i:]


def test_a_start_between_calls_joins_them_at_the_next_one():
    """A resumed run may log or save elsewhere than before."""
    assert counts(2, 12, [100], 4) == [1, 1, 4, 4]


def test_on_cpu_a_call_is_a_step_unless_the_config_says_otherwise():
    assert most_steps(Compute()) == 1 and most_steps(Compute(steps_per_call=8)) == 8
