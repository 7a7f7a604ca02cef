"""Takes what payers signed by x402 once their answers' verdicts are final, and lets go of the rest.

The node's part of a facilitator's: `decide` is a pure function of what is kept and what the chain says; transactions go
through the outbox. What was rejected, or not judged in time, is never charged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import structlog

from trine.chain import Chain
from trine.errors import TransactionReverted
from trine_node.x402.asset import Asset, execution
from trine_node.x402.ledger import Judged, Ledger, Payment, State
from trine_operator.outbox import Act, Due, Submits

log = structlog.get_logger()

AT_ONCE = 1_000
"""As many as can be outstanding."""
AGAIN_SECONDS = 60.0
"""Before a payer that has too little is looked at again."""
FORGET_SECONDS = 3_600.0
SECONDS_A_DAY = 86_400


class Sends(Submits, Protocol):
    """The outbox, as far as it is asked here."""

    def executed(self, name: str) -> bytes | None:
        """The transaction that has done what is named, once that is certain."""
        ...


class Next(Enum):
    """What is to be done with a payment."""

    WAIT = "wait"
    DROP = "drop"
    EXPIRE = "expire"
    SETTLE = "settle"


def decide(judged: Judged, now: int) -> Next:
    """`now`: the chain's seconds. An accepted answer is tried to be charged for as long as the signature is good."""
    if judged.result is not None and judged.result != "accept":
        return Next.DROP
    if judged.payment.authorization.valid_before <= now:
        return Next.EXPIRE
    return Next.SETTLE if judged.result == "accept" else Next.WAIT


class Settling:
    """Of one node. `step` is to be repeated."""

    def __init__(
        self,
        chain: Chain,
        ledger: Ledger,
        outbox: Sends,
        *,
        keep_days: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keep_days`: how long payments that are over are told of, once nobody can send them any more."""
        self._chain = chain
        self._ledger = ledger
        self._outbox = outbox
        self._keep_seconds = round(keep_days * SECONDS_A_DAY)
        self._clock = clock
        self._not_before: dict[bytes, float] = {}
        self._short: set[bytes] = set()  # payments whose account had too little when it was looked at last
        self._forget_at = 0.0

    def step(self) -> None:
        """Raises TrineError when the chain or the store cannot be read."""
        in_flight = self._outbox.open_names()  # before the chain is asked: what was certain then, it shows
        now = self._chain.now()
        for judged in self._ledger.answered(AT_ONCE):
            payment = judged.payment
            name = name_of(payment)
            if name in in_flight or self._not_before.get(payment.name, 0.0) > self._clock():
                continue
            if executed := self._outbox.executed(name):
                self._end(payment, State.SETTLED, executed)
                continue
            match decide(judged, now):
                case Next.DROP:
                    self._end(payment, State.DROPPED)
                case Next.SETTLE | Next.EXPIRE as due:
                    self._see_to(judged, due)
                case Next.WAIT:
                    pass
        if self._clock() >= self._forget_at:
            self._forget_at = self._clock() + FORGET_SECONDS
            while self._ledger.forget(now - self._keep_seconds):
                pass

    def _see_to(self, judged: Judged, due: Next) -> None:
        payment = judged.payment
        signed, asset = payment.authorization, Asset(self._chain, payment.authorization.asset)
        if asset.is_used(signed):
            # By whoever has seen the transaction and sent it first, which pays all the same; or the payer took it back.
            if end := asset.end_of(signed, payment.block):
                self._end(payment, State.SETTLED if end.executed else State.UNPAID, end.executed)
            return
        is_short = asset.balance(signed.payer) < signed.value
        if due is Next.EXPIRE:
            owes = judged.result == "accept" and (is_short or payment.name in self._short)
            self._end(payment, State.UNPAID if owes else State.EXPIRED)
            return
        if is_short:  # who fills the account again once the time is over has not paid either
            self._short.add(payment.name)
        else:
            self._short.discard(payment.name)
            try:
                self._outbox.submit(Act((name_of(payment),), execution(signed), Due(at=signed.valid_before)))
                return
            except TransactionReverted as error:
                log.warning("x402_refused", payer=signed.payer, reason=error.reason)
        self._not_before[payment.name] = self._clock() + AGAIN_SECONDS

    def _end(self, payment: Payment, state: State, executed: bytes | None = None) -> None:
        self._ledger.end(payment.name, state, executed)
        self._not_before.pop(payment.name, None)
        self._short.discard(payment.name)
        log.info(
            "x402_payment_over",
            state=state.value,
            payer=payment.authorization.payer,
            units=payment.authorization.value,
            transaction="0x" + executed.hex() if executed else None,
        )


def name_of(payment: Payment) -> str:
    """Of the act that settles it."""
    return f"settle x402 {payment.name.hex()}"
