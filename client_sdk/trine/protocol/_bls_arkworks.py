"""The curve by arkworks, a Rust library: what Trine runs on. Knows points, nothing of EIP-2537."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

if TYPE_CHECKING:
    from trine.protocol.bls import Claim


class Arkworks:
    """`trine.protocol.bls.Curve`. `from_xy_bytes_be` checks that a point is on the curve and in the subgroup."""

    def public_key(self, secret: int) -> bytes:
        return (G2Point() * Scalar(secret)).to_xy_bytes_be()

    def hash_to_g1(self, message: bytes, tag: bytes) -> bytes:
        return G1Point.hash_to_curve(message, tag).to_xy_bytes_be()

    def sign(self, secret: int, message: bytes, tag: bytes) -> bytes:
        return (G1Point.hash_to_curve(message, tag) * Scalar(secret)).to_xy_bytes_be()

    def add_keys(self, keys: Sequence[bytes]) -> bytes:
        return _key(sum((_g2(key) for key in keys), G2Point.identity()))

    def add_signatures(self, signatures: Sequence[bytes]) -> bytes:
        return _signature(sum((_g1(signature) for signature in signatures), G1Point.identity()))

    def verify(self, claims: Sequence[Claim], tag: bytes, factors: Sequence[int]) -> bool:
        # Whether a key is in the subgroup takes longest, and the same operators sign one set after the other.
        points = {key: _g2(key) for key in {key for claim in claims for key in claim.keys}}
        signed, hashes, keys = G1Point.identity(), [], []
        for claim, factor in zip(claims, factors, strict=True):
            total = sum((points[key] for key in claim.keys), G2Point.identity())
            if total == G2Point.identity():
                raise ValueError("the point at infinity")
            signature, hashed = _g1(claim.signature), G1Point.hash_to_curve(claim.message, tag)
            signed += signature if factor == 1 else signature * Scalar(factor)
            hashes.append(hashed if factor == 1 else hashed * Scalar(factor))
            keys.append(total)
        return GT.pairing_check([signed, *hashes], [-G2Point(), *keys])


def expand_g1(compressed: bytes) -> bytes:
    """Coordinates of a point of 48 bytes, checked like all. ValueError for what is none."""
    return _signature(G1Point.from_compressed_bytes(compressed))


def expand_g2(compressed: bytes) -> bytes:
    """The same of 96 bytes."""
    return _key(G2Point.from_compressed_bytes(compressed))


def _g1(raw: bytes) -> G1Point:
    point = G1Point.from_xy_bytes_be(raw)
    if point == G1Point.identity():
        raise ValueError("the point at infinity")
    return point


def _g2(raw: bytes) -> G2Point:
    point = G2Point.from_xy_bytes_be(raw)
    if point == G2Point.identity():
        raise ValueError("the point at infinity")
    return point


def _signature(point: G1Point) -> bytes:
    if point == G1Point.identity():
        raise ValueError("the point at infinity")
    return point.to_xy_bytes_be()


def _key(point: G2Point) -> bytes:
    if point == G2Point.identity():
        raise ValueError("the point at infinity")
    return point.to_xy_bytes_be()
