"""How the three seats of a batch sign its result without anybody signing a copy: commitments, then votes, then
signatures, and when a seat stops waiting for that and votes on the chain instead.

Each seat tells the others what it may, in a `Statement` that its account signs. It shows its vote only once it holds
commitments of all, and signs only once all votes are open and equal. The commitment is the one that it would send to
`Batches.commit`: who falls back to votes says nothing new there. `settleSigned` takes no batch that has a ballot, so a
seat waits with its commitment until `next_step` says `VOTE`, which it does while there is still time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Any, Self

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from trine.errors import InvalidInput, VerificationFailed
from trine.protocol import bls, votes
from trine.protocol.certificate import result_digest
from trine.protocol.messages import ZERO_HASH, Domain, require_signer
from trine.protocol.votes import MAX_DISTANCE_PPM, Vote

SEATS = 3

FALL_BACK_SHARE = 0.5
"""Of `commitSeconds`, kept for voting on the chain. A vote may be ready so late that no more is left: then it is
committed at once, as without signing."""
MINED_SHARE = 0.375
"""Whoever has all signatures waits for `settleSigned` to be mined until so much is left, then votes: three times what
a commitment is given when it is sent last (`SENDING_SHARE` of verifiers is 0.25)."""
GRACE_SHARE = 1 / 16
"""Of `commitSeconds`: how long one seat after another waits for those before it to send."""

STATEMENT_TYPEHASH = keccak(
    text="TrineSeat(bytes32 batchId,uint8 round,uint8 stage,address verifier,bytes32 commitment,uint256 accepts,"
    "uint256 rejects,uint32 distancePpm,bytes32 salt,bytes key,bytes resultSignature)"
)


class Stage(IntEnum):
    """How much a statement tells; each stage includes those before."""

    COMMITTED = 1
    OPENED = 2
    SIGNED = 3


class Do(Enum):
    """What a seat does about a batch."""

    SHOW = "show"  # its statement to those who have not seen it, or not shown theirs
    SEND = "send"  # `settleSigned`
    WAIT = "wait"
    VOTE = "vote"  # on the chain, for good


class Why(Enum):
    """Why a seat votes on the chain."""

    CALIBRATION = "calibration"  # records distances, which only votes tell
    NO_KEY = "no_key"
    PEER_WITHOUT_KEY = "peer_without_key"
    MISTRUSTED = "peer_mistrusted"  # it was shown votes before and did not open its own
    UNAVAILABLE = "leaf_unavailable"  # what was not shown cannot be signed
    BALLOT = "ballot_on_chain"  # `settleSigned` is refused from the first one on
    REFUSED = "peer_votes_on_chain"
    SPOILT = "peer_contradicts_itself"
    DIFFER = "votes_differ"
    OUT_OF_TIME = "out_of_time"
    NOT_MINED = "not_mined_in_time"
    NOT_TAKEN = "refused_by_the_contract"


@dataclass(frozen=True, slots=True)
class Seating:
    """A drawn committee, as the chain tells it. `key_hashes`: of the seats' BLS keys, None where there is none.

    `epoch`: the one whose weights drew the seats, that of the seed block of this round; a certificate of another epoch
    is worthless abroad.
    """

    domain: Domain
    batch_id: bytes
    round: int
    epoch: int
    leaf_count: int
    verifiers: tuple[str, ...]
    key_hashes: tuple[bytes | None, ...]

    def seat_of(self, verifier: str) -> int:
        """Raises VerificationFailed for who has no seat."""
        if verifier not in self.verifiers:
            raise VerificationFailed(f"{verifier} has no seat on this batch")
        return self.verifiers.index(verifier)

    def turn_of(self, verifier: str) -> int:
        """0 for who sends `settleSigned`, and so pays for its gas, then 1 and 2 where that one does not.

        By the batch's id: the order of seats is by lot, too, but a lot that favours large stakes and single classes.
        """
        return (self.seat_of(verifier) - int.from_bytes(self.batch_id, "big") - self.round) % SEATS

    def digest_of(self, vote: Vote) -> bytes:
        """What the seats' BLS keys sign."""
        chain_id, batches = self.domain.chain_id, self.domain.verifying_contract
        return result_digest(chain_id, batches, self.epoch, self.batch_id, vote.accepts, vote.rejects)

    def commitment_of(self, verifier: str, vote: Vote, distance_ppm: int, salt: bytes) -> bytes:
        chain_id, batches = self.domain.chain_id, self.domain.verifying_contract
        return votes.commitment(chain_id, batches, self.batch_id, self.round, verifier, vote, distance_ppm, salt)


