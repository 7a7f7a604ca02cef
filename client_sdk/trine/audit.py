"""What the chain says about an operator, with the batches behind every number. Needs an RPC endpoint only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trine.chain import CalibrationResult, Chain, Model, ReputationRecord, Role, Stake
from trine.chain.calls import checksum
from trine.errors import InvalidInput, NotReady, VerificationFailed
from trine.protocol.certificate import Certificate
from trine.protocol.reputation import OUTCOME, Change, Record
from trine.unsettled import require_possible


@dataclass(frozen=True, slots=True)
class Work:
    """One change of reputation: what a batch added, in outcomes. A verifier earns parts of one, by the leaf."""

    batch_id: bytes
    block: int
    accepted: float
    rejected: float
    missed: float
    score_bps: int  # that followed


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

    @property
    def counts(self) -> tuple[float, float, float]:
        """(accepted, rejected, missed) since the beginning, without fading."""
        return (
            sum(work.accepted for work in self.work),
            sum(work.rejected for work in self.work),
            sum(work.missed for work in self.work),
        )


@dataclass(frozen=True, slots=True)
class OperatorReport:
    operator: str
    block: int
    endpoint: str
    stake: Stake
    credit_wei: int
    standings: tuple[Standing, ...]
    slashes: tuple[Slash, ...]
    canary_fines_wei: int = 0  # what it lost as a verifier in batches where it accepted a canary
    bounties_wei: int = 0  # what it was paid as an examiner

    @property
    def is_known(self) -> bool:
        """Whether the address has left any trace as an operator."""
        return bool(self.endpoint or self.standings or self.slashes or self.stake != Stake(0, 0, 0, 0))

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "known": self.is_known,
            "block": self.block,
            "endpoint": self.endpoint,
            "stake": {
                "activeWei": str(self.stake.active),
                "lockedWei": str(self.stake.locked),
                "unbondingWei": str(self.stake.unbonding),
                "ownWei": str(self.stake.own),
                "creditWei": str(self.credit_wei),
            },
            "standings": [_standing_json(standing) for standing in self.standings],
            "slashes": [
                {"batchId": "0x" + s.batch_id.hex(), "block": s.block, "takenWei": str(s.taken_wei)}
                for s in self.slashes
            ],
            "canaryFinesWei": str(self.canary_fines_wei),
            "bountiesWei": str(self.bounties_wei),
        }


@dataclass(frozen=True, slots=True)
class CertificateReport:
    """What the chain says to a certificate now."""

    certificate: Certificate
    is_final: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "valid": True,
            "result": self.certificate.result,
            "finality": "final" if self.is_final else "soft",
            "node": self.certificate.receipt.node,
            "batchId": "0x" + self.certificate.batch_id.hex(),
        }


def certificate_report(chain: Chain, certificate: Certificate) -> CertificateReport:
    """Checks a certificate against the chain. Raises InvalidInput, NotReady or VerificationFailed."""
    here = (chain.deployment.chain_id, chain.deployment.address("Batches").lower())
    if (certificate.chain_id, certificate.batches.lower()) != here:
        raise InvalidInput(
            f"the certificate is of chain {certificate.chain_id}, Batches {certificate.batches}: another deployment"
        )
    result = chain.result(certificate.batch_id)
    if not result.is_settled:
        require_possible(chain, certificate.batch_id, certificate.receipt)
        raise NotReady(f"batch 0x{certificate.batch_id.hex()} is not settled on this chain yet")
    certificate.verify(result.accepted, result.rejected, result.unavailable)
    if not certificate.index < result.leaf_count:
        raise VerificationFailed(f"the batch has {result.leaf_count} leaves, the certificate is of {certificate.index}")
    _, is_final = chain.verdict(certificate.batch_id, certificate.index)
    return CertificateReport(certificate, is_final)


def operator_report(chain: Chain, operator: str) -> OperatorReport:
    """Reads and cross-checks: the events, replayed, must give the reputation that the view function returns.

    Raises InvalidInput for an address that is none, VerificationFailed when they do not.
    """
    operator = checksum(operator)
    block = chain.block_number()
    standings = []
    for model_id in chain.model_ids():
        for role in Role:
            standing = _standing(chain, operator, role, chain.model(model_id), block)
            if standing.work or standing.calibration.valid_until:
                standings.append(standing)
    slashes = tuple(
        Slash(bytes(event.args["cause"]), event.block, event.args["taken"])
        for event in chain.events("Staking", "Slashed", to_block=block, operator=operator)
    )
    fined = chain.events("Finality", "WrongVotePenalized", to_block=block, verifier=operator)
    bounties = chain.events("Examiners", "ExaminerPaid", to_block=block, examiner=operator)
    return OperatorReport(
        operator,
        block,
        chain.endpoint_of(operator),
        chain.stake_of(operator),
        chain.credit_of(operator),
        tuple(standings),
        slashes,
        sum(event.args["amount"] for event in fined if event.args["acceptedCanary"]),
        sum(event.args["amount"] for event in bounties),
    )


BATCH_EVENTS = (
    ("Batches", "BatchAnchored"),
    ("Batches", "CommitteeDrawn"),
    ("Batches", "VoteCommitted"),
    ("Batches", "VoteRevealed"),
    ("Batches", "BatchSettled"),
    ("Finality", "LeavesFinalized"),
)


def batch_gas(chain: Chain, batch_id: bytes) -> int:
    """Gas of all transactions of a batch's life: anchor, draw, commits, reveals, settle, finalize."""
    start = chain.anchoring(batch_id).block
    transactions = {
        event.transaction
        for contract, name in BATCH_EVENTS
        for event in chain.events(contract, name, from_block=start, batchId=batch_id)
    }
    return sum(chain.gas_used(transaction) for transaction in transactions)


