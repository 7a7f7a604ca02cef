"""Functions that a model may call, as OpenAI's requests describe them, and calls of them. Pure.

What is asked is hashed, and rendered by node and verifiers alike. RFC 8785 sorts the members of objects; models have
learned tools with their members in the order of whoever wrote them, so what a client signs holds them as one text of
JSON, and so are arguments, as OpenAI has it. Which calls an answer makes is `calls`' question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from trine.errors import InvalidField, InvalidInput

MAX_TOOLS = 128
MAX_CALLS = 128
"""Of one message."""
MAX_DEPTH = 64
"""Of objects and lists inside one another: readers of JSON give up at depths of their own, so nobody is sent there."""
MAX_ID_CHARACTERS = 256
MAX_TOOLS_BYTES = 1 << 19
INDENT = 4
"""Characters a level: templates may write each member of a tool on a line of its own."""
FIELDS = ("parallel_tool_calls", "tool_choice", "tools")
"""Of a request."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IGNORED_OF_TOOL = frozenset({"cache_control"})
_BRACKETS = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"?', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant makes. `arguments` is a text, by the model's own hand: look at it before it is run."""

    id: str
    name: str
    arguments: str

    def to_json(self) -> dict[str, Any]:
        """As messages of OpenAI's have it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Self:
        """Raises InvalidInput, naming it `where`."""
        if not isinstance(document, Mapping) or not isinstance(document.get("function"), Mapping):
            raise InvalidInput(f"{where} must be an object with id, type and function")
        function = document["function"]
        if document.get("type", "function") != "function":
            raise InvalidInput(f"{where}.type is {document['type']!r:.64}: only functions are called here")
        _require_known(document, {"id", "type", "function", "index"}, where)
        _require_known(function, {"name", "arguments"}, f"{where}.function")
        if not isinstance(function.get("arguments"), str):
            raise InvalidInput(f"{where}.function.arguments must be a text of JSON")
        return cls(
            call_id(document.get("id"), f"{where}.id"),
            _named(function.get("name"), f"{where}.function.name"),
            function["arguments"],
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """What a request offers. `text`: the tools as JSON, which `as_list` reads; empty where there are none."""

    text: str = ""
    parallel: bool = True
    """Whether one answer may make several calls; else those after the first are left out."""

    def __bool__(self) -> bool:
        return bool(self.text)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool["function"]["name"] for tool in self.as_list())

    def as_list(self) -> list[dict[str, Any]]:
        """As OpenAI's requests and chat templates have them."""
        listed: list[dict[str, Any]] = json.loads(self.text) if self.text else []
        return listed

    def fields(self) -> dict[str, Any]:
        """As fields of a request."""
        if not self.text:
            return {}
        return {"tools": self.as_list(), **({} if self.parallel else {"parallel_tool_calls": False})}

    def document(self) -> dict[str, Any]:
        """What a client signs of them: members of the input."""
        if not self.text:
            return {}
        return {"tools": self.text, **({} if self.parallel else {"parallel_tool_calls": False})}

    @classmethod
    def from_document(cls, text: Any, parallel: Any = None) -> Self:
        """Reads `document`'s form back: None for what was left out. Raises InvalidInput."""
        if text is None and parallel is None:
            return cls()
        if not isinstance(text, str) or len(text) > MAX_TOOLS_BYTES:
            raise InvalidInput(f"tools must be a text of JSON, of at most {MAX_TOOLS_BYTES} bytes")
        try:
            listed = json.loads(text) if depth(text) <= MAX_DEPTH else None
        except ValueError:
            listed = None
        offered = cls(tools_text(listed), parallel is not False)
        if offered.text != text or offered.document().get("parallel_tool_calls") is not parallel:
            raise InvalidInput("tools are not in the form that is signed")
        return offered


NO_TOOLS = Tools()


def offered(body: Mapping[str, Any]) -> Tools:
    """What a request's fields offer: nothing where nothing may be called. What must be called is `forcing`'s question.
    Raises InvalidField naming the field."""
    parallel, choice, given = (body.get(field) for field in FIELDS)
    if parallel is not None and not isinstance(parallel, bool):
        raise InvalidField("parallel_tool_calls must be true or false", field="parallel_tool_calls")
    if given is None or given == []:
        return NO_TOOLS
    try:
        text = tools_text(given, may_be_strict=choice not in (None, "auto"))
    except InvalidInput as error:
        raise InvalidField(str(error), field="tools") from None
    return NO_TOOLS if choice == "none" else Tools(text, parallel is not False)


