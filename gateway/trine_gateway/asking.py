"""One answer's way: its worst price is reserved, a node is asked, the promise is checked, the fee is spent.

Who leaves before a node has begun ends what it asked for. What was begun is finished and paid for, whoever leaves: a
node may claim its price, and text that was shown was had. With an Idempotency-Key the answer is made in any case, and
whoever sends the same again is given it. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from trine import Answer, AsyncClient
from trine.errors import NodeRefused, NodeUnreachable, NotReady, TrineError, VerificationFailed
from trine.protocol.inputs import Input
from trine.protocol.tools import tool_calls
from trine_gateway.records import Kept, Repeat
from trine_gateway.settings import Limits
from trine_gateway.store import GatewayStore
from trine_gateway.waits import Waits
from trine_operator.refusal import Refusal

log = structlog.get_logger()

R = TypeVar("R")

STORE_THREADS = 4
PENDING = "pending"
"""In place of a verdict that is not known yet."""
BAD_PROMISES = 3
"""Nodes that one answer may be asked of, each of which signs something else than what it sent."""
BAD_PROMISE_SECONDS = 600.0
"""How long such a node is asked nothing."""
CLAIM_SECONDS = 40
"""How long an Idempotency-Key is kept for a gateway that was killed while it asked."""
CLAIM_LOOK_SECONDS = 0.5
"""Between two looks at what another gateway of the store is asking for."""
REFUSER_SECONDS = 60.0
"""How long a node that refuses what another answers is asked nothing."""
GRACE_SECONDS = 60.0
"""How much longer than an answer may take its price is kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and by whom."""

    key_id: str
    model: str
    input: Input
    max_tokens: int
    stream: bool
    repeat: Repeat | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A checked answer."""

    answer: Answer
    model: str
    drawn_by: dict[str, Any] | None = None  # what decides a sampled answer's tokens, as fields of OpenAI's request

    def to_json(self) -> dict[str, Any]:
        answer = self.answer
        return {
            "text": answer.text,
            "content": answer.content,
            "calls": [call.to_json() for call in answer.tool_calls],
            "finishReason": answer.finish_reason,
            "model": self.model,
            "drawnBy": self.drawn_by,
            **answer.held(),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Served:
        answer = Answer.from_held(document)
        answer.text, answer.finish_reason = document["text"], document["finishReason"]
        if document.get("calls"):
            answer.tool_calls = tool_calls(document["calls"], "calls")
            answer.beside_calls = document["content"]
        return cls(answer, document["model"], document["drawnBy"])


class Running:
    """An answer on its way, for any number of readers."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.task: asyncio.Task[None] | None = None
        self._pieces: list[str] = []
        self._served: Served | None = None
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._readers = 0

    @property
    def has_begun(self) -> bool:
        """Whether a reader may have been shown text: then no other node's can take its place."""
        return self.asked.stream and bool(self._pieces)

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._tell()

    def begin_again(self) -> None:
        self._pieces.clear()

    def finish(self, served: Served) -> None:
        self._pieces = self._pieces or [served.answer.content or ""]
        self._served = served
        self._tell()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._tell()

    def join(self) -> None:
        self._readers += 1

    def leave(self) -> None:
        """Once for each `join`. An answer that nobody waits for, nobody can have later, and no node has begun, is
        ended: one that was begun is finished, else whoever leaves before its last event has read it for nothing."""
        self._readers -= 1
        is_wanted = self._readers > 0 or self.asked.repeat is not None or bool(self._pieces)
        if not is_wanted and self.task is not None:
            self.task.cancel()

    async def read(self) -> AsyncIterator[str | Served]:
        """Texts as they come, where they are to come as they are made; then the answer. Raises what went wrong."""
        read = 0
        while True:
            changed = self._changed
            if self.asked.stream and read < len(self._pieces):
                # All that has come meanwhile, at once: who is slow, or a gateway that is busy, catches up.
                text, read = "".join(self._pieces[read:]), len(self._pieces)
                yield text
                continue
            if self._error is not None:
                raise self._error
            if self._served is not None:
                yield self._served
                return
            await changed.wait()

    async def whole(self) -> Served:
        async for piece in self.read():
            if isinstance(piece, Served):
                return piece
        raise AssertionError("an answer ends with itself or an error")

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Asking:
    """All answers on their way. Used on the event loop only."""

    def __init__(
        self, client: AsyncClient, store: GatewayStore, limits: Limits, bad_promise_seconds: float = BAD_PROMISE_SECONDS
    ) -> None:
        self._client = client
        self._store = store
        self._limits = limits
        self._bad_promise_seconds = bad_promise_seconds
        self._running: set[Running] = set()
        self._of_key: Counter[str] = Counter()
        self._repeatable: dict[tuple[str, str], Running] = {}
        self._waiting: dict[object, str] = {}  # requests that are kept back for their verdicts, and their keys
        self._waits = Waits(client)
        self._threads = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")

    async def apart(self, work: Callable[..., R], *arguments: Any) -> R:
        """Work with the store, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def begin(self, asked: Asked) -> Running:
        """The answer, on its way; who gets it leaves it in the end. Raises Refusal."""
        repeat = asked.repeat
        if repeat is not None:
            known = self._repeatable.get((asked.key_id, repeat.name))
            if known is not None:
                _require_same(known.asked.repeat, repeat)
                known.join()
                return known
        if self._is_full:
            raise Refusal("too many answers are on their way: try again", status=429, code="too_busy")
        if self._is_full_of(asked.key_id):
            most = self._limits.max_running_per_key
            raise Refusal(f"{most} answers of this key are on their way", status=429, code="rate_limit_exceeded")
        running = Running(asked)
        running.join()
        self._running.add(running)
        self._of_key[asked.key_id] += 1
        if repeat is not None:
            self._repeatable[asked.key_id, repeat.name] = running
        running.task = asyncio.create_task(self._run(running))
        running.task.add_done_callback(lambda _: self._end(running))
        return running

    @property
    def _is_full(self) -> bool:
        """What waits for a verdict takes as much room as what waits for a node."""
        return len(self._running) + len(self._waiting) >= self._limits.max_running

    def _is_full_of(self, key_id: str) -> bool:
        waiting = sum(waits == key_id for waits in self._waiting.values())
        return self._of_key[key_id] + waiting >= self._limits.max_running_per_key

    async def close(self) -> None:
        """Ends what goes on."""
        await self._waits.close()
        tasks = [running.task for running in self._running if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown()

    def _end(self, running: Running) -> None:
        asked = running.asked
        if running not in self._running:
            return
        self._running.discard(running)
        self._of_key[asked.key_id] -= 1
        if not self._of_key[asked.key_id]:
            del self._of_key[asked.key_id]
        if asked.repeat is not None:
            self._repeatable.pop((asked.key_id, asked.repeat.name), None)

    async def _run(self, running: Running) -> None:
        try:
            repeat = running.asked.repeat
            served = await (self._paid(running) if repeat is None else self._claimed(running, repeat))
            self._end(running)  # it is not on its way any more, so whoever reads it may wait for its verdict
            running.finish(served)
        except asyncio.CancelledError:
            running.fail(Refusal("the gateway is shutting down", status=503, code="shutting_down"))
            raise
        except Exception as error:  # noqa: BLE001  (whoever reads it is told)
            running.fail(error)

    async def _claimed(self, running: Running, repeat: Repeat) -> Served:
        """The answer that was given before, or is being made by another gateway of this store; else a new one."""
        key_id = running.asked.key_id
        while True:
            known = await self.apart(self._store.claim_repeat, key_id, repeat, CLAIM_SECONDS)
            if known is None:
                break
            body, answer = known
            _require_same(Repeat(repeat.name, body), repeat)
            if answer:
                return Served.from_json(json.loads(answer))
            await asyncio.sleep(CLAIM_LOOK_SECONDS)
        holding = asyncio.create_task(self._hold(key_id, repeat.name))
        try:
            return await self._paid(running)
        except BaseException:
            self._threads.submit(self._leave, key_id, repeat.name)
            raise
        finally:
            holding.cancel()

    async def _hold(self, key_id: str, name: str) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 4)
            try:
                await self.apart(self._store.hold_repeat, key_id, name)
            except TrineError as error:
                log.warning("claim_not_held", error=str(error))

    def _leave(self, key_id: str, name: str) -> None:
        try:
            self._store.leave_repeat(key_id, name)
        except TrineError as error:
            log.warning("claim_kept", error=str(error))  # until its time is over

    async def _paid(self, running: Running) -> Served:
        asked = running.asked
        worst = await self._client.worst_fee_wei(asked.input, model=asked.model, max_tokens=asked.max_tokens)
        seconds = self._limits.request_timeout_seconds * BAD_PROMISES + GRACE_SECONDS
        reserved = await self._reserved(asked.key_id, worst, seconds)
        is_settled = False
        try:
            served = await self._served(running)
            answer = served.answer
            kept = Kept(
                answer.digest,
                asked.model,
                answer.receipt.node,
                json.dumps(answer.held()),
                answer.receipt.fee_wei,
            )
            text = json.dumps(served.to_json()) if asked.repeat else ""
            # Before anybody is promised anything, and to the end: what was had is paid for, whoever leaves now.
            await asyncio.shield(self.apart(self._store.settle, reserved, asked.key_id, kept, asked.repeat, text))
            is_settled = True
        finally:
            if not is_settled:
                self._threads.submit(self._release, reserved)
        return served

    async def _reserved(self, key_id: str, worst: int, seconds: float) -> str:
        """The reservation's name. Where this is ended meanwhile, what comes of it is released."""
        reserving = self._threads.submit(self._store.reserve, key_id, worst, seconds)
        try:
            return await asyncio.wrap_future(reserving)
        except asyncio.CancelledError:
            if reserving.done():
                self._threads.submit(self._release_late, reserving)
            else:
                reserving.add_done_callback(self._release_late)  # in its thread, when it is there
            raise

    def _release_late(self, reserving: Future[str]) -> None:
        if not reserving.cancelled() and reserving.exception() is None:
            self._release(reserving.result())

    def _release(self, reserved: str) -> None:
        try:
            self._store.release(reserved)
        except TrineError as error:
            log.warning("reservation_kept", error=str(error))  # until its time is over

    async def _served(self, running: Running) -> Served:
        asked = running.asked
        refusers: dict[str, NodeRefused] = {}
        for left in reversed(range(BAD_PROMISES)):
            stream = self._client.stream(
                asked.input, model=asked.model, max_tokens=asked.max_tokens, without=tuple(refusers)
            )
            try:
                async for text in stream:
                    running.add(text)
                if stream.answer is not None:
                    for node, refused in refusers.items():  # another has answered: it was not the request
                        if refused.code == "unsupported_value":
                            continue  # its engine cannot draw tokens, say, or knows no grammars
                        log.error("node_refuses_what_another_answers", node=node, said=str(refused)[:300])
                        self._client.avoid(node, REFUSER_SECONDS)
                    drawing = asked.input.sampling
                    return Served(stream.answer, asked.model, drawing.fields() if drawing else None)
            except NodeRefused as error:
                if stream.place is None or running.has_begun or not left or not _is_of_request(error):
                    raise
                refusers[stream.place[0]] = error
                running.begin_again()
            except (NotReady, NodeUnreachable):
                if running.has_begun or not refusers:
                    raise
                raise next(reversed(refusers.values())) from None  # there is no other: this one is believed
            except VerificationFailed as error:
                if stream.place is None:
                    raise
                node, url = stream.place
                log.error("node_breaks_its_word", node=node, url=url, error=str(error)[:500])
                self._client.avoid(node, self._bad_promise_seconds)
                if running.has_begun or not left:
                    raise
                running.begin_again()
        raise VerificationFailed("a stream ended without a receipt")

    async def verdict(
        self, served: Served, key_id: str, *, final: bool, hard: bool, seconds: float
    ) -> tuple[str, dict[str, Any] | None]:
        """(verdict, its certificate as JSON or None), waited for; `pending` when it does not come in time, or when as
        much is on its way already as may be. The answer is paid for: nothing here takes it away again.
        """
        if self._is_full or self._is_full_of(key_id):
            return PENDING, None
        ticket = object()
        self._waiting[ticket] = key_id
        try:
            return await self._waits.verdict(served.answer, final=final, hard=hard, seconds=seconds) or (PENDING, None)
        except Exception as error:
            log.error("verdict_not_waited_for", receipt=served.answer.digest.hex(), exc_info=error)
            return PENDING, None
        finally:
            del self._waiting[ticket]


def _is_of_request(error: NodeRefused) -> bool:
    """Whether the node finds fault with what was asked, which the gateway has checked, not with how much it has to
    do."""
    return error.status < 500 and error.status != 429


def _require_same(known: Repeat | None, given: Repeat) -> None:
    if known is not None and known.body != given.body:
        raise Refusal(
            "this Idempotency-Key was used for another request: use another one",
            status=422,
            code="idempotency_key_reused",
            param="idempotency-key",
        )
