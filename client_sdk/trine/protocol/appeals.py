"""A verifier's vote on one appealed leaf, committed before it is revealed. `Appeals.sol` is the twin."""

from __future__ import annotations

from enum import IntEnum

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.protocol.verdict import Outcome


class LeafVote(IntEnum):
    """What a seat says of a leaf; the values of `IVerdicts.Verdict`."""

    ACCEPTED = 2
    REJECTED = 3
    INCONCLUSIVE = 4
    UNAVAILABLE = 5


VOTES = {
    Outcome.ACCEPT: LeafVote.ACCEPTED,
    Outcome.REJECT: LeafVote.REJECTED,
    Outcome.INCONCLUSIVE: LeafVote.INCONCLUSIVE,
    Outcome.UNAVAILABLE: LeafVote.UNAVAILABLE,
}


def commitment(
    chain_id: int,
    appeals: str,
    batch_id: bytes,
    leaf: int,
    level: int,
    round_: int,
    verifier: str,
    vote: LeafVote,
    salt: bytes,
) -> bytes:
    """What `Appeals.commit` takes: binds everything that the vote is on, so a copy is worthless.

    `salt` is 32 random bytes; without it the few possible votes could be guessed from the commitment.
    """
    kinds = ["uint256", "address", "bytes32", "uint256", "uint8", "uint8", "address", "uint8", "bytes32"]
    values = [chain_id, appeals, batch_id, leaf, level, round_, verifier, int(vote), salt]
    return bytes(keccak(encode(kinds, values)))
