"""Parts of an operator's process: its HTTP server, its loops' threads, the signals that end it."""

from __future__ import annotations

import gc
import resource
import signal
import threading
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from trine.errors import NotReady
from trine_operator.service.connections import BoundedConnection

MAX_OPEN_FILES = 65_536
KEEP_ALIVE_SECONDS = 30
"""Longer than the 5 s that clients keep an idle connection: who ends it first must be the client, or an order that is
sent at that moment is lost."""

GARBAGE_THRESHOLDS = (2_000, 10, 50)
"""Of Python's three generations of objects; the last is the one that is looked through as a whole."""

DRAIN_SECONDS = 15.0
"""At an orderly end, for transactions that are not mined yet."""


class BackgroundServer:
    """Uvicorn in a thread: starts, says when it listens, stops gracefully."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedConnection,
            loop="auto",  # uvloop, where there is one
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=30,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._where = f"{host}:{port}"

    def start(self) -> None:
        """Raises NotReady when the port cannot be had."""
        raise_file_limit()
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise NotReady(f"cannot listen on {self._where}: is the port in use?")
            time.sleep(0.05)

    def stop(self) -> None:
        """Finishes requests in flight, within uvicorn's grace period."""
        self._server.should_exit = True
        self._thread.join(timeout=35)


class Worker:
    """A named background loop that ends when the shared stop event is set."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=35)


def stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def keep_what_is_loaded() -> None:
    """Before a process serves: every now and then Python looks for garbage among all objects, which holds up all
    streams for a quarter of a second, and most objects are modules that stay. They are not looked at any more, the
    others less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def raise_file_limit() -> None:
    """As many open files as the system allows: a shell's usual 1,024 are used up by as many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
