"""The one thread that sends an account's transactions: who is due first goes first, many are in flight at once.

A step looks at what the chain has mined, sends again what is missing, pays more for what is stuck, then sends what
waits. All that it must know after a crash is in the store. An outcome counts once its block is taken to stay.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog
from eth_utils.crypto import keccak
from web3.types import TxReceipt

from trine.chain import Chain
from trine.chain.follower import Head
from trine.chain.gateway import Gateway, Signed
from trine.chain.transactions import (
    GAS_RETRIES,
    MAX_REPLACEMENTS,
    TAKEN_LOOKS,
    Call,
    EncodedCall,
    FeeLimits,
    Market,
    Refusal,
    gas_limit,
    lacked_gas,
    offer,
    raised,
)
from trine.errors import ChainUnreachable, NotReady, TransactionReverted, TrineError
from trine_operator.apart import Apart
from trine_operator.outbox import rules
from trine_operator.outbox.acts import NOT_DUE, Act
from trine_operator.outbox.foreign import Account, Stranger
from trine_operator.outbox.queue import Kept, Queue, State

log = structlog.get_logger()

POLL_SECONDS = (0.02, 0.5)
"""While something is in flight; the first wait, which doubles up to the second."""
MINED_SECONDS = 1.0
"""While what was sent is in blocks that may be taken back."""
IDLE_SECONDS = 5.0
"""While nothing is open: whether somebody else sends for the account."""
AGAIN_SECONDS = 10.0
"""What is not mined is handed over again: an endpoint may have lost it."""
HURRY_SECONDS = 2.0
"""Until more is offered to an endpoint that wants more."""
MAX_PAUSE_SECONDS = 8.0
"""Between tries of an act that the endpoint answers with nonsense."""
TELL_SECONDS = 60.0
"""The same is said again after so long."""
WAIT_SECONDS = 900.0
"""For an outcome, by who waits for it."""
STRANGERS_SECONDS = 60.0
"""At start, for transactions in the pool that the store does not know."""
REFUSED_SECONDS = (1.0, 30.0, 4.0)
"""Before what was refused is tried again: the first pause, which doubles up to the second, or to the third if it is
due."""
REMEMBERED = 4096
"""Refusals."""
GWEI = 10**9
FILL = "fill"
"""The function of an empty transaction."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why an act was refused the last time, and for how long, until when it is not tried again."""

    reason: str
    pause: float
    until: float


