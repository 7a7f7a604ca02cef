"""The text part of OpenAI's Responses API, without state: input and instructions in, one message out. Pure."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from trine.errors import InvalidField
from trine.protocol.fields import Wish, flag, read_wish, require_servable
from trine_gateway.asking import Served
from trine_gateway.service.refusing import body_of
from trine_operator.refusal import Refusal
from trine_operator.service.completions import event

READ = frozenset(
    {"input", "instructions", "max_output_tokens", "model", "stream", "stream_options", "temperature", "text", "top_p"}
)
IGNORED = frozenset(
    {
        "access_programs",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "user",
    }
)
"""Fields that change no answer without tools."""
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "include": ([],),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({}, {"effort": "none"}, {"effort": None}, {"effort": None, "summary": None}),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Fields that change the answer, or want something kept, with the values under which they do not."""
STATELESS = "nothing is kept here: send the whole conversation as input, and store false or nothing"
ROLES = ("system", "developer", "user", "assistant")
TEXT = ("format", "verbosity")
PARTS = ("input_text", "output_text", "text")
OF_MESSAGE = frozenset({"type", "role", "content", "id", "status", "phase"})
OF_PART = frozenset({"type", "text", "annotations", "logprobs"})


def read_response_wish(
    body: Mapping[str, Any], *, default_max_tokens: int, limit_tokens: int, own_seed: int | None = None
) -> Wish:
    """Raises InvalidField."""
    for field in ("store", "previous_response_id", "conversation"):
        if body.get(field) not in (None, False):
            raise InvalidField(STATELESS, field=field, code="unsupported_value")
    require_servable(body, READ, IGNORED, UNSUPPORTED)
    stream = flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or options.keys() - {"include_obfuscation"}):
        raise InvalidField("stream_options may hold include_obfuscation", field="stream_options")
    most = body.get("max_output_tokens")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= limit_tokens):
        said = f"max_output_tokens must be a whole number from 1 to {limit_tokens}"
        raise InvalidField(said, field="max_output_tokens")
    drawing = {"temperature": body.get("temperature"), "top_p": body.get("top_p")}
    wanted = {"response_format": _response_format(body.get("text"))}
    asked = {"messages": _messages(body), "max_tokens": most, "stream": stream, **drawing, **wanted}
    limits = {"default_max_tokens": default_max_tokens, "limit_tokens": limit_tokens}
    try:
        return read_wish(asked, chat=True, own_seed=own_seed, **limits)
    except InvalidField as error:
        if error.field in drawing:
            raise
        if error.field.startswith("response_format"):
            raise InvalidField(str(error), field="text.format", code=error.code) from None
        raise InvalidField(str(error).replace("messages", "input"), field="input", code=error.code) from None


def _response_format(text: Any) -> Any:
    """What chat completions call `text.format`."""
    if not isinstance(text, dict | None) or (text and text.get("verbosity") not in (None, "medium")):
        raise InvalidField("text must be an object; of verbosity, medium is served", field="text")
    if unknown := [member for member, value in (text or {}).items() if member not in TEXT and value is not None]:
        said = f"text.{unknown[0]:.64} is not served: leave it out"
        raise InvalidField(said, field="text", code="unsupported_value")
    form = (text or {}).get("format")
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {key: value for key, value in form.items() if key != "type"}}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    instructions, given = body.get("instructions"), body.get("input")
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidField("instructions must be a text", field="instructions")
    first = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*first, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise InvalidField("input must be a text or a list of messages", field="input")
    return [*first, *(_message(item, f"input[{number}]") for number, item in enumerate(given))]


def _message(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict) or item.get("type", "message") != "message" or item.get("role") not in ROLES:
        raise InvalidField(f"{where} is no message of {', '.join(ROLES)}: only texts are served", field="input")
    _require_known(item, OF_MESSAGE, where)
    content = item.get("content")
    if isinstance(content, str):
        return {"role": item["role"], "content": content}
    if not isinstance(content, list):
        raise InvalidField(f"{where}.content must be a text or a list of parts", field="input")
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in PARTS or not isinstance(part.get("text"), str):
            raise InvalidField(f"{where}.content[{number}] is no text: only texts are served", field="input")
        _require_known(part, OF_PART, f"{where}.content[{number}]")
        texts.append({"type": "text", "text": part["text"]})
    return {"role": item["role"], "content": texts}


def _require_known(said: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for field, value in said.items():
        if field not in known and value not in (None, [], {}):
            raise InvalidField(f"{where}.{field:.64} is not served: it would be lost, leave it out", field="input")


class ResponseShape:
    """The objects and events of one response."""

    def __init__(self, body: Mapping[str, Any], wish: Wish) -> None:
        self._id = f"resp_{secrets.token_hex(24)}"
        self._item = f"msg_{secrets.token_hex(24)}"
        self._created = int(time.time())
        self._body = body
        self._wish = wish
        self._sampling = wish.input.sampling
        self._number = -1
        self._texts: list[str] = []

    def whole(self, served: Served, extras: Mapping[str, Any]) -> dict[str, Any]:
        is_cut = served.answer.finish_reason == "length"
        receipt = served.answer.receipt
        return {
            **self._response("incomplete" if is_cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._message(served.answer.text, "incomplete" if is_cut else "completed")],
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
        item = {**self._message("", "in_progress"), "content": []}
        return [
            self._event("response.created", response=begun),
            self._event("response.in_progress", response=begun),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place, part=_part("")),
        ]

    def text(self, text: str) -> str:
        self._texts.append(text)
        return self._event("response.output_text.delta", **self._place, delta=text, logprobs=[])

    def closing(self, served: Served, extras: Mapping[str, Any]) -> list[str]:
        text, whole = served.answer.text, self.whole(served, extras)
        return [
            self._event("response.output_text.done", **self._place, text=text, logprobs=[]),
            self._event("response.content_part.done", **self._place, part=_part(text)),
            self._event("response.output_item.done", output_index=0, item=whole["output"][0]),
            self._event(f"response.{whole['status']}", response=whole),
        ]

    def failed(self, refusal: Refusal) -> list[str]:
        error: Any = body_of(refusal)["error"]
        told = {"code": error["code"] or "server_error", "message": error["message"]}
        failed = {**self._response("failed"), "error": told}
        return [
            self._event("error", code=error["code"], message=error["message"], param=error["param"]),
            self._event("response.failed", response=failed),
        ]

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

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
            "tools": [],
            "top_logprobs": 0,
            "top_p": self._sampling.top_p if self._sampling else 1.0,
            "truncation": "disabled",
            "usage": None,
            "user": body.get("user"),
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
