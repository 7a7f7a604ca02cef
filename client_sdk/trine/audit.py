"""What the chain says about an operator, with the batches behind every number. Needs an RPC endpoint only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trine.chain import CalibrationResult, Chain, Event, ReputationRecord, Role, Stake
from trine.chain.client import checksum
from trine.errors import VerificationFailed


@dataclass(frozen=True, slots=True)
class Work:
    """One change of reputation: what a batch added."""

    batch_id: bytes
    block: int
    accepted: int
    rejected: int
    missed: int


@dataclass(frozen=True, slots=True)
class Slash:
    batch_id: bytes
    block: int
    taken_wei: int


@dataclass(frozen=True, slots=True)
class Standing:
    """An operator in one role for one model."""

    model_id: bytes
    model_name: str
    role: Role
    reputation: ReputationRecord
    calibration: CalibrationResult
    calibrated: bool
    work: tuple[Work, ...]


@dataclass(frozen=True, slots=True)
class OperatorReport:
    operator: str
    block: int
    endpoint: str
    stake: Stake
    standings: tuple[Standing, ...]
    slashes: tuple[Slash, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "block": self.block,
            "endpoint": self.endpoint,
            "stake": {
                "activeWei": str(self.stake.active),
                "lockedWei": str(self.stake.locked),
                "unbondingWei": str(self.stake.unbonding),
                "releasableAt": self.stake.releasable_at,
            },
            "standings": [_standing_json(standing) for standing in self.standings],
            "slashes": [
                {"batchId": "0x" + s.batch_id.hex(), "block": s.block, "takenWei": str(s.taken_wei)}
                for s in self.slashes
            ],
        }


def operator_report(chain: Chain, operator: str) -> OperatorReport:
    """Reads and cross-checks: the events, replayed, must give the reputation that the view function returns.

    Raises InvalidInput for an address that is none, VerificationFailed when they do not.
    """
    operator = checksum(operator)
    block = chain.block_number()
    standings = []
    for model_id in chain.model_ids():
        for role in Role:
            work = _work(chain, operator, role, model_id, block)
            reputation = chain.reputation(operator, role, model_id)
            calibration = chain.calibration(operator, role, model_id)
            if not work and not calibration.valid_until:
                continue
            _require_replay(work, reputation)
            standings.append(
                Standing(
                    model_id,
                    chain.model(model_id).name,
                    role,
                    reputation,
                    calibration,
                    chain.is_calibrated(operator, role, model_id),
                    work,
                )
            )
    slashes = tuple(
        Slash(bytes(event.args["cause"]), event.block, event.args["taken"])
        for event in chain.events("Staking", "Slashed", to_block=block, operator=operator)
    )
    return OperatorReport(
        operator, block, chain.endpoint_of(operator), chain.stake_of(operator), tuple(standings), slashes
    )


BATCH_EVENTS = ("BatchAnchored", "CommitteeDrawn", "VoteCommitted", "VoteRevealed", "BatchSettled")


def batch_gas(chain: Chain, batch_id: bytes) -> int:
    """Gas of all transactions of a batch's life: anchor, draw, commits, reveals, settle."""
    start = chain.batch(batch_id).anchored_block
    transactions = {
        event.transaction
        for name in BATCH_EVENTS
        for event in chain.events("Batches", name, from_block=start, batchId=batch_id)
    }
    return sum(chain.gas_used(transaction) for transaction in transactions)


def _work(chain: Chain, operator: str, role: Role, model_id: bytes, block: int) -> tuple[Work, ...]:
    events = chain.events("Reputation", "ReputationChanged", to_block=block, operator=operator, modelId=model_id)
    totals = (0, 0, 0)
    work = []
    for event in (e for e in events if e.args["role"] == role):
        now = (event.args["accepted"], event.args["rejected"], event.args["missed"])
        work.append(_difference(event, totals, now))
        totals = now
    return tuple(work)


def _difference(event: Event, before: tuple[int, int, int], after: tuple[int, int, int]) -> Work:
    accepted, rejected, missed = (a - b for a, b in zip(after, before, strict=True))
    return Work(bytes(event.args["batchId"]), event.block, accepted, rejected, missed)


def _require_replay(work: tuple[Work, ...], reputation: ReputationRecord) -> None:
    replayed = tuple(sum(getattr(w, field) for w in work) for field in ("accepted", "rejected", "missed"))
    shown = (reputation.accepted, reputation.rejected, reputation.missed)
    if replayed != shown:
        raise VerificationFailed(
            f"the events add up to {replayed}, the contract says {shown}: the RPC endpoint leaves events out, or new "
            "ones arrived meanwhile; try again or use another endpoint"
        )


def _standing_json(standing: Standing) -> dict[str, Any]:
    reputation, calibration = standing.reputation, standing.calibration
    return {
        "modelId": "0x" + standing.model_id.hex(),
        "model": standing.model_name,
        "role": standing.role.name.lower(),
        "reputation": {
            "accepted": reputation.accepted,
            "rejected": reputation.rejected,
            "missed": reputation.missed,
            "scoreBps": reputation.score_bps,
        },
        "calibration": {
            "valid": standing.calibrated,
            "validUntil": calibration.valid_until,
            "leavesPassed": calibration.leaves_passed,
            "leaves": calibration.leaves,
            "secondsToAnswer": calibration.seconds_to_answer,
            "batchId": "0x" + calibration.batch_id.hex(),
        },
        "batches": [
            {
                "batchId": "0x" + w.batch_id.hex(),
                "block": w.block,
                "accepted": w.accepted,
                "rejected": w.rejected,
                "missed": w.missed,
            }
            for w in standing.work
        ],
    }