def _standing(chain: Chain, operator: str, role: Role, model: Model, block: int) -> Standing:
    reputation = chain.reputation(operator, role, model.model_id, block)
    work = _replay(chain, operator, role, model.model_id, block, reputation)
    return Standing(
        model.model_id,
        model.name,
        role,
        reputation,
        chain.calibration(operator, role, model.model_id),
        chain.is_calibrated(operator, role, model.model_id),
        work,
    )


def _replay(
    chain: Chain, operator: str, role: Role, model_id: bytes, block: int, shown: ReputationRecord
) -> tuple[Work, ...]:
    """Every change of a record. Raises VerificationFailed unless they lead to what the contract shows at the block."""
    events = chain.events("Reputation", "ReputationChanged", to_block=block, operator=operator, modelId=model_id)
    half_life = chain.half_life_seconds()
    record, work = Record(), []
    for event in events:
        change = Change.from_word(int(event.args["change"]))
        if change.role != role:
            continue
        now = chain.block_timestamp(event.block)
        record = record.add(now, half_life, accepted=change.accepted, rejected=change.rejected, missed=change.missed)
        work.append(
            Work(
                bytes(event.args["batchId"]),
                event.block,
                change.accepted / OUTCOME,
                change.rejected / OUTCOME,
                change.missed / OUTCOME,
                change.score_bps,
            )
        )
    replayed = record.micros(max(chain.block_timestamp(block), record.updated_at), half_life)
    told = (shown.accepted_micro, shown.rejected_micro, shown.missed_micro)
    if replayed != told:
        raise VerificationFailed(
            f"the events lead to {replayed}, the contract says {told}: the RPC endpoint leaves events out; use another"
        )
    return tuple(work)


def _standing_json(standing: Standing) -> dict[str, Any]:
    reputation, calibration = standing.reputation, standing.calibration
    accepted, rejected, missed = standing.counts
    return {
        "modelId": "0x" + standing.model_id.hex(),
        "model": standing.model_name,
        "role": standing.role.name.lower(),
        "reputation": {
            "accepted": accepted,
            "rejected": rejected,
            "missed": missed,
            "acceptedMicro": reputation.accepted_micro,
            "rejectedMicro": reputation.rejected_micro,
            "missedMicro": reputation.missed_micro,
            "scoreBps": reputation.score_bps,
        },
        "calibration": {
            "valid": standing.calibrated,
            "validUntil": calibration.valid_until,
            "leavesPassed": calibration.leaves_passed,
            "leaves": calibration.leaves,
            "secondsToAnswer": calibration.seconds_to_answer,
            "outputTokens": calibration.output_tokens,
            "distancePpm": calibration.distance_ppm,
            "batchId": "0x" + calibration.batch_id.hex(),
        },
        "batches": [
            {
                "batchId": "0x" + w.batch_id.hex(),
                "block": w.block,
                "accepted": w.accepted,
                "rejected": w.rejected,
                "missed": w.missed,
                "scoreBps": w.score_bps,
            }
            for w in standing.work
        ],
    }
