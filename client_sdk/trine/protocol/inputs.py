"""What a client asks, as canonical bytes.

The client has no tokenizer, so it cannot sign token ids. It signs the hash of its messages (RFC 8785 canonical
JSON); the node shows the messages as evidence, and every verifier renders them with the model's own chat template
and compares token for token. A node that answers another prompt than the one asked fails that comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import rfc8785
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.sampling import Sampling

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 256
MAX_INPUT_BYTES = 1 << 20
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256
IGNORED_OF_MESSAGE = frozenset({"annotations", "cache_control", "name", "provider_specific_fields"})
"""What clients say of a message, or send back of an answer, and no template is given: it changes nothing."""
IGNORED_OF_PART = frozenset({"annotations", "cache_control"})
NO_TOOLS = "tools are not served: leave out tool calls and their results, or say in text what came of them"


@dataclass(frozen=True, slots=True)
class Input:
    """Either chat messages (role, content) or the raw text of a completion; the other is None."""

    messages: tuple[tuple[str, str], ...] | None = None
    text: str | None = None
    stop: tuple[str, ...] = ()
    """The answer ends with the first token that completes one of these; its text ends before that."""
    sampling: Sampling | None = None
    """How tokens are drawn; greedy without."""

    def canonical(self) -> bytes:
        """RFC 8785 bytes of `{"messages": [{"content": …, "role": …}, …]}` or `{"prompt": …}`.

        With `stop` and `sampling` where there are any: what asks for neither has the hash that it always had.
        """
        if self.messages is not None:
            document: dict[str, Any] = {"messages": [{"role": r, "content": c} for r, c in self.messages]}
        else:
            document = {"prompt": self.text}
        if self.stop:
            document["stop"] = list(self.stop)
        if self.sampling:
            document["sampling"] = self.sampling.document()
        return rfc8785.dumps(document)

    def hash(self) -> bytes:
        return bytes(keccak(self.canonical()))

    def as_messages(self) -> list[dict[str, str]]:
        """The messages as the chat template takes them; empty for a completion."""
        return [{"role": r, "content": c} for r, c in self.messages or ()]


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where in `text` the first of the stop strings begins, or None."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return min(places, default=None)


def shown(text: str, stop: Sequence[str]) -> str:
    """What a client sees of an answer's text: all before the first stop string."""
    return text[: first_stop(text, stop)]


def stop_strings(value: Any) -> tuple[str, ...]:
    """Validates OpenAI's `stop`: null, a string or a list of up to MAX_STOPS. Raises InvalidInput."""
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or len(listed) > MAX_STOPS:
        raise InvalidInput(f"stop must be a string or a list of at most {MAX_STOPS}")
    for entry in listed:
        if not isinstance(entry, str) or not 1 <= len(entry) <= MAX_STOP_CHARACTERS:
            raise InvalidInput(f"a stop string must have 1 to {MAX_STOP_CHARACTERS} characters")
    return tuple(listed)


def chat_input(messages: Sequence[Mapping[str, Any]], stop: Any = None, sampling: Sampling | None = None) -> Input:
    """Validates OpenAI-style messages.

    Content is a string or a list of `{"type": "text", "text": …}` parts, which are joined; an assistant's may be null,
    which is an empty text. What else a message says is refused unless it is null, empty or known to change nothing.
    Raises InvalidInput saying which message is wrong, and where.
    """
    if not messages:
        raise InvalidInput("messages is empty: send at least one message with a role and content")
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(f"{len(messages)} messages, at most {MAX_MESSAGES} are taken")
    pairs: list[tuple[str, str]] = []
    for index, message in enumerate(messages):
        role, where = message.get("role"), f"messages[{index}]"
        if role == "developer":
            role = "system"
        if role in ("tool", "function"):
            raise InvalidInput(f"{where}.role is {role!r}: {NO_TOOLS}")
        if role not in ROLES:
            raise InvalidInput(f"{where}.role is {role!r:.64}, expected one of {', '.join(ROLES)}")
        _require_known(message, {"role", "content"} | IGNORED_OF_MESSAGE, where)
        content = message.get("content")
        # What an assistant says beside a tool call, or after it was cut short: clients send it back as they got it.
        pairs.append((role, "" if content is None and role == "assistant" else _text_of(content, where)))
    return _bounded(Input(messages=tuple(pairs), stop=stop_strings(stop), sampling=sampling))


def text_input(prompt: Any, stop: Any = None, sampling: Sampling | None = None) -> Input:
    """Validates the prompt of a plain completion. Raises InvalidInput."""
    if not isinstance(prompt, str) or not prompt:
        raise InvalidInput("prompt must be a non-empty string")
    return _bounded(Input(text=prompt, stop=stop_strings(stop), sampling=sampling))


def parse_input(canonical: bytes) -> Input:
    """Reads canonical bytes back. Raises InvalidInput unless they are exactly canonical."""
    if len(canonical) > MAX_INPUT_BYTES:
        raise InvalidInput(f"input of {len(canonical)} bytes, at most {MAX_INPUT_BYTES} are taken")
    try:
        document = json.loads(canonical)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"input is not JSON: {error}") from None
    stop = document.pop("stop", None) if isinstance(document, dict) else None
    drawn = document.pop("sampling", None) if isinstance(document, dict) else None
    sampling = Sampling.from_document(drawn) if drawn is not None else None
    if isinstance(document, dict) and set(document) == {"messages"} and isinstance(document["messages"], list):
        parsed = chat_input([m if isinstance(m, dict) else {} for m in document["messages"]], stop, sampling)
    elif isinstance(document, dict) and set(document) == {"prompt"}:
        parsed = text_input(document["prompt"], stop, sampling)
    else:
        raise InvalidInput("input must hold exactly one of 'messages' and 'prompt'")
    if parsed.canonical() != canonical:
        raise InvalidInput("input is not in canonical form (RFC 8785)")
    return parsed


def _require_known(said: Mapping[str, Any], known: Set[str], where: str) -> None:
    """Raises InvalidInput for what would be lost: fields that are neither known nor empty."""
    for field, value in said.items():
        if field in known or value is None or value == [] or value == {}:
            continue
        why = NO_TOOLS if field in ("tool_calls", "tool_call_id", "function_call") else "it would be lost, leave it out"
        raise InvalidInput(f"{where}.{field:.64} is not served: {why}")


def _text_of(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInput(f"{where}.content must be a string or a list of text parts")
    parts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidInput(f"{where}.content has a part that is not text: only text is served")
        _require_known(part, {"type", "text"} | IGNORED_OF_PART, f"{where}.content[{number}]")
        parts.append(part["text"])
    return "".join(parts)


def _bounded(value: Input) -> Input:
    try:
        size = len(value.canonical())
    except (rfc8785.CanonicalizationError, UnicodeError):
        raise InvalidInput("the text holds a lone surrogate and cannot be encoded as UTF-8") from None
    if size > MAX_INPUT_BYTES:
        raise InvalidInput(f"input of {size} bytes, at most {MAX_INPUT_BYTES} are taken")
    return value
