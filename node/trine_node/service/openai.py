"""OpenAI's endpoints over `Answering`: shapes, streaming, limits, cancellation. Decides nothing about answers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from trine.errors import TrineError
from trine_node.answering import Accepted, Answering, Finished
from trine_node.orders import Order, Refusal, parse_order
from trine_node.service.errors import error_body
from trine_node.settings import Limits
from trine_node.store import StoredAnswer

log = structlog.get_logger()
_END = object()


class OpenAiEndpoints:
    """One generation at a time; a bounded number waits."""

    def __init__(self, answering: Answering, limits: Limits) -> None:
        self.answering = answering
        self.limits = limits
        self.closing = False
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self.router = APIRouter(prefix="/v1")
        self.router.add_api_route("/models", self.models, methods=["GET"])
        self.router.add_api_route("/chat/completions", self.chat, methods=["POST"])
        self.router.add_api_route("/completions", self.completions, methods=["POST"])

    async def models(self) -> dict[str, Any]:
        model = self.answering.model
        entry = {
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
        return {"object": "list", "data": [entry]}

    async def chat(self, request: Request) -> Response:
        return await self._serve(request, chat=True)

    async def completions(self, request: Request) -> Response:
        return await self._serve(request, chat=False)

    async def _serve(self, request: Request, *, chat: bool) -> Response:
        if self.closing:
            raise Refusal("the node is shutting down", status=503, code="shutting_down")
        order = parse_order(
            await read_json(request, self.limits.max_body_bytes),
            chat=chat,
            model_name=self.answering.model.name,
            default_max_tokens=self.limits.default_max_tokens,
            limit_tokens=self.limits.max_tokens,
        )
        accepted = await asyncio.get_running_loop().run_in_executor(None, self.answering.accept, order)
        shape = _Shape(self.answering.model.name, chat)
        if isinstance(accepted, StoredAnswer):
            return self._repeat(order, shape, self.answering.recall(accepted))
        if self._waiting >= self.limits.max_waiting:
            self.answering.release(accepted)
            raise Refusal(f"{self._waiting} requests are waiting already: try again", status=429, code="queue_full")
        pieces = self._generate(accepted)
        if order.stream:
            return StreamingResponse(_events(shape, order, pieces), media_type="text/event-stream")
        return await self._whole(request, shape, pieces)

    def _repeat(self, order: Order, shape: _Shape, finished: Finished) -> Response:
        async def pieces() -> AsyncIterator[str | Finished]:
            yield finished.text
            yield finished

        if order.stream:
            return StreamingResponse(_events(shape, order, pieces()), media_type="text/event-stream")
        return _completed(shape, finished)

    async def _whole(self, request: Request, shape: _Shape, pieces: AsyncIterator[str | Finished]) -> Response:
        async def collect() -> Finished:
            async for piece in pieces:
                if isinstance(piece, Finished):
                    return piece
            raise Refusal("the answer was cancelled", status=499)

        work = asyncio.ensure_future(collect())
        try:
            while not work.done():
                await asyncio.wait([work], timeout=0.5)
                if not work.done() and await request.is_disconnected():
                    work.cancel()
                    return Response(status_code=499)
            return _completed(shape, work.result())
        finally:
            work.cancel()

    async def _generate(self, accepted: Accepted) -> AsyncIterator[str | Finished]:
        """Runs the engine in its thread and hands over what it yields. Cancelling this cancels the generation."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[object] = asyncio.Queue()
        cancelled = threading.Event()
        deadline = time.monotonic() + self.limits.request_timeout_seconds

        def put(item: object) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        def work() -> None:
            try:
                pieces: Iterator[str | Finished] = self.answering.answer(
                    accepted, lambda: cancelled.is_set() or time.monotonic() > deadline
                )
                for piece in pieces:
                    put(piece)
                put(_END)
            except Exception as error:  # noqa: BLE001  (handed to the waiting side, which raises it)
                put(error)

        self._waiting += 1
        try:
            async with asyncio.timeout(self.limits.request_timeout_seconds):
                await self._turn.acquire()
        except TimeoutError:
            self.answering.release(accepted)
            raise Refusal("waited too long for a turn", status=503, code="timeout") from None
        except asyncio.CancelledError:
            self.answering.release(accepted)
            raise
        finally:
            self._waiting -= 1
        done = loop.run_in_executor(self._thread, work)
        try:
            while (item := await queue.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item  # type: ignore[misc]
            if time.monotonic() > deadline:
                raise Refusal("the answer took too long and was given up", status=503, code="timeout")
        finally:
            cancelled.set()
            await asyncio.shield(done)
            self._turn.release()


class _Shape:
    """OpenAI's objects for one answer: the same id, time and model in all of them."""

    def __init__(self, model: str, chat: bool) -> None:
        self.chat = chat
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
        return {**self._head(kind), "choices": [choice], "usage": _usage(finished), "trine": _promise(finished)}

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
        return {**self._head(self._chunk_kind), "choices": [choice], "trine": _promise(finished)}

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        return {**self._head(self._chunk_kind), "choices": [], "usage": _usage(finished)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


async def _events(shape: _Shape, order: Order, pieces: AsyncIterator[str | Finished]) -> AsyncIterator[str]:
    def event(document: dict[str, Any]) -> str:
        return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"

    try:
        yield event(shape.chunk("", first=True))
        async for piece in pieces:
            if isinstance(piece, str):
                yield event(shape.chunk(piece))
                continue
            yield event(shape.last_chunk(piece))
            if order.include_usage:
                yield event(shape.usage_chunk(piece))
        yield "data: [DONE]\n\n"
    except Refusal as refusal:
        yield event(error_body(str(refusal), status=refusal.status, code=refusal.code))
    except TrineError as error:
        log.error("stream_failed", error=str(error))
        yield event(error_body(str(error), status=500))


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON, read within `limit` bytes. Raises Refusal."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refusal(f"the body exceeds {limit} bytes", status=413, code="body_too_large")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the body is not JSON: {error}", code="invalid_json") from None


def _completed(shape: _Shape, finished: Finished) -> Response:
    return JSONResponse(shape.completion(finished), headers={"x-trine-receipt": "0x" + finished.digest.hex()})


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
