"""Typed access to Trine's contracts over JSON-RPC.

Knows addresses, ABIs, transactions and events; decides nothing. Everything that comes back is a frozen record.
"""

from trine.chain.client import Chain
from trine.chain.deployment import Deployment
from trine.chain.keystore import create_keystore, load_keystore
from trine.chain.records import (
    Account,
    Batch,
    BatchState,
    CalibrationResult,
    Challenge,
    Event,
    Model,
    Parameters,
    ReputationRecord,
    Role,
    Seat,
    Stake,
)

__all__ = [
    "Account",
    "Batch",
    "BatchState",
    "CalibrationResult",
    "Chain",
    "Challenge",
    "Deployment",
    "Event",
    "Model",
    "Parameters",
    "ReputationRecord",
    "Role",
    "Seat",
    "Stake",
    "create_keystore",
    "load_keystore",
]
