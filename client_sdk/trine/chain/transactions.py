"""What a transaction is made of: the call, the fees that it offers, what replaces it, how a node words a refusal.

No I/O: `gateway` has that. What it is used by sends one at a time (`sender`) or many (`trine_operator.outbox`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import Any

GAS_HEADROOM = 1.25
GAS_RESERVE = 100_000
"""Added to every estimate: between estimate and execution a few slots may become zero that were not, or are paid for
anew. The chain charges what is used."""
GAS_RETRIES = 2
"""Each with twice the gas of the one before, for what needed more than that all the same."""
GAS_MARKS = 10_000
"""Each transaction may use a random number of these more: two processes that do the same at the same moment would sign
the same transaction otherwise, which is executed once."""
REPLACEMENT_PERCENT = 130
"""After five of them: 3.7 times the first price."""
LEAST_REPLACEMENT_PERCENT = 110
"""Nodes take a replacement that pays at least a tenth more, of both fees."""
MAX_REPLACEMENTS = 5
REPLACE_SECONDS = 24.0
"""Two slots of Ethereum: a transaction that pays enough is mined by then."""
TAKEN_LOOKS = 8
"""So often in a row a transaction must be missing while its nonce is used: one endpoint may be many servers, of which
some are behind."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one of the deployment's contracts, with its arguments.

    `at`: another contract's address that has the same function, a token's that is not the deployment's.
    """

    contract: str
    function: str
    arguments: tuple[Any, ...]
    at: str | None = None


@dataclass(frozen=True, slots=True)
class EncodedCall:
    """A call as the chain takes it. `function` is for people."""

    function: str
    to: str
    data: bytes


@dataclass(frozen=True, slots=True)
class FeeLimits:
    """The most that is offered, wei per gas. None: as much as the market asks."""

    max_fee_wei: int | None = None
    max_priority_fee_wei: int | None = None


UNLIMITED_FEES = FeeLimits()


@dataclass(frozen=True, slots=True)
class Market:
    """What the newest block and its proposers ask, wei per gas."""

    base_fee_wei: int | None  # None before EIP-1559: `tip_wei` is the gas price then
    tip_wei: int


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers, wei per gas."""

    max_fee_wei: int
    priority_fee_wei: int | None  # None before EIP-1559

    def fields(self) -> dict[str, int]:
        """As a transaction names them."""
        if self.priority_fee_wei is None:
            return {"gasPrice": self.max_fee_wei}
        return {"maxFeePerGas": self.max_fee_wei, "maxPriorityFeePerGas": self.priority_fee_wei}


def offer(market: Market, limits: FeeLimits = UNLIMITED_FEES, *, urgent: bool = False) -> Fees | None:
    """Room for a base fee that doubles (six full blocks); for what is urgent, four times and a double tip.

    None when the limit is below what the next block may ask: it would not be mined.
    """
    factor = 2 if urgent else 1
    tip = _at_most(factor * market.tip_wei, limits.max_priority_fee_wei)
    if market.base_fee_wei is None:
        price = _at_most(factor * market.tip_wei, limits.max_fee_wei)
        return Fees(price, None) if price >= market.tip_wei else None
    fee = _at_most(2 * factor * market.base_fee_wei + tip, limits.max_fee_wei)
    if fee <= market.base_fee_wei:
        return None
    return _last_offer(Fees(fee, min(tip, fee)), limits)


def raised(before: Fees, market: Market, limits: FeeLimits = UNLIMITED_FEES) -> Fees | None:
    """The fees of what replaces a transaction: higher by `REPLACEMENT_PERCENT`, and what the market asks by now.

    None when the limits leave less than nodes take for a replacement.
    """
    asked = offer(market, limits, urgent=True)
    fee = _raise(before.max_fee_wei, asked.max_fee_wei if asked else 0, limits.max_fee_wei)
    if fee is None:
        return None
    if before.priority_fee_wei is None:
        return Fees(fee, None)
    wanted_tip = asked.priority_fee_wei or 0 if asked else 0
    tip = _raise(before.priority_fee_wei, wanted_tip, _at_most(fee, limits.max_priority_fee_wei))
    return None if tip is None else _last_offer(Fees(fee, tip), limits)


def _last_offer(fees: Fees, limits: FeeLimits) -> Fees:
    """What the limit of the tip lets nothing replace any more offers all that it may: else a rising base fee leaves it
    where it is. What is not asked is not paid."""
    tip_limit, fee_limit = limits.max_priority_fee_wei, limits.max_fee_wei
    if tip_limit is None or fee_limit is None or _raise(fees.priority_fee_wei or 0, 0, tip_limit) is not None:
        return fees
    return Fees(fee_limit, fees.priority_fee_wei)


def _raise(before: int, asked: int, limit: int | None) -> int | None:
    after = _at_most(max(before * REPLACEMENT_PERCENT // 100 + 1, asked), limit)
    return after if after * 100 >= before * LEAST_REPLACEMENT_PERCENT and after > before else None


def _at_most(value: int, limit: int | None) -> int:
    return value if limit is None else min(value, limit)


def gas_limit(estimated: int, factor: int = 1) -> int:
    """With room for state that moves until the execution."""
    return (int(estimated * GAS_HEADROOM) + GAS_RESERVE) * factor + random.randrange(GAS_MARKS)  # noqa: S311


def lacked_gas(gas_used: int, gas: int) -> bool:
    """Whether a failed call has used (nearly) all of its gas: the last call keeps a 64th of it, by EIP-150."""
    return gas_used >= gas * 15 // 16


class Refusal(Enum):
    """Why a node does not take a transaction."""

    KNOWN = "it has the transaction already"
    NONCE_USED = "the nonce is used"
    NONCE_AHEAD = "the nonce leaves a gap"
    UNDERPRICED = "it pays too little, or another with its nonce pays more"
    BELOW_BASE_FEE = "it offers less than the base fee"
    NO_FUNDS = "the account has too little gas money"
    OTHER = "another reason"


_WORDS: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
    (Refusal.KNOWN, ("already known", "already imported", "alreadyknown", "known transaction")),
    (Refusal.BELOW_BASE_FEE, ("less than block base fee", "lower than the base fee", "feetoolow", "fee too low")),
    (Refusal.UNDERPRICED, ("underpriced", "replacement transaction", "replacementnotallowed", "gas price too low")),
    (Refusal.NO_FUNDS, ("insufficient funds", "insufficientfunds", "insufficient balance", "enough funds")),
    (Refusal.NONCE_AHEAD, ("nonce too high", "nonce gap", "noncegap")),
    (Refusal.NONCE_USED, ("nonce",)),
)
"""As go-ethereum, Reth, Erigon, Nethermind, Besu, Anvil and Hardhat say it; the first that fits counts."""


def refusal_of(said: str) -> Refusal:
    """What a node's error message means."""
    said = said.lower()
    return next((refusal for refusal, words in _WORDS if any(word in said for word in words)), Refusal.OTHER)
