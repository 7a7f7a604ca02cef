"""BLS signatures on BLS12-381: keys in G2, signatures in G1, many signatures over one message as one.

Ciphersuite BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_ of draft-irtf-cfrg-bls-signature with hash_to_curve of RFC 9380.
`contracts/libraries/Bls12381.sol` is the twin; signatures are in G1 because that makes its checks 38-42k gas cheaper.

Points travel in EIP-2537's encoding, the only one here: a field element is 64 bytes big-endian below p, a key 256 bytes
(x.c0, x.c1, y.c0, y.c1), a signature 128 bytes (x, y). Infinity is never a key or a signature.

The arithmetic comes from a `Curve`: arkworks' (the default, milliseconds) or py_ecc's (the reference, seconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol, Self

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol._bls_arkworks import Arkworks, expand_g1, expand_g2

SECRET_BYTES = 32
KEY_BYTES = 256
SIGNATURE_BYTES = 128

MESSAGE_TAG = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
PROOF_TAG = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"

FIELD_MODULUS = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001

_ELEMENT = 48  # bytes of a field element in the curve libraries
_PADDED = 64  # in EIP-2537


class Curve(Protocol):
    """What a curve library must offer. Points are affine coordinates, 48 bytes each, big-endian; G2's are c0, c1.

    Every point that comes in is checked: on the curve, in the subgroup, not infinity; ValueError otherwise.
    """

    def public_key(self, secret: int) -> bytes:
        """secret * generator of G2, 192 bytes."""

    def hash_to_g1(self, message: bytes, tag: bytes) -> bytes:
        """hash_to_curve of RFC 9380 for suite BLS12381G1_XMD:SHA-256_SSWU_RO_, 96 bytes."""

    def sign(self, secret: int, message: bytes, tag: bytes) -> bytes:
        """secret * hash_to_g1(message, tag), 96 bytes."""

    def add_keys(self, keys: Sequence[bytes]) -> bytes:
        """Sum of keys, 192 bytes. ValueError if it is infinity."""

    def add_signatures(self, signatures: Sequence[bytes]) -> bytes:
        """Sum of signatures, 96 bytes. ValueError if it is infinity."""

    def verify(self, claims: Sequence[Claim], tag: bytes, factors: Sequence[int]) -> bool:
        """Whether the product over all claims of (e(-signature, generator) * e(hash, sum of keys)) ** factor is one.

        ValueError also if the keys of a claim sum up to infinity.
        """


@dataclass(frozen=True, slots=True)
class Claim:
    """That the holders of `keys` have all signed `message`: `signature` is the sum of their signatures."""

    keys: tuple[bytes, ...]
    message: bytes
    signature: bytes


ARKWORKS: Curve = Arkworks()


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A scalar in [1, group order). Its value is never shown."""

    scalar: int = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.scalar < GROUP_ORDER:
            raise InvalidInput("a BLS secret is a number in [1, group order)")

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """KeyGen of draft-irtf-cfrg-bls-signature, section 2.3, from 32 or more random bytes."""
        if len(seed) < SECRET_BYTES:
            raise InvalidInput(f"a seed has at least {SECRET_BYTES} bytes, not {len(seed)}")
        from py_ecc.bls.ciphersuites import G2Basic  # computes its constants when it is imported: half a second

        return cls(int(G2Basic.KeyGen(seed)))

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Reads `to_bytes`'s form. Raises InvalidInput."""
        if len(raw) != SECRET_BYTES:
            raise InvalidInput(f"a BLS secret has {SECRET_BYTES} bytes, not {len(raw)}")
        return cls(int.from_bytes(raw, "big"))

    def to_bytes(self) -> bytes:
        return self.scalar.to_bytes(SECRET_BYTES, "big")

    def public_key(self, curve: Curve = ARKWORKS) -> bytes:
        """256 bytes."""
        return pad(curve.public_key(self.scalar))

    def sign(self, message: bytes, tag: bytes = MESSAGE_TAG, curve: Curve = ARKWORKS) -> bytes:
        """128 bytes."""
        return pad(curve.sign(self.scalar, message, tag))

    def prove_possession(self, chain_id: int, registry: str, operator: str, curve: Curve = ARKWORKS) -> bytes:
        """What `VerifierKeys.register` takes from `operator`; worthless to anybody else."""
        message = possession_message(chain_id, registry, operator, self.public_key(curve))
        return self.sign(message, PROOF_TAG, curve)


