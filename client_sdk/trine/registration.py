"""Registration files of ERC-8004: what an agent says of itself. Reads and writes their text; fetches nothing.

https://eips.ethereum.org/EIPS/eip-8004. Files of others are hostile: bounded in bytes, entries and lengths, and read
for what is shown or compared; what is not known is let be.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote_to_bytes, urlsplit

from eth_utils.address import is_address, to_checksum_address

from trine.errors import InvalidInput

TYPE = "https://eips.ethereum.org/EIPS/eip-8004#registration-v1"
WELL_KNOWN = "/.well-known/agent-registration.json"
"""Where a domain shows that an agent is its own, and where operators serve their file."""
TRUST = ("reputation", "crypto-economic")
"""What Trine gives: feedback of clients whose answers were judged, and stake that is lost for wrong answers."""
MAX_FILE_BYTES = 1 << 16
MAX_ENTRIES = 64
MAX_NAME = 256
MAX_TEXT = 4_096
MAX_URI = 2_048
_DATA = "data:application/json"


@dataclass(frozen=True, slots=True)
class Service:
    """Where an agent can be reached: `name` is the ERC's (web, A2A, MCP, OASF, ENS, DID, email, wallet) or another."""

    name: str
    endpoint: str
    version: str = ""

    @classmethod
    def of(cls, text: str) -> Self:
        """`NAME=ENDPOINT` or `NAME@VERSION=ENDPOINT`, as on a command line. Raises InvalidInput."""
        name, equals, endpoint = text.partition("=")
        name, _, version = name.partition("@")
        if not (equals and name and endpoint):
            raise InvalidInput(f"{text!r} is no service: expected NAME=ENDPOINT, e.g. web=https://example.org")
        return cls(name, endpoint, version)


