"""Writes `bls.json`: BLS keys, signatures and key roots that Python and Solidity must agree on.

Same format and checks as `protocol.json` (see `generate.py`). The points of `rfc9380_point` are those that RFC 9380
prints in appendix J.9.1, so that they do not come from the code that they test.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trine.protocol import bls

CASES = 15
CHAIN_ID = 31337
REGISTRY = "0x00000000000000000000000000000000000b1500"
FILE = Path(__file__).with_name("bls.json")

RFC_TAG = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
RFC_POINTS = {
    b"": (
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
    ),
    b"abc": (
        "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
        "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
    ),
    b"abcdef0123456789": (
        "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
        "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
    ),
    b"q128_" + b"q" * 128: (
        "15f68eaa693b95ccb85215dc65fa81038d69629f70aeee0d0f677cf22285e7bf58d7cb86eefe8f2e9bc3f8cb84fac488",
        "1807a1d50c29f430b8cafc4f8638dfeeadf51211e1602a5f184443076715f91bb90a48ba1e370edce6ae1062f5e6dd38",
    ),
    b"a512_" + b"a" * 512: (
        "082aabae8b7dedb0e78aeb619ad3bfd9277a2f77ba7fad20ef6aabdc6c31d19ba5a6d12283553294c1825c4b3ca2dcfe",
        "05b84ae5a942248eea39e1d91030458c40153f3b654ab7872d779ad1e942856a20c438e8d99bc8abfbf74729ce1f7ac8",
    ),
}


def vectors() -> dict[str, Any]:
    """All cases, from one fixed seed."""
    rng = random.Random(12381)
    secrets = [bls.SecretKey.from_seed(rng.randbytes(32)) for _ in range(CASES)]
    operators = ["0x" + rng.randbytes(20).hex() for _ in range(CASES)]
    message = rng.randbytes(32)
    signatures = [secret.sign(message) for secret in secrets]
    return {
        "chainId": CHAIN_ID,
        "registry": REGISTRY,
        "rfc9380_tag": _hex(RFC_TAG),
        "rfc9380_message": [_hex(message) for message in RFC_POINTS],
        "rfc9380_point": [_hex(bls.pad(bytes.fromhex(x + y))) for x, y in RFC_POINTS.values()],
        "secret": [_hex(secret.to_bytes()) for secret in secrets],
        "key": [_hex(secret.public_key()) for secret in secrets],
        "operator": operators,
        "possession": [
            _hex(secret.prove_possession(CHAIN_ID, REGISTRY, operator))
            for secret, operator in zip(secrets, operators, strict=True)
        ],
        "message": _hex(message),
        "hash": _hex(bls.hash_to_g1(message)),
        "signature": [_hex(signature) for signature in signatures],
        # Of the first i + 1 signers.
        "aggregate": [_hex(bls.aggregate(signatures[: i + 1])) for i in range(CASES)],
        "outside_g1": _hex(outside_g1()),
        "outside_g2": _hex(outside_g2()),
    }


def outside_g1() -> bytes:
    """On the curve y^2 = x^3 + 4, not in the subgroup: the first x that has a y will do."""
    p = bls.FIELD_MODULUS
    for x in range(1, 100):
        y = pow(x**3 + 4, (p + 1) // 4, p)
        if y * y % p == (x**3 + 4) % p:
            return bls.pad(x.to_bytes(48, "big") + y.to_bytes(48, "big"))
    raise AssertionError("no point")


def outside_g2() -> bytes:
    """On the twist y^2 = x^3 + 4(1 + u), not in the subgroup."""
    p = bls.FIELD_MODULUS
    for x in range(1, 100):
        real, imaginary = (x**3 + 4) % p, 4
        # A square root in Fp[u]/(u^2 + 1) by the norm's square root.
        norm = pow(real * real + imaginary * imaginary, (p + 1) // 4, p)
        for sign in (norm, -norm):
            half = (real + sign) * pow(2, -1, p) % p
            c0 = pow(half, (p + 1) // 4, p)
            if c0 and c0 * c0 % p == half:
                c1 = imaginary * pow(2 * c0, -1, p) % p
                if (c0 * c0 - c1 * c1) % p == real:
                    return bls.pad(b"".join(value.to_bytes(48, "big") for value in (x, 0, c0, c1)))
    raise AssertionError("no point")


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
