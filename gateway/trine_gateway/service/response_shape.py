"""One response as OpenAI's Responses API has it: its objects, and the events of its stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from trine import Answer
from trine.protocol.fields import Wish
from trine.protocol.tools import ToolCall
from trine_gateway.asking import Served
from trine_gateway.service.refusing import body_of
from trine_gateway.service.responses import in_its_words
from trine_operator.refusal import Refusal
from trine_operator.service.completions import event


class ResponseShape:
    """The objects and events of one response.

    An answer's text is one item, which begins with its first piece, and each of its calls is one, after it.
    """

    def __init__(self, body: Mapping[str, Any], wish: Wish) -> None:
        self._id = f"resp_{secrets.token_hex(24)}"
        self._item = f"msg_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._body = body
        self._wish = wish
        self._sampling = wish.input.sampling
        self._number = -1
        self._is_text_begun = False

    def whole(self, served: Served, extras: Mapping[str, Any]) -> dict[str, Any]:
        is_cut = served.answer.finish_reason == "length"
        receipt = served.answer.receipt
        status = "incomplete" if is_cut else "completed"
        return {
            **self._response(status),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._output(served.answer, status),
            "usage": {
                "input_tokens": receipt.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": receipt.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
            },
            "trine": extras,
        }

    def opening(self) -> list[str]:
        begun = self._response("in_progress")
        return [self._event("response.created", response=begun), self._event("response.in_progress", response=begun)]

    def text(self, text: str) -> str:
        begun = self._text_begun()
        return "".join([*begun, self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])])

    def closing(self, served: Served, extras: Mapping[str, Any]) -> list[str]:
        whole = self.whole(served, extras)
        events = []
        for place, item in enumerate(whole["output"]):
            events += self._text_done(item) if item["type"] == "message" else self._called(place, item)
        return [*events, self._event(f"response.{whole['status']}", response=whole)]

    def failed(self, refusal: Refusal) -> list[str]:
        error: Any = body_of(in_its_words(refusal))["error"]
        told = {"code": error["code"] or "server_error", "message": error["message"]}
        failed = {**self._response("failed"), "error": told}
        return [
            self._event("error", code=error["code"], message=error["message"], param=error["param"]),
            self._event("response.failed", response=failed),
        ]

    def _text_begun(self) -> list[str]:
        """Before the first piece of it."""
        if self._is_text_begun:
            return []
        self._is_text_begun = True
        item = {**self._message("", "in_progress"), "content": []}
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place, part=_part("")),
        ]

    def _text_done(self, item: Mapping[str, Any]) -> list[str]:
        text = item["content"][0]["text"]
        return [
            *self._text_begun(),
            self._event("response.output_text.done", **self._place, text=text, logprobs=[]),
            self._event("response.content_part.done", **self._place, part=_part(text)),
            self._event("response.output_item.done", output_index=0, item=item),
        ]

    def _called(self, place: int, item: Mapping[str, Any]) -> list[str]:
        """A whole call: it is shown once the node's promise is checked."""
        begun = {**item, "arguments": "", "status": "in_progress"}
        where = {"item_id": item["id"], "output_index": place}
        said = {"arguments": item["arguments"], "name": item["name"]}
        return [
            self._event("response.output_item.added", output_index=place, item=begun),
            self._event("response.function_call_arguments.delta", **where, delta=item["arguments"]),
            self._event("response.function_call_arguments.done", **where, **said),
            self._event("response.output_item.done", output_index=place, item=item),
        ]

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _output(self, answer: Answer, status: str) -> list[dict[str, Any]]:
        """What was said, where anything was or there is nothing else, and what is called."""
        text = answer.content or ""
        said = [self._message(text, status)] if text or not answer.tool_calls else []
        return [*said, *map(_call, answer.tool_calls)]

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **fields}, kind)

    def _message(self, text: str, status: str) -> dict[str, Any]:
        return {
            "id": self._item,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [_part(text)],
        }

    def _response(self, status: str) -> dict[str, Any]:
        body = self._body
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "max_tool_calls": body.get("max_tool_calls"),
            "metadata": body.get("metadata") or {},
            "model": body["model"],
            "output": [],
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "prompt_cache_key": body.get("prompt_cache_key"),
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": body.get("safety_identifier"),
            "service_tier": "default",
            "store": False,
            "temperature": self._sampling.temperature if self._sampling else 0.0,
            "text": {"format": (body.get("text") or {}).get("format") or {"type": "text"}, "verbosity": "medium"},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": [{"parameters": None, "strict": None, **tool} for tool in body.get("tools") or []],
            "top_logprobs": 0,
            "top_p": self._sampling.top_p if self._sampling else 1.0,
            "truncation": "disabled",
            "usage": None,
            "user": body.get("user"),
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(call: ToolCall) -> dict[str, Any]:
    """Its item has the name of the call: so it is the same in all events, and with each Idempotency-Key."""
    return {
        "id": "fc_" + call.id.removeprefix("call_"),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
