"""`Payments`: deposits, vouchers, refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trine.chain.calls import Calls, checksum
from trine.chain.records import Account
from trine.protocol.messages import Voucher

if TYPE_CHECKING:
    from web3.types import TxReceipt


class PaymentCalls(Calls):
    """Reads and writes `Payments`."""

    def deposit(self, payee: str, amount: int) -> TxReceipt:
        return self._write("Payments", "deposit", checksum(payee), amount)

    def request_withdrawal(self, payee: str, amount: int) -> TxReceipt:
        return self._write("Payments", "requestWithdrawal", checksum(payee), amount)

    def withdraw_deposit(self, payee: str) -> TxReceipt:
        return self._write("Payments", "withdraw", checksum(payee))

    def account(self, payer: str, payee: str) -> Account:
        return self._record(Account, "Payments", "accountOf", checksum(payer), checksum(payee))

    def collect(self, voucher: Voucher, up_to_wei: int, signature: bytes) -> TxReceipt:
        return self._write("Payments", "collect", voucher.values(), up_to_wei, signature)

    def refund(self, batch_id: bytes, opening: tuple[Any, ...]) -> TxReceipt:
        """Refunds a rejected answer out of the node's stake, once its verdict is final. See `Certificate.opening`."""
        return self._write("Payments", "refund", batch_id, opening)
