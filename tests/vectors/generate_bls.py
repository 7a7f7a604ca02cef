"""Writes `bls.json`: BLS keys, signatures and key roots that Python and Solidity must agree on.

Same format and checks as `protocol.json` (see `generate.py`). The points of `rfc9380_point` are those that RFC 9380
prints in appendix J.9.1, so that they do not come from the code that they test.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_keys.datatypes import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from trine.protocol import bls, key_root, merkle
from trine.protocol.certificate import HardCertificate
from trine.protocol.key_root import EligibleKey, KeySet, Member
from trine.protocol.messages import Domain, Receipt, engine_class_bytes

CASES = 15
CHAIN_ID = 31337
REGISTRY = "0x00000000000000000000000000000000000b1500"
BATCHES = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
EPOCH = 41
SET_SIZE = 100
VALID_UNTIL = 2_000_000_000
LEAVES = 200
LEAF = 137
FILE = Path(__file__).with_name("bls.json")

TEXT = "The capital of France is Paris."

KEY_SET = "(bytes32,uint64,uint32,uint128)"
SIGNERS = "((uint32,uint64)[],bytes,bytes32[],bytes)"
CERTIFICATE = f"(uint64,address,bytes32,bytes32,bytes32,uint256,uint256,uint8,bytes32,uint32,bytes32[],{SIGNERS})"
RECEIPT = "(" + ",".join(kind for _, kind in Receipt.FIELDS) + ")"

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
        **certificate_vectors(rng, secrets),
        "outside_g1": _hex(outside_g1()),
        "outside_g2": _hex(outside_g2()),
    }


def certificate_vectors(rng: random.Random, secrets: list[bls.SecretKey]) -> dict[str, Any]:
    """A key set of 100 with the 15 keys among them, certificates by 3, 7 and 15 of these, and a handover by all 15."""
    keys = [EligibleKey(rng.randbytes(32), 10) for _ in range(SET_SIZE)]
    indices = sorted(rng.sample(range(SET_SIZE), CASES))
    for index, secret in zip(indices, secrets, strict=True):
        keys[index] = EligibleKey(bls.key_hash(secret.public_key()), 1000)
    current = KeySet.of(EPOCH, keys, VALID_UNTIL)
    following = KeySet.of(EPOCH + 1, [*keys, EligibleKey(rng.randbytes(32), 7)], VALID_UNTIL + 1)
    members = [
        Member(index, 1000, secret.public_key(), key_root.proof(keys, index))
        for index, secret in zip(indices, secrets, strict=True)
    ]
    node = PrivateKey(rng.randbytes(32))
    receipts = [_receipt(rng, node.public_key.to_checksum_address()) for _ in range(LEAVES)]
    leaves = [merkle.leaf_hash(i, receipt) for i, receipt in enumerate(receipts)]
    accepted = rng.randrange(2**LEAVES) | 1 << LEAF
    rejected = rng.randrange(2**LEAVES) & ~accepted
    certificates = []
    for size in (3, 7, 15):
        unsigned = HardCertificate(
            chain_id=CHAIN_ID,
            batches=BATCHES,
            epoch=EPOCH,
            root=merkle.root(leaves),
            canary=rng.randbytes(32),
            index=LEAF,
            receipt=receipts[LEAF],
            receipt_signature=_signed(node, receipts[LEAF].digest(Domain(CHAIN_ID, BATCHES))),
            proof=tuple(merkle.proof(leaves, LEAF)),
            accepted=accepted,
            rejected=rejected,
            members=tuple(members[:size]),
            signature=bytes(bls.SIGNATURE_BYTES),
        )
        signature = bls.aggregate([secret.sign(unsigned.digest) for secret in secrets[:size]])
        certificates.append(replace(unsigned, signature=signature))
    digest = current.handover_digest(CHAIN_ID, BATCHES, following)
    signers = (
        [(member.index, member.weight) for member in members],
        b"".join(member.key for member in members),
        [sibling for member in members for sibling in member.proof],
        bls.aggregate([secret.sign(digest) for secret in secrets]),
    )
    return {
        "batches": BATCHES,
        "epoch": _number(EPOCH),
        "key_set": _hex(encode([KEY_SET], [_set(current)])),
        "next_key_set": _hex(encode([KEY_SET], [_set(following)])),
        "handover_digest": _hex(digest),
        "handover_signers": _hex(encode([SIGNERS], [signers])),
        # By 3, 7 and 15; the first also as a document.
        "certificate": [_hex(encode([CERTIFICATE], [certificate.to_call()])) for certificate in certificates],
        "certificate_json": json.dumps(certificates[0].to_json()),
        "certificate_batchId": [_hex(certificate.batch_id) for certificate in certificates],
        "certificate_receipt": _hex(encode([RECEIPT], [receipts[LEAF].values()])),
        "certificate_text": _hex(TEXT.encode()),
    }


def _signed(node: PrivateKey, digest: bytes) -> bytes:
    signature = node.sign_msg_hash(digest)
    return signature.to_bytes()[:64] + bytes([27 + signature.v])


def _receipt(rng: random.Random, node: str) -> Receipt:
    words = [rng.randbytes(32) for _ in range(6)]
    text_hash = keccak(text=TEXT)
    return Receipt(
        words[0], to_checksum_address(rng.randbytes(20)), node, *words[1:5], text_hash, words[5], 12, 34,
        64, 0, engine_class_bytes("cpu-fp32"), 10**15, 1_700_000_000, 1_700_000_600,
    )  # fmt: skip


def _set(key_set: KeySet) -> tuple[bytes, int, int, int]:
    return key_set.root, key_set.valid_until, key_set.count, key_set.total_weight


def _number(value: int) -> str:
    return _hex(value.to_bytes(32, "big"))


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
