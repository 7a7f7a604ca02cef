"""Who may see what a node keeps private: a batch's evidence, which holds prompts, and what a client owes.

The caller signs what it asks for and when. The node checks the signature and the time; for evidence it asks the chain
for the caller's seat, an account is shown to its client alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak

from trine.errors import BadSignature
from trine.protocol.messages import Domain, recover

SCHEME = "Trine"
FRESH_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved to hold the key of `address`."""

    address: str


def evidence_digest(domain: Domain, batch_id: bytes, at: int) -> bytes:
    """keccak256(0x1901 || domainSeparator || keccak256("trine evidence" || batchId || time as 8 bytes))."""
    return _digest(domain, b"trine evidence" + batch_id, at)


def account_digest(domain: Domain, node: str, at: int) -> bytes:
    """keccak256(0x1901 || domainSeparator || keccak256("trine account" || node || time as 8 bytes)).

    Names the node, which could otherwise ask other nodes in the client's name.
    """
    return _digest(domain, b"trine account" + to_canonical_address(node), at)


def access_header(at: int, signature: bytes) -> str:
    """Value of the Authorization header."""
    return f"{SCHEME} {at}:{signature.hex()}"


def caller(header: str, digest: Callable[[int], bytes], now: int) -> Caller:
    """Reads an Authorization header over `digest(time)`. Raises BadSignature when it is malformed or stale."""
    try:
        scheme, _, rest = header.partition(" ")
        at_text, _, signature = rest.partition(":")
        if scheme != SCHEME or len(at_text) > 12:
            raise ValueError
        at, raw = int(at_text), bytes.fromhex(signature)
    except ValueError:
        raise BadSignature(f"expected 'Authorization: {SCHEME} <unix time>:<signature in hex>'") from None
    if abs(now - at) > FRESH_SECONDS:
        raise BadSignature(f"the signature is {abs(now - at)} s off the clock, at most {FRESH_SECONDS} s are allowed")
    return Caller(recover(digest(at), raw))


def _digest(domain: Domain, subject: bytes, at: int) -> bytes:
    inner = keccak(subject + at.to_bytes(8, "big"))
    return bytes(keccak(b"\x19\x01" + domain.separator() + inner))
