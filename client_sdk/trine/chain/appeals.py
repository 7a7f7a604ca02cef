"""`Appeals`: cases, their committees, votes on one leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trine.chain.batches import BatchCalls, committee_hash
from trine.chain.calls import checksum
from trine.chain.records import AppealCase, Seat, Verdict
from trine.errors import VerificationFailed
from trine.protocol.header import Header

if TYPE_CHECKING:
    from web3.types import TxReceipt


class AppealCalls(BatchCalls):
    """Reads and writes `Appeals`."""

    def appeal_bond(self, level: int, terms: int) -> int:
        """What an appeal to a level costs under a version of the parameters, wei."""
        return int(self._read("Appeals", "bondOf", level, terms))

    def appeal_case(self, batch_id: bytes, leaf: int) -> AppealCase:
        """Of phase NONE if the leaf was not appealed."""
        names = {"batch_id": batch_id, "leaf": leaf}
        return self._record(AppealCase, "Appeals", "caseOf", batch_id, leaf, also=names)

    def appeal_seats(self, case: AppealCase, level: int) -> tuple[Seat, ...]:
        """The committee of a level, in order of its seats; none if there is none. Raises VerificationFailed."""
        committee_ = case.levels[level - 1].committee
        if not committee_:
            return ()
        drawn = [
            tuple(Seat(seat["verifier"], seat["locked"]) for seat in event.args["seats"])
            for event in self.events(
                "Appeals",
                "AppealDrawn",
                from_block=self.anchoring(case.batch_id).block,
                batchId=case.batch_id,
                leafIndex=case.leaf,
            )
        ]
        for seats in drawn:
            if committee_hash(seats) == committee_:
                return seats
        raise VerificationFailed(f"the RPC endpoint has no committee of the appeal of leaf {case.leaf}")

    def appeal(self, header: Header, seats: Sequence[Seat], leaf: int, claim: Verdict) -> TxReceipt:
        return self._write("Appeals", "appeal", header.values(), [s.values() for s in seats], leaf, int(claim))

    def appeal_again(self, batch_id: bytes, leaf: int, claim: Verdict) -> TxReceipt:
        return self._write("Appeals", "appealAgain", batch_id, leaf, int(claim))

    def draw_appeal(self, header: Header, leaf: int, judges: Sequence[Sequence[Seat]]) -> TxReceipt:
        """`judges`: the batch's seats, then those of the first appeal if this is the second."""
        shown = [[s.values() for s in seats] for seats in judges]
        return self._write("Appeals", "draw", header.values(), leaf, shown)

    def commit_appeal(
        self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, commitment: bytes
    ) -> TxReceipt:
        return self._write("Appeals", "commit", batch_id, leaf, [s.values() for s in seats], seat, commitment)

    def reveal_appeal(
        self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, vote: int, salt: bytes
    ) -> TxReceipt:
        return self._write("Appeals", "reveal", batch_id, leaf, [s.values() for s in seats], seat, int(vote), salt)

    def resolve_appeal(self, header: Header, leaf: int, seats: Sequence[Seat]) -> TxReceipt:
        return self._write("Appeals", "resolve", header.values(), leaf, [s.values() for s in seats])

    def conclude_appeal(self, header: Header, leaf: int, committees: Sequence[Sequence[Seat]]) -> TxReceipt:
        """`committees`: the batch's seats, then each level's."""
        shown = [[s.values() for s in seats] for seats in committees]
        return self._write("Appeals", "conclude", header.values(), leaf, shown)

    def appeal_credit_of(self, account: str) -> int:
        """What concluded appeals owe an account."""
        return int(self._read("Appeals", "creditOf", checksum(account)))

    def withdraw_appeal_credit(self) -> TxReceipt:
        return self._write("Appeals", "withdrawCredit")
