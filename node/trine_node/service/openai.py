"""OpenAI's endpoints over `Answering`: shapes, streaming, limits, cancellation. Decides nothing about answers."""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from trine.errors import InvalidInput, TrineError
from trine_node.answering import Answering
from trine_node.generating import Finished
from trine_node.orders import Order, parse_order
from trine_node.service.generation import Generation, Generations
from trine_node.settings import Limits
from trine_operator.refusal import Refusal
from trine_operator.service.errors import UNKEPT, UNKEPT_CODE, error_body, for_strangers
from trine_operator.store import StoredAnswer, StoreError

if TYPE_CHECKING:
    from trine_node.x402.door import Shown

log = structlog.get_logger()

A = TypeVar("A")
R = TypeVar("R")

BODY_SECONDS = 30.0
BODIES_AT_ONCE = 32
"""As many bodies of the largest size may be on their way at once, or any number of smaller ones."""
PAID_WITH = ("payment", "status", "payer", "asset", "amount")
"""What of a payment comes with the answer that it is for; what became of it is asked later."""
ACCEPTING_THREADS = 8
MAX_VOUCHER_BYTES = 4_096


class OpenAiEndpoints:
    """A bounded number of generations, and of those that wait for one."""

    def __init__(self, answering: Answering, limits: Limits) -> None:
        self.answering = answering
        self.limits = limits
        self.closing = False
        self._bodies = BodyBudget(BODIES_AT_ONCE * limits.max_body_bytes)
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
        return {"object": "list", "data": [self._entry()]}

    async def model(self, name: str) -> dict[str, Any]:
        if name != self.answering.model.name:
            raise Refusal(f"the model {name!r} is not served here", status=404, code="model_not_found", param="model")
        return self._entry()

    def _entry(self) -> dict[str, Any]:
        model = self.answering.model
        return {
            "id": model.name,
            "object": "model",
            "created": 0,
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
        body = await read_json(request, MAX_VOUCHER_BYTES, self._bodies, BODY_SECONDS)
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
            await read_json(request, self.limits.max_body_bytes, self._bodies, BODY_SECONDS),
            chat=chat,
            model_name=self.answering.model.name,
            default_max_tokens=self.limits.default_max_tokens,
            limit_tokens=self.limits.max_tokens,
        )
        order = replace(order, payment=paid)
        started = await self._start(order)
        shape = _Shape(self.answering.model.name, chat, await self._paid(order))
        if isinstance(started, Finished):
            if order.stream:
                return _EventStream(_events(shape, order, _repeated(started)), lambda: None, shape.headers)
            return _completed(shape, started)
        if order.stream:
            return _EventStream(_events(shape, order, started.pieces()), started.abandon, shape.headers)
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
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            return _completed(shape, answer.result()) if answer.done() else Response(status_code=499)
        finally:
            generation.abandon()
            answer.cancel()
            gone.cancel()


KEEP_ALIVE_SECONDS = 4.0
"""A queue may be long, and proxies end what says nothing for five seconds."""
NOT_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"}


class _EventStream(StreamingResponse):
    """Gives its generation up when it ends, also when the client leaves before the first event."""

    def __init__(
        self, events: AsyncIterator[str], abandon: Callable[[], None], headers: dict[str, str] | None = None
    ) -> None:
        headers = {"cache-control": "no-cache", **(headers or {})}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._abandon = abandon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._abandon()


