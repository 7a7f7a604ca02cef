"""Ends a synchronous request when its time is over, whatever the other side sends how slowly.

A time-out of `httpx2` is of one read, and who sends a byte now and then meets each: in a head, in the length of a
chunk. Tasks of asyncio can be cancelled; a thread that reads cannot, but wakes up when its socket is shut. The socket
is had from the `trace` extension, which tells of new connections only: requests that are bounded so have their own.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx2

from trine.errors import NodeUnreachable

OWN_CONNECTION = {"connection": "close"}
"""Headers that a bounded request must have."""
CONNECTED = ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete")


class Cutting:
    """A context manager for one request, with a thread that shuts its socket when a wait takes too long."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = threading.Condition()
        self._until: float | None = None
        self._socket: socket.socket | None = None
        self._ended = False
        self.has_cut = False
        self._thread = threading.Thread(target=self._watch, name="trine-cutting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
            if self._socket is not None:
                self._socket.close()

    @property
    def extensions(self) -> dict[str, Any]:
        """For the request."""
        return {"trace": self._trace}

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is read in it comes within so many seconds, or NodeUnreachable is raised."""
        self._set(time.monotonic() + seconds)
        try:
            yield
        except httpx2.HTTPError:
            if not self.has_cut:
                raise
        finally:
            self._set(None)
        if self.has_cut:  # also without an error: a body may end where its connection does
            raise NodeUnreachable(f"{self._url:.200}: the answer did not end in time")

    def _set(self, until: float | None) -> None:
        with self._changed:
            self._until = until
            self._changed.notify()

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event in CONNECTED:
            with self._changed:
                opened = info["return_value"].get_extra_info("socket")
                # A second name of the connection: TLS takes the first one away. A transport of the caller's own may
                # have no socket; then each read has its time-out, and no more.
                self._socket = opened.dup() if opened is not None else None
                if self.has_cut:
                    self._shut()

    def _watch(self) -> None:
        with self._changed:
            while not self._ended:
                left = None if self._until is None else self._until - time.monotonic()
                if left is not None and left <= 0:
                    self.has_cut = True
                    self._shut()
                    return
                self._changed.wait(left)

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
