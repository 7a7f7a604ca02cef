"""How a model's text becomes token ids, pinned: the libraries that render it and what they must give.

Verifiers reject an answer whose prompt tokens are not their own rendering of the client's input. So whoever renders
proves first that it renders as everybody does: its libraries are in the ranges of the model's manifest, and it gives
the manifest's token ids for the golden vectors. Knows no library and renders nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from trine.errors import InvalidInput
from trine.protocol.inputs import Input, chat_input, text_input
from trine.protocol.tokens import tokens_hash
from trine.protocol.tools import Tools

MAX_LIBRARIES = 16
MAX_VECTORS = 64
MAX_VECTOR_TOKENS = 1 << 20
SPELLED_IDS = 128
"""Vectors of so many tokens or fewer hold the ids themselves, so that a difference can be shown."""
_LIBRARY = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_VECTOR = re.compile(r"[a-z0-9]([a-z0-9 -]{0,62}[a-z0-9])?")
_HASH = re.compile("0x[0-9a-f]{64}")
_RELEASE = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){0,3}")
_INSTALLED = re.compile(r"(?P<release>[0-9]{1,9}(\.[0-9]{1,9}){0,5})(\.post[0-9]{1,9})?(\+[A-Za-z0-9.]{1,64})?")


@dataclass(frozen=True, slots=True, order=True)
class Library:
    """A library of the renderer, and its releases that are taken: from `since` on, before `below`."""

    name: str
    since: str
    below: str

    def __post_init__(self) -> None:
        if not _matches(_LIBRARY, self.name):
            raise InvalidInput(f"rendering: {self.name!r} is no name of a library in its normal form")
        for release in (self.since, self.below):
            if not _matches(_RELEASE, release):
                raise InvalidInput(f"rendering: {self.name}: {release!r} is no release such as 5.23")
        if not _numbers(self.since) < _numbers(self.below):
            raise InvalidInput(f"rendering: {self.name}: no release is from {self.since} on and before {self.below}")

    def takes(self, installed: str) -> bool:
        """Whether a version is in the range. Pre-releases never are: they may differ from what they precede."""
        version = _INSTALLED.fullmatch(installed)
        return version is not None and _numbers(self.since) <= _numbers(version["release"]) < _numbers(self.below)

    def __str__(self) -> str:
        return f"{self.name} >={self.since},<{self.below}"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids by their number and hash (`tokens_hash`); themselves where there are at most SPELLED_IDS, else None."""

    count: int
    hash: bytes
    ids: tuple[int, ...] | None

    def __post_init__(self) -> None:
        if type(self.count) is not int or not 0 <= self.count <= MAX_VECTOR_TOKENS:
            raise InvalidInput(f"rendering: {self.count!r} is no number of tokens from 0 to {MAX_VECTOR_TOKENS}")
        if len(self.hash) != 32:
            raise InvalidInput("rendering: the hash of token ids has 32 bytes")
        if (self.ids is not None) != (self.count <= SPELLED_IDS):
            raise InvalidInput(f"rendering: token ids are spelled out exactly where there are at most {SPELLED_IDS}")
        if self.ids is not None and (len(self.ids), _hash_of(self.ids)) != (self.count, self.hash):
            raise InvalidInput("rendering: the token ids have another number or hash than stated")

    @classmethod
    def of(cls, ids: Sequence[int]) -> Self:
        """Raises InvalidInput for what is no token id."""
        return cls(len(ids), _hash_of(ids), tuple(ids) if len(ids) <= SPELLED_IDS else None)

    def to_json(self) -> dict[str, Any]:
        spelled = {} if self.ids is None else {"ids": list(self.ids)}
        return {"count": self.count, "hash": "0x" + self.hash.hex(), **spelled}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises InvalidInput."""
        spelled = isinstance(document, dict) and "ids" in document
        members = _members(document, "tokens", ("count", "hash", *(["ids"] if spelled else [])))
        if not _matches(_HASH, members["hash"]):
            raise InvalidInput("rendering: the hash of token ids must be 32 bytes in lower-case hexadecimal, from 0x")
        ids = tuple(_listed(members["ids"], "ids", SPELLED_IDS)) if spelled else None
        return cls(members["count"], bytes.fromhex(members["hash"][2:]), ids)

    def difference(self, other: Tokens) -> str:
        """How `other`, which is not equal, differs, for people."""
        if self.ids is not None and other.ids is not None:
            for place, (expected, found) in enumerate(zip(self.ids, other.ids, strict=False)):
                if expected != found:
                    return f"id {place} is {found}, expected {expected}"
        if self.count != other.count:
            return f"{other.count} ids, expected {self.count}"
        return f"ids of hash 0x{other.hash.hex()}, expected 0x{self.hash.hex()}"


@dataclass(frozen=True, slots=True)
class Vector:
    """A golden vector: what is asked, and the tokens that it must give. None: the renderer must refuse it."""

    name: str
    asked: Input
    tokens: Tokens | None

    def __post_init__(self) -> None:
        if not _matches(_VECTOR, self.name):
            raise InvalidInput(f"rendering: {self.name!r} is no name of a vector: words of a-z and 0-9")
        if self.asked.stop or self.asked.decoding or not self.asked.tools.parallel:
            raise InvalidInput(
                f"rendering: vector {self.name!r} says how to choose or end its answer, or makes one call only, which "
                "renders to nothing"
            )

    def fault(self, found: Tokens | None) -> str | None:
        """What is wrong with what a renderer gave (None: it refused), or None."""
        if found == self.tokens:
            return None
        if found is None:
            return "it is refused"
        return "it must be refused, and is not" if self.tokens is None else self.tokens.difference(found)

    def to_json(self) -> dict[str, Any]:
        chat = self.asked.messages is not None
        given: Any = {"messages": self.asked.as_messages()} if chat else {"prompt": self.asked.text}
        given |= self.asked.tools.document()
        return {"name": self.name, "tokens": self.tokens and self.tokens.to_json(), **given}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises InvalidInput."""
        kind = "prompt" if isinstance(document, dict) and "prompt" in document else "messages"
        more = ["tools"] if kind == "messages" and isinstance(document, dict) and "tools" in document else []
        members = _members(document, "a vector", ("name", kind, "tokens", *more))
        tokens = None if members["tokens"] is None else Tokens.from_json(members["tokens"])
        tools = Tools.from_document(members.get("tools"))
        return cls(members["name"], _asked(kind, members[kind], tools), tokens)


