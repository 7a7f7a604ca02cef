"""Who may see a batch's evidence: it holds clients' prompts, so only drawn verifiers and the clients themselves.

The caller signs what it asks for and when; the node checks the signature, the time and then, on the chain, the seat.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_utils.crypto import keccak

from trine.errors import BadSignature
from trine.protocol.messages import Domain, recover

SCHEME = "Trine"
FRESH_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved to hold the key of `address`."""

    address: str


def access_digest(domain: Domain, batch_id: bytes, at: int) -> bytes:
    """keccak256(0x1901 || domainSeparator || keccak256("trine evidence" || batchId || time as 8 bytes))."""
    inner = keccak(b"trine evidence" + batch_id + at.to_bytes(8, "big"))
    return bytes(keccak(b"\x19\x01" + domain.separator() + inner))


def access_header(at: int, signature: bytes) -> str:
    """Value of the Authorization header."""
    return f"{SCHEME} {at}:{signature.hex()}"


def caller(header: str, domain: Domain, batch_id: bytes, now: int) -> Caller:
    """Reads an Authorization header. Raises BadSignature when it is malformed or stale."""
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
    return Caller(recover(access_digest(domain, batch_id, at), raw))