class Outbox:
    """Of one account in one process. `clock` is in seconds."""

    def __init__(
        self,
        chain: Chain,
        gateway: Gateway,
        queue: Queue,
        limits: FeeLimits,
        *,
        heed_copies: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`heed_copies`: whether nothing is signed any more once another copy of the operator is seen to send."""
        self._chain = chain
        self._gateway = gateway
        self._queue = queue
        self._limits = limits
        self._heed_copies = heed_copies
        self._clock = clock
        self._account = Account(gateway, queue, chain.deployment)
        self._apart = Apart(MAX_PAUSE_SECONDS, clock)
        self._halted: str | None = None
        self._names = queue.open_names()
        self._names_lock = threading.Lock()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._handed_over: dict[int, float] = {}  # acts: when this process gave the endpoint their last transaction
        self._offered: dict[int, float] = {}  # acts: since when that offer stands
        self._hurry: set[int] = set()  # acts for which the endpoint wants more
        self._mined: dict[int, int] = {}  # acts that are in a block which may still be taken back
        self._missing: Counter[int] = Counter()  # acts: how often their nonce was used and their receipt not found
        self._gaps: Counter[int] = Counter()  # nonces: how often nobody had them
        self._told: dict[str, float] = {}
        self._refused: dict[str, _Refused] = {}  # acts by name
        self._first_head: Head | None = None
        self._started = clock()
        self._knows_pool = False
        self._is_busy = bool(self._names)

    # For duties

    @property
    def address(self) -> str:
        return self._gateway.address

    @property
    def halted(self) -> str | None:
        """Why nothing is signed any more, if so."""
        return self._halted

    def halt(self, why: str) -> None:
        """Nothing is signed from now on."""
        if self._halted is None:
            self._halted = why
            log.error("sending_halted", why=why)
        with self._changed:
            self._changed.notify_all()

    def sign(self, digest: bytes) -> bytes:
        return self._gateway.sign(digest)

    def open_names(self) -> frozenset[str]:
        return self._names

    def submit(self, act: Act) -> None:
        """See `Submits.submit`."""
        self._refuse_if_halted()
        reason = self._queue.take_refusal(act.names[0])
        refused = self._refused.get(act.names[0])
        if reason is None and refused and self._clock() < refused.until:
            reason = refused.reason
        if reason is not None:
            raise TransactionReverted(f"{act.call.function}: {reason}", reason=reason)
        self._add(act, self._chain.encoded(act.call))

    def send(self, call: EncodedCall) -> TxReceipt:
        """Queues the call and waits for its receipt: for who has nothing else to do. The same call is not sent twice
        at a time; after a crash it is the one that was open then.

        Raises TransactionReverted, NotReady.
        """
        name = f"{call.function} {keccak(call.data).hex()[:16]}"
        self._refuse_if_halted()
        number = self._add(Act((name,), Call("", call.function, ())), call)
        deadline = self._clock() + WAIT_SECONDS
        with self._changed:
            while (outcome := self._queue.outcome(number)) is None:
                if self._halted or self._stop.is_set() or self._clock() > deadline:
                    why = self._halted or "not mined yet; it stays in the queue and is not sent twice"
                    raise NotReady(f"{call.function}: {why}")
                self._changed.wait(1.0)
        receipt = self._gateway.receipt(outcome.executed) if outcome.executed else None
        if outcome.reason is not None:
            raise TransactionReverted(f"{call.function}: {outcome.reason}", reason=outcome.reason)
        if receipt is None:
            raise NotReady(f"{call.function}: the endpoint does not show its receipt")
        return receipt

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Ends the thread, once all is mined or after so long. What is open then, the next start goes on with."""
        deadline = self._clock() + drain_seconds
        with self._changed:
            self._changed.wait_for(lambda: not self._is_busy or bool(self._halted), max(0.0, deadline - self._clock()))
        self._stop.set()
        self._wake.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=35)

    # The thread

    def _run(self) -> None:
        pause = POLL_SECONDS[0]
        while not self._stop.is_set():
            try:
                pause = min(2 * pause, self.step())
            except TrineError as error:
                pause = min(max(2 * pause, 1.0), MAX_PAUSE_SECONDS)
                log.warning("sending_paused", error=str(error), seconds=pause)
            except Exception:
                pause = MAX_PAUSE_SECONDS
                log.exception("sending_failed")
            if self._wake.wait(pause):
                self._wake.clear()
                pause = POLL_SECONDS[0] / 2

    def step(self) -> float:
        """Does what is to be done now; returns after how many seconds to look again, at the latest.

        Raises TrineError when nothing can be done at all.
        """
        if self._halted:
            return IDLE_SECONDS
        latest = self._gateway.nonce()
        head = self._head()
        self._reopen_unmined(latest)
        for act in self._queue.open_acts():
            if act.state is State.SENT:
                self._look_for(act, latest)
        acts = self._queue.open_acts()
        in_flight = [act for act in acts if act.state is State.SENT]
        waiting = [act for act in acts if act.state is State.QUEUED]
        unmined = [act for act in in_flight if act.number not in self._mined]
        self._note_busy(bool(unmined or waiting))
        self._meet_strangers(latest, head, unmined)
        held = {act.nonce for act in in_flight if act.nonce is not None}
        if self._halted or not self._pool_is_known(latest, held):
            return MINED_SECONDS
        if unmined or waiting:
            self._send(unmined, waiting, held, latest, head)
            return POLL_SECONDS[1]
        return MINED_SECONDS if acts else IDLE_SECONDS

    def _send(self, unmined: list[Kept], waiting: list[Kept], held: set[int], latest: int, head: Head) -> None:
        pending = self._gateway.nonce("pending")
        market = self._gateway.market()
        self._push(unmined, latest, head, market)
        if waiting:
            self._send_waiting(waiting, unmined, held, latest, pending, head, market)
        self._fill_gaps(latest, pending, held, market)

    def _head(self) -> Head:
        head = Head(self._chain.block_number(), self._chain.timestamp())
        self._first_head = self._first_head or head
        return head

    def _left(self, act: Kept, head: Head) -> float:
        first = self._first_head or head
        blocks = head.number - first.number
        block_seconds = (head.timestamp - first.timestamp) / blocks if blocks > 0 else 1.0
        return rules.seconds_left(act.due, head, block_seconds)

    # What the chain has

    def _reopen_unmined(self, latest: int) -> None:
        """A chain that was rolled back has fewer transactions than were executed: they are sent again."""
        for act in self._queue.over_from(latest):
            if self._queue.reopen(act.number):
                log.warning("transaction_unmined", act=act.name, nonce=act.nonce)
                self._forget(act)
                self._note_names()

    def _look_for(self, act: Kept, latest: int) -> None:
        """Whether an act was executed, and by which of its transactions."""
        assert act.nonce is not None
        if act.nonce >= latest:
            if self._mined.pop(act.number, None) is not None:
                log.warning("transaction_unmined", act=act.name, nonce=act.nonce)
                self._handed_over.pop(act.number, None)
            self._missing.pop(act.number, None)
            return
        if self._mined.get(act.number, -1) > self._chain.confirmed_block():
            return
        for signed in act.signed:
            receipt = self._gateway.receipt(signed.hash)
            if receipt:
                self._missing.pop(act.number, None)
                self._note_receipt(act, signed, receipt)
                return
        self._missing[act.number] += 1
        # It may come back as long as the other's block may be taken back; the contracts take once what is due.
        once = act.due != NOT_DUE
        if self._missing[act.number] >= TAKEN_LOOKS and (
            once or self._gateway.nonce(self._chain.confirmed_block()) > act.nonce
        ):
            log.warning("nonce_taken", act=act.name, nonce=act.nonce)
            if act.call.function == FILL:
                self._finish(act, None, "the gap is filled")
                return
            self._queue.send_anew(act.number)
            self._forget(act)

    def _note_receipt(self, act: Kept, signed: Signed, receipt: TxReceipt) -> None:
        block, once = receipt["blockNumber"], act.due != NOT_DUE
        if act.number not in self._mined:
            self._mined[act.number] = block
            self._chain.note_mined()
        executed = receipt["status"] == 1
        retry = not executed and act.gas_factor < 1 << GAS_RETRIES and lacked_gas(receipt["gasUsed"], signed.gas)
        if block > self._chain.confirmed_block() and not (retry and once):
            return
        if retry:
            log.info("transaction_lacked_gas", act=act.name, gas=signed.gas)
            self._queue.send_anew(act.number, gas_factor=2 * act.gas_factor)
            self._forget(act)
        elif executed:
            self._finish(act, signed.hash, None)
        else:
            self._finish(act, signed.hash, self._gateway.why(act.call, receipt).reason)

    def _finish(self, act: Kept, executed: bytes | None, reason: str | None) -> None:
        if reason is None:
            log.info("transaction_done", act=act.name, transaction="0x" + (executed or b"").hex())
            self._refused.pop(act.name, None)
        else:
            self._note_refusal(act, reason)
        self._queue.finish(act.number, executed, reason)
        self._forget(act)
        self._note_names()

    def _note_refusal(self, act: Kept, reason: str) -> None:
        """What is refused again and again is tried less and less often."""
        before = self._refused.pop(act.name, None)
        longest = REFUSED_SECONDS[1 if act.due == NOT_DUE else 2]
        pause = min(2 * before.pause, longest) if before else REFUSED_SECONDS[0]
        self._refused[act.name] = _Refused(reason, pause, self._clock() + pause)
        while len(self._refused) > REMEMBERED:
            self._refused.pop(next(iter(self._refused)))
        log.info("transaction_refused", act=act.name, reason=reason, seconds=pause)

    def _forget(self, act: Kept) -> None:
        for kept in (self._handed_over, self._offered, self._mined, self._missing):
            kept.pop(act.number, None)
        self._hurry.discard(act.number)

    def _meet_strangers(self, latest: int, head: Head, unmined: list[Kept]) -> None:
        for stranger in self._account.strangers(latest, head.number, unmined):
            self._tell_of(stranger)

    def _tell_of(self, stranger: Stranger) -> None:
        seen, duty = stranger.transaction, stranger.duty
        where = {"transaction": "0x" + seen.hash.hex(), "nonce": seen.nonce, "block": seen.block}
        if duty is None:
            log.info("transaction_by_hand", **where)
        elif not self._knows_pool:  # sent before this process was started
            log.error(
                "store_is_older",
                duty=duty,
                hint="the account has sent this and the store does not know it: it is a backup, or another copy of "
                "this operator runs; votes of that time cannot be revealed from here",
                **where,
            )
        else:
            log.error("another_copy_sends", duty=duty, **where)
            if self._heed_copies:
                self.halt(
                    f"another copy of this operator has sent {duty} in block {seen.block}, transaction "
                    f"0x{seen.hash.hex()}: stop one of the two, then start the other again; if there is none, start "
                    "with ignore_other_copies = true"
                )

    def _pool_is_known(self, latest: int, held: set[int]) -> bool:
        """At start: whether no transaction waits that the store does not know. It may be a vote of a newer store, and
        is waited for, though not for ever."""
        if self._knows_pool:
            return True
        pending = self._gateway.nonce("pending")
        strange = [nonce for nonce in range(latest, pending) if nonce not in held]
        self._knows_pool = not strange or self._clock() - self._started > STRANGERS_SECONDS
        if strange:
            self._tell("unknown_pending", "warning", nonces=strange[:8], hint="by hand, or by another copy")
        return self._knows_pool

    # What is sent

    def _push(self, unmined: list[Kept], latest: int, head: Head, market: Market) -> None:
        """Hands over what the endpoint may not have, and replaces what is stuck by what pays more."""
        by_nonce = {act.nonce: act for act in unmined if act.nonce is not None and act.nonce >= latest}
        urgencies = rules.urgencies({nonce: self._left(act, head) for nonce, act in by_nonce.items()})
        for nonce, act in sorted(by_nonce.items()):
            part = partial(self._push_one, act, urgencies[nonce], nonce == min(by_nonce), market)
            self._apart.run(("push", act.number), part, act=act.name)

    def _push_one(self, act: Kept, left: float, is_next: bool, market: Market) -> None:
        now, last = self._clock(), act.signed[-1]
        handed_over = self._handed_over.get(act.number)
        if handed_over is None:  # a crash or a rollback was in between
            self._hand_over(act, last)
            return
        cannot_be_mined = market.base_fee_wei is not None and last.fees.max_fee_wei <= market.base_fee_wei
        patience = HURRY_SECONDS if act.number in self._hurry else rules.patience_seconds(left)
        may = len(act.signed) <= MAX_REPLACEMENTS or left < rules.URGENT_SECONDS or cannot_be_mined
        if may and (is_next or cannot_be_mined) and now - self._offered[act.number] > patience:
            fees = raised(last.fees, market, self._limits)
            if fees is not None:
                self._sign_and_hand_over(act, replace(last, fees=fees))
                return
            self._tell_of_fees(market, act.name)
        if now - handed_over > AGAIN_SECONDS:
            self._hand_over(act, last)

    def _send_waiting(
        self,
        waiting: list[Kept],
        unmined: list[Kept],
        held: set[int],
        latest: int,
        pending: int,
        head: Head,
        market: Market,
    ) -> None:
        in_flight = [self._left(act, head) for act in unmined]
        lefts = {act.number: self._left(act, head) for act in waiting}
        for act in rules.in_order(waiting, lambda each: lefts[each.number], lambda each: each.number):
            left = lefts[act.number]
            if not rules.has_place(in_flight, left):
                continue
            nonce = rules.free_nonce(latest, pending, held)
            part = partial(self._send_one, act, nonce, left, market)
            before = len(held)
            self._apart.run(("send", act.number), partial(_note, part, held, nonce), act=act.name)
            if len(held) > before:
                in_flight.append(left)

    def _send_one(self, act: Kept, nonce: int, left: float, market: Market) -> bool:
        """Whether the nonce is used now."""
        fees = offer(market, self._limits, urgent=left < rules.URGENT_SECONDS)
        if fees is None:
            self._tell_of_fees(market, act.name)
            return False
        try:
            gas = gas_limit(self._gateway.estimate(act.call), act.gas_factor)
        except TransactionReverted as error:
            self._finish(act, None, error.reason)
            return False
        self._sign_and_hand_over(act, Signed(b"", b"", nonce, gas, fees))
        return True

    def _sign_and_hand_over(self, act: Kept, wanted: Signed) -> None:
        """Written before it is handed over: a crash in between loses nothing, and sends nothing twice."""
        signed = self._gateway.signed(act.call, wanted.nonce, wanted.gas, wanted.fees)
        self._queue.sign(act.number, signed)
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
            self._tell("endpoint_is_away", "warning", act=act.name, error=str(error))
            return
        except TransactionReverted as error:
            self._refused_when_sent(act, error)
            return
        if refused is None or refused[0] in (Refusal.KNOWN, Refusal.NONCE_USED):
            return  # whose transaction has the nonce, the receipts tell
        kind, said = refused
        if kind is Refusal.NO_FUNDS:
            self._tell("no_gas_money", "error", address=self.address, act=act.name, said=said)
        elif kind is Refusal.BELOW_BASE_FEE or (kind is Refusal.UNDERPRICED and len(act.signed) > 1):
            self._hurry.add(act.number)
        else:
            self._tell("transaction_not_taken", "warning", act=act.name, why=kind.value, said=said)

    def _refused_when_sent(self, act: Kept, error: TransactionReverted) -> None:
        """By a node that executes before it takes: somebody was faster since the estimate, if it says so twice."""
        try:
            self._gateway.estimate(act.call)
        except TransactionReverted:
            self._finish(act, None, error.reason)

    def _fill_gaps(self, latest: int, pending: int, held: set[int], market: Market) -> None:
        """A transaction that others sent for the account was dropped, and ours behind it cannot be mined."""
        found = rules.gaps(latest, pending, held)
        self._gaps = Counter({nonce: self._gaps[nonce] + 1 for nonce in found[: rules.MAX_IN_FLIGHT]})
        for nonce, looks in self._gaps.items():
            fees = offer(market, self._limits, urgent=True)
            if looks < TAKEN_LOOKS or fees is None:
                continue
            name = f"fill nonce {nonce}"
            call = EncodedCall(FILL, self.address, b"")
            number = self._queue.add(Act((name,), Call("", FILL, ())), call)
            if number is not None:
                log.warning("nonce_gap", nonce=nonce, hint="dropped by the endpoint; filled with an empty transaction")
                self._note_names()
                act = Kept(number, name, call, NOT_DUE, State.QUEUED, None, 1, ())
                self._sign_and_hand_over(act, Signed(b"", b"", nonce, gas_limit(21_000), fees))

    # How

    def _add(self, act: Act, call: EncodedCall) -> int:
        """The number of the new act, or of the last one of its first name."""
        number = self._queue.add(act, call)
        if number is None:
            return self._queue.last_of(act.names[0])
        self._note_names()
        self._note_busy(True)
        self._wake.set()
        return number

    def _refuse_if_halted(self) -> None:
        if self._halted:
            raise NotReady(self._halted)

    def _note_busy(self, is_busy: bool) -> None:
        with self._changed:
            self._is_busy = is_busy
            self._changed.notify_all()

    def _note_names(self) -> None:
        with self._names_lock:
            self._names = self._queue.open_names()
        with self._changed:
            self._changed.notify_all()

    def _tell_of_fees(self, market: Market, waits: str) -> None:
        base = market.base_fee_wei if market.base_fee_wei is not None else market.tip_wei
        limit = self._limits.max_fee_wei or 0
        self._tell(
            "fees_above_limit",
            "warning",
            base_fee_gwei=base / GWEI,
            max_fee_gwei=limit / GWEI,
            waits=waits,
            hint="it is sent when the fees fall, or with a higher max_fee_gwei or max_priority_fee_gwei",
        )

    def _tell(self, event: str, level: str, **what: object) -> None:
        """Once a minute."""
        now = self._clock()
        if now - self._told.get(event, float("-inf")) >= TELL_SECONDS:
            self._told[event] = now
            getattr(log, level)(event, **what)


def _note(send: Callable[[], bool], held: set[int], nonce: int) -> None:
    if send():
        held.add(nonce)