def possession_message(chain_id: int, registry: str, operator: str, key: bytes) -> bytes:
    """abi.encode(chain id, VerifierKeys, operator, keccak256(key))."""
    return bytes(encode(["uint256", "address", "address", "bytes32"], [chain_id, registry, operator, key_hash(key)]))


def proves_possession(
    key: bytes, proof: bytes, chain_id: int, registry: str, operator: str, curve: Curve = ARKWORKS
) -> bool:
    """Whether `operator` may register `key` with `proof`."""
    return verify([key], possession_message(chain_id, registry, operator, key), proof, PROOF_TAG, curve)


def verify(
    keys: Sequence[bytes], message: bytes, signature: bytes, tag: bytes = MESSAGE_TAG, curve: Curve = ARKWORKS
) -> bool:
    """Whether `signature` is the sum of all keys' signatures over `message`. Never raises: what is no point is False.

    As on the chain, holders of the keys must have proved possession, and whether keys repeat is the caller's to check.
    """
    return verify_all([Claim(tuple(keys), message, signature)], tag, curve)


def verify_all(claims: Sequence[Claim], tag: bytes = MESSAGE_TAG, curve: Curve = ARKWORKS) -> bool:
    """Whether each of one or more claims is true, as `verify` says of one: with one final exponentiation for all.

    Claims are multiplied into one equation, each to a power of its own: without, two false ones could cancel. Powers
    are hashes of all claims, so whoever makes false ones learns them only afterwards (Bellare, Garay and Rabin, "Fast
    batch verification", small exponents; Fiat and Shamir). 128 bits: a try passes with a chance of 2 ** -128.
    """
    try:
        if not claims or not all(claim.keys for claim in claims):
            return False
        points = {key: unpad(key, KEY_BYTES) for key in {key for claim in claims for key in claim.keys}}
        unpadded = [
            Claim(tuple(points[key] for key in claim.keys), claim.message, unpad(claim.signature, SIGNATURE_BYTES))
            for claim in claims
        ]
        return curve.verify(unpadded, tag, _factors(claims, tag))
    except ValueError:
        return False


def _factors(claims: Sequence[Claim], tag: bytes) -> list[int]:
    """1, then numbers below 2 ** 128 that depend on every byte of every claim."""
    said = sha256(b"TRINE_BLS_BATCH" + sha256(tag).digest())
    for claim in claims:
        for part in (b"".join(claim.keys), claim.message, claim.signature):
            said.update(sha256(part).digest())
    seed = said.digest()
    return [1] + [
        int.from_bytes(sha256(seed + i.to_bytes(4, "big")).digest()[:16], "big") for i in range(1, len(claims))
    ]


def aggregate_keys(keys: Sequence[bytes], curve: Curve = ARKWORKS) -> bytes:
    """Sum of one or more keys. Raises InvalidInput for what is no key, and when the sum is infinity."""
    return _sum(keys, KEY_BYTES, "key", curve)


def aggregate(signatures: Sequence[bytes], curve: Curve = ARKWORKS) -> bytes:
    """Sum of one or more signatures. Raises InvalidInput for what is no signature, and when the sum is infinity."""
    return _sum(signatures, SIGNATURE_BYTES, "signature", curve)


def require_key(key: bytes, curve: Curve = ARKWORKS) -> None:
    """Raises InvalidInput unless `key` is on the curve, in the subgroup and not infinity."""
    aggregate_keys([key], curve)


