"""The draw of a committee, reproducible from public data.

Inputs: the seed, the pool's rows by position as `Committees.poolOf` tells them for the seed's epoch, when the seed's
block was fixed, who is excluded. Weights are frozen by epoch, and who was calibrated at that time does not change
either, so the rows of that epoch give the same committee whenever they are asked for. `Committees.draw` is the on-chain
twin.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput

SEATS = 3
COMMITTEE_SIZES = (3, 7, 15)
MAX_TRIES_PER_SEAT = 32
MIX_TRIES_PER_SEAT = 8
ENOUGH_CALIBRATED = 4
MAX_TOTAL_WEIGHT = 2**30 - 1
FOR_EVER = 2**32 - 1
"""Until when a calibration holds that never expires: the chain keeps seconds in 32 bits."""


@dataclass(frozen=True, slots=True)
class Member:
    """A pool's row: who, with which weight in the epoch, on which hardware class (32 bytes), calibrated from and until
    when (seconds)."""

    address: str
    weight: int
    hardware_class: bytes
    valid_from: int = 0
    valid_until: int = FOR_EVER

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= MAX_TOTAL_WEIGHT:
            raise InvalidInput("a weight has 30 bits")
        if len(self.hardware_class) != 32:
            raise InvalidInput("a hardware class is 32 bytes")

    def may_sit(self, fixed_at: int) -> bool:
        """Whether it may be drawn by a seed whose block was fixed then."""
        return self.weight > 0 and self.valid_from <= fixed_at <= self.valid_until


def seed(word: bytes, batch_id: bytes, round_: int) -> bytes:
    """keccak256(abi.encode(word, batchId, round)): `word` is what `ISeeds.seedOf` has for the seed block."""
    return bytes(keccak(encode(["bytes32", "bytes32", "uint8"], [word, batch_id, round_])))


def epoch_at(block_number: int, epoch_blocks: int) -> int:
    """The epoch whose weights count for a seed of this block."""
    return block_number // epoch_blocks


def draw(
    seed_: bytes, pool: Sequence[Member], excluded: Collection[str] = (), seats: int = SEATS, *, fixed_at: int
) -> tuple[str, ...]:
    """`seats` distinct verifiers, none of them `excluded`, in order of their seats.

    `pool` lists all positions, those without weight too. Try k picks the first position whose cumulative weight
    exceeds keccak256(abi.encode(seed, k)) mod the total. It is skipped if it hits an excluded or drawn verifier, one
    that was not calibrated at `fixed_at` (seconds) or, while k < 8 * seats, a hardware class that holds
    ceil(2 * seats / 3) seats already. Raises InvalidInput when 32 * seats tries do not fill the committee.
    """
    if seats not in COMMITTEE_SIZES:
        raise InvalidInput(f"a committee has 3, 7 or 15 seats, not {seats}")
    weights = [member.weight for member in pool]
    total = sum(weights)
    if total > MAX_TOTAL_WEIGHT:
        raise InvalidInput("a pool's weights sum to 30 bits")
    barred = {address.lower() for address in excluded}
    drawn: list[Member] = []
    for k in range(MAX_TRIES_PER_SEAT * seats if total else 0):
        target = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed_, k])), "big") % total
        member = pool[pick(weights, target)]
        if member.address.lower() in barred or not member.may_sit(fixed_at):
            continue
        if k < MIX_TRIES_PER_SEAT * seats and _is_full(drawn, member.hardware_class, seats):
            continue
        drawn.append(member)
        barred.add(member.address.lower())
        if len(drawn) == seats:
            return tuple(each.address for each in drawn)
    raise InvalidInput(f"the pool filled {len(drawn)} of {seats} seats")


def draw_from(
    seed_: bytes,
    calibrated: Sequence[Member],
    candidates: Sequence[Member],
    excluded: Collection[str] = (),
    *,
    fixed_at: int,
    calibration: bool,
) -> tuple[str, ...]:
    """Draws three seats from the pool that is due: the calibrated or, for a calibration batch, the candidates while
    fewer than four of the calibrated have weight, and where these do not fill the committee. Raises InvalidInput."""
    if calibration and sum(1 for member in calibrated if member.weight) < ENOUGH_CALIBRATED:
        return draw(seed_, candidates, excluded, fixed_at=fixed_at)
    try:
        return draw(seed_, calibrated, excluded, fixed_at=fixed_at)
    except InvalidInput:
        if not calibration:
            raise
    return draw(seed_, candidates, excluded, fixed_at=fixed_at)


def pick(weights: Sequence[int], target: int) -> int:
    """First position whose cumulative weight exceeds `target`, 0 <= target < sum(weights)."""
    for position, weight in enumerate(weights):
        if target < weight:
            return position
        target -= weight
    raise InvalidInput("target is not below the total weight")


def _is_full(drawn: Sequence[Member], hardware_class: bytes, seats: int) -> bool:
    """Whether the class holds two thirds of the seats, rounded up."""
    held = sum(1 for member in drawn if member.hardware_class == hardware_class)
    return held >= -(-2 * seats // 3)
