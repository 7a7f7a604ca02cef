"""What the contracts hold, as frozen records. Amounts are wei of the stake token, times are seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from trine.errors import NotReady
from trine.protocol.header import Header
from trine.protocol.votes import Vote

SEATS = 3
QUORUM = 2


class Role(IntEnum):
    NODE = 0
    VERIFIER = 1


class BatchState(IntEnum):
    """See `IBatches.State`. A settled verdict may be appealed, a final one may not."""

    NONE = 0
    ANCHORED = 1
    DRAWN = 2
    SETTLED = 3
    FINAL = 4
    VOID = 5


class Ballot(IntEnum):
    """How far a seat has got."""

    NOTHING = 0
    COMMITTED = 1
    ASSENT = 2  # revealed: accepts all
    DISSENT = 3  # revealed otherwise


class Verdict(IntEnum):
    """See `IVerdicts.Verdict`."""

    NONE = 0
    PENDING = 1
    ACCEPTED = 2
    REJECTED = 3
    INCONCLUSIVE = 4
    UNAVAILABLE = 5


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
    policy_block: int
    prompts: bytes
    prompt_count: int
    price_per_token_wei: int


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A registered model as `IDirectory` lists it: what a client needs of it."""

    model_id: bytes
    name: str
    price_per_token_wei: int
    policy_version: int


@dataclass(frozen=True, slots=True)
class OperatorEntry:
    """Somebody who has passed a calibration, as `IDirectory` lists them."""

    operator: str
    endpoint: str
    calibrated: bool  # may work now
    valid_until: int
    score_bps: int
    active_stake: int


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """`IModelRegistry.Model`: hashes of a model's documents, and the blocks whose events have them."""

    content_hash: bytes
    policy_hash: bytes
    prompt_set_hash: bytes
    registered_block: int
    policy_block: int
    prompt_set_block: int
    prompt_count: int
    policy_version: int
    price_per_token_wei: int


@dataclass(frozen=True, slots=True)
class Stake:
    """An operator's pool of stake. `own` is the operator's part of `active`; delegators hold the rest."""

    active: int
    locked: int
    unbonding: int
    own: int
    releasing: int = 0  # income of a pool with delegators that its holders get over some days

    @property
    def free(self) -> int:
        return max(self.active - self.locked, 0)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Stake of one holder that is leaving: what it is worth now, and from when on it may be withdrawn."""

    amount: int
    releasable_at: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A drawn verifier with the stake that is locked for the seat."""

    verifier: str
    locked: int

    def values(self) -> tuple[str, int]:
        """`IStaking.Seat`, as ABI encoders take it."""
        return self.verifier, self.locked


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch's record with its header. Of state NONE, and without a header, if the chain does not know it."""

    batch_id: bytes
    header: Header | None
    state: BatchState
    is_calibration: bool = field(metadata={"abi": "calibration"})
    marked: bool  # `Finality` has marks of it: leaves under appeal, canaries
    signed: bool
    reopened: bool  # an appeal has turned a verdict, and the time to appeal began anew
    round: int
    terms: int  # version of the parameters
    leaf_count: int
    clock: int  # seed block, deadline or time, by state: see `IBatches.Batch`
    ballots: int
    penalised: int
    committee: int
    accepted: int  # as settled; see `Result` for what appeals have changed
    rejected: int
    unavailable: int

    @property
    def known_header(self) -> Header:
        """Raises NotReady for a batch that the chain does not know."""
        if self.header is None:
            raise NotReady(f"batch 0x{self.batch_id.hex()} is not anchored on this chain")
        return self.header

    @property
    def is_decided(self) -> bool:
        return self.state in (BatchState.SETTLED, BatchState.FINAL)

    @property
    def committed(self) -> int:
        """How many seats have committed, at least."""
        return sum(self.ballot(seat) >= Ballot.COMMITTED for seat in range(SEATS))

    @property
    def revealed(self) -> int:
        return sum(self.ballot(seat) >= Ballot.ASSENT for seat in range(SEATS))

    def ballot(self, seat: int) -> Ballot:
        return Ballot(self.ballots >> 2 * seat & 3)

    def is_revealing(self, now: int) -> bool:
        """While drawn: whether votes are opened, because all have committed or the time to commit is over."""
        return self.committed == SEATS or now > self.clock

    def can_settle(self, now: int, reveal_seconds: int) -> bool:
        """While drawn: whether `settle` would be taken at the chain's time `now`."""
        if now <= self.clock:
            return False
        waiting = self.committed >= QUORUM and self.revealed < self.committed
        return not waiting or now > self.clock + reveal_seconds

    @property
    def progress(self) -> str:
        """What the batch waits for, for people."""
        match self.state:
            case BatchState.NONE:
                return "waits to be anchored"
            case BatchState.ANCHORED:
                return "anchored, waits for its committee to be drawn"
            case BatchState.DRAWN if not self.committed:
                return "drawn, its committee checks, and signs if it agrees"
            case BatchState.DRAWN:
                return f"{self.committed} of {SEATS} votes committed, {self.revealed} revealed"
            case BatchState.SETTLED:
                return "settled, open to appeals"
        return self.state.name.lower()

    def result(self, leaf: int) -> str:
        """'accept', 'reject', 'unavailable' or 'inconclusive', as settled."""
        return Vote(self.accepted, self.rejected, self.unavailable).on(leaf)


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How a batch was anchored, the last time: a void batch may be anchored again."""

    block: int
    log_index: int
    challenge_id: bytes
    terms: int


@dataclass(frozen=True, slots=True)
class Result:
    """A batch's words as decided so far, with what appeals have changed."""

    leaf_count: int
    accepted: int
    rejected: int
    unavailable: int
    is_settled: bool = field(metadata={"abi": "settled"})
    is_final: bool

    def on(self, leaf: int) -> str:
        """'accept', 'reject', 'unavailable' or 'inconclusive'; meaningful once settled."""
        return Vote(self.accepted, self.rejected, self.unavailable).on(leaf)