_FIELDS = {
    "verifier": r"0x[0-9a-fA-F]{40}",
    "commitment": r"0x[0-9a-f]{64}",
    "accepts": r"0x[0-9a-f]{1,64}",
    "rejects": r"0x[0-9a-f]{1,64}",
    "salt": r"0x[0-9a-f]{64}",
    "key": rf"0x(?:[0-9a-f]{{{2 * bls.KEY_BYTES}}})?",
    "resultSignature": rf"0x(?:[0-9a-f]{{{2 * bls.SIGNATURE_BYTES}}})?",
    "signature": r"0x[0-9a-f]{130}",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """What one seat says. Without a vote before `OPENED`, without key and result's signature before `SIGNED`."""

    verifier: str
    stage: Stage
    commitment: bytes
    vote: Vote = field(default_factory=lambda: Vote(0, 0))
    distance_ppm: int = 0
    salt: bytes = ZERO_HASH
    key: bytes = b""
    result_signature: bytes = b""
    signature: bytes = b""  # the account's

    def __post_init__(self) -> None:
        if not any(self.commitment) or len(self.commitment) != 32 or len(self.salt) != 32:
            raise InvalidInput("a statement has a commitment and a salt of 32 bytes")
        if self.stage < Stage.OPENED and (self.vote.leaves or self.distance_ppm or any(self.salt)):
            raise InvalidInput("a statement that opens nothing has no vote")
        sizes = (bls.KEY_BYTES, bls.SIGNATURE_BYTES) if self.stage is Stage.SIGNED else (0, 0)
        if (len(self.key), len(self.result_signature)) != sizes:
            raise InvalidInput("a statement has a BLS key and a signature if it says that it signs, and only then")

    def digest(self, seating: Seating) -> bytes:
        """EIP-712, under the domain of `Batches`: worthless on another chain, batch or round, and for another stage."""
        kinds = ["bytes32", "bytes32", "uint8", "uint8", "address", "bytes32", "uint256", "uint256", "uint32"]
        values = [
            STATEMENT_TYPEHASH, seating.batch_id, seating.round, int(self.stage), self.verifier, self.commitment,
            *self.vote.words, self.distance_ppm, self.salt, keccak(self.key), keccak(self.result_signature),
        ]  # fmt: skip
        inner = keccak(encode([*kinds, "bytes32", "bytes32", "bytes32"], values))
        return bytes(keccak(b"\x19\x01" + seating.domain.separator() + inner))

    def verify(self, seating: Seating) -> None:
        """Raises BadSignature for what the seat has not said, VerificationFailed for what it should not have."""
        seat = seating.seat_of(self.verifier)
        require_signer(self.digest(seating), self.signature, self.verifier, "the statement")
        if self.stage < Stage.OPENED:
            return
        if seating.commitment_of(self.verifier, self.vote, self.distance_ppm, self.salt) != self.commitment:
            raise VerificationFailed(f"{self.verifier} opens another vote than it has committed")
        if self.vote.leaves >> seating.leaf_count:
            raise VerificationFailed(f"{self.verifier} votes on leaves that the batch has not")
        if self.stage is Stage.SIGNED:
            if bls.key_hash(self.key) != seating.key_hashes[seat]:
                raise VerificationFailed(f"{self.verifier} signs with another BLS key than the chain holds")
            if self.vote.unavailable or not bls.verify([self.key], seating.digest_of(self.vote), self.result_signature):
                raise VerificationFailed(f"{self.verifier}'s BLS key has not signed the result that it voted for")

    def after(self, known: Statement | None) -> Statement:
        """The one that tells more of two verified statements of a seat.

        Raises VerificationFailed where they contradict one another. What is opened follows from the commitment.
        """
        if known is None:
            return self
        if known.commitment != self.commitment:
            raise VerificationFailed(f"{self.verifier} has committed to two votes")
        return self if self.stage > known.stage else known

    def to_json(self) -> dict[str, Any]:
        accepts, rejects = self.vote.words
        return {
            "stage": int(self.stage),
            "verifier": self.verifier,
            "commitment": "0x" + self.commitment.hex(),
            "accepts": hex(accepts),
            "rejects": hex(rejects),
            "distancePpm": self.distance_ppm,
            "salt": "0x" + self.salt.hex(),
            "key": "0x" + self.key.hex(),
            "resultSignature": "0x" + self.result_signature.hex(),
            "signature": "0x" + self.signature.hex(),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form and nothing else. Raises InvalidInput."""
        names = {*_FIELDS, "stage", "distancePpm"}
        if not isinstance(document, dict) or set(document) != names:
            raise InvalidInput(f"a statement has exactly the fields {', '.join(sorted(names))}")
        for name, pattern in _FIELDS.items():
            if not isinstance(document[name], str) or not re.fullmatch(pattern, document[name]):
                raise InvalidInput(f"a statement's {name} is malformed")
        stage, distance = document["stage"], document["distancePpm"]
        if type(stage) is not int or stage not in tuple(Stage):
            raise InvalidInput("a statement's stage is 1, 2 or 3")
        if type(distance) is not int or not 0 <= distance <= MAX_DISTANCE_PPM:
            raise InvalidInput("a statement's distancePpm is malformed")
        raw = {name: bytes.fromhex(document[name][2:]) for name in ("commitment", "salt", "key", "resultSignature")}
        return cls(
            to_checksum_address(document["verifier"]),
            Stage(stage),
            raw["commitment"],
            Vote.from_words(int(document["accepts"], 16), int(document["rejects"], 16)),
            distance,
            raw["salt"],
            raw["key"],
            raw["resultSignature"],
            bytes.fromhex(document["signature"][2:]),
        )


@dataclass(frozen=True, slots=True)
class OwnVote:
    """What this seat has found, and the salt that it commits it with."""

    vote: Vote
    distance_ppm: int
    salt: bytes


def state(
    seating: Seating,
    verifier: str,
    own: OwnVote,
    stage: Stage,
    sign: Callable[[bytes], bytes],
    secret: bls.SecretKey | None = None,
) -> Statement:
    """The seat's statement of a stage. `sign`: by its account. `secret` is needed for `SIGNED`."""
    commitment = seating.commitment_of(verifier, own.vote, own.distance_ppm, own.salt)
    statement = Statement(verifier, Stage.COMMITTED, commitment)
    if stage >= Stage.OPENED:
        opened = (own.vote, own.distance_ppm, own.salt)
        statement = Statement(verifier, Stage.OPENED, commitment, *opened)
        if stage is Stage.SIGNED:
            if secret is None or own.vote.unavailable:
                raise InvalidInput("a result is signed by a BLS key, and has nothing unavailable")
            signed = secret.sign(seating.digest_of(own.vote))
            statement = Statement(verifier, stage, commitment, *opened, secret.public_key(), signed)
    return replace(statement, signature=sign(statement.digest(seating)))


@dataclass(frozen=True, slots=True)
class Peer:
    """Another seat, as this one knows it. `told`: the stage up to which it has our statement. `refuses`: why it will
    not sign, or must not be asked to."""

    statement: Statement | None = None
    told: int = 0
    refuses: Why | None = None

    @property
    def stage(self) -> int:
        return self.statement.stage if self.statement else 0


@dataclass(frozen=True, slots=True)
class View:
    """The batch, drawn, as the chain shows it. `now` and `clock`, the end of the time to commit, are in its seconds.

    `complete_since`: when this seat had all signatures.
    """

    now: int
    clock: int
    commit_seconds: int
    has_ballot: bool
    complete_since: int | None = None

    def is_left(self, share: float) -> bool:
        """Whether more than this share of the time to commit is left."""
        return self.clock - self.now > share * self.commit_seconds


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, why if it is `VOTE`, and how much the seat may tell the others."""

    do: Do
    why: Why | None = None
    stage: int = 0


def may_tell(own: OwnVote | None, peers: Sequence[Peer]) -> int:
    """The stage up to which a seat may tell the others, who are two; 0: nothing."""
    if own is None:
        return 0
    if len(peers) != SEATS - 1 or any(peer.statement is None for peer in peers):
        return Stage.COMMITTED
    said = [peer.statement.vote for peer in peers if peer.statement and peer.stage >= Stage.OPENED]
    if len(said) < len(peers) or own.vote.unavailable or any(vote != own.vote for vote in said):
        return Stage.OPENED
    return Stage.SIGNED


def next_step(own: OwnVote | None, peers: Sequence[Peer], view: View, turn: int, hindrance: Why | None = None) -> Step:
    """What a seat that has not committed on the chain does now. Pure.

    `turn`: as `Seating.turn_of`. `hindrance`: why this batch cannot be signed from the outset.
    """
    stage = may_tell(own, peers)
    complete = stage == Stage.SIGNED and all(peer.stage == Stage.SIGNED for peer in peers)
    why = _why_vote(own, peers, view, hindrance, complete=complete)
    if own is None:  # there is nothing to commit yet
        return Step(Do.WAIT, why)
    if why is not None:
        return Step(Do.VOTE, why)
    grace = turn * GRACE_SHARE * view.commit_seconds
    if complete and view.complete_since is not None and view.now - view.complete_since >= grace:
        return Step(Do.SEND, stage=stage)
    if any(peer.told < stage or peer.stage < stage for peer in peers):
        return Step(Do.SHOW, stage=stage)
    return Step(Do.WAIT, stage=stage)


def _why_vote(
    own: OwnVote | None, peers: Sequence[Peer], view: View, hindrance: Why | None, *, complete: bool
) -> Why | None:
    if view.has_ballot:
        return Why.BALLOT
    if hindrance is not None:
        return hindrance
    if own is not None and own.vote.unavailable:
        return Why.UNAVAILABLE
    if complete:
        return None if view.is_left(MINED_SHARE) else Why.NOT_MINED
    for peer in peers:
        if peer.refuses is not None:
            return peer.refuses
    opened = [peer.statement.vote for peer in peers if peer.statement and peer.stage >= Stage.OPENED]
    if any(vote.unavailable for vote in opened):
        return Why.UNAVAILABLE
    if own is not None and any(vote != own.vote for vote in opened):
        return Why.DIFFER
    return None if view.is_left(FALL_BACK_SHARE) else Why.OUT_OF_TIME
