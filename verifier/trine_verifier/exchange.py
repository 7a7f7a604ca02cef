"""Carries statements to the other seats of a committee, over their registered endpoints.

One thread for all. A seat is asked one thing at a time, within `EXCHANGE_SECONDS`, for `MAX_BYTES`: whoever drips,
sends without end or redirects costs its own turns and nobody else's. How long it is worth trying is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import structlog

from trine import bounded
from trine.errors import NodeError, NodeUnreachable, ProtocolError, TrineError
from trine.protocol.signing import Statement, Why
from trine_verifier.signing import Room, Signing

log = structlog.get_logger()

EXCHANGE_SECONDS = 5.0
"""For all of it: connecting, sending, the answer."""
MAX_BYTES = 4096
"""A statement takes less than 2,000."""
PAUSE_SECONDS = (0.25, 4.0)
"""Between tries: the first pause, which doubles, and the longest."""
THREADS = 2
"""That check what was answered: some milliseconds each."""
LOOK_UPS = 64
"""Names that are looked up at once. One that hangs keeps its thread when nobody waits for it any more."""
VOTES_ON_CHAIN, NOT_READY, NO_SEAT = "votes_on_chain", "not_ready", "no_such_seat"
"""Codes of refusals: for good; it has heard us and has nothing to say yet; it does not know the seat yet."""


class SeatRefused(NodeError):
    """Another seat's endpoint answers with an error. `code`: as above, if it is one of these."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Malformed(NodeError):
    """What another seat's endpoint answers cannot be read."""


class Exchange:
    """Of one process. `start` it, `stop` it."""

    def __init__(self, signing: Signing, seconds: float = EXCHANGE_SECONDS) -> None:
        self._signing = signing
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._pool = ThreadPoolExecutor(THREADS, "exchange")
        self._names = ThreadPoolExecutor(LOOK_UPS, "names")
        self._loop.set_default_executor(self._names)  # which asyncio looks names up in
        self._tasks: dict[tuple[bytes, int, str], asyncio.Task[None]] = {}  # on the loop alone, as is all below
        self._nudges: dict[tuple[bytes, int, str], asyncio.Event] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._http: httpx2.AsyncClient | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends what is on its way."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(self._seconds)
        for pool in (self._pool, self._names):
            pool.shutdown(wait=False, cancel_futures=True)

    def want(self, room: Room, verifier: str) -> None:
        """See `Exchanges.want`."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._want, room, verifier)

    # On the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._http = httpx2.AsyncClient(timeout=None, follow_redirects=False)
        try:
            self._loop.run_forever()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks.values(), return_exceptions=True))
            self._loop.run_until_complete(self._http.aclose())
            self._loop.close()

    def _want(self, room: Room, verifier: str) -> None:
        name = (*room.key, verifier)
        if name in self._tasks:
            self._nudges[name].set()
            return
        self._nudges[name] = asyncio.Event()
        task = self._tasks[name] = self._loop.create_task(self._tell(room, verifier, self._nudges[name]))
        task.add_done_callback(lambda _done: self._forget(name))

    def _forget(self, name: tuple[bytes, int, str]) -> None:
        self._tasks.pop(name, None)
        self._nudges.pop(name, None)

    async def _tell(self, room: Room, verifier: str, nudge: asyncio.Event) -> None:
        """Until this seat has heard our newest statement and told as much, or the room is closed."""
        pause, longest = PAUSE_SECONDS
        turn = self._turns.setdefault(verifier, asyncio.Lock())
        while (statement := room.owes(verifier)) is not None:
            nudge.clear()
            async with turn:
                is_told = await self._try(room, verifier, statement)
            if is_told and room.owes(verifier) is not statement:
                pause = PAUSE_SECONDS[0]
                continue
            try:
                # Not `wait_for`: that of Python 3.11 loses a cancellation that comes with the nudge.
                async with asyncio.timeout(pause):
                    await nudge.wait()
            except TimeoutError:
                pause = min(2 * pause, longest)

    async def _try(self, room: Room, verifier: str, statement: Statement) -> bool:
        """Whether this seat has heard us. What went wrong is counted and logged, never raised."""
        try:
            answer = await self._ask(room, verifier, statement)
        except SeatRefused as error:
            self._note(room, verifier, error.code or "refused", error)
            if error.code == VOTES_ON_CHAIN:
                self._signing.refuse(room, verifier, Why.REFUSED)
            elif error.code == NOT_READY:
                self._signing.note_told(room, verifier, statement.stage)
                return True
            return False
        except NodeUnreachable as error:
            self._note(room, verifier, "unreachable", error)
            return False
        except NodeError as error:
            self._note(room, verifier, "malformed", error)
            return False
        self._signing.note_told(room, verifier, statement.stage)
        try:
            await self._loop.run_in_executor(self._pool, self._hear, room, verifier, answer)
        except TrineError as error:
            self._note(room, verifier, "bad_statement", error)
        except Exception:
            log.exception("exchange_failed", batch=room.key[0].hex(), round=room.key[1], verifier=verifier)
        return True

    def _hear(self, room: Room, verifier: str, document: Any) -> None:
        statement = Statement.from_json(document)
        if statement.verifier != verifier:
            raise ProtocolError(f"the endpoint of {verifier} answers for {statement.verifier}")
        self._signing.hear(room, statement)

    def _note(self, room: Room, verifier: str, reason: str, error: Exception) -> None:
        if reason not in (NOT_READY, NO_SEAT):  # every batch has these
            self._signing.failed[reason] += 1
            batch_id, round_ = room.key
            log.info(
                "exchange_failed", batch=batch_id.hex(), round=round_, verifier=verifier, reason=reason,
                error=str(error)[:300],
            )  # fmt: skip

    async def _ask(self, room: Room, verifier: str, statement: Statement) -> Any:
        """The answer's JSON. Raises NodeError: SeatRefused for an error, Malformed for no JSON."""
        endpoint, (batch_id, round_) = room.endpoints[verifier], room.key
        url = f"{endpoint.rstrip('/')}/v1/seats/0x{batch_id.hex()}/{round_}"
        if self._http is None:
            raise NodeUnreachable("not started")
        said, kind = json.dumps(statement.to_json()).encode(), {"content-type": "application/json"}
        answer = await bounded.ask(url, MAX_BYTES, self._seconds, headers=kind, content=said, http=self._http)
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if answer.status != 200:
            raise SeatRefused(f"{url:.200} answers {answer.status}", _code(document))
        if document is None:
            raise Malformed(f"{url:.200} answers no JSON")
        return document


def _code(document: Any) -> str:
    """Of an operator's refusal; nothing if it is none of ours."""
    error = document.get("error") if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if code in (VOTES_ON_CHAIN, NOT_READY, NO_SEAT) else ""
