"""OpenAI's objects for completions and the events of a stream. Knows shapes, and no answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from trine.protocol.calls import Read, told_reason
from trine.protocol.messages import Receipt
from trine.protocol.tools import ToolCall

P = TypeVar("P")

KEEP_ALIVE_SECONDS = 4.0
"""A queue may be long, and proxies end what says nothing for five seconds."""
KEEP_ALIVE = ": still here\n\n"
DONE = "data: [DONE]\n\n"
NOT_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"}


class Shape:
    """The objects of one answer: the same id, time and model in all of them."""

    def __init__(self, model: str, chat: bool, include_usage: bool = False) -> None:
        self.chat = chat
        self.include_usage = include_usage
        self.id = ("chatcmpl-" if chat else "cmpl-") + f"{time.time_ns():x}"
        self.created = int(time.time())
        self.model = model

    def completion(
        self, read: Read, finish_reason: str, usage: Mapping[str, int], extras: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`finish_reason` is the receipt's here, and in `last_chunk`."""
        reason = told_reason(finish_reason, read.calls)
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": read.content, "refusal": None}
            if read.calls:
                choice["message"]["tool_calls"] = [call.to_json() for call in read.calls]
        else:
            choice["text"] = read.content
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": usage, "trine": extras}

    def chunk(self, text: str, *, first: bool = False) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
        if self.chat:
            choice["delta"] = {"role": "assistant", "content": text} if first else {"content": text}
        else:
            choice["text"] = text
        return {**self._chunk_head, "choices": [choice]}

    def call_chunks(self, index: int, call: ToolCall) -> list[dict[str, Any]]:
        """A whole call: first its name, then its arguments."""
        begun = {"index": index, **call.to_json(), "function": {"name": call.name, "arguments": ""}}
        deltas = [begun, {"index": index, "function": {"arguments": call.arguments}}]
        choices = [
            {"index": 0, "finish_reason": None, "logprobs": None, "delta": {"tool_calls": [delta]}} for delta in deltas
        ]
        return [{**self._chunk_head, "choices": [choice]} for choice in choices]

    def last_chunk(
        self, finish_reason: str, extras: Mapping[str, Any], calls: Sequence[ToolCall] = ()
    ) -> dict[str, Any]:
        reason = told_reason(finish_reason, calls)
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.chat:
            choice["delta"] = {}
        else:
            choice["text"] = ""
        return {**self._chunk_head, "choices": [choice], "trine": extras}

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """The last one of a stream that tells its usage."""
        return {**self._chunk_head, "choices": [], "usage": usage}

    @property
    def _chunk_head(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), **({"usage": None} if self.include_usage else {})}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage_of(receipt: Receipt) -> dict[str, int]:
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.output_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
    }


def promise_of(receipt: Receipt, signature: bytes, digest: bytes, text: str | None = None) -> dict[str, Any]:
    """A node's promise, as an answer carries it in its field `trine`. `text`: what is signed, where it makes calls, and
    so is not shown as it is."""
    return {
        "receipt": receipt.to_json(),
        "signature": "0x" + signature.hex(),
        "receiptDigest": "0x" + digest.hex(),
        **({} if text is None else {"text": text}),
    }


def event(document: Mapping[str, Any], name: str | None = None) -> str:
    # Some clients take these for the ends of lines.
    text = json.dumps(document, ensure_ascii=False).translate(NOT_LINE_ENDS)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


class EventStream(StreamingResponse):
    """Gives up what makes its events when it ends, also when the client leaves before the first one."""

    def __init__(
        self, events: AsyncIterator[str], abandon: Callable[[], None], headers: Mapping[str, str] | None = None
    ) -> None:
        headers = {"cache-control": "no-cache", **(headers or {})}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._abandon = abandon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._abandon()


async def kept_alive(pieces: AsyncIterator[P]) -> AsyncIterator[P | None]:
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
