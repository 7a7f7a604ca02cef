"""Whether a committee could be drawn: a batch without one expires, which costs stake and fees."""

from __future__ import annotations

from trine.chain import Chain
from trine.protocol.committee import ENOUGH_CALIBRATED, SEATS


def can_be_drawn(chain: Chain, model_id: bytes, *, calibration: bool) -> bool:
    """Whether enough verifiers besides the account have weight in this epoch and the next, in one of which it draws."""
    epoch = chain.contracts_block_number() // chain.epoch_blocks()
    return all(_can_be_drawn_in(chain, model_id, calibration, e) for e in (epoch, epoch + 1))


def _can_be_drawn_in(chain: Chain, model_id: bytes, calibration: bool, epoch: int) -> bool:
    eligible = chain.eligible(model_id, True, epoch)
    from_calibrated = not calibration or eligible >= ENOUGH_CALIBRATED
    if not from_calibrated:
        eligible = chain.eligible(model_id, False, epoch)
    if eligible != SEATS:
        return eligible > SEATS
    # Whether the account itself is one of them matters only now.
    me = chain.address.lower()
    pool = chain.pool(model_id, from_calibrated, epoch)
    return all(member.address.lower() != me for member in pool if member.weight)
