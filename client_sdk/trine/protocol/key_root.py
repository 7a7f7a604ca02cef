"""The keys that may sign certificates in an epoch, as a Merkle root, and how one epoch hands over to the next.

`contracts/foreign/CertificateVerifier.sol` is the twin. Leaves are padded with 32 zero bytes to the next power of two;
inner nodes hash the sorted pair, as in a batch's tree; a leaf is hashed twice and has its index inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from eth_abi.abi import encode
from eth_hash.auto import keccak

from trine.errors import InvalidInput, what_is_wrong
from trine.protocol import bls
from trine.protocol.merkle import EMPTY_LEAF, pair
from trine.protocol.numbers import whole

MIN_KEYS = 3
MAX_KEYS = 1 << 16
MAX_SIGNERS = 256
MAX_WEIGHT = 2**64 - 1
MAX_STEP_EPOCHS = 1024

KEY_SET_TYPEHASH = keccak(
    b"TrineKeySet(uint256 chainId,address batches,uint256 epoch,bytes32 root,uint256 count,uint256 totalWeight,"
    b"uint256 validUntil)"
)
HANDOVER_TYPEHASH = keccak(
    b"TrineHandover(uint256 chainId,address batches,uint256 signingEpoch,bytes32 signingRoot,uint256 epoch,"
    b"bytes32 root,uint256 count,uint256 totalWeight,uint256 validUntil)"
)


@dataclass(frozen=True, slots=True)
class EligibleKey:
    """What a leaf says: the hash of a key and its operator's weight in the draw."""

    key_hash: bytes
    weight: int

    def __post_init__(self) -> None:
        if len(self.key_hash) != 32 or not 0 < self.weight <= MAX_WEIGHT:
            raise InvalidInput("an eligible key has a hash of 32 bytes and a weight of 1 to 64 bits")


