"""OpenAI's endpoints over `Answering`: shapes, streaming, limits, cancellation. Decides nothing about answers."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from trine.errors import ChainError, InvalidInput, TrineError
from trine.protocol.calls import CallReader, Read, read_calls
from trine.protocol.evidence import parsed_input
from trine.protocol.inputs import Input
from trine.protocol.tools import ToolCall
from trine_node.answering import Answering
from trine_node.generating import Finished
from trine_node.orders import Order, parse_order
from trine_node.service.generation import Generation, Generations
from trine_node.settings import Limits
from trine_operator.refusal import Refusal
from trine_operator.service.bodies import BodyBudget, disconnected, read_json
from trine_operator.service.completions import (
    DONE,
    KEEP_ALIVE,
    EventStream,
    Shape,
    event,
    kept_alive,
    promise_of,
    usage_of,
)
from trine_operator.service.errors import UNKEPT, UNKEPT_CODE, error_body, for_strangers
from trine_operator.store import StoredAnswer, StoreError

if TYPE_CHECKING:
    from trine_node.x402.door import Shown

log = structlog.get_logger()

A = TypeVar("A")
R = TypeVar("R")

PAID_WITH = ("payment", "status", "payer", "asset", "amount")
"""What of a payment comes with the answer that it is for; what became of it is asked later."""
ACCEPTING_THREADS = 8
MAX_VOUCHER_BYTES = 4_096
CREATED_SECONDS = 60.0
"""Between looks for when the model was registered, where the endpoint has not said it: anybody may ask for models."""


class OpenAiEndpoints:
    """A bounded number of generations, and of those that wait for one."""

    def __init__(self, answering: Answering, limits: Limits) -> None:
        self.answering = answering
        self.limits = limits
        self.closing = False
        self._created = 0
        self._created_asked = float("-inf")
        self._bodies = BodyBudget(limits.max_body_bytes)
        # Apart from the event loop's own threads: a chain that answers slowly must not keep evidence waiting.
        self._accepting = ThreadPoolExecutor(ACCEPTING_THREADS, thread_name_prefix="accept")
        self._generations = Generations(
            answering,
            max_running=limits.max_running,
            max_waiting=limits.max_waiting,
            timeout_seconds=limits.request_timeout_seconds,
        )
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/models", self.models, methods=["GET"])
        self.router.add_api_route("/models/{name:path}", self.model, methods=["GET"])
        self.router.add_api_route("/chat/completions", self.chat, methods=["POST"])
        self.router.add_api_route("/completions", self.completions, methods=["POST"])
        self.router.add_api_route("/vouchers", self.voucher, methods=["POST"])
        if answering.door is not None:
            self.router.add_api_route("/payments/{name}", self.payment, methods=["GET"])

    def close(self) -> None:
        """Refuses new work, and ends what goes on for nobody."""
        self.closing = True
        self._generations.close()

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [await self._entry()]}

    async def model(self, name: str) -> dict[str, Any]:
        if name != self.answering.model.name:
            raise Refusal(
                f"the model {name!r:.200} is not served here", status=404, code="model_not_found", param="model"
            )
        return await self._entry()

    async def _entry(self) -> dict[str, Any]:
        """`created` is when the model was registered; 0 where the chain's endpoint does not show that block, or does
        not answer."""
        model = self.answering.model
        if not self._created and time.monotonic() - self._created_asked > CREATED_SECONDS:
            self._created_asked = time.monotonic()
            with suppress(ChainError):
                found = await asyncio.to_thread(self.answering.chain.registered_at, [model.model_id])
                self._created = found.get(model.model_id, 0)
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": self.answering.chain.address,
            "trine": {
                "modelId": "0x" + model.model_id.hex(),
                "contentHash": "0x" + model.content_hash.hex(),
                "pricePerTokenWei": str(model.price_per_token_wei),
                "engineClass": self.answering.engine.engine_class,
                "contextTokens": self.answering.engine.context_tokens,
            },
        }

    async def chat(self, request: Request) -> Response:
        return await self._serve(request, chat=True)

    async def completions(self, request: Request) -> Response:
        return await self._serve(request, chat=False)

    async def voucher(self, request: Request) -> dict[str, Any]:
        """A client that orders nothing more acknowledges what it has had."""
        body = await read_json(request, MAX_VOUCHER_BYTES, self._bodies)
        await self._apart(self.answering.acknowledge, body)
        return {"accepted": True}

    async def payment(self, name: str) -> Response:
        """What became of a payment by x402."""
        door = self.answering.door
        shown = await self._apart(door.shown, _name(name)) if door else None
        if shown is None:
            raise Refusal("no such payment is known here", status=404, code="no_payment", param="name")
        return JSONResponse(shown.document, headers=_settled(shown))

    async def _serve(self, request: Request, *, chat: bool) -> Response:
        if self.closing:
            raise Refusal("the node is shutting down", status=503, code="shutting_down")
        paid = _payment_of(request)
        order = parse_order(
            await read_json(request, self.limits.max_body_bytes, self._bodies),
            chat=chat,
            model_name=self.answering.model.name,
            default_max_tokens=self.limits.default_max_tokens,
            limit_tokens=self.limits.max_tokens,
        )
        order = replace(order, payment=paid)
        started = await self._start(order)
        shape = _Shape(self.answering.model.name, chat, order.include_usage, await self._paid(order))
        if isinstance(started, Finished):
            if order.stream:
                return EventStream(_events(shape, order, _repeated(started)), lambda: None, shape.headers)
            return _completed(shape, started)
        if order.stream:
            return EventStream(_events(shape, order, started.pieces()), started.abandon, shape.headers)
        return await self._whole(request, shape, started)

    async def _paid(self, order: Order) -> Shown | None:
        """The payment of an order that was let in by it."""
        door = self.answering.door
        if door is None or order.signed is not None or order.payment is None:
            return None
        return await self._apart(lambda header: door.shown(door.name_of(header)), order.payment)

    async def _start(self, order: Order) -> Generation | Finished:
        """A generation on its way, or the answer that this signed request got before."""
        self._generations.take_place()
        try:
            accepted = await self._apart(self.answering.accept, order)
            if not isinstance(accepted, StoredAnswer):
                return self._generations.start(accepted)
            finished = await self._apart(self.answering.recall, accepted)
        except BaseException:
            self._generations.give_place_back()
            raise
        self._generations.give_place_back()
        return finished

    async def _apart(self, work: Callable[[A], R], of: A) -> R:
        """As `asyncio.to_thread`, which also hands the request's id on to logs, but in threads of its own."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._accepting, context.run, work, of)

    async def _whole(self, request: Request, shape: _Shape, generation: Generation) -> Response:
        answer = asyncio.ensure_future(_last(generation))
        gone = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            return _completed(shape, answer.result()) if answer.done() else Response(status_code=499)
        finally:
            generation.abandon()
            answer.cancel()
            gone.cancel()


