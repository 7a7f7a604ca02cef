"""What a connection may cost: time to send a request's head, time to take what is sent, and how many there may be.

uvicorn bounds the size of a head and how long an idle connection is kept between requests, but waits without end for a
first request, for the rest of a head, and for a client that reads nothing. Knows no request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
"""For a whole head, from the connection or its first byte on; also for what is left of a body that was refused."""
STALL_SECONDS = 60.0
"""For some 50 KB: from a full buffer of what was sent to one that is nearly empty."""
MAX_CONNECTIONS = 2048
"""The service's files and memory must last for the chain and the store as well."""
BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
)
BUSY_BODY = (
    b'{"error":{"message":"too many connections: try again","type":"rate_limit_error","param":null,'
    b'"code":"too_many_connections"}}'
)


class BoundedConnection(H11Protocol):
    """One connection. Its timers run on the server's event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.write(BUSY % (len(BUSY_BODY), BUSY_BODY))
            transport.close()
            return
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head()
        self._stop_stall()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """Runs from the first byte that no request in progress accounts for; more bytes do not prolong it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_head()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._head = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