class _Shape:
    """OpenAI's objects for one answer: the same id, time and model in all of them."""

    def __init__(self, model: str, chat: bool, paid: Shown | None = None) -> None:
        self.chat = chat
        self.headers = _settled(paid) if paid else {}
        self._paid = paid
        self.id = ("chatcmpl-" if chat else "cmpl-") + f"{time.time_ns():x}"
        self.created = int(time.time())
        self.model = model

    def completion(self, finished: Finished) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finished.finish_reason, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": finished.text, "refusal": None}
        else:
            choice["text"] = finished.text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": _usage(finished), "trine": self._promise(finished)}

    def chunk(self, text: str, *, first: bool = False) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
        if self.chat:
            choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
        else:
            choice["text"] = text
        return {**self._head(self._chunk_kind), "choices": [choice]}

    def last_chunk(self, finished: Finished) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finished.finish_reason, "logprobs": None}
        if self.chat:
            choice["delta"] = {}
        else:
            choice["text"] = ""
        return {**self._head(self._chunk_kind), "choices": [choice], "trine": self._promise(finished)}

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        return {**self._head(self._chunk_kind), "choices": [], "usage": _usage(finished)}

    def _promise(self, finished: Finished) -> dict[str, Any]:
        promise = _promise(finished)
        if self._paid is None:
            return promise
        known = {name: value for name, value in self._paid.document.items() if name in PAID_WITH}
        return {**promise, "payment": known}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


async def _events(shape: _Shape, order: Order, pieces: AsyncIterator[str | Finished]) -> AsyncIterator[str]:
    def event(document: dict[str, Any]) -> str:
        # Some clients take these for the ends of lines.
        text = json.dumps(document, ensure_ascii=False).translate(NOT_LINE_ENDS)
        return f"data: {text}\n\n"

    try:
        yield event(shape.chunk("", first=True))
        async for piece in _kept_alive(pieces):
            if piece is None:
                yield ": still here\n\n"
                continue
            if isinstance(piece, str):
                yield event(shape.chunk(piece))
                continue
            yield event(shape.last_chunk(piece))
            if order.include_usage:
                yield event(shape.usage_chunk(piece))
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001  (the status line is sent: the stream itself must say what happened)
        yield event(_error_event(error))


async def _kept_alive(pieces: AsyncIterator[str | Finished]) -> AsyncIterator[str | Finished | None]:
    """The pieces, and None whenever there was none for so long that a proxy could think the connection dead."""
    waited = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            done, _ = await asyncio.wait([waited], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            piece = waited.result()
            if piece is None:
                return
            yield piece
            waited = asyncio.ensure_future(anext(pieces, None))
    finally:
        waited.cancel()


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


async def _disconnected(request: Request) -> None:
    """Returns when the client has gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_json(request: Request, limit: int, budget: BodyBudget, seconds: float) -> Any:
    """The body as JSON, read within `limit` bytes and `seconds`. Raises Refusal."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise Refusal(f"the body exceeds {limit} bytes", status=413, code="body_too_large")
                budget.take(len(chunk))
                body += chunk
    except TimeoutError:
        raise Refusal(f"the body did not arrive within {seconds:g} s", status=408, code="body_too_slow") from None
    except ClientDisconnect:
        raise Refusal("the client left while it sent its request", status=499, code="client_left") from None
    finally:
        budget.give_back(len(body))
    try:
        # Not `json`: its depth is bounded by the interpreter's recursion limit, which libraries raise until a deeply
        # nested body overflows the C stack and ends the process.
        return from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(f"the body is not JSON: {error}", code="invalid_json") from None


class BodyBudget:
    """How many bytes of bodies may be on their way at once, whoever sends them. Used on the event loop only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def take(self, size: int) -> None:
        """Raises Refusal (429), and takes nothing, when it would be more."""
        if self.taken + size > self._most:
            raise Refusal("too much is being sent at once: try again", status=429, code="too_busy")
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size


def _completed(shape: _Shape, finished: Finished) -> Response:
    headers = {"x-trine-receipt": "0x" + finished.digest.hex(), **shape.headers}
    return JSONResponse(shape.completion(finished), headers=headers)


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


def _promise(finished: Finished) -> dict[str, Any]:
    return {
        "receipt": finished.evidence.receipt.to_json(),
        "signature": "0x" + finished.evidence.receipt_signature.hex(),
        "receiptDigest": "0x" + finished.digest.hex(),
    }


def _usage(finished: Finished) -> dict[str, int]:
    receipt = finished.evidence.receipt
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.output_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
    }
