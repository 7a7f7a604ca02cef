"""What the contracts hold, as frozen records. Amounts are wei of the stake token, times are seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from trine.protocol.votes import Vote


class Role(IntEnum):
    NODE = 0
    VERIFIER = 1


class BatchState(IntEnum):
    NONE = 0
    ANCHORED = 1
    COMMITTING = 2
    REVEALING = 3
    SETTLED = 4
    VOID = 5


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model with its documents, each already checked against the hash that the registry holds."""

    model_id: bytes
    name: str
    source: str
    content_hash: bytes
    manifest: bytes
    policy: bytes
    policy_version: int
    prompts: bytes
    prompt_count: int
    price_per_token_wei: int


@dataclass(frozen=True, slots=True)
class Stake:
    active: int
    locked: int
    unbonding: int
    releasable_at: int

    @property
    def free(self) -> int:
        return self.active - self.locked


@dataclass(frozen=True, slots=True)
class Batch:
    batch_id: bytes
    node: str
    leaf_count: int
    round: int
    state: BatchState
    model_id: bytes
    root: bytes
    challenge_id: bytes
    anchored_at: int
    anchored_block: int
    seed_block: int
    deadline: int
    policy_version: int
    stake_per_leaf: int
    verifier_fee: int
    accepted: int
    rejected: int

    @property
    def is_calibration(self) -> bool:
        return any(self.challenge_id)

    def result(self, leaf: int) -> str:
        """'accept', 'reject' or 'inconclusive'; meaningful once settled."""
        return Vote(self.accepted, self.rejected).on(leaf)


@dataclass(frozen=True, slots=True)
class Seat:
    verifier: str
    revealed: bool
    commitment: bytes
    accepts: int
    rejects: int


@dataclass(frozen=True, slots=True)
class Challenge:
    operator: str
    role: Role
    model_id: bytes
    seed_block: int
    deadline: int
    seed: bytes
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    valid_until: int
    leaves_passed: int
    leaves: int
    seconds_to_answer: int
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class ReputationRecord:
    accepted: int
    rejected: int
    missed: int
    updated_at: int
    score_bps: int


@dataclass(frozen=True, slots=True)
class Account:
    """A client's deposit. `leaving` is the part under notice of withdrawal."""

    balance: int
    leaving: int
    withdrawable_at: int


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of `Batches`; see IBatches.Parameters."""

    stake_per_leaf: int
    refund_per_leaf: int
    verifier_fee_per_leaf: int
    seat_stake: int
    wrong_vote_penalty: int
    no_reveal_penalty: int
    no_commit_penalty: int
    draw_delay_blocks: int
    commit_seconds: int
    reveal_seconds: int
    max_rounds: int


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded event."""

    contract: str
    name: str
    args: dict[str, Any]
    block: int
    log_index: int
    transaction: bytes
