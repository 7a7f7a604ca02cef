"""What became of what was sent: mined, refused, taken back, or its nonce used by somebody else.

An outcome counts once its block is taken to stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from web3.types import TxReceipt

from trine.chain import Chain
from trine.chain.gateway import Gateway, Signed
from trine.chain.transactions import GAS_RETRIES, TAKEN_LOOKS, lacked_gas
from trine_operator.outbox.acts import NOT_DUE
from trine_operator.outbox.queue import FILL, Kept, Queue

log = structlog.get_logger()

REFUSED_SECONDS = (1.0, 30.0, 4.0)
"""Before what was refused is tried again: the first pause, which doubles up to the second, or to the third if it is
due."""
REMEMBERED = 4096
"""Refusals."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why an act was refused the last time, and for how long, until when it is not tried again."""

    reason: str
    pause: float
    until: float


class Outcomes:
    """Of one account's acts. `clock` is in seconds."""

    def __init__(
        self,
        chain: Chain,
        gateway: Gateway,
        queue: Queue,
        moved: Callable[[Kept], None],
        clock: Callable[[], float],
    ) -> None:
        """`moved` is told of each act that is over, waits again or is in flight again."""
        self._chain = chain
        self._gateway = gateway
        self._queue = queue
        self._moved = moved
        self._clock = clock
        self._mined: dict[int, int] = {}  # acts: their blocks, which may still be taken back
        self._missing: Counter[int] = Counter()  # acts: how often their nonce was used and no receipt found
        self._refused: dict[str, _Refused] = {}  # acts by name

    def is_mined(self, act: Kept) -> bool:
        return act.number in self._mined

    def refusal(self, name: str) -> str | None:
        """Why the act was refused, if it is not to be tried again yet."""
        reason, refused = self._queue.take_refusal(name), self._refused.get(name)
        if reason is None and refused and self._clock() < refused.until:
            return refused.reason
        return reason

    def reopen_unmined(self, latest: int) -> None:
        """A chain that was rolled back has fewer transactions than were executed: they are sent again."""
        for act in self._queue.over_from(latest):
            if self._queue.reopen(act.number):
                log.warning("transaction_unmined", act=act.name, nonce=act.nonce)
                self._forget(act)

    def look_for(self, act: Kept, latest: int) -> None:
        """Whether an act was executed, when the account has `latest` transactions in the chain."""
        assert act.nonce is not None
        if act.nonce >= latest:
            self._missing.pop(act.number, None)
            if self.is_mined(act):
                log.warning("transaction_unmined", act=act.name, nonce=act.nonce)
                self._forget(act)
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
        if self._missing[act.number] >= TAKEN_LOOKS and self._is_taken_for_good(act, act.nonce):
            self._give_up_nonce(act)

    def finish(self, act: Kept, executed: bytes | None, reason: str | None) -> None:
        """The act is over: executed, or refused for a reason."""
        if reason is None:
            log.info("transaction_done", act=act.name, transaction="0x" + (executed or b"").hex())
            self._refused.pop(act.name, None)
        else:
            self._note_refusal(act, reason)
        self._queue.finish(act.number, executed, reason)
        self._forget(act)

    def _note_receipt(self, act: Kept, signed: Signed, receipt: TxReceipt) -> None:
        block = receipt["blockNumber"]
        if not self.is_mined(act):
            self._chain.note_mined()
        self._mined[act.number] = block
        executed = receipt["status"] == 1
        retry = not executed and act.gas_factor < 1 << GAS_RETRIES and lacked_gas(receipt["gasUsed"], signed.gas)
        if block > self._chain.confirmed_block() and not (retry and _is_taken_once(act)):
            return
        if retry:
            log.info("transaction_lacked_gas", act=act.name, gas=signed.gas)
            self._queue.send_anew(act.number, gas_factor=2 * act.gas_factor)
            self._forget(act)
        elif executed:
            self.finish(act, signed.hash, None)
        else:
            self.finish(act, signed.hash, self._gateway.why(act.call, receipt).reason)

    def _is_taken_for_good(self, act: Kept, nonce: int) -> bool:
        """Another's transaction has the nonce; ours may come back as long as the other's block may be taken back."""
        return _is_taken_once(act) or self._gateway.nonce(self._chain.confirmed_block()) > nonce

    def _give_up_nonce(self, act: Kept) -> None:
        log.warning("nonce_taken", act=act.name, nonce=act.nonce)
        if act.call.function == FILL:
            self.finish(act, None, "the gap is filled")
            return
        self._queue.send_anew(act.number)
        self._forget(act)

    def _note_refusal(self, act: Kept, reason: str) -> None:
        """What is refused again and again is tried less and less often."""
        before = self._refused.pop(act.name, None)
        longest = REFUSED_SECONDS[2 if _is_taken_once(act) else 1]
        pause = min(2 * before.pause, longest) if before else REFUSED_SECONDS[0]
        self._refused[act.name] = _Refused(reason, pause, self._clock() + pause)
        while len(self._refused) > REMEMBERED:
            self._refused.pop(next(iter(self._refused)))
        log.info("transaction_refused", act=act.name, reason=reason, seconds=pause)

    def _forget(self, act: Kept) -> None:
        self._mined.pop(act.number, None)
        self._missing.pop(act.number, None)
        self._moved(act)


def _is_taken_once(act: Kept) -> bool:
    """What has a deadline (votes, draws, answers to challenges) the contracts take once, however often it is sent."""
    return act.due != NOT_DUE
