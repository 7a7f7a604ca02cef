"""Typed access to Trine's contracts over JSON-RPC.

Knows addresses, ABIs, transactions and events; decides nothing. Everything that comes back is a frozen record.
"""

from trine.chain.client import Chain
from trine.chain.deployment import Deployment
from trine.chain.keystore import create_keystore, load_keystore
from trine.chain.records import (
    Account,
    Anchoring,
    AppealCase,
    AppealLevel,
    AppealPhase,
    Ballot,
    Batch,
    BatchState,
    CalibrationResult,
    Challenge,
    Event,
    Model,
    Parameters,
    ReputationRecord,
    Result,
    Role,
    Seat,
    Stake,
    Ticket,
    Verdict,
)
from trine.protocol.header import Header

__all__ = [
    "Account",
    "Anchoring",
    "AppealCase",
    "AppealLevel",
    "AppealPhase",
    "Ballot",
    "Batch",
    "BatchState",
    "CalibrationResult",
    "Chain",
    "Challenge",
    "Deployment",
    "Event",
    "Header",
    "Model",
    "Parameters",
    "ReputationRecord",
    "Result",
    "Role",
    "Seat",
    "Stake",
    "Ticket",
    "Verdict",
    "create_keystore",
    "load_keystore",
]
