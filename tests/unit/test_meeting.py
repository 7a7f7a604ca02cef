"""The barrier of a pass: nobody goes on before the others, and threads that cannot run at once do not wait for ever."""

import numba
import numpy as np
import pytest
from numba import prange

from trine_node.engines.kernels import entry_point, use_threads
from trine_node.engines.kernels.meeting import all_here, meet

ROUNDS = 200


@entry_point(parallel=True)
def running(parts, meeting, counts, seen):
    """Everybody counts a round, meets, and looks how far the others are."""
    for number in prange(parts):
        if all_here(meeting.ctypes.data, parts):
            for turn in range(seen.shape[1]):
                counts[number * 8] = turn + 1
                meet(meeting.ctypes.data + 16, parts)
                least = counts[0]
                for other in range(parts):
                    least = min(least, counts[other * 8])
                seen[number, turn] = least
                meet(meeting.ctypes.data + 16, parts)


def run(parts):
    meeting, counts = np.zeros(3, np.int64), np.zeros(parts * 8, np.int64)
    seen = np.zeros((parts, ROUNDS), np.int64)
    running(parts, meeting, counts, seen)
    return meeting, seen


@pytest.mark.parametrize("parts", [1, 2])
def test_nobody_goes_on_before_the_others(parts):
    if use_threads(parts) < parts:
        pytest.skip("one core")
    meeting, seen = run(parts)
    assert meeting[1] == 1
    assert (seen == np.arange(1, ROUNDS + 1)).all()


def test_threads_that_cannot_run_at_once_do_nothing():
    use_threads(1)
    assert numba.get_num_threads() == 1
    meeting, seen = run(3)
    assert meeting[1] == 2
    assert not seen.any()