def tools_text(tools: Any, *, may_be_strict: bool = False) -> str:
    """Tools of a request as one text: each with its type, name, description and parameters, in this order, and what the
    parameters say as it was written. `may_be_strict`: a call that is forced keeps to its schema, no other does. Raises
    InvalidInput saying which tool is wrong, and where."""
    if not isinstance(tools, list) or not 0 < len(tools) <= MAX_TOOLS:
        raise InvalidInput(f"tools must be a list of 1 to {MAX_TOOLS} functions")
    listed = [_tool(tool, f"tools[{number}]", may_be_strict) for number, tool in enumerate(tools)]
    names = [tool["function"]["name"] for tool in listed]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InvalidInput(f"tools[{number}].function.name: there is a {name!r} already")
    deep, white = _extent(listed)
    if deep > MAX_DEPTH:
        raise InvalidInput(f"tools are nested deeper than {MAX_DEPTH}")
    if white > MAX_TOOLS_BYTES:
        raise InvalidInput("tools have too many members, too deep within one another, to be shown to a model")
    try:
        text = json.dumps(listed, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidInput("tools hold a lone surrogate, which cannot be encoded as UTF-8") from None
    except ValueError:
        raise InvalidInput("tools hold a number that JSON has not") from None
    if size > MAX_TOOLS_BYTES:
        raise InvalidInput(f"tools of {size} bytes, at most {MAX_TOOLS_BYTES} are taken")
    return text


def tool_calls(given: Any, where: str) -> tuple[ToolCall, ...]:
    """An assistant's calls, as a client sends them back. Raises InvalidInput."""
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MAX_CALLS:
        raise InvalidInput(f"{where} must be a list of at most {MAX_CALLS} calls")
    calls = tuple(ToolCall.from_json(call, f"{where}[{number}]") for number, call in enumerate(given))
    if len({call.id for call in calls}) != len(calls):
        raise InvalidInput(f"{where}: two calls have one id")
    return calls


def call_id(value: Any, where: str) -> str:
    """Raises InvalidInput."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise InvalidInput(f"{where} must be the id of a call, of 1 to {MAX_ID_CHARACTERS} characters")
    return value


def require_answered(answers: Sequence[tuple[str, str | None, tuple[ToolCall, ...]]]) -> None:
    """Raises InvalidInput unless each call is followed by its result, and nothing else, before anybody speaks.

    `answers`: role, `tool_call_id` and calls of each message.
    """
    open_calls: set[str] = set()
    for number, (role, answered, calls) in enumerate(answers):
        where = f"messages[{number}]"
        if role == "tool":
            if answered not in open_calls:
                raise InvalidInput(
                    f"{where}: a message of the role 'tool' must answer one of the tool_calls of the assistant's "
                    f"message before it, each once; {answered!r:.80} is none of these"
                )
            open_calls.discard(answered)
            continue
        _require_none_open(open_calls, where)
        open_calls = {call.id for call in calls}
    _require_none_open(open_calls, "the end")


def depth(text: str) -> int:
    """How deep objects and lists of a text of JSON are inside one another; in time that grows with its length only."""
    here = deepest = 0
    for bracket in _BRACKETS.findall(text):
        if bracket in "[{":
            here += 1
            deepest = max(deepest, here)
        elif bracket in "]}":
            here -= 1
    return deepest


def _require_none_open(open_calls: set[str], where: str) -> None:
    if open_calls:
        missing = ", ".join(sorted(open_calls)[:4])
        raise InvalidInput(
            "an assistant's message with tool_calls must be followed by a message of the role 'tool' for each "
            f"tool_call_id; before {where} there is none for {missing:.400}"
        )


def _tool(tool: Any, where: str, may_be_strict: bool) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise InvalidInput(f"{where} must be an object of the type function, with a function")
    function = tool["function"]
    _require_known(tool, {"type", "function"} | _IGNORED_OF_TOOL, where)
    _require_known(function, {"name", "description", "parameters", "strict"}, f"{where}.function")
    if function.get("strict") not in (None, False, may_be_strict):
        raise InvalidInput(
            f"{where}.function.strict is served where tool_choice forces a call: nothing else holds arguments to their "
            "schema, leave it out and check what comes"
        )
    described: dict[str, Any] = {"name": _named(function.get("name"), f"{where}.function.name")}
    for field, kind, what in (("description", str, "a text"), ("parameters", dict, "an object, as JSON Schema has it")):
        value = function.get(field)
        if value is None:
            continue
        if not isinstance(value, kind):
            raise InvalidInput(f"{where}.function.{field} must be {what}")
        described[field] = value
    return {"type": "function", "function": described}


def _extent(value: Any) -> tuple[int, int]:
    """How deep a value of JSON is, up to a little more than MAX_DEPTH, and at most how many characters of white space
    it has with each member on a line of its own."""
    level, deep, white = [value], 0, 0
    while level and deep <= MAX_DEPTH + 1:
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for values in inner for each in values]
        deep += bool(inner)
        white += (len(level) + len(inner)) * (INDENT * deep + 2)
    return deep, white


def _named(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput(f"{where} must have 1 to 64 characters of a-z, A-Z, 0-9, _ and -")
    return value


def _require_known(said: Mapping[str, Any], known: set[str] | frozenset[str], where: str) -> None:
    for field, value in said.items():
        if field not in known and value not in (None, [], {}):
            raise InvalidInput(f"{where}.{field!s:.64} is not served: it would be lost, leave it out")
