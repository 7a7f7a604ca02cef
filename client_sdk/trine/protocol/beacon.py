"""Rounds of a drand beacon: when they are due, and whether a signature is the beacon's. `DrandSeeds` is the twin.

Scheme bls-unchained-g1-rfc9380, which drand's network quicknet has: signatures in G1 over sha256 of the round's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol import bls

TAG = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
COMPRESSED_BYTES = 48
"""Of a signature as drand's HTTP endpoints show it."""
MAX_ROUND = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Beacon:
    """A network, and the margin that a deployment keeps. Times in seconds since 1970."""

    genesis: int
    period: int
    margin: int
    key: bytes
    """256 bytes, see `bls`."""

    def round_after(self, fixed_at: int) -> int:
        """The round that draws what was fixed then: the first that is due the margin later."""
        due = fixed_at + self.margin
        return 1 if due <= self.genesis else -(-(due - self.genesis) // self.period) + 1

    def time_of(self, round_: int) -> int:
        """When a round is due."""
        return self.genesis + (round_ - 1) * self.period

    def has_signed(self, round_: int, signature: bytes) -> bool:
        """Whether 128 bytes are the network's signature of the round."""
        return bls.verify([self.key], message(round_), signature, TAG)


def message(round_: int) -> bytes:
    """What the network signs: sha256 over the round's number, 8 bytes. Raises InvalidInput for none."""
    if not 0 < round_ <= MAX_ROUND:
        raise InvalidInput(f"{round_} is no round: they are counted from 1, in 64 bits")
    return sha256(round_.to_bytes(8, "big")).digest()


def expanded(signature: bytes) -> bytes:
    """The 48 bytes that drand shows as the contract's 128. Raises InvalidInput for what is no signature."""
    if len(signature) != COMPRESSED_BYTES:
        raise InvalidInput(f"a round's signature has {COMPRESSED_BYTES} bytes, not {len(signature)}")
    return bls.expand_signature(signature)


def evidence(round_: int, signature: bytes) -> bytes:
    """What `DrandSeeds.record` takes: the round, 8 bytes, and the signature, 128."""
    return round_.to_bytes(8, "big") + signature


def seed(signature: bytes) -> bytes:
    """What the contract makes of a signature of 128 bytes."""
    return bytes(keccak(signature))
