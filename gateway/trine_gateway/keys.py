"""Keys of those who ask the gateway: made at random, shown once, kept as hashes. Pure but for chance.

`sk-trine-<id>-<secret>`: the id finds the row, the secret's 256 bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

PREFIX = "sk-trine-"
_KEY = re.compile(r"sk-trine-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
MAX_HEADER = 256
"""Characters of a header that may hold a key."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """The only time that all of it is known."""

    key_id: str
    text: str
    hash: str


def new_key() -> NewKey:
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}{key_id}-{secrets.token_urlsafe(32)}"
    return NewKey(key_id, text, hash_of(text))


def hash_of(text: str) -> str:
    return hashlib.sha256(b"trine gateway key " + text.encode()).hexdigest()


def id_of(text: str) -> str | None:
    """Which key a text claims to be; None for what cannot be one."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def is_key(text: str, known_hash: str) -> bool:
    """In a time that does not depend on how much of it is right."""
    return hmac.compare_digest(hash_of(text), known_hash)


def bearer(header: str) -> str | None:
    """The key in an `Authorization` header; None where there is none."""
    scheme, _, text = header[:MAX_HEADER].partition(" ")
    return text.strip() or None if scheme.lower() == "bearer" else None


def shown(text: str) -> str:
    """What of a key may be repeated to whoever sent it, or logged: enough to tell it from others, and no secret."""
    key_id = id_of(text)
    return f"{PREFIX}{key_id}-…" if key_id else f"{text[:3]}…" if text.isascii() and text.isprintable() else "…"
