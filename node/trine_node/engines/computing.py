"""The one thread of a process that computes.

A pass uses all the threads that the process may use, so passes take turns; and an OpenMP runtime that has been used
from two threads takes the machine to be overbooked and puts its workers to sleep at every barrier, which makes passes
of one row twice as long.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_THREAD = ThreadPoolExecutor(1, thread_name_prefix="compute")
_inside = threading.local()


def on_compute_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Runs `function` in the computing thread; the caller waits for its turn, its result or its exception."""

    @functools.wraps(function)
    def turned(*args: P.args, **kwargs: P.kwargs) -> R:
        if getattr(_inside, "yes", False):
            return function(*args, **kwargs)
        return _submit(lambda: function(*args, **kwargs)).result()

    return turned


def compute_soon(function: Callable[[], None]) -> None:
    """Runs `function`, which does not raise, in the computing thread, after what waits there already."""
    _submit(function)


def _submit(function: Callable[[], R]) -> Future[R]:
    def marked() -> R:
        _inside.yes = True
        return function()

    return _THREAD.submit(marked)
