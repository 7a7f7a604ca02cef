"""Signs, hands over, hands over again, and pays more for what is stuck: who is due first goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from trine.chain.follower import Head
from trine.chain.gateway import Gateway, Signed
from trine.chain.transactions import (
    MAX_REPLACEMENTS,
    TAKEN_LOOKS,
    Call,
    EncodedCall,
    FeeLimits,
    Market,
    Refusal,
    gas_limit,
    offer,
    raised,
)
from trine.errors import ChainError, ChainUnreachable, TransactionReverted
from trine_operator.apart import Apart
from trine_operator.outbox import rules
from trine_operator.outbox.acts import NOT_DUE, Act
from trine_operator.outbox.outcomes import Outcomes
from trine_operator.outbox.queue import FILL, Kept, Queue, State
from trine_operator.outbox.telling import Telling

log = structlog.get_logger()

AGAIN_SECONDS = 10.0
"""What is not mined is handed over again: an endpoint may have lost it."""
HURRY_SECONDS = 2.0
"""Until more is offered to an endpoint that wants more."""
MAX_PAUSE_SECONDS = 8.0
"""Between tries of an act that the endpoint answers with nonsense."""
DUE_GAS_FACTOR = 3
"""The chain charges what is used, and an account must only be able to pay the rest."""
GWEI = 10**9
FILL_GAS = 21_000


@dataclass(frozen=True, slots=True)
class View:
    """What a step goes by: transactions of the account in the chain and with the pool, the newest block, the fees."""

    latest: int
    pending: int
    head: Head
    block_seconds: float
    market: Market

    def left(self, act: Kept) -> float:
        """Seconds."""
        return rules.seconds_left(act.due, self.head, self.block_seconds)


class Courier:
    """Between the queue and the endpoint. `clock` is in seconds."""

    def __init__(
        self,
        gateway: Gateway,
        queue: Queue,
        outcomes: Outcomes,
        limits: FeeLimits,
        telling: Telling,
        clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._queue = queue
        self._outcomes = outcomes
        self._limits = limits
        self._telling = telling
        self._clock = clock
        self._apart = Apart(MAX_PAUSE_SECONDS, clock)
        self._handed_over: dict[int, float] = {}  # acts: when this process gave the endpoint their last transaction
        self._offered: dict[int, float] = {}  # acts: since when that offer stands
        self._hurry: set[int] = set()  # acts for which the endpoint wants more
        self._gaps: Counter[int] = Counter()  # nonces: how often nobody had them
        self._held: set[int] = set()  # nonces of ours that are not over

    def forget(self, act: Kept) -> None:
        """The act is over, or begins anew."""
        self._handed_over.pop(act.number, None)
        self._offered.pop(act.number, None)
        self._hurry.discard(act.number)

    def work(self, unmined: Sequence[Kept], waiting: Sequence[Kept], held: set[int], view: View) -> None:
        """One round. `held`: nonces of all acts that are in flight, mined or not."""
        self._held = held
        self._push(unmined, view)
        self._send(unmined, waiting, view)
        self._fill_gaps(view)

    def _push(self, unmined: Sequence[Kept], view: View) -> None:
        """Hands over what the endpoint may not have, and replaces what is stuck by what pays more."""
        by_nonce = {act.nonce: act for act in unmined if act.nonce is not None and act.nonce >= view.latest}
        urgencies = rules.urgencies({nonce: view.left(act) for nonce, act in by_nonce.items()})
        for nonce, act in sorted(by_nonce.items()):
            part = partial(self._push_one, act, urgencies[nonce], nonce == min(by_nonce), view.market)
            self._apart.run(("push", act.number), part, act=act.name)

    def _push_one(self, act: Kept, left: float, is_next: bool, market: Market) -> None:
        handed_over, last = self._handed_over.get(act.number), act.signed[-1]
        if handed_over is None:  # a crash or a rollback was in between
            self._hand_over(act, last)
        elif self._is_stuck(act, left, is_next, market) and (fees := raised(last.fees, market, self._limits)):
            self._sign(act, replace(last, fees=fees))
        elif self._clock() - handed_over > AGAIN_SECONDS:
            self._hand_over(act, last)

    def _is_stuck(self, act: Kept, left: float, is_next: bool, market: Market) -> bool:
        """Whether the act's transaction, and none before it, is what is waited for, and for too long."""
        last = act.signed[-1]
        cannot_be_mined = market.base_fee_wei is not None and last.fees.max_fee_wei <= market.base_fee_wei
        if cannot_be_mined and offer(market, self._limits) is None:
            self._tell_of_fees(market, act.name)
        patience = HURRY_SECONDS if act.number in self._hurry else rules.patience_seconds(left)
        if self._clock() - self._offered[act.number] <= patience or not (is_next or cannot_be_mined):
            return False
        return len(act.signed) <= MAX_REPLACEMENTS or left < rules.URGENT_SECONDS or cannot_be_mined

    def _send(self, unmined: Sequence[Kept], waiting: Sequence[Kept], view: View) -> None:
        in_flight = [view.left(act) for act in unmined]
        for act in rules.in_order(waiting, view.left, lambda each: each.number):
            if rules.has_place(in_flight, view.left(act)):
                before = len(self._held)
                self._apart.run(("send", act.number), partial(self._send_one, act, view), act=act.name)
                in_flight += [view.left(act)] * (len(self._held) - before)

    def _send_one(self, act: Kept, view: View) -> None:
        fees = offer(view.market, self._limits, urgent=view.left(act) < rules.URGENT_SECONDS)
        if fees is None:
            self._tell_of_fees(view.market, act.name)
            return
        try:
            # What is due has no time for a second try: the last reveal settles, and was not the last when simulated.
            factor = act.gas_factor * (1 if act.due == NOT_DUE else DUE_GAS_FACTOR)
            gas = gas_limit(self._estimate(act), factor)
        except TransactionReverted as error:
            self._outcomes.finish(act, None, error.reason)
            return
        if act.max_gas is not None and gas > act.max_gas:
            self._outcomes.finish(act, None, f"it takes {gas} gas; it may take {act.max_gas} gas")
            return
        nonce = rules.free_nonce(view.latest, view.pending, self._held)
        self._sign(act, Signed(b"", b"", nonce, gas, fees))

    def _estimate(self, act: Kept) -> int:
        """Gas that the act needs. Strangers' code may burn all that it is given, which an endpoint does not call a
        revert."""
        if act.max_gas is None:
            return self._gateway.estimate(act.call)
        try:
            return self._gateway.estimate(act.call, act.max_gas)
        except ChainUnreachable:
            raise
        except ChainError as error:
            why = error.reason if isinstance(error, TransactionReverted) else str(error)
            raise TransactionReverted(why, reason=f"{why}; it may take {act.max_gas} gas") from None

    def _fill_gaps(self, view: View) -> None:
        """A transaction that others sent for the account was dropped, and ours behind it cannot be mined."""
        found = rules.gaps(view.latest, view.pending, self._held)
        self._gaps = Counter({nonce: self._gaps[nonce] + 1 for nonce in found[: rules.MAX_IN_FLIGHT]})
        fees = offer(view.market, self._limits, urgent=True)
        for nonce in [nonce for nonce, looks in self._gaps.items() if looks >= TAKEN_LOOKS and fees]:
            call = EncodedCall(FILL, self._gateway.address, b"")
            name = f"{FILL} nonce {nonce}"
            number = self._queue.add(Act((name,), Call("", FILL, ())), call)
            if number is not None and fees:
                log.warning("nonce_gap", nonce=nonce, hint="dropped by the endpoint; filled with an empty transaction")
                act = Kept(number, name, call, NOT_DUE, State.QUEUED, None, 1, ())
                self._sign(act, Signed(b"", b"", nonce, gas_limit(FILL_GAS), fees))

    def _sign(self, act: Kept, wanted: Signed) -> None:
        """Written before it is handed over: a crash in between loses nothing, and sends nothing twice."""
        signed = self._gateway.signed(act.call, wanted.nonce, wanted.gas, wanted.fees)
        self._queue.sign(act.number, signed)
        self._held.add(signed.nonce)
        self._offered[act.number] = self._clock()
        self._hand_over(act, signed)

    def _hand_over(self, act: Kept, signed: Signed) -> None:
        self._handed_over[act.number] = self._clock()
        self._offered.setdefault(act.number, self._clock())
        self._hurry.discard(act.number)
        try:
            refused = self._gateway.broadcast(signed, act.call.function)
        except ChainUnreachable as error:
            # It may have got there all the same; it is kept, and handed over again.
            del self._handed_over[act.number]
            self._telling.warning("endpoint_is_away", act=act.name, error=str(error))
        except TransactionReverted as error:
            self._refused_when_sent(act, error)
        else:
            if refused:
                self._not_taken(act, *refused)

    def _not_taken(self, act: Kept, why: Refusal, said: str) -> None:
        if why in (Refusal.KNOWN, Refusal.NONCE_USED):
            return  # whose transaction has the nonce, the receipts tell
        if why is Refusal.NO_FUNDS:
            self._telling.error("no_gas_money", address=self._gateway.address, act=act.name, said=said)
        elif why is Refusal.BELOW_BASE_FEE or (why is Refusal.UNDERPRICED and len(act.signed) > 1):
            self._hurry.add(act.number)
        else:
            self._telling.warning("transaction_not_taken", act=act.name, why=why.value, said=said)

    def _refused_when_sent(self, act: Kept, error: TransactionReverted) -> None:
        """By a node that executes before it takes: somebody was faster since the estimate, if it says so twice."""
        try:
            self._gateway.estimate(act.call)
        except TransactionReverted:
            self._outcomes.finish(act, None, error.reason)

    def _tell_of_fees(self, market: Market, waits: str) -> None:
        base = market.base_fee_wei if market.base_fee_wei is not None else market.tip_wei
        self._telling.warning(
            "fees_above_limit",
            base_fee_gwei=base / GWEI,
            max_fee_gwei=(self._limits.max_fee_wei or 0) / GWEI,
            waits=waits,
            hint="it is sent when the fees fall, or with a higher max_fee_gwei",
        )
