"""`Payments`: deposits, vouchers, refunds; `Inclusion`: receipts that are in no batch."""

from __future__ import annotations

from trine.chain.calls import Calls, checksum
from trine.chain.records import Account, InclusionClaim


class PaymentCalls(Calls):
    """Reads and writes `Payments` and `Inclusion`."""

    def account(self, payer: str, payee: str) -> Account:
        return self._record(Account, "Payments", "accountOf", checksum(payer), checksum(payee))

    def is_opened(self, payee: str, request_hash: bytes) -> bool:
        """Whether the node has been paid for its answer to an order by opening it."""
        return bool(self._read("Payments", "isOpened", checksum(payee), request_hash))

    def inclusion_claim(self, receipt_hash: bytes) -> InclusionClaim:
        """Of state NONE if nobody has claimed that the receipt is in no batch."""
        return self._record(InclusionClaim, "Inclusion", "claimOf", receipt_hash)

    def inclusion_answer_seconds(self) -> int:
        """How long a node has to answer a claim."""
        return int(self._read("Inclusion", "answerSeconds"))

    def inclusion_bond(self) -> int:
        """What a claim takes, wei; the node has it if the claim is false."""
        return int(self._read("Inclusion", "bondWei"))
