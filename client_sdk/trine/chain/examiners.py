"""`Canaries` and `Examiners`: what was opened, and what is paid for it."""

from __future__ import annotations

from trine.chain.calls import Calls
from trine.chain.named import members_of
from trine.errors import TransactionReverted
from trine.protocol.header import Header


class ExaminerCalls(Calls):
    """Reads of canaries and bounties."""

    def canaries_of(self, batch_id: bytes) -> int:
        """The leaves of the batch that were opened as canaries: bit i is leaf i."""
        names = [member["name"] for member in members_of("Finality", "marksOf")]
        return int(self._read("Finality", "marksOf", batch_id)[names.index("canaries")])

    def has_canaries_open(self, batch_id: bytes) -> bool:
        return self.canaries_of(batch_id) != 0

    def bounty_due(self, header: Header) -> int:
        """What a final batch with canaries has earned, in wei; zero if none was confirmed among enough others."""
        try:
            _confirmed, _counted, amount = self._read("Examiners", "dueFor", header.values())
        except TransactionReverted as error:
            if "NothingToPay" in error.reason:
                return 0
            raise
        return int(amount)

    def bounty_available(self) -> int:
        """What can be paid now, in wei: the period's budget, or the pool if that is less."""
        left, _until = self._read("Examiners", "budget")
        return min(int(left), self._balance_of_pool())

    def is_bounty_paid(self, batch_id: bytes) -> bool:
        return bool(self._read("Examiners", "isPaid", batch_id))

    def bounty_paid(self, batch_id: bytes) -> int:
        """In wei; zero if nothing was."""
        event = self.newest_event("Examiners", "ExaminerPaid", batchId=batch_id)
        return int(event.args["amount"]) if event else 0

    def _balance_of_pool(self) -> int:
        return int(self._read("TrineToken", "balanceOf", self.deployment.address("Examiners")))
