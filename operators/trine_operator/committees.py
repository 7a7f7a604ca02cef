"""Whether a committee could be drawn: a batch without one expires, which costs stake and fees."""

from __future__ import annotations

from trine.chain import Chain
from trine.chain.committees import POOL_PAGE
from trine.protocol.committee import ENOUGH_CALIBRATED, SEATS

UNTIL_ANCHORED_SECONDS = 60
"""Whose calibration ends within this is not counted on: what counts is the time at which the batch is anchored."""


def can_be_drawn(chain: Chain, model_id: bytes, *, calibration: bool) -> bool:
    """Whether enough verifiers besides the account have weight in this epoch and the next, in one of which it draws,
    and are calibrated by the time the batch is anchored."""
    epoch = chain.contracts_block_number() // chain.epoch_blocks()
    fixed_at = chain.timestamp() + UNTIL_ANCHORED_SECONDS
    return all(_can_be_drawn_in(chain, model_id, calibration, each, fixed_at) for each in (epoch, epoch + 1))


def _can_be_drawn_in(chain: Chain, model_id: bytes, calibration: bool, epoch: int, fixed_at: int) -> bool:
    """See `trine.protocol.committee.draw_from` for which pool is drawn from."""
    eligible = chain.eligible(model_id, True, epoch)
    due = not calibration or eligible >= ENOUGH_CALIBRATED
    if due and _fills(chain, model_id, True, epoch, fixed_at, eligible):
        return True
    candidates = chain.eligible(model_id, False, epoch) if calibration else 0
    return calibration and _fills(chain, model_id, False, epoch, fixed_at, candidates)


def _fills(chain: Chain, model_id: bytes, calibrated: bool, epoch: int, fixed_at: int, eligible: int) -> bool:
    if eligible < SEATS or eligible > POOL_PAGE:
        # In so large a pool, those who have expired since they were last looked at are passed over.
        return eligible > SEATS
    me = chain.address.lower()
    pool = chain.pool(model_id, calibrated, epoch)
    return len({member.address.lower() for member in pool if member.may_sit(fixed_at)} - {me}) >= SEATS