@dataclass(frozen=True, slots=True)
class Rendering:
    """A model's renderer: its libraries, sorted by name, and its golden vectors, in any order, each name once."""

    libraries: tuple[Library, ...]
    vectors: tuple[Vector, ...]

    def __post_init__(self) -> None:
        libraries = [library.name for library in self.libraries]
        if libraries != sorted(set(libraries)):
            raise InvalidInput("rendering: libraries must be sorted by name, each once")
        if not 0 < len(libraries) <= MAX_LIBRARIES:
            raise InvalidInput(f"rendering: {len(libraries)} libraries, expected 1 to {MAX_LIBRARIES}")
        if not 0 < len(self.vectors) <= MAX_VECTORS:
            raise InvalidInput(f"rendering: {len(self.vectors)} golden vectors, expected 1 to {MAX_VECTORS}")
        if len({vector.name for vector in self.vectors}) != len(self.vectors):
            raise InvalidInput("rendering: two golden vectors have one name")

    def to_json(self) -> dict[str, Any]:
        return {
            "libraries": [{"name": one.name, "since": one.since, "below": one.below} for one in self.libraries],
            "vectors": [vector.to_json() for vector in self.vectors],
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises InvalidInput."""
        members = _members(document, "it", ("libraries", "vectors"))
        libraries = [
            Library(**_members(entry, "a library", ("name", "since", "below")))
            for entry in _listed(members["libraries"], "libraries", MAX_LIBRARIES)
        ]
        vectors = [Vector.from_json(entry) for entry in _listed(members["vectors"], "vectors", MAX_VECTORS)]
        return cls(tuple(libraries), tuple(vectors))


def _asked(kind: str, given: Any, tools: Tools) -> Input:
    if kind == "prompt":
        return text_input(given)
    if not isinstance(given, list) or not all(isinstance(message, dict) for message in given):
        raise InvalidInput("rendering: the messages of a vector must be a list of objects")
    return chat_input(given, tools=tools)


def _members(document: Any, what: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """An object's members. Raises InvalidInput unless it has exactly these."""
    if not isinstance(document, dict) or set(document) != set(names):
        raise InvalidInput(f"rendering: {what} must be an object with exactly {', '.join(names)}")
    return document


def _listed(document: Any, what: str, most: int) -> list[Any]:
    if not isinstance(document, list) or len(document) > most:
        raise InvalidInput(f"rendering: {what} must be a list of at most {most}")
    return document


def _matches(form: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _numbers(release: str) -> tuple[int, ...]:
    """To compare by: 5, 5.0 and 5.0.0 are one release."""
    numbers = [int(number) for number in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _hash_of(ids: Sequence[int]) -> bytes:
    if not all(type(token) is int for token in ids):
        raise InvalidInput("rendering: token ids must be whole numbers")
    return tokens_hash(ids)
