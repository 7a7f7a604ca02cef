"""Puts the calls of a stream together from their pieces. Pure; whether they are what the answer calls is seen later."""

from __future__ import annotations

from typing import Any

from trine.errors import VerificationFailed
from trine.protocol.tools import MAX_CALLS


class StreamedCalls:
    """Feed it `tool_calls` of one delta after the other."""

    def __init__(self) -> None:
        self._begun: list[dict[str, Any]] = []
        self._arguments: list[list[str]] = []

    def add(self, deltas: Any) -> int:
        """How many characters they add. Raises VerificationFailed, or what reading something else raises."""
        added = 0
        for delta in deltas:
            index, function = delta["index"], delta.get("function") or {}
            if index == len(self._begun) < MAX_CALLS:
                self._begun.append({**delta, "function": {"name": function["name"]}})
                self._arguments.append([])
            elif type(index) is not int or not 0 <= index < len(self._begun):
                raise VerificationFailed("the node's stream calls tools out of their order")
            piece = function.get("arguments") or ""
            self._arguments[index].append(piece)
            added += len(piece) + 1
        return added

    def whole(self) -> list[dict[str, Any]]:
        """All of them, as a message has them."""
        return [
            {**call, "function": {**call["function"], "arguments": "".join(parts)}}
            for call, parts in zip(self._begun, self._arguments, strict=True)
        ]
