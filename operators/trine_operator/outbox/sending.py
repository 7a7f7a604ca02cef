"""The one sender of an account's transactions: takes acts, and has a thread that sees to them.

A step looks at what the chain has mined, sends again what is missing, pays more for what is stuck, then sends what
waits. All that it must know after a crash is in the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from eth_utils.crypto import keccak
from web3.types import TxReceipt

from trine.chain import Chain
from trine.chain.follower import Head
from trine.chain.gateway import Gateway
from trine.chain.transactions import Call, EncodedCall, FeeLimits
from trine.errors import NotReady, TransactionReverted, TrineError
from trine_operator.outbox.acts import Act
from trine_operator.outbox.courier import Courier, View
from trine_operator.outbox.foreign import Account, Stranger
from trine_operator.outbox.outcomes import Outcomes
from trine_operator.outbox.queue import Kept, Queue, State
from trine_operator.outbox.telling import Telling

log = structlog.get_logger()

POLL_SECONDS = (0.02, 0.5)
"""While something is not mined; the first wait, which doubles up to the second."""
MINED_SECONDS = 1.0
"""While what was sent is in blocks that may be taken back."""
IDLE_SECONDS = 30.0
"""While nothing is open: whether somebody else sends for the account."""
MAX_PAUSE_SECONDS = 8.0
"""While the chain is away."""
WAIT_SECONDS = 900.0
"""For an outcome, by who waits for it."""
STRANGERS_SECONDS = 60.0
"""At start, for transactions in the pool that the store does not know."""
JOIN_SECONDS = 35.0


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
        self._heed_copies = heed_copies
        self._clock = clock
        self._telling = Telling(clock)
        self._account = Account(gateway, queue, chain.deployment)
        self._outcomes = Outcomes(chain, gateway, queue, self._moved, clock)
        self._courier = Courier(gateway, queue, self._outcomes, limits, self._telling, clock)
        self._halted: str | None = None
        self._names = queue.open_names()
        self._is_busy = bool(self._names)  # whether something is not mined yet
        self._changed = threading.Condition()  # of the three above
        self._noting = threading.Lock()  # names are noted in the order in which they were read
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._first_head: Head | None = None
        self._started = clock()
        self._knows_pool = False

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
        with self._changed:
            if self._halted is None:
                self._halted = why
                log.error("sending_halted", why=why)
            self._changed.notify_all()

    def sign(self, digest: bytes) -> bytes:
        return self._gateway.sign(digest)

    def open_names(self) -> frozenset[str]:
        return self._names

    def executed(self, name: str) -> bytes | None:
        """Hash of the transaction that has done what is named, once that is certain. Those long ago are forgotten."""
        return self._queue.executed(name)

    def submit(self, act: Act) -> None:
        """See `Submits.submit`."""
        self._refuse_if_halted()
        reason = self._outcomes.refusal(act.names[0])
        if reason is not None:
            raise TransactionReverted(f"{act.call.function}: {reason}", reason=reason)
        self._add(act, self._chain.encoded(act.call))

    def send(self, call: EncodedCall) -> TxReceipt:
        """Queues the call and waits for its receipt: for who has nothing else to do. The same call is not sent twice
        at a time; after a crash it is the one that was open then.

        Raises TransactionReverted, NotReady.
        """
        self._refuse_if_halted()
        name = f"{call.function} {keccak(call.data).hex()[:16]}"
        number = self._add(Act((name,), Call("", call.function, ())), call)
        deadline = self._clock() + WAIT_SECONDS
        with self._changed:
            while (outcome := self._queue.outcome(number)) is None:
                if self._halted or self._stop.is_set() or self._clock() > deadline:
                    why = self._halted or "not mined yet; it stays in the queue and is not sent twice"
                    raise NotReady(f"{call.function}: {why}")
                self._changed.wait(1.0)
        if outcome.reason is not None:
            raise TransactionReverted(f"{call.function}: {outcome.reason}", reason=outcome.reason)
        receipt = self._gateway.receipt(outcome.executed) if outcome.executed else None
        if receipt is None:
            raise NotReady(f"{call.function}: the endpoint does not show its receipt")
        return receipt

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_seconds: float = 0.0) -> None:
        """Ends the thread, once all is mined or after so long. What is open then, the next start goes on with."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_busy or self._halted is not None, drain_seconds)
            self._stop.set()
            self._changed.notify_all()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def _refuse_if_halted(self) -> None:
        if self._halted:
            raise NotReady(self._halted)

    def _add(self, act: Act, call: EncodedCall) -> int:
        """The number of the new act, or of the last one of its first name."""
        number = self._queue.add(act, call)
        if number is None:
            return self._queue.last_of(act.names[0])
        self._note_names()
        self._note_busy(True)
        self._wake.set()
        return number

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
        latest, head = self._gateway.nonce(), self._head()
        in_flight, waiting = self._look(latest)
        unmined = [act for act in in_flight if not self._outcomes.is_mined(act)]
        self._note_busy(bool(unmined or waiting))
        for stranger in self._account.strangers(latest, head.number, unmined):
            self._meet(stranger)
        held = {act.nonce for act in in_flight if act.nonce is not None}
        if self._halted or not self._pool_is_known(latest, held):
            return MINED_SECONDS
        if not unmined and not waiting:
            return MINED_SECONDS if in_flight else IDLE_SECONDS
        pending, market = self._gateway.nonce("pending"), self._gateway.market()
        self._courier.work(unmined, waiting, held, View(latest, pending, head, self._block_seconds(head), market))
        self._note_names()
        return POLL_SECONDS[1]

    def _look(self, latest: int) -> tuple[list[Kept], list[Kept]]:
        """What is in flight, mined or not, and what waits, once the chain was asked what it has."""
        self._outcomes.reopen_unmined(latest)
        for act in self._queue.open_acts():
            if act.state is State.SENT:
                self._outcomes.look_for(act, latest)
        acts = self._queue.open_acts()
        return [act for act in acts if act.state is State.SENT], [act for act in acts if act.state is State.QUEUED]

    def _head(self) -> Head:
        head = Head(self._chain.block_number(), self._chain.timestamp())
        self._first_head = self._first_head or head
        return head

    def _block_seconds(self, head: Head) -> float:
        """As observed; before there is anything to observe, the shortest of any chain."""
        first = self._first_head or head
        blocks = head.number - first.number
        return (head.timestamp - first.timestamp) / blocks if blocks > 0 else 1.0

    def _meet(self, stranger: Stranger) -> None:
        """Says what the account has sent without us, and stops when it was another copy of this operator."""
        seen, duty = stranger.transaction, stranger.duty
        where = {"transaction": "0x" + seen.hash.hex(), "nonce": seen.nonce, "block": seen.block}
        if duty is None:
            log.info("transaction_by_hand", **where)
        elif not self._knows_pool:  # sent before this process was started
            hint = (
                "the store is a backup, or another copy of this operator runs; votes of that time cannot be revealed "
                "from here"
            )
            log.error("store_is_older", duty=duty, hint=hint, **where)
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
        strange = [nonce for nonce in range(latest, self._gateway.nonce("pending")) if nonce not in held]
        self._knows_pool = not strange or self._clock() - self._started > STRANGERS_SECONDS
        if strange:
            self._telling.warning("unknown_pending", nonces=strange[:8], hint="by hand, or by another copy")
        return self._knows_pool

    def _moved(self, act: Kept) -> None:
        self._courier.forget(act)
        self._note_names()

    def _note_busy(self, is_busy: bool) -> None:
        with self._changed:
            self._is_busy = is_busy
            self._changed.notify_all()

    def _note_names(self) -> None:
        with self._noting:
            names = self._queue.open_names()
            with self._changed:
                self._names = names
                self._changed.notify_all()
