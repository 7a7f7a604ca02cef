"""`Appeals`: cases, their committees, votes on one leaf."""

from __future__ import annotations

from trine.chain.batches import BatchCalls, committee_hash
from trine.chain.calls import checksum
from trine.chain.records import AppealCase, Seat
from trine.errors import VerificationFailed


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

    def appeal_credit_of(self, account: str) -> int:
        """What concluded appeals owe an account."""
        return int(self._read("Appeals", "creditOf", checksum(account)))