def require_signature(signature: bytes, curve: Curve = ARKWORKS) -> None:
    """Raises InvalidInput unless `signature` is on the curve, in the subgroup and not infinity."""
    aggregate([signature], curve)


def hash_to_g1(message: bytes, tag: bytes = MESSAGE_TAG, curve: Curve = ARKWORKS) -> bytes:
    """128 bytes. Raises InvalidInput for a tag beyond 255 bytes, which RFC 9380 would hash first."""
    if not 0 < len(tag) <= 255:
        raise InvalidInput(f"a domain separation tag has 1 to 255 bytes, not {len(tag)}")
    return pad(curve.hash_to_g1(message, tag))


def key_hash(key: bytes) -> bytes:
    """What contracts know a key by: keccak256 of its 256 bytes. Raises InvalidInput for another length."""
    if len(key) != KEY_BYTES:
        raise InvalidInput(f"a BLS key has {KEY_BYTES} bytes, not {len(key)}")
    return bytes(keccak(key))


def compress_key(key: bytes) -> bytes:
    """The 96 bytes that BLS tools print: x.c1, x.c0, and in the first bits that it is compressed and which y it has."""
    x0, x1, y0, y1 = (int.from_bytes(key[at : at + _PADDED], "big") for at in range(0, KEY_BYTES, _PADDED))
    require_key(key)
    larger = (y1 or y0) > FIELD_MODULUS // 2
    first = x1 | 1 << 383 | larger << 381
    return first.to_bytes(_ELEMENT, "big") + x0.to_bytes(_ELEMENT, "big")


def expand_key(compressed: bytes) -> bytes:
    """The 256 bytes of what BLS tools print as 96. Raises InvalidInput for what is no key."""
    try:
        return pad(expand_g2(compressed))
    except ValueError as error:
        raise InvalidInput(f"not a BLS key: {error}") from None


def expand_signature(compressed: bytes) -> bytes:
    """The 128 bytes of what BLS tools print as 48. Raises InvalidInput for what is no signature."""
    try:
        return pad(expand_g1(compressed))
    except ValueError as error:
        raise InvalidInput(f"not a BLS signature: {error}") from None


def pad(coordinates: bytes) -> bytes:
    """Coordinates of 48 bytes each to EIP-2537's 64."""
    if len(coordinates) % _ELEMENT:
        raise InvalidInput(f"{len(coordinates)} bytes are no coordinates")
    zeros = bytes(_PADDED - _ELEMENT)
    return b"".join(zeros + coordinates[at : at + _ELEMENT] for at in range(0, len(coordinates), _ELEMENT))


def unpad(point: bytes, size: int) -> bytes:
    """EIP-2537's coordinates to 48 bytes each. Raises InvalidInput unless there are `size` bytes, every coordinate is
    below p (so that a point has one encoding), and the point is not infinity."""
    if len(point) != size:
        raise InvalidInput(f"expected a point of {size} bytes, not {len(point)}")
    if not any(point):
        raise InvalidInput("the point at infinity is no key and no signature")
    elements = [point[at : at + _PADDED] for at in range(0, size, _PADDED)]
    if any(int.from_bytes(element, "big") >= FIELD_MODULUS for element in elements):
        raise InvalidInput("a coordinate is not below the field's modulus")
    return b"".join(element[_PADDED - _ELEMENT :] for element in elements)


def _sum(points: Sequence[bytes], size: int, what: str, curve: Curve) -> bytes:
    if not points:
        raise InvalidInput(f"there is no {what} to add")
    unpadded = [unpad(point, size) for point in points]
    try:
        return pad(curve.add_keys(unpadded) if size == KEY_BYTES else curve.add_signatures(unpadded))
    except ValueError as error:
        raise InvalidInput(f"not a BLS {what}: {error}") from None
