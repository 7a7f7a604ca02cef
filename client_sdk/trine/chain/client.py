"""`Chain`: one object that reads and writes a deployment's contracts, put together from the calls of each.

Reads return records (see `records`), writes wait for their receipt. Thread-safe.
"""

from __future__ import annotations

from trine.chain.appeals import AppealCalls
from trine.chain.calibration import CalibrationCalls
from trine.chain.parameters import ParameterCalls
from trine.chain.payments import PaymentCalls
from trine.chain.registry import RegistryCalls
from trine.chain.reputation import ReputationCalls
from trine.chain.staking import StakingCalls


class Chain(StakingCalls, RegistryCalls, ParameterCalls, AppealCalls, CalibrationCalls, ReputationCalls, PaymentCalls):
    """A deployment seen through RPC endpoints, optionally with an account that sends. See `Calls.connect`.

    `AppealCalls` bring those of batches and committees along.
    """
