"""`Payments`: deposits, vouchers, refunds."""

from __future__ import annotations

from trine.chain.calls import Calls, checksum
from trine.chain.records import Account


class PaymentCalls(Calls):
    """Reads and writes `Payments`."""

    def account(self, payer: str, payee: str) -> Account:
        return self._record(Account, "Payments", "accountOf", checksum(payer), checksum(payee))
