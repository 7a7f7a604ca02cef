"""Typed access to Trine's contracts over JSON-RPC.

Knows addresses, ABIs, transactions and events; decides nothing. Everything that comes back is a frozen record.
"""

from typing import TYPE_CHECKING

from trine.chain.client import Chain
from trine.chain.deployment import Deployment
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
    ClaimState,
    Event,
    InclusionClaim,
    Marks,
    Model,
    ModelEntry,
    OperatorEntry,
    Parameters,
    ReputationRecord,
    Result,
    Role,
    Seat,
    Stake,
    Ticket,
    Verdict,
)
from trine.lazy import lazily
from trine.protocol.header import Header

if TYPE_CHECKING:
    from trine.chain.keystore import create_keystore, load_keystore
else:
    # Reading needs no account, and eth-account takes as long to import as all the rest of this package.
    __getattr__, __dir__ = lazily(
        __name__, {"create_keystore": "trine.chain.keystore", "load_keystore": "trine.chain.keystore"}
    )

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
    "ClaimState",
    "Deployment",
    "Event",
    "Header",
    "InclusionClaim",
    "Marks",
    "Model",
    "ModelEntry",
    "OperatorEntry",
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
