"""`Reputation`: what is recorded of operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trine.chain.calls import Calls, checksum
from trine.chain.records import ReputationRecord, Role

if TYPE_CHECKING:
    pass


class ReputationCalls(Calls):
    """Reads `Reputation`."""

    def reputation(self, operator: str, role: Role, model_id: bytes, block: int | None = None) -> ReputationRecord:
        """As of now, or as of a block."""
        arguments = (checksum(operator), int(role), model_id)
        score = {"score_bps": self._read("Reputation", "scoreBps", *arguments, block=block)}
        return self._record(ReputationRecord, "Reputation", "recordOf", *arguments, block=block, also=score)

    def half_life_seconds(self) -> int:
        """In which reputation fades to one half."""
        return int(self._read("Reputation", "halfLifeSeconds"))
