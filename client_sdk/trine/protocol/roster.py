"""Whose keys are in an epoch's set: the rule that everybody who reads the chain applies alike.

As of the epoch's first block: every operator with weight in the epoch, in the pool of calibrated verifiers of any
model, and with a key in `VerifierKeys`. Its weight is the largest that it has in one pool, because one stake stands
behind all of them. Leaves are in rising order of the keys' hashes. The set is good until stake that left with the
epoch's first block could be withdrawn: what left before does not weigh in the epoch, what leaves later stays longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from eth_utils.address import is_address, to_checksum_address

from trine.errors import InvalidInput
from trine.protocol import bls
from trine.protocol.key_root import MAX_KEYS, MIN_KEYS, EligibleKey, KeySet, Member, proofs

NO_KEY = bytes(32)
"""What `VerifierKeys` says of an operator that has registered none."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """An operator whose key is in the set."""

    operator: str
    key_hash: bytes
    weight: int


@dataclass(frozen=True)
class Roster:
    """An epoch's key set with the operators behind it, in the order of its leaves."""

    epoch: int
    eligible: tuple[Eligible, ...]
    valid_until: int  # seconds

    @classmethod
    def of(
        cls,
        epoch: int,
        pools: Iterable[Sequence[tuple[str, int]]],
        key_hashes: Mapping[str, bytes],
        first_block_time: int,
        unbonding_seconds: int,
    ) -> Self:
        """`pools`: of each model, its members' addresses and weights in the epoch; a member may have several
        positions. `key_hashes`: by address, NO_KEY or none for who has none. All as of the epoch's first block, whose
        time is in seconds. Raises InvalidInput, also when there are too few keys for a set."""
        weights: dict[str, int] = {}
        for pool in pools:
            for operator, weight in heaviest_of(pool).items():
                weights[operator] = max(weights.get(operator, 0), weight)
        hashes = {_address(operator): key_hash for operator, key_hash in key_hashes.items()}
        found = [
            Eligible(operator, hashes[operator], weight)
            for operator, weight in weights.items()
            if weight > 0 and hashes.get(operator, NO_KEY) != NO_KEY
        ]
        if not MIN_KEYS <= len(found) <= MAX_KEYS:
            raise InvalidInput(
                f"epoch {epoch} has {len(found)} verifiers with weight and a BLS key at its first block; a key set has "
                f"{MIN_KEYS} to {MAX_KEYS}: verifiers register theirs when they start, and count from the next epoch on"
            )
        found.sort(key=lambda each: each.key_hash)
        return cls(epoch, tuple(found), first_block_time + unbonding_seconds)

    @cached_property
    def keys(self) -> tuple[EligibleKey, ...]:
        return tuple(EligibleKey(each.key_hash, each.weight) for each in self.eligible)

    @cached_property
    def key_set(self) -> KeySet:
        return KeySet.of(self.epoch, self.keys, self.valid_until)

    def index_of(self, key_hash: bytes) -> int | None:
        """Where a key is in the set, None if it is not."""
        return self._indices.get(key_hash)

    def members(self, keys: Iterable[bytes]) -> tuple[Member, ...]:
        """The keys, 256 bytes each, with their proofs, in rising order of index. Raises InvalidInput for one that is
        not in the set."""
        found: dict[int, bytes] = {}
        for key in keys:
            index = self.index_of(bls.key_hash(key))
            if index is None:
                raise InvalidInput(
                    f"a signer's key is not in the key set of epoch {self.epoch}: it was registered after the epoch's "
                    "first block"
                )
            found[index] = key
        ways = proofs(self.keys, sorted(found))
        return tuple(Member(index, self.keys[index].weight, found[index], way) for index, way in ways.items())

    @cached_property
    def _indices(self) -> dict[bytes, int]:
        return {each.key_hash: index for index, each in enumerate(self.eligible)}


def heaviest_of(pool: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Each member's weight in one pool: the sum over its positions, of which it has one for each class that it ever
    claimed, and weight in one at a time."""
    weights: dict[str, int] = {}
    for operator, weight in pool:
        operator = _address(operator)
        weights[operator] = weights.get(operator, 0) + weight
    return weights


def _address(operator: str) -> str:
    if not is_address(operator):
        raise InvalidInput(f"{operator!r:.60} is no operator's address")
    return str(to_checksum_address(operator))