class _Shape(Shape):
    """One answer's objects, with the node's promise and what is known of its payment."""

    def __init__(self, model: str, chat: bool, include_usage: bool = False, paid: Shown | None = None) -> None:
        super().__init__(model, chat, include_usage)
        self.headers = _settled(paid) if paid else {}
        self._paid = paid

    def promise(self, finished: Finished, read: Read) -> dict[str, Any]:
        evidence, signed = finished.evidence, finished.text if read.calls else None
        promise = promise_of(evidence.receipt, evidence.receipt_signature, finished.digest, signed)
        if self._paid is None:
            return promise
        known = {name: value for name, value in self._paid.document.items() if name in PAID_WITH}
        return {**promise, "payment": known}


async def _events(shape: _Shape, order: Order, pieces: AsyncIterator[str | Finished]) -> AsyncIterator[str]:
    try:
        yield event(shape.chunk("", first=True))
        calls = 0
        async for piece in kept_alive(_told(pieces, order.input)):
            if piece is None:
                yield KEEP_ALIVE
            elif isinstance(piece, str):
                yield event(shape.chunk(piece))
            elif isinstance(piece, ToolCall):
                for chunk in shape.call_chunks(calls, piece):
                    yield event(chunk)
                calls += 1
            else:
                read = _read(piece)
                yield event(shape.last_chunk(piece.finish_reason, shape.promise(piece, read), read.calls))
                if shape.include_usage:
                    yield event(shape.usage_chunk(usage_of(piece.evidence.receipt)))
        yield DONE
    except Exception as error:  # noqa: BLE001  (the status line is sent: the stream itself must say what happened)
        yield event(_error_event(error))


async def _told(pieces: AsyncIterator[str | Finished], asked: Input) -> AsyncIterator[str | ToolCall | Finished]:
    """Texts and calls of an answer, then itself. An empty text tells that it has begun with what may become a call."""
    reader, has_begun = CallReader(asked), False
    async for piece in pieces:
        told = reader.feed(piece) if isinstance(piece, str) else reader.end()
        if not told and not has_begun:
            yield ""
        has_begun = True
        for each in told:
            yield each
        if isinstance(piece, Finished):
            yield piece


def _read(finished: Finished) -> Read:
    """What an answer says and calls."""
    return read_calls(finished.text, parsed_input(finished.evidence))


def _error_event(error: Exception) -> dict[str, object]:
    if isinstance(error, Refusal):
        return error_body(str(error), status=error.status, code=error.code, param=error.param)
    if isinstance(error, InvalidInput):
        return error_body(str(error), status=400)
    if isinstance(error, StoreError):
        log.error("stream_failed", error=str(error))
        return error_body(UNKEPT, status=503, code=UNKEPT_CODE)
    if isinstance(error, TrineError):
        log.error("stream_failed", error=str(error))
        return error_body(for_strangers(error), status=500)
    log.error("stream_failed", exc_info=error)
    return error_body("the node failed at this request; its log says why", status=500)


async def _last(generation: Generation) -> Finished:
    async for piece in generation.pieces():
        if isinstance(piece, Finished):
            return piece
    raise AssertionError("pieces end with the answer or raise")


async def _repeated(finished: Finished) -> AsyncIterator[str | Finished]:
    yield finished.text
    yield finished


def _completed(shape: _Shape, finished: Finished) -> Response:
    headers = {"x-trine-receipt": "0x" + finished.digest.hex(), **shape.headers}
    usage = usage_of(finished.evidence.receipt)
    read = _read(finished)
    document = shape.completion(read, finished.finish_reason, usage, shape.promise(finished, read))
    return JSONResponse(document, headers=headers)


def _payment_of(request: Request) -> str | None:
    """The header of x402, unread. Raises Refusal for two of them."""
    given = request.headers.getlist("payment-signature")
    if len(given) > 1:
        raise Refusal("the header PAYMENT-SIGNATURE comes twice", code="invalid_payment", param="payment-signature")
    return given[0] if given else None


def _settled(paid: Shown) -> dict[str, str]:
    """PAYMENT-RESPONSE says what was charged, so it comes when something was."""
    return {"payment-response": paid.settlement} if paid.settlement else {}


def _name(given: str) -> bytes:
    """Raises Refusal."""
    try:
        name = bytes.fromhex(given.removeprefix("0x"))
    except ValueError:
        name = b""
    if len(name) != 32:
        raise Refusal("a payment is named by 0x and 64 hexadecimal digits", param="name")
    return name
