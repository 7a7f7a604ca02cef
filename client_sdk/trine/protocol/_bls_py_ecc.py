"""The curve by py_ecc, in Python: the reference that tests hold the fast one against. Knows nothing of EIP-2537."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from py_ecc.bls.g2_primitives import subgroup_check
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.fields import optimized_bls12_381_FQ as FQ
from py_ecc.fields import optimized_bls12_381_FQ2 as FQ2
from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12
from py_ecc.optimized_bls12_381.optimized_curve import (
    G2,
    Z1,
    Z2,
    add,
    b2,
    field_modulus,
    is_inf,
    is_on_curve,
    multiply,
    neg,
    normalize,
)
from py_ecc.optimized_bls12_381.optimized_curve import b as b1
from py_ecc.optimized_bls12_381.optimized_pairing import final_exponentiate, pairing
from py_ecc.typing import Optimized_Point3D

if TYPE_CHECKING:
    from trine.protocol.bls import Claim

G1Point = Optimized_Point3D[FQ]
G2Point = Optimized_Point3D[FQ2]

_ELEMENT = 48


class PyEcc:
    """`trine.protocol.bls.Curve`."""

    def public_key(self, secret: int) -> bytes:
        return _key(multiply(G2, secret))

    def hash_to_g1(self, message: bytes, tag: bytes) -> bytes:
        return _signature(_hash(message, tag))

    def sign(self, secret: int, message: bytes, tag: bytes) -> bytes:
        return _signature(multiply(_hash(message, tag), secret))

    def add_keys(self, keys: Sequence[bytes]) -> bytes:
        total = Z2
        for key in keys:
            total = add(total, _g2(key))
        return _key(total)

    def add_signatures(self, signatures: Sequence[bytes]) -> bytes:
        total = Z1
        for signature in signatures:
            total = add(total, _g1(signature))
        return _signature(total)

    def verify(self, claims: Sequence[Claim], tag: bytes, factors: Sequence[int]) -> bool:
        signed, product = Z1, FQ12.one()
        for claim, factor in zip(claims, factors, strict=True):
            total = Z2
            for key in claim.keys:
                total = add(total, _g2(key))
            if is_inf(total):
                raise ValueError("the point at infinity")
            signed = add(signed, multiply(_g1(claim.signature), factor))
            product *= pairing(total, multiply(_hash(claim.message, tag), factor), False)
        product *= pairing(neg(G2), signed, False)
        return bool(final_exponentiate(product) == FQ12.one())


def _hash(message: bytes, tag: bytes) -> G1Point:
    # py_ecc annotates the hash function with the type of what it returns.
    return hash_to_G1(message, tag, sha256)  # type: ignore[arg-type]


def _g1(raw: bytes) -> G1Point:
    x, y = (FQ(value) for value in _elements(raw, 2))
    return _checked_g1((x, y, FQ.one()))


def _g2(raw: bytes) -> G2Point:
    x0, x1, y0, y1 = _elements(raw, 4)
    return _checked_g2((FQ2((x0, x1)), FQ2((y0, y1)), FQ2.one()))


def _checked_g1(point: G1Point) -> G1Point:
    if not is_on_curve(point, b1) or not subgroup_check(point):
        raise ValueError("not a point of the subgroup")
    return point


def _checked_g2(point: G2Point) -> G2Point:
    if not is_on_curve(point, b2) or not subgroup_check(point):
        raise ValueError("not a point of the subgroup")
    return point


def _elements(raw: bytes, count: int) -> list[int]:
    if len(raw) != count * _ELEMENT or not any(raw):
        raise ValueError(f"expected {count} coordinates, not all of them zero")
    values = [int.from_bytes(raw[at : at + _ELEMENT], "big") for at in range(0, len(raw), _ELEMENT)]
    if any(value >= field_modulus for value in values):
        raise ValueError("a coordinate is not below the field's modulus")
    return values


def _signature(point: G1Point) -> bytes:
    if is_inf(point):
        raise ValueError("the point at infinity")
    x, y = normalize(point)
    return b"".join(int(value).to_bytes(_ELEMENT, "big") for value in (x, y))


def _key(point: G2Point) -> bytes:
    if is_inf(point):
        raise ValueError("the point at infinity")
    x, y = normalize(point)
    return b"".join(int(value).to_bytes(_ELEMENT, "big") for value in (*x.coeffs, *y.coeffs))
