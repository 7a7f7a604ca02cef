"""Which calls an answer makes: a function of its text and of what was asked, the same for node, gateway and client.

What is signed and verified is the text. Models write calls into it in forms of their own, which are told apart by the
text itself, whatever the model is called:

- Hermes, Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number of them, with text around them;
- Llama: `{"name": …, "parameters": {…}}`, alone or several of them, with `;` between or nothing, and no other text; or
  the same after `<|python_tag|>`;
- small models of any kind: the same in fences of Markdown, as Qwen's coders write it.

A call names a tool that was offered, and its arguments are an object, or a text that holds one. What is anything else,
or is cut off, stays text: nobody runs what the model has not finished. `CallReader` reads a text as it comes and gives
the same for any way of cutting it, in time that grows with its length only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from eth_utils.crypto import keccak

from trine.protocol.inputs import Input
from trine.protocol.tools import MAX_CALLS, MAX_DEPTH, ToolCall, depth

HERMES, HERMES_END = "<tool_call>", "</tool_call>"
LLAMA = "<|python_tag|>"
FENCE, FENCE_OF_JSON = "```", "```json"
MARKERS = (HERMES, LLAMA)
WHITE = " \t\n\r"
_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
_WHITE = re.compile(f"[{WHITE}]*")
_LOOSE = re.compile(rf"[{WHITE}:,0-9+\-.eEtrufalsn]+")
"""What stands between the brackets and strings of JSON: all else ends an object where it is, a marker too."""
_STRING = re.compile(r'(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])+')

Waiting = Generator["str | ToolCall | None", None, Any]
"""Steps of reading: pieces of the answer, and None where more of the text is needed."""


@dataclass(frozen=True, slots=True)
class Read:
    """An answer as OpenAI's messages have it: without content where there are calls and nothing else."""

    content: str | None
    calls: tuple[ToolCall, ...]


def read_calls(text: str, asked: Input) -> Read:
    """What a whole answer says and calls."""
    reader = CallReader(asked)
    pieces = [*reader.feed(text), *reader.end()]
    calls = tuple(piece for piece in pieces if isinstance(piece, ToolCall))
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    return Read(content if content or not calls else None, calls)


def told_reason(reason: str, calls: Sequence[ToolCall]) -> str:
    """Why an answer ends, as OpenAI's clients are told; `reason`: what its receipt says. One that was cut off stays
    one, whatever it calls."""
    return "tool_calls" if calls and reason == "stop" else reason


