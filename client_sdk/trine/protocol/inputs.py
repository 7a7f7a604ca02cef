"""What a client asks, as canonical bytes.

The client has no tokenizer, so it cannot sign token ids. It signs the hash of its messages (RFC 8785 canonical
JSON); the node shows the messages as evidence, and every verifier renders them with the model's own chat template
and compares token for token. A node that answers another prompt than the one asked fails that comparison.
An input may have a salt (`salts`), which no template is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import rfc8785
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.salts import SALT_BYTES, read_salt
from trine.protocol.sampling import Sampling
from trine.protocol.tools import NO_TOOLS, ToolCall, Tools, call_id, require_answered, tool_calls

ROLES = ("system", "user", "assistant", "tool")
MAX_MESSAGES = 256
MAX_INPUT_BYTES = 1 << 20
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256
IGNORED_OF_MESSAGE = frozenset({"annotations", "cache_control", "name", "provider_specific_fields"})
"""What clients say of a message, or send back of an answer, and no template is given: it changes nothing."""
IGNORED_OF_PART = frozenset({"annotations", "cache_control"})
NOT_SERVED = {
    "function_call": "it is deprecated: send tool_calls, and results as messages of the role 'tool'",
    "tool_call_id": "only a message of the role 'tool' answers a call",
    "tool_calls": "only an assistant calls tools",
}
LOST = "it would be lost, leave it out"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat. A text of an assistant beside its calls may be empty."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None  # the call whose result it is, of the role `tool`

    def to_json(self) -> dict[str, Any]:
        """As OpenAI has it, and as it is signed; a text always."""
        document: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            document["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.tool_call_id is not None:
            document["tool_call_id"] = self.tool_call_id
        return document


@dataclass(frozen=True, slots=True)
class Input:
    """Either chat messages or the raw text of a completion; the other is None."""

    messages: tuple[Message, ...] | None = None
    text: str | None = None
    stop: tuple[str, ...] = ()
    """The answer ends with the first token that completes one of these; its text ends before that."""
    sampling: Sampling | None = None
    """How tokens are drawn; greedy without."""
    tools: Tools = NO_TOOLS
    """What the model is told that it may call, in a chat."""
    grammar: Grammar | None = None
    """What the answer's text must be."""
    salt: bytes = b""
    """See `salts`; none where the hash may tell what is asked. No token depends on it."""

    @property
    def decoding(self) -> Decoding | None:
        """How an engine has to choose the answer's tokens; None: the likeliest ones."""
        return Decoding(self.sampling, self.grammar) if self.sampling or self.grammar else None

    def salted(self, salt: bytes) -> Input:
        """The same with this salt. Raises InvalidInput, also where it makes the input too long."""
        if len(salt) != SALT_BYTES:
            raise InvalidInput(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        return _bounded(replace(self, salt=salt))

    def canonical(self) -> bytes:
        """RFC 8785 bytes of `{"messages": [{"content": …, "role": …}, …]}` or `{"prompt": …}`.

        With `stop`, `sampling`, `grammar`, `tools` and `salt` where there are any: what asks for none of these has the
        hash that it always had.
        """
        if self.messages is not None:
            document: dict[str, Any] = {"messages": self.as_messages(), **self.tools.document()}
        else:
            document = {"prompt": self.text}
        if self.stop:
            document["stop"] = list(self.stop)
        if self.sampling:
            document["sampling"] = self.sampling.document()
        if self.grammar:
            document["grammar"] = self.grammar.document()
        if self.salt:
            document["salt"] = self.salt.hex()
        return rfc8785.dumps(document)

    def hash(self) -> bytes:
        return bytes(keccak(self.canonical()))

    def as_messages(self) -> list[dict[str, Any]]:
        """The messages as OpenAI has them; empty for a completion."""
        return [message.to_json() for message in self.messages or ()]


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where in `text` the first of the stop strings begins, or None."""
    places = [place for place in map(text.find, stop) if place >= 0]
    return min(places, default=None)


def shown(text: str, stop: Sequence[str]) -> str:
    """What a client sees of an answer's text: all before the first stop string."""
    return text[: first_stop(text, stop)]


def stop_strings(value: Any) -> tuple[str, ...]:
    """Validates OpenAI's `stop`: null, a string or a list of up to MAX_STOPS; an empty string is none. Raises
    InvalidInput."""
    listed = [] if value in (None, "") else [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or len(listed) > MAX_STOPS:
        raise InvalidInput(f"stop must be a string or a list of at most {MAX_STOPS}")
    for entry in listed:
        if not isinstance(entry, str) or not 1 <= len(entry) <= MAX_STOP_CHARACTERS:
            raise InvalidInput(f"a stop string must have 1 to {MAX_STOP_CHARACTERS} characters")
    return tuple(listed)


def chat_input(
    messages: Sequence[Mapping[str, Any]],
    stop: Any = None,
    sampling: Sampling | None = None,
    tools: Tools = NO_TOOLS,
    grammar: Grammar | None = None,
) -> Input:
    """Validates OpenAI-style messages.

    Content is a string or a list of `{"type": "text", "text": …}` parts, which are joined; an assistant's and a tool's
    may be null, which is an empty text. Calls of tools are followed by their results. What else a message says is
    refused unless it is null, empty or known to change nothing. Raises InvalidInput saying which message is wrong, and
    where.
    """
    if not messages:
        raise InvalidInput("messages is empty: send at least one message with a role and content")
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(f"{len(messages)} messages, at most {MAX_MESSAGES} are taken")
    read = tuple(_message(message, f"messages[{index}]") for index, message in enumerate(messages))
    require_answered([(message.role, message.tool_call_id, message.tool_calls) for message in read])
    return _bounded(Input(messages=read, stop=stop_strings(stop), sampling=sampling, tools=tools, grammar=grammar))


def _message(message: Mapping[str, Any], where: str) -> Message:
    role = message.get("role")
    if role == "developer":
        role = "system"
    if role == "function":
        raise InvalidInput(f"{where}.role is 'function', which is deprecated: send tool_calls, and the role 'tool'")
    if role not in ROLES:
        raise InvalidInput(f"{where}.role is {role!r:.64}, expected one of {', '.join(ROLES)}")
    known = {"assistant": {"tool_calls"}, "tool": {"tool_call_id"}}.get(role, set())
    _require_known(message, {"role", "content"} | known | IGNORED_OF_MESSAGE, where)
    content = message.get("content")
    return Message(
        role,
        # What an assistant says beside a call, or after it was cut short: clients send it back as they got it.
        "" if content is None and role in ("assistant", "tool") else _text_of(content, where),
        tool_calls(message.get("tool_calls"), f"{where}.tool_calls") if role == "assistant" else (),
        call_id(message.get("tool_call_id"), f"{where}.tool_call_id") if role == "tool" else None,
    )


def text_input(
    prompt: Any, stop: Any = None, sampling: Sampling | None = None, grammar: Grammar | None = None
) -> Input:
    """Validates the prompt of a plain completion. Raises InvalidInput."""
    if not isinstance(prompt, str) or not prompt:
        raise InvalidInput("prompt must be a non-empty string")
    return _bounded(Input(text=prompt, stop=stop_strings(stop), sampling=sampling, grammar=grammar))


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
    salt = document.pop("salt", None) if isinstance(document, dict) else None
    sampling = Sampling.from_document(drawn) if drawn is not None else None
    constraint = document.pop("grammar", None) if isinstance(document, dict) else None
    grammar = Grammar.from_document(constraint) if constraint is not None else None
    if isinstance(document, dict) and isinstance(document.get("messages"), list):
        tools = Tools.from_document(document.pop("tools", None), document.pop("parallel_tool_calls", None))
    if isinstance(document, dict) and set(document) == {"messages"} and isinstance(document["messages"], list):
        messages = [m if isinstance(m, dict) else {} for m in document["messages"]]
        parsed = chat_input(messages, stop, sampling, tools, grammar)
    elif isinstance(document, dict) and set(document) == {"prompt"}:
        parsed = text_input(document["prompt"], stop, sampling, grammar)
    else:
        raise InvalidInput("input must hold exactly one of 'messages' and 'prompt'")
    if salt is not None:
        parsed = parsed.salted(read_salt(salt))
    if parsed.canonical() != canonical:
        raise InvalidInput("input is not in canonical form (RFC 8785)")
    return parsed


def salt_of(canonical: bytes) -> bytes:
    """The salt of an input that nobody has looked at yet: none where it has none, or is no input."""
    try:
        return parse_input(canonical).salt
    except InvalidInput:
        return b""


def _require_known(said: Mapping[str, Any], known: Set[str], where: str) -> None:
    """Raises InvalidInput for what would be lost: fields that are neither known nor empty."""
    for field, value in said.items():
        if field in known or value is None or value == [] or value == {}:
            continue
        raise InvalidInput(f"{where}.{field:.64} is not served: {NOT_SERVED.get(field, LOST)}")


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
