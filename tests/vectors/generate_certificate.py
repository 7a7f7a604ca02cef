"""Writes `certificate.json`: certificates that travel, and ones that do not hold, for every language that reads them.

Each of `refused` is a change of one of `certificates`: `path` into its document, and the value there instead. What a
reader must say is no more than that it does not hold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from eth_keys.datatypes import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from trine.protocol import bls, merkle
from trine.protocol.certificate import HardCertificate
from trine.protocol.key_root import enough_signers
from trine.protocol.messages import Domain, Receipt, engine_class_bytes
from trine.protocol.portable import Handover, PortableCertificate
from trine.protocol.roster import Roster

FILE = Path(__file__).with_name("certificate.json")
CHAIN_ID = 31337
BATCHES = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TEXT = "The capital of France is Paris."
FIRST_EPOCH = 40
EPOCH_SECONDS = 768
UNBONDING_SECONDS = 172_800
START = 1_800_000_000
KEYS = 20
LEAVES = 5


def vectors() -> dict[str, Any]:
    """All cases, from one fixed seed."""
    rng = random.Random(20)
    secrets = [bls.SecretKey.from_seed(rng.randbytes(32)) for _ in range(KEYS)]
    operators = [str(to_checksum_address(rng.randbytes(20))) for _ in secrets]
    rosters = [_roster(epoch, secrets, operators) for epoch in (FIRST_EPOCH, FIRST_EPOCH + 1, FIRST_EPOCH + 9)]
    found = [
        # By 3, 7 and 15 signers, after none, one and two hand-overs; the second is a rejection.
        _portable(rng, secrets, rosters[:1], 3, index=1, rejected=0),
        _portable(rng, secrets, rosters[:2], 7, index=3, rejected=1 << 3),
        _portable(rng, secrets, rosters, 15, index=0, rejected=1 << 2),
    ]
    return {
        "chainId": CHAIN_ID,
        "batches": BATCHES,
        "at": START + 60,
        "text": TEXT,
        # How key sets come about: see `trine.protocol.roster`.
        "roster": {
            "epoch": FIRST_EPOCH,
            "firstBlockTime": START,
            "unbondingSeconds": UNBONDING_SECONDS,
            "operators": [
                {"operator": e.operator, "keyHash": "0x" + e.key_hash.hex(), "weight": e.weight}
                for e in rosters[0].eligible
            ],
            "keySet": rosters[0].key_set.to_json(),
        },
        "certificates": [
            {"rootId": "0x" + each.root_id.hex(), "result": each.certificate.result, "document": each.to_json()}
            for each in found
        ],
        "refused": [
            {"certificate": number, "path": path, "value": value}
            for number in (0, 1)
            for path, value in changes(found[number].to_json())
        ],
    }


def changes(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], Any]]:
    """Each leaf of a document changed in its last character, each list shortened, each object with a name too many."""
    if isinstance(document, dict):
        yield [*path, "stray"], 1
        for name, value in document.items():
            yield from changes(value, (*path, name))
    elif isinstance(document, list):
        if document:
            yield [*path], document[:-1]
        for number, value in enumerate(document):
            yield from changes(value, (*path, number))
    elif isinstance(document, int):
        yield [*path], document + 1
    else:
        yield [*path], document[:-1] + ("1" if document[-1] != "1" else "2")


def _roster(epoch: int, secrets: list[bls.SecretKey], operators: list[str]) -> Roster:
    """One more verifier with each epoch."""
    count = KEYS - 10 + epoch - FIRST_EPOCH
    hashes = {who: bls.key_hash(secret.public_key()) for who, secret in zip(operators, secrets, strict=True)}
    pool = [(who, 100 + 7 * i) for i, who in enumerate(operators[: max(count, 16)])]
    start = START + (epoch - FIRST_EPOCH) * EPOCH_SECONDS
    return Roster.of(epoch, [pool, [(operators[0], 150)]], hashes, start, UNBONDING_SECONDS)


def _portable(
    rng: random.Random, secrets: list[bls.SecretKey], rosters: list[Roster], size: int, *, index: int, rejected: int
) -> PortableCertificate:
    by_hash = {bls.key_hash(secret.public_key()): secret for secret in secrets}
    node = PrivateKey(rng.randbytes(32))
    receipts = [_receipt(rng, node.public_key.to_checksum_address()) for _ in range(LEAVES)]
    leaves = [merkle.leaf_hash(i, receipt) for i, receipt in enumerate(receipts)]
    last = rosters[-1]
    chosen = sorted(rng.sample(range(len(last.keys)), size))
    signers = [by_hash[last.keys[i].key_hash] for i in chosen]
    unsigned = HardCertificate(
        chain_id=CHAIN_ID,
        batches=BATCHES,
        epoch=last.epoch,
        root=merkle.root(leaves),
        canary=rng.randbytes(32),
        index=index,
        receipt=receipts[index],
        receipt_signature=_signed(node, receipts[index].digest(Domain(CHAIN_ID, BATCHES))),
        proof=tuple(merkle.proof(leaves, index)),
        accepted=(1 << LEAVES) - 1 & ~rejected,
        rejected=rejected,
        members=last.members(secret.public_key() for secret in signers),
        signature=bytes(bls.SIGNATURE_BYTES),
    )
    signature = bls.aggregate([secret.sign(unsigned.digest) for secret in signers])
    handovers = [_handover(one, other, by_hash) for one, other in pairwise(rosters)]
    sets = tuple(roster.key_set for roster in rosters)
    return PortableCertificate(replace(unsigned, signature=signature), sets, tuple(handovers))


def _handover(current: Roster, following: Roster, by_hash: dict[bytes, bls.SecretKey]) -> Handover:
    chosen = enough_signers(current.key_set, {i: key.weight for i, key in enumerate(current.keys)})
    assert chosen
    digest = current.key_set.handover_digest(CHAIN_ID, BATCHES, following.key_set)
    signers = [by_hash[current.keys[i].key_hash] for i in chosen]
    members = current.members(secret.public_key() for secret in signers)
    return Handover(members, bls.aggregate([secret.sign(digest) for secret in signers]))


def _signed(node: PrivateKey, digest: bytes) -> bytes:
    signature = node.sign_msg_hash(digest)
    return signature.to_bytes()[:64] + bytes([27 + signature.v])


def _receipt(rng: random.Random, node: str) -> Receipt:
    words = [rng.randbytes(32) for _ in range(6)]
    return Receipt(
        words[0], to_checksum_address(rng.randbytes(20)), node, *words[1:5], keccak(text=TEXT), words[5], 12, 34,
        64, 0, engine_class_bytes("cpu-fp32"), 10**15, START, START + 600,
    )  # fmt: skip


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