@dataclass(frozen=True, slots=True)
class KeySet:
    """What has to be trusted of an epoch. `valid_until` in seconds: before it, none of the set's stake can leave."""

    epoch: int
    root: bytes
    count: int
    total_weight: int
    valid_until: int

    def __post_init__(self) -> None:
        if len(self.root) != 32 or not MIN_KEYS <= self.count <= MAX_KEYS:
            raise InvalidInput(f"a key set has a root of 32 bytes and {MIN_KEYS} to {MAX_KEYS} keys")
        if not 0 < self.total_weight < 2**128:
            raise InvalidInput("a key set's weight is a positive number of at most 128 bits")
        if not (0 <= self.epoch < 2**64 and 0 <= self.valid_until < 2**64):
            raise InvalidInput("epochs and times are numbers of at most 64 bits")

    @classmethod
    def of(cls, epoch: int, keys: Sequence[EligibleKey], valid_until: int) -> Self:
        """Raises InvalidInput, also when a key appears twice."""
        if len({key.key_hash for key in keys}) != len(keys):
            raise InvalidInput("a key is in the set twice")
        return cls(epoch, root(keys), len(keys), sum(key.weight for key in keys), valid_until)

    @property
    def depth(self) -> int:
        """Length of every proof."""
        return (self.count - 1).bit_length()

    def contains(self, index: int, key: EligibleKey, siblings: Sequence[bytes]) -> bool:
        """Whether `key` is the set's leaf at `index`."""
        if not 0 <= index < self.count or len(siblings) != self.depth or any(len(s) != 32 for s in siblings):
            return False
        node = leaf_hash(index, key)
        for sibling in siblings:
            node = pair(node, sibling)
        return node == self.root

    def has_quorum(self, weight: int) -> bool:
        """Whether `weight` is more than two thirds of all. Exact."""
        return weight * 3 > self.total_weight * 2

    def id_on(self, chain_id: int, batches: str) -> bytes:
        """32 bytes that name the set and the network that it is of: what people compare, and what readers trust."""
        values = [self.epoch, self.root, self.count, self.total_weight, self.valid_until]
        kinds = ["bytes32", "uint256", "address", "uint256", "bytes32", *["uint256"] * 3]
        return bytes(keccak(encode(kinds, [KEY_SET_TYPEHASH, chain_id, batches, *values])))

    def handover_digest(self, chain_id: int, batches: str, following: KeySet) -> bytes:
        """What this set's keys sign to hand over to `following`.

        Names the source, so that it holds for one network; this set's epoch and root, so that it fits one history; all
        of the following set. Not the chain where it is shown, because it is as true there as anywhere.
        """
        return bytes(
            keccak(
                encode(
                    ["bytes32", "uint256", "address", "uint256", "bytes32", "uint256", "bytes32", *["uint256"] * 3],
                    [
                        HANDOVER_TYPEHASH,
                        chain_id,
                        batches,
                        self.epoch,
                        self.root,
                        following.epoch,
                        following.root,
                        following.count,
                        following.total_weight,
                        following.valid_until,
                    ],
                )
            )
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "root": "0x" + self.root.hex(),
            "count": self.count,
            "totalWeight": str(self.total_weight),
            "validUntil": self.valid_until,
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            return cls(
                epoch=whole(document["epoch"]),
                root=bytes.fromhex(document["root"].removeprefix("0x")),
                count=whole(document["count"]),
                total_weight=whole(document["totalWeight"]),
                valid_until=whole(document["validUntil"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a key set: {what_is_wrong(error)}") from None


@dataclass(frozen=True, slots=True)
class Member:
    """A signer with the proof that its key is in the set."""

    index: int
    weight: int
    key: bytes
    proof: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "weight": str(self.weight),
            "key": "0x" + self.key.hex(),
            "proof": ["0x" + sibling.hex() for sibling in self.proof],
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Reads `to_json`'s form. Raises InvalidInput."""
        try:
            return cls(
                index=whole(document["index"]),
                weight=whole(document["weight"]),
                key=bytes.fromhex(document["key"].removeprefix("0x")),
                proof=tuple(bytes.fromhex(s.removeprefix("0x")) for s in document["proof"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a signer: {what_is_wrong(error)}") from None


def signed_by(
    key_set: KeySet, digest: bytes, members: Sequence[Member], signature: bytes, curve: bls.Curve = bls.ARKWORKS
) -> int | None:
    """Weight of `members` if they are distinct keys of the set and have all signed `digest`; None otherwise."""
    weight = weight_of(key_set, members)
    if weight is None or not bls.verify_all([claim_of(digest, members, signature)], curve=curve):
        return None
    return weight


def claim_of(digest: bytes, members: Sequence[Member], signature: bytes) -> bls.Claim:
    return bls.Claim(tuple(member.key for member in members), digest, signature)


def weight_of(key_set: KeySet, members: Sequence[Member]) -> int | None:
    """Weight of `members` if they are distinct keys of the set; None otherwise."""
    passed = -1
    for member in members:
        if member.index <= passed or len(member.key) != bls.KEY_BYTES or not 0 < member.weight <= MAX_WEIGHT:
            return None
        passed = member.index
        if not key_set.contains(member.index, EligibleKey(bls.key_hash(member.key), member.weight), member.proof):
            return None
    return sum(member.weight for member in members)


def hands_over(
    current: KeySet, following: KeySet, chain_id: int, batches: str, members: Sequence[Member], signature: bytes
) -> bool:
    """Whether `members` may and do hand over from `current` to `following`, as `CertificateVerifier.advance` decides.
    Whether `current` is still valid is for the caller to ask, who knows the time."""
    claim = handing_over(current, following, chain_id, batches, members, signature)
    return claim is not None and bls.verify_all([claim])


def handing_over(
    current: KeySet, following: KeySet, chain_id: int, batches: str, members: Sequence[Member], signature: bytes
) -> bls.Claim | None:
    """What must be true for `members`, who may, to hand over from `current` to `following`. None if they may not."""
    if not current.epoch < following.epoch <= current.epoch + MAX_STEP_EPOCHS or not 0 < len(members) <= MAX_SIGNERS:
        return None
    weight = weight_of(current, members)
    if weight is None or not current.has_quorum(weight):
        return None
    return claim_of(current.handover_digest(chain_id, batches, following), members, signature)


def enough_signers(key_set: KeySet, weights: Mapping[int, int]) -> list[int] | None:
    """Of signers' weights by index, the indices of as few as are more than two thirds of the set, in rising order: the
    heaviest, of equal ones the first. None where all together are not."""
    chosen: list[int] = []
    weight = 0
    for index in sorted(weights, key=lambda i: (-weights[i], i)):
        if key_set.has_quorum(weight):
            break
        chosen.append(index)
        weight += weights[index]
    return sorted(chosen) if key_set.has_quorum(weight) else None


def leaf_hash(index: int, key: EligibleKey) -> bytes:
    """keccak256(keccak256(abi.encode(index, key hash, weight))). `CertificateLib.keyLeaf` is its twin."""
    return bytes(keccak(keccak(index.to_bytes(32, "big") + key.key_hash + key.weight.to_bytes(32, "big"))))


def root(keys: Sequence[EligibleKey]) -> bytes:
    """Root over `MIN_KEYS` to `MAX_KEYS` keys. Raises InvalidInput."""
    return _levels(keys)[-1][0]


def proof(keys: Sequence[EligibleKey], index: int) -> tuple[bytes, ...]:
    """The siblings of leaf `index`, from the bottom up."""
    return proofs(keys, [index])[index]


def proofs(keys: Sequence[EligibleKey], indices: Sequence[int]) -> dict[int, tuple[bytes, ...]]:
    """The siblings of each of these leaves, from the bottom up; the tree is built once."""
    if any(not 0 <= index < len(keys) for index in indices):
        raise InvalidInput(f"key indices {list(indices)!r:.100} are not all in [0, {len(keys)})")
    levels = _levels(keys)[:-1]
    return {index: tuple(level[(index >> depth) ^ 1] for depth, level in enumerate(levels)) for index in indices}


def _levels(keys: Sequence[EligibleKey]) -> list[list[bytes]]:
    if not MIN_KEYS <= len(keys) <= MAX_KEYS:
        raise InvalidInput(f"a key set has {MIN_KEYS} to {MAX_KEYS} keys, not {len(keys)}")
    leaves = [leaf_hash(index, key) for index, key in enumerate(keys)]
    levels = [leaves + [EMPTY_LEAF] * ((1 << (len(keys) - 1).bit_length()) - len(keys))]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([pair(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels
