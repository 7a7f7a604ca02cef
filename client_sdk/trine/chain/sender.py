"""Sends transactions one at a time, for who waits: simulate, sign, send, wait, decode.

Any number of threads and processes may send from one account. A sender whose nonce was taken meanwhile sends again with
the next one, once it is sure that its own transaction is not the one that took it. No two transactions are the same, so
nobody takes another's for its own. A revert is found in the simulation, before gas is spent, and raised with the
contract's own error and arguments. Operators' processes send through `trine_operator.outbox` instead.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from web3.types import TxReceipt

from trine.chain.gateway import Gateway, Signed
from trine.chain.reverts import decode_error, reverted, unreachable
from trine.chain.transactions import (
    GAS_RETRIES,
    MAX_REPLACEMENTS,
    REPLACE_SECONDS,
    TAKEN_LOOKS,
    EncodedCall,
    Refusal,
    gas_limit,
    lacked_gas,
    offer,
    raised,
)
from trine.errors import ChainError, NoGasMoney, NotReady

__all__ = ["Sender", "Sends", "decode_error", "reverted", "unreachable"]

RECEIPT_TIMEOUT_SECONDS = 180.0
RECEIPT_POLL_SECONDS = (0.02, 0.5)
"""The first wait, which doubles up to the second: development chains mine at once, public ones in seconds."""
NONCE_RETRIES = 50
"""Each means that another transaction of the account was faster, so one of them has got on."""
NONCE_PAUSE_SECONDS = 0.2


class Sends(Protocol):
    """What sends an account's transactions, and waits for them."""

    @property
    def address(self) -> str: ...

    def sign(self, digest: bytes) -> bytes: ...

    def send(self, call: EncodedCall) -> TxReceipt:
        """Raises TransactionReverted, ChainError, NotReady."""
        ...


@dataclass(slots=True)
class _Sent:
    """What was sent for a call: the first, and what was to replace it. All have one nonce."""

    call: EncodedCall
    transactions: list[Signed]


class Sender:
    """Sends contract calls from one account."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = _lock_of(gateway.address)

    @property
    def address(self) -> str:
        return self._gateway.address

    def sign(self, digest: bytes) -> bytes:
        return self._gateway.sign(digest)

    def send(self, call: EncodedCall) -> TxReceipt:
        """Sends the call and waits for its receipt. Raises TransactionReverted, ChainUnreachable, NotReady."""
        for attempt in range(GAS_RETRIES + 1):
            receipt, gas = self._executed(call, 1 << attempt)
            if receipt["status"] == 1:
                return receipt
            if not lacked_gas(receipt["gasUsed"], gas):
                break
        raise self._gateway.why(call, receipt)

    def _executed(self, call: EncodedCall, gas_factor: int) -> tuple[TxReceipt, int]:
        """The receipt of the call, failed or not, and the gas that it was given."""
        for _ in range(NONCE_RETRIES):
            with self._lock:
                sent = self._submit(call, gas_factor)
            receipt = self._receipt(sent)
            if receipt:
                return receipt, sent.transactions[0].gas
            _pause()
        raise NotReady(f"{call.function}: other transactions of {self.address} keep taking its place; try again")

    def _submit(self, call: EncodedCall, gas_factor: int = 1) -> _Sent:
        gas = gas_limit(self._gateway.estimate(call), gas_factor)
        refused: tuple[Refusal, str] | None = None
        for _ in range(NONCE_RETRIES):
            fees = offer(self._gateway.market())
            assert fees, "without limits there is always an offer"
            signed = self._gateway.signed(call, self._gateway.nonce("pending"), gas, fees)
            refused = self._gateway.broadcast(signed, call.function)
            # Known: sent before, by a try whose answer was lost.
            if refused is None or refused[0] is Refusal.KNOWN or self._gateway.is_known(signed.hash):
                return _Sent(call, [signed])
            # Another process of the same account was faster.
            if refused[0] not in (Refusal.NONCE_USED, Refusal.NONCE_AHEAD, Refusal.UNDERPRICED):
                break
            _pause()
        assert refused
        if refused[0] is Refusal.NO_FUNDS:
            raise NoGasMoney(call.function, self.address)
        raise ChainError(f"{call.function}: {refused[1]}")

    def _receipt(self, sent: _Sent) -> TxReceipt | None:
        """Waits for it, and pays more when it takes long; None when another transaction has taken the nonce.

        Of what is sent for one call no more than one can be executed: all have its nonce. Raises NotReady.
        """
        started = time.monotonic()
        pause, missing = RECEIPT_POLL_SECONDS[0], 0
        while True:
            for each in sent.transactions:
                receipt = self._gateway.receipt(each.hash)
                if receipt:
                    return receipt
            missing += self._gateway.nonce() > each.nonce
            if missing >= TAKEN_LOOKS:
                return None
            waited = time.monotonic() - started
            if waited > RECEIPT_TIMEOUT_SECONDS:
                raise NotReady(
                    f"{sent.call.function}: not mined within {waited:.0f} s, and still may be: 0x{each.hash.hex()}"
                )
            tries = len(sent.transactions)
            if waited > REPLACE_SECONDS * tries and tries <= MAX_REPLACEMENTS:
                self._replace(sent)
            time.sleep(pause)
            pause = min(2 * pause, RECEIPT_POLL_SECONDS[1])

    def _replace(self, sent: _Sent) -> None:
        """The same call under the same nonce, for more: what was offered was too little, or got lost."""
        last = sent.transactions[-1]
        fees = raised(last.fees, self._gateway.market())
        assert fees, "without limits there is always more"
        signed = self._gateway.signed(sent.call, last.nonce, last.gas, fees)
        sent.transactions.append(signed)
        # Refused where the first was mined meanwhile, or the endpoint knows it: the receipt tells.
        self._gateway.broadcast(signed, sent.call.function)


@cache
def _lock_of(address: str) -> threading.Lock:
    """One for all senders of an account in this process."""
    return threading.Lock()


def _pause() -> None:
    """Of random length, so that those who have met do not meet again."""
    time.sleep(NONCE_PAUSE_SECONDS * random.random())  # noqa: S311  (no secret)