class CallReader:
    """Texts and calls of an answer as they come: each call once, when it is whole.

    White space beside a call is left out; all else of the text comes, in its order.
    """

    def __init__(self, asked: Input) -> None:
        self._names = asked.tools.names
        self._parallel = asked.tools.parallel
        # Without the salt: who reads the text as it comes need not know it.
        self._input_hash = replace(asked, salt=b"").hash() if asked.tools else b""
        self._text = ""  # what has not been read
        self._place = 0
        self._is_whole = False
        self._white = ""  # white space after text: a call may follow
        self._is_after_call = False
        self._calls = 0  # that were found, and that were told
        self._told = 0
        self._steps = self._answer() if self._names else self._plain()

    def feed(self, text: str) -> list[str | ToolCall]:
        self._text, self._place = self._text[self._place :] + text, 0
        return self._advance()

    def end(self) -> list[str | ToolCall]:
        """After the last of the text."""
        self._is_whole = True
        return self._advance()

    def _advance(self) -> list[str | ToolCall]:
        pieces: list[str | ToolCall] = []
        texts: list[str] = []
        for piece in self._steps:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            if texts:
                pieces.append("".join(texts))
                texts = []
            if piece is None:
                return pieces
            pieces.append(piece)
        return [*pieces, "".join(texts)] if texts else pieces

    def _plain(self) -> Waiting:
        """Where there is nothing to call, all is text."""
        while (yield from self._next()):
            text, self._place = self._text[self._place :], len(self._text)
            yield text

    def _answer(self) -> Waiting:
        white = yield from self._skipped()
        if (yield from self._next()) in ("{", "`"):
            yield from self._bare(white)
        else:
            yield from self._say(white)
        while (yield from self._next()):
            if marker := _MARKER.search(self._text, self._place):
                yield from self._said_to(marker.start())
                self._place = marker.end()
                yield from self._marked(marker[0])
                continue
            yield from self._said_to(len(self._text) - self._begun())
            if self._place < len(self._text):  # what may become a marker
                if self._is_whole:
                    yield from self._said_to(len(self._text))
                else:
                    yield None
        if self._white:
            yield self._white

    def _bare(self, white: str) -> Waiting:
        """Calls without a marker, which are only told where the whole answer is nothing else."""
        seen, found, is_fenced = [white], [], False
        while following := (yield from self._next()):
            if following == "{":
                text, call = yield from self._object()
                seen.append(text)
                if call is None:
                    break
                found.append(call)
            elif following == ";" and found:
                self._place += 1
                seen.append(following)
            elif not is_fenced and (yield from self._skip(FENCE_OF_JSON)):
                seen.append(FENCE_OF_JSON)
                is_fenced = True
            elif following == "`" and (yield from self._skip(FENCE)):
                seen.append(FENCE)
                is_fenced = not is_fenced
            else:
                break
            seen.append((yield from self._skipped()))
        if found and not following:
            for name, arguments in found:
                yield from self._called(name, arguments)
            return
        self._calls -= len(found)
        yield from self._say("".join(seen))

    def _marked(self, marker: str) -> Waiting:
        """What follows a marker."""
        seen = marker + (yield from self._skipped())
        while (yield from self._next()) == "{":
            text, call = yield from self._object()
            if call is None:
                seen += text
                break
            yield from self._called(*call)
            seen = ""
            yield from self._skipped()
            if marker == HERMES:
                yield from self._skip(HERMES_END)
                return
            if (yield from self._next()) == ";":
                self._place += 1
                seen = ";" + (yield from self._skipped())
        yield from self._say(seen)

    def _object(self) -> Generator[None, None, tuple[str, tuple[str, str] | None]]:
        """The text of an object up to its end, or to where it is none, and the call that it is, if it is one."""
        parts, deep = [], 0
        while character := (yield from self._next()):
            if character == '"':
                parts.append(self._taken(self._place + 1))
                text, is_ended = yield from self._string()
                parts.append(text)
                if not is_ended:
                    break
            elif loose := _LOOSE.match(self._text, self._place):
                parts.append(self._taken(loose.end()))
            elif character in "{[" and deep < MAX_DEPTH:
                deep += 1
                parts.append(self._taken(self._place + 1))
            elif character in "}]":
                deep -= 1
                parts.append(self._taken(self._place + 1))
                if not deep:
                    whole = "".join(parts)
                    call = _called(whole, self._names) if self._calls < MAX_CALLS else None
                    self._calls += call is not None
                    return whole, call
            else:
                break
        return "".join(parts), None

    def _string(self) -> Generator[None, None, tuple[str, bool]]:
        """What is left of a string, with its end, and whether there is one."""
        parts = []
        while character := (yield from self._next()):
            if inner := _STRING.match(self._text, self._place):
                parts.append(self._taken(inner.end()))
            elif character == '"':
                parts.append(self._taken(self._place + 1))
                return "".join(parts), True
            elif character == "\\" and self._place + 1 == len(self._text) and not self._is_whole:
                yield None
            else:
                break
        return "".join(parts), False

    def _called(self, name: str, arguments: str) -> Iterator[ToolCall]:
        self._white, self._is_after_call = "", True
        number, self._told = self._told, self._told + 1
        if number and not self._parallel:
            return
        named = b"\0".join((self._input_hash, str(number).encode(), name.encode(), arguments.encode()))
        yield ToolCall(f"call_{keccak(named).hex()[:24]}", name, arguments)

    def _say(self, text: str) -> Iterator[str]:
        """Text, but for white space at its end, which is kept until it is known what follows."""
        if self._is_after_call:
            text = text.lstrip(WHITE)
            self._is_after_call = not text
        text = self._white + text
        told = text.rstrip(WHITE)
        self._white = text[len(told) :]
        if told:
            yield told

    def _said_to(self, end: int) -> Iterator[str]:
        return self._say(self._taken(end))

    def _taken(self, end: int) -> str:
        text, self._place = self._text[self._place : end], end
        return text

    def _next(self) -> Generator[None, None, str]:
        """The next character, which is not taken; empty after the last."""
        while self._place == len(self._text) and not self._is_whole:
            yield None
        return self._text[self._place : self._place + 1]

    def _skipped(self) -> Generator[None, None, str]:
        """White space that comes next."""
        parts = []
        while (character := (yield from self._next())) and character in WHITE:
            white = _WHITE.match(self._text, self._place)
            parts.append(self._taken(white.end() if white else self._place + 1))
        return "".join(parts)

    def _skip(self, word: str) -> Generator[None, None, bool]:
        """The word, if it comes next; whether it did."""
        while not self._is_whole and len(rest := self._text[self._place : self._place + len(word)]) < len(word):
            if not word.startswith(rest):
                break
            yield None
        comes = self._text.startswith(word, self._place)
        self._place += len(word) if comes else 0
        return comes

    def _begun(self) -> int:
        """How many characters at the end may be the beginning of a marker."""
        end = self._text[max(self._place, len(self._text) - max(map(len, MARKERS)) + 1) :]
        return next((len(end) - n for n in range(len(end)) if any(m.startswith(end[n:]) for m in MARKERS)), 0)


