"""Work that one process does for all on this machine, and that says every so often that it goes on.

No clock ends the wait for another process: the system frees its lock when it dies, so whoever holds one is at work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

AGAIN_SECONDS = 20.0
"""Who says nothing for much longer looks dead."""

Progress = Callable[[str], None]


@contextmanager
def alone(lock_file: Path, work: str, progress: Progress) -> Iterator[None]:
    """Holds the lock; `progress` is told, again and again, while another process holds it."""
    lock, started = FileLock(lock_file), time.monotonic()
    patience = 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            waited = f" ({time.monotonic() - started:.0f} s so far)" if patience else ""
            progress(f"waiting for another process that is {work}{waited}")
            patience = AGAIN_SECONDS
    try:
        yield
    finally:
        lock.release()


@contextmanager
def telling(work: str, progress: Progress, hint: str = "") -> Iterator[None]:
    """Tells `progress` what is done, and until it is done how long it has been going on."""
    progress(f"{work} ({hint})" if hint else work)
    done, started = threading.Event(), time.monotonic()

    def repeat() -> None:
        while not done.wait(AGAIN_SECONDS):
            progress(f"still {work} ({time.monotonic() - started:.0f} s so far)")

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