@dataclass(frozen=True, slots=True)
class Place:
    """An agent in a registry: `eip155:<chain id>:<registry>` and a number."""

    chain_id: int
    registry: str
    agent_id: int

    @property
    def agent_registry(self) -> str:
        return f"eip155:{self.chain_id}:{self.registry}"


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration file. Raises InvalidInput, naming what is missing or out of bounds."""

    name: str
    description: str
    image: str = ""
    services: tuple[Service, ...] = ()
    registrations: tuple[Place, ...] = ()
    supported_trust: tuple[str, ...] = TRUST
    active: bool = True
    x402_support: bool = False

    def __post_init__(self) -> None:
        _within("name", self.name, MAX_NAME, least=1)
        _within("description", self.description, MAX_TEXT)
        _within("image", self.image, MAX_URI)
        for what, entries in (
            ("services", self.services),
            ("registrations", self.registrations),
            ("supportedTrust", self.supported_trust),
        ):
            if len(entries) > MAX_ENTRIES:
                raise InvalidInput(f"{what}: {len(entries)} entries, at most {MAX_ENTRIES}")
        for service in self.services:
            _within("services: name", service.name, MAX_NAME, least=1)
            _within(f"services: endpoint of {service.name}", service.endpoint, MAX_URI, least=1)
            _within(f"services: version of {service.name}", service.version, MAX_NAME)
        for trust in self.supported_trust:
            _within("supportedTrust", trust, MAX_NAME, least=1)

    def names(self, place: Place) -> bool:
        """Whether the file says that it is this agent's."""
        return place in self.registrations

    def reaches(self, endpoint: str) -> bool:
        """Whether one of the services is at this address."""
        wanted = endpoint.rstrip("/")
        return any(s.endpoint.rstrip("/") == wanted or s.endpoint.startswith(wanted + "/") for s in self.services)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": TYPE,
            "name": self.name,
            "description": self.description,
            "image": self.image,
            "services": [
                {"name": s.name, "endpoint": s.endpoint} | ({"version": s.version} if s.version else {})
                for s in self.services
            ],
            "x402Support": self.x402_support,
            "active": self.active,
            "registrations": [
                {"agentId": place.agent_id, "agentRegistry": place.agent_registry} for place in self.registrations
            ],
            "supportedTrust": list(self.supported_trust),
        }

    def to_text(self) -> str:
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def data_uri(self) -> str:
        """The file itself as a URI: nobody needs to serve it, and each change is a transaction."""
        raw = json.dumps(self.to_json(), separators=(",", ":"), ensure_ascii=False).encode()
        return f"{_DATA};base64,{base64.b64encode(raw).decode()}"

    @classmethod
    def from_json(cls, document: Any) -> Self:
        if not isinstance(document, dict):
            raise InvalidInput("a registration file is an object of JSON")
        if document.get("type") != TYPE:
            raise InvalidInput(f"type: expected {TYPE}")
        return cls(
            name=_text(document, "name"),
            description=_text(document, "description"),
            image=_text(document, "image", ""),
            services=tuple(
                Service(_text(each, "name"), _text(each, "endpoint"), str(each.get("version", "")))
                for each in _objects(document, "services")
            ),
            registrations=tuple(_place(each) for each in _objects(document, "registrations")),
            supported_trust=_texts(document, "supportedTrust"),
            active=document.get("active", True) is True,
            x402_support=document.get("x402Support", False) is True,
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises InvalidInput."""
        if len(raw) > MAX_FILE_BYTES:
            raise InvalidInput(f"a registration file has at most {MAX_FILE_BYTES} bytes, this one has {len(raw)}")
        try:
            return cls.from_json(json.loads(raw))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"a registration file is JSON: {_short(str(error))}") from None


def in_data_uri(uri: str) -> bytes:
    """What a `data:` URI of JSON holds, base64 or percent-encoded. Raises InvalidInput."""
    if len(uri) > 2 * MAX_FILE_BYTES:
        raise InvalidInput(f"the agent's URI has {len(uri)} characters: more than any registration file takes")
    head, comma, body = uri.partition(",")
    kind, *options = head.split(";")
    if not comma or kind != _DATA:
        raise InvalidInput(f"{_short(uri)!r} holds no JSON: expected data:application/json")
    try:
        return base64.b64decode(body, validate=True) if "base64" in options else unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise InvalidInput("the agent's data: URI is no base64") from None


def require_web_address(what: str, address: str) -> str:
    """The address without a slash at its end. Raises InvalidInput unless it is one of HTTP, without user or secret."""
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
        _ = parts.port
    except ValueError:
        fits = False
    if not fits or len(address) > MAX_URI or any(c.isspace() or not c.isprintable() for c in address):
        raise InvalidInput(f"{what}: {_short(address)!r} is no address of HTTP")
    return address.rstrip("/")


def _place(entry: dict[str, Any]) -> Place:
    number, registry = entry.get("agentId"), _text(entry, "agentRegistry")
    namespace, _, rest = registry.partition(":")
    chain, _, address = rest.partition(":")
    if isinstance(number, str) and number.isdecimal() and len(number) < 80:
        number = int(number)  # some write numbers beyond 53 bits so
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**256:
        raise InvalidInput("registrations: agentId is no number")
    if namespace != "eip155" or not (chain.isdecimal() and len(chain) < 20) or not is_address(address):
        raise InvalidInput(f"registrations: {_short(registry)!r} is no registry: expected eip155:<chain>:<address>")
    return Place(int(chain), to_checksum_address(address), number)


def _text(document: dict[str, Any], name: str, default: str | None = None) -> str:
    found = document.get(name, default)
    if not isinstance(found, str):
        raise InvalidInput(f"{name}: {'missing' if found is None else 'no text'}")
    return found


def _entries(document: dict[str, Any], name: str) -> Sequence[Any]:
    found = document.get(name, [])
    if not isinstance(found, list):
        raise InvalidInput(f"{name}: no list")
    if len(found) > MAX_ENTRIES:
        raise InvalidInput(f"{name}: {len(found)} entries, at most {MAX_ENTRIES}")
    return found


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = list(_entries(document, name))
    if not all(isinstance(each, dict) for each in found):
        raise InvalidInput(f"{name}: expected objects")
    return found


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    found = _entries(document, name)
    if not all(isinstance(each, str) for each in found):
        raise InvalidInput(f"{name}: expected texts")
    return tuple(found)


def _within(what: str, text: str, most: int, least: int = 0) -> None:
    if not least <= len(text) <= most:
        raise InvalidInput(f"{what}: {len(text)} characters, expected {least} to {most}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"