def _called(text: str, names: frozenset[str]) -> tuple[str, str] | None:
    """(name, arguments) of an object that is a call of one of these tools; None for any other."""
    members = _members(text)
    if members is None or ("arguments" in members) == ("parameters" in members):
        return None
    name = _string_of(members.get("name", ""))
    arguments = _arguments(members.get("arguments") or members["parameters"])
    return (name, arguments) if name in names and arguments is not None else None


def _arguments(value: str) -> str | None:
    """The text of an object: the value itself, or what it says."""
    if value == "null":
        return "{}"
    text = _string_of(value).strip(WHITE) if value.startswith('"') else value
    if not text.startswith("{") or not _is_unicode(text):
        return None
    return text if depth(text) <= MAX_DEPTH and _members(text) is not None else None


def _members(text: str) -> dict[str, str] | None:
    """Members of an object of JSON, by name, each value as it is written; None unless it is one, with each once."""
    members: dict[str, str] = {}
    place, last = _after_white(text, 1), len(text) - 1
    if place == last and text[last] == "}":
        return members
    try:
        while True:
            name, place = _STRICT.raw_decode(text, place)
            if not isinstance(name, str) or name in members:
                return None
            place = _after_white(text, place)
            if text[place : place + 1] != ":":
                return None
            start = _after_white(text, place + 1)
            _, end = _STRICT.raw_decode(text, start)
            members[name] = text[start:end]
            place = _after_white(text, end)
            if place == last and text[last] == "}":
                return members
            if text[place : place + 1] != ",":
                return None
            place = _after_white(text, place + 1)
    except ValueError:
        return None


def _string_of(value: str) -> str:
    """A string of JSON; empty for any other value."""
    read = _STRICT.decode(value) if value.startswith('"') else ""
    return read if isinstance(read, str) else ""


def _after_white(text: str, place: int) -> int:
    white = _WHITE.match(text, place)
    return white.end() if white else place


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return True


def _no_number(value: str) -> NoReturn:
    raise ValueError(f"{value} is no number of JSON")


# Numbers stay texts: how long one may be that Python reads is a setting of the process.
_STRICT = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_number)