@dataclass(frozen=True, slots=True)
class Marks:
    """What happens to few batches: words over their leaves."""

    appealed: int
    concluded: int
    accepted: int  # concluded, with this verdict
    rejected: int
    unavailable: int
    canaries: int  # opened as known to be bad

    @property
    def open(self) -> int:
        """Under appeal: until they are concluded the batch does not become final."""
        return self.appealed & ~self.concluded


class AppealPhase(IntEnum):
    """See `IAppeals.Phase`."""

    NONE = 0
    OPEN = 1
    DRAWN = 2
    RESOLVED = 3
    CONCLUDED = 4


@dataclass(frozen=True, slots=True)
class AppealLevel:
    """One committee's work on an appealed leaf; bitmaps by seat."""

    appellant: str
    claim: Verdict
    outcome: Verdict
    round: int
    unheard: bool
    committee: int
    committed: int
    revealed: int
    accepts: int
    rejects: int
    misses: int  # to whom the answer was not shown


@dataclass(frozen=True, slots=True)
class AppealCase:
    """An appealed leaf. `clock` is the seed block, a deadline or a time, by phase: see `IAppeals.Case`."""

    batch_id: bytes
    leaf: int
    phase: AppealPhase
    level: int
    terms: int
    clock: int
    verdict: Verdict
    levels: tuple[AppealLevel, ...]
    fixed_at: int = 0  # when the seed block was fixed, by which calibrations count; seconds

    @property
    def current(self) -> AppealLevel:
        """Of the level that it has got to."""
        return self.levels[max(self.level, 1) - 1]

    def is_revealing(self, seats: int, now: int) -> bool:
        """While drawn: whether votes are opened."""
        return self.current.committed.bit_count() == seats or now > self.clock

    def can_resolve(self, seats: int, now: int, reveal_seconds: int) -> bool:
        """While drawn: whether `resolve` would be taken at the chain's time `now`."""
        committed, revealed = self.current.committed.bit_count(), self.current.revealed.bit_count()
        if committed < seats and now <= self.clock:
            return False
        waiting = committed >= seats // 2 + 1 and revealed < committed
        return not waiting or now > self.clock + reveal_seconds


@dataclass(frozen=True, slots=True)
class Challenge:
    operator: str
    role: Role
    model_id: bytes
    seed_block: int
    deadline: int
    leaves: int  # prompts to answer
    hardware_class: bytes
    commitment: bytes
    seed: bytes
    batch_id: bytes
    fixed_at: int = 0  # when the seed block was fixed, seconds


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    valid_until: int
    leaves_passed: int
    leaves: int
    seconds_to_answer: int
    output_tokens: int
    distance_ppm: int
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class ReputationRecord:
    """Counts as they are worth now, in millionths of an outcome, and the score that follows from them."""

    accepted_micro: int
    rejected_micro: int
    missed_micro: int
    updated_at: int
    score_bps: int


@dataclass(frozen=True, slots=True)
class Account:
    """What a client has with one node. `leaving` is the part of the balance under notice of withdrawal."""

    balance: int
    collected: int  # in all since the beginning
    leaving: int
    withdrawable_at: int
    as_of: int = 0  # the latest of the vouchers that the node has presented, seconds

    @property
    def firm(self) -> int:
        """What the node can count on."""
        return max(self.balance - self.leaving, 0)


class ClaimState(IntEnum):
    """See `IInclusion.State`."""

    NONE = 0
    OPEN = 1
    ANSWERED = 2
    BROKEN = 3


@dataclass(frozen=True, slots=True)
class InclusionClaim:
    """That a receipt is in no batch. `answer_by`: until then the node can show it in one, seconds."""

    state: ClaimState
    answer_by: int
    answered_in: bytes


@dataclass(frozen=True, slots=True)
class Parameters:
    """One version of `IParameters.Values`."""

    stake_per_leaf: int
    refund_per_leaf: int
    verifier_fee_per_leaf: int
    verifier_fee_per_token: int
    max_batch_tokens: int
    check_tokens_per_second: int
    max_check_seconds: int
    seat_stake: int
    dissent_fine: int  # a leaf
    overturned_fine: int  # a leaf whose verdict an appeal turned
    wrong_vote_penalty: int  # at most, a batch; a juror's
    no_reveal_penalty: int
    no_commit_penalty: int
    appeal_bond_per_seat: int
    appeal_fee_per_seat: int
    canary_penalty: int
    appeal_window_seconds: int
    commit_seconds: int
    reveal_seconds: int
    draw_delay_blocks: int
    max_rounds: int
    min_node_stake: int
    min_verifier_stake: int
    calibration_validity_seconds: int
    calibration_answer_seconds: int
    prompts_per_challenge: int
    seed_delay_blocks: int

    def verifier_fee(self, leaves: int, tokens: int) -> int:
        """What a node pays the verifiers of a batch, wei. `Metering.fee` is its twin."""
        return leaves * self.verifier_fee_per_leaf + tokens * self.verifier_fee_per_token

    def check_seconds(self, tokens: int) -> int:
        """How long a verifier takes that checks as fast as all must. `Metering.workSeconds` is its twin."""
        return -(-tokens // self.check_tokens_per_second)


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded event."""

    contract: str
    name: str
    args: dict[str, Any]
    block: int
    log_index: int
    transaction: bytes
    block_hash: bytes = b""
