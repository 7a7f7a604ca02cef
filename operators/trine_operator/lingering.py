"""Appeals that nobody sees through keep their batch from becoming final, with all stake that is locked for it.

Whoever appealed draws, jurors resolve and conclude. Anybody may, and whoever waits for the batch does when they do not.
"""

from __future__ import annotations

from trine.appeal import LEVELS, committees
from trine.chain import AppealPhase, Batch, Chain, Parameters
from trine.chain.writes import CALLS
from trine_operator.outbox import Act

JURORS_SECONDS = 60
"""What jurors have for it, one after another, before somebody else does."""


def moving_on(chain: Chain, batch: Batch, leaf: int, terms: Parameters, patience_seconds: int = 0) -> Act | None:
    """What moves an open appeal on, if those whose part it is have let it lie for JURORS_SECONDS and the patience."""
    case = chain.appeal_case(batch.batch_id, leaf)
    name = f"{batch.batch_id.hex()}/{leaf}/{case.level}"
    now = chain.timestamp() - JURORS_SECONDS - patience_seconds
    if case.phase == AppealPhase.OPEN:
        if chain.contracts_block_number() > case.clock + chain.draw_window_blocks():
            return Act((f"expire appeal {name}",), CALLS.expire_appeal(batch.batch_id, leaf))
    elif case.phase == AppealPhase.DRAWN:
        seats = chain.appeal_seats(case, case.level)
        if now > case.clock and case.can_resolve(len(seats), now, terms.reveal_seconds):
            return Act((f"resolve late appeal {name}",), CALLS.resolve_appeal(batch.known_header, leaf, seats))
    elif case.phase == AppealPhase.RESOLVED:
        window = terms.appeal_window_seconds if case.level < LEVELS else 0
        if now > case.clock + window:
            call = CALLS.conclude_appeal(batch.known_header, leaf, committees(chain, case))
            return Act((f"conclude late appeal {name}",), call)
    return None
