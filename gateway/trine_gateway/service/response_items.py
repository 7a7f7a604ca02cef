"""Items of the Responses API as messages of a chat: texts, calls of functions, and what came of them. Pure.

A chat has an assistant's text and its calls in one message, the Responses API has them one after the other. What is
wrong is named by the item that a client has sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trine.errors import InvalidField, InvalidInput
from trine.protocol.tools import ToolCall

ROLES = ("system", "developer", "user", "assistant")
PARTS = ("input_text", "output_text", "text")
OF_MESSAGE = frozenset({"type", "role", "content", "id", "status", "phase"})
OF_PART = frozenset({"type", "text", "annotations", "logprobs"})
OF_CALL = frozenset({"type", "id", "call_id", "name", "arguments", "status"})
OF_OUTPUT = frozenset({"type", "id", "call_id", "output", "status"})


def messages_of(instructions: Any, given: Any) -> list[dict[str, Any]]:
    """What a chat's `messages` would be. Raises InvalidField."""
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidField("instructions must be a text", field="instructions")
    first = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*first, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise InvalidField("input must be a text or a list of items", field="input")
    reading = _Reading()
    for number, item in enumerate(given):
        reading.read(item, f"input[{number}]")
    reading.require_outputs("the end")
    return [*first, *reading.messages]


class _Reading:
    """Items so far, as messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._open: dict[str, None] = {}  # calls that no output has followed
        self._takes_calls = False  # whether the last message is an assistant's

    def read(self, item: Any, where: str) -> None:
        if not isinstance(item, dict):
            raise InvalidField(f"{where} must be an object", field="input")
        kind = item.get("type", "message")
        if kind == "message":
            self.require_outputs(where)
            self.messages.append(_message(item, where))
            self._takes_calls = item["role"] == "assistant"
        elif kind == "function_call":
            self._call(item, where)
        elif kind == "function_call_output":
            self._output(item, where)
        elif kind == "item_reference":
            said = f"{where} refers to what was said before, and nothing is kept here: send the item itself"
            raise InvalidField(said, field="input", code="unsupported_value")
        else:
            said = f"{where} is of the type {kind!r:.64}: message, function_call and function_call_output are served"
            raise InvalidField(said, field="input", code="unsupported_value")

    def require_outputs(self, where: str) -> None:
        if self._open:
            missing = ", ".join(list(self._open)[:4])
            said = f"each function_call needs its function_call_output; before {where} there is none for {missing:.400}"
            raise InvalidField(said, field="input")

    def _call(self, item: Mapping[str, Any], where: str) -> None:
        _require_known(item, OF_CALL, where)
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        try:
            call = ToolCall.from_json({"id": item.get("call_id"), "function": function}, where)
        except InvalidInput as error:
            said = str(error).replace(f"{where}.id", f"{where}.call_id").replace(".function.", ".")
            raise InvalidField(said, field="input") from None
        if call.id in self._open:
            raise InvalidField(f"{where}.call_id: there is a call {call.id!r:.80} already", field="input")
        if not self._takes_calls:
            self.require_outputs(where)
            self.messages.append({"role": "assistant", "content": None})
            self._takes_calls = True
        self.messages[-1].setdefault("tool_calls", []).append(call.to_json())
        self._open[call.id] = None

    def _output(self, item: Mapping[str, Any], where: str) -> None:
        _require_known(item, OF_OUTPUT, where)
        call_id = item.get("call_id")
        if not isinstance(call_id, str) or call_id not in self._open:
            said = f"{where}.call_id: there is no function_call {call_id!r:.80} before it that has no output yet"
            raise InvalidField(said, field="input")
        del self._open[call_id]
        self._takes_calls = False
        output = _content(item.get("output"), f"{where}.output")
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": output})


def _message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    if item.get("role") not in ROLES:
        raise InvalidField(f"{where}.role must be one of {', '.join(ROLES)}", field="input")
    _require_known(item, OF_MESSAGE, where)
    return {"role": item["role"], "content": _content(item.get("content"), f"{where}.content")}


def _content(content: Any, where: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidField(f"{where} must be a text or a list of parts", field="input")
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in PARTS or not isinstance(part.get("text"), str):
            raise InvalidField(f"{where}[{number}] is no text: only texts are served", field="input")
        _require_known(part, OF_PART, f"{where}[{number}]")
        texts.append({"type": "text", "text": part["text"]})
    return texts


def _require_known(said: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for field, value in said.items():
        if field not in known and value not in (None, [], {}):
            raise InvalidField(f"{where}.{field:.64} is not served: it would be lost, leave it out", field="input")
