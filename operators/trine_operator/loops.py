"""Loops of an operator: a step at every new block, pauses that grow while steps fail, an end when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from trine.errors import TrineError

log = structlog.get_logger()

FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0


class Blocks(Protocol):
    """What waits for a block: see `trine.chain.Follower.wait`."""

    def wait(self, seen: int, seconds: float, or_until: Callable[[], bool] = ...) -> int: ...


def keep_doing(
    name: str,
    step: Callable[[], None],
    blocks: Blocks,
    stop: threading.Event,
    *,
    at_least_every: float,
    wake: threading.Event | None = None,
    backoff: tuple[float, float] = (FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS),
) -> None:
    """Repeats `step` until `stop`: when a block has come or `wake` is set, and every `at_least_every` seconds.

    Errors are logged, and retried after pauses that grow within `backoff`, in seconds; nothing else ends the loop but
    an InterruptedError.
    """
    seen, pause = -1, 0.0
    wake = wake or threading.Event()
    while not stop.is_set():
        seen = blocks.wait(seen, at_least_every, wake.is_set)
        wake.clear()
        if stop.is_set():
            return
        try:
            step()
            pause = 0.0
            continue
        except InterruptedError:
            return
        except TrineError as error:
            pause = min(max(2 * pause, backoff[0]), backoff[1])
            log.warning(f"{name}_paused", error=str(error), seconds=pause)
        except Exception:
            pause = backoff[1]
            log.exception(f"{name}_failed")
        stop.wait(pause)
