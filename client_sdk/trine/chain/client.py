"""`Chain`: one object that reads and writes a deployment's contracts, put together from the calls of each.

Reads return records (see `records`), writes wait for their receipt. Thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trine.chain.agents import AgentCalls
from trine.chain.appeals import AppealCalls
from trine.chain.calibration import CalibrationCalls
from trine.chain.examiners import ExaminerCalls
from trine.chain.key_sets import KeySetCalls
from trine.chain.parameters import ParameterCalls
from trine.chain.payments import PaymentCalls
from trine.chain.registry import RegistryCalls
from trine.chain.reputation import ReputationCalls
from trine.chain.requests import RequestCalls
from trine.chain.staking import StakingCalls
from trine.chain.verifier_keys import VerifierKeyCalls
from trine.chain.writes import Writes

if TYPE_CHECKING:
    from web3.types import TxReceipt

    Written = Writes[TxReceipt]
else:
    Written = Writes  # web3 is imported when it is needed


class Chain(
    KeySetCalls,
    StakingCalls,
    RegistryCalls,
    ParameterCalls,
    AppealCalls,
    CalibrationCalls,
    ExaminerCalls,
    ReputationCalls,
    PaymentCalls,
    VerifierKeyCalls,
    RequestCalls,
    AgentCalls,
    Written,
):
    """A deployment seen through RPC endpoints, optionally with an account that sends. See `Calls.connect`.

    `AppealCalls` bring those of batches and committees along.
    """
