"""Writes `protocol.json`: hashes that Python and Solidity must agree on. Run after a change of the protocol.

Format: one JSON object of flat lists, so that Solidity reads them with `vm.parseJson…Array`; item i of every list
belongs to case i. `tests/unit/test_vectors.py` fails when the file is stale, `tests/contracts/Vectors.t.sol` when
Solidity disagrees with it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from trine.protocol import merkle
from trine.protocol.appeals import LeafVote
from trine.protocol.appeals import commitment as appeal_commitment
from trine.protocol.committee import COMMITTEE_SIZES, Member, draw, seed
from trine.protocol.header import Header, batch_id
from trine.protocol.manifest import model_id
from trine.protocol.messages import Domain, Receipt, Request, Voucher, engine_class_bytes, text_hash
from trine.protocol.votes import MAX_DISTANCE_PPM, Vote, commitment, majority

CASES = 8
CHAIN_ID = 31337
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
FILE = Path(__file__).with_name("protocol.json")


def vectors() -> dict[str, Any]:
    """All cases, from one fixed seed."""
    rng = random.Random(7)

    def word() -> bytes:
        return rng.randbytes(32)

    def address() -> str:
        return str(to_checksum_address(rng.randbytes(20)))

    receipts = [
        Receipt(
            word(), address(), address(), word(), word(), word(), word(), word(), word(),
            rng.randrange(2**28), rng.randrange(2**28), rng.randrange(2**32), rng.randrange(2),
            engine_class_bytes("cpu-fp32"), rng.randrange(2**256), rng.randrange(2**64),
            rng.randrange(2**64),
        )
        for _ in range(CASES)
    ]  # fmt: skip
    domain = Domain(CHAIN_ID, CONTRACT)
    leaves = [merkle.leaf_hash(i, receipt) for i, receipt in enumerate(receipts)]
    votes = []
    for _ in range(CASES):
        accepts = rng.randrange(2**256)
        votes.append(Vote.from_words(accepts, rng.randrange(2**256)))
    salts, batches, verifiers = [word() for _ in votes], [word() for _ in votes], [address() for _ in votes]
    block_hashes, names = [word() for _ in votes], [f"model-{i}" for i in range(CASES)]
    distances = [rng.randrange(MAX_DISTANCE_PPM + 1) for _ in votes]
    headers = [Header(address(), word(), word(), word()) for _ in range(CASES)]
    vouchers = [
        Voucher(address(), address(), rng.randrange(2**256), rng.randrange(2**256), rng.randrange(2**64))
        for _ in range(CASES)
    ]
    requests = [
        Request(
            address(), word(), word(), rng.randrange(2**32), rng.randrange(2**256), rng.randrange(2**256),
            rng.randrange(2**64),
        )
        for _ in range(CASES)
    ]  # fmt: skip
    return {
        "chainId": CHAIN_ID,
        "contract": CONTRACT,
        **{
            f"receipt_{name}": [_shown(kind, receipt.values()[i]) for receipt in receipts]
            for i, (name, kind) in enumerate(Receipt.FIELDS)
        },
        "receipt_structHash": [_hex(r.struct_hash()) for r in receipts],
        "receipt_digest": [_hex(r.digest(domain)) for r in receipts],
        "leaf": [_hex(leaf) for leaf in leaves],
        "root": _hex(merkle.root(leaves)),
        "tokens": sum(receipt.prompt_tokens + receipt.output_tokens for receipt in receipts),
        "proof_3": [_hex(sibling) for sibling in merkle.proof(leaves, 3)],
        "vote_accepts": [_hex(v.words[0].to_bytes(32, "big")) for v in votes],
        "vote_rejects": [_hex(v.words[1].to_bytes(32, "big")) for v in votes],
        "vote_salt": [_hex(s) for s in salts],
        "vote_batchId": [_hex(b) for b in batches],
        "vote_verifier": verifiers,
        "vote_distancePpm": [_hex(d.to_bytes(32, "big")) for d in distances],
        "vote_commitment": [
            _hex(commitment(CHAIN_ID, CONTRACT, batches[i], i % 3, verifiers[i], votes[i], distances[i], salts[i]))
            for i in range(CASES)
        ],
        "appeal_commitment": [
            _hex(
                appeal_commitment(
                    CHAIN_ID, CONTRACT, batches[i], i, 1 + i % 2, i % 3, verifiers[i], LeafVote(2 + i % 4), salts[i]
                )
            )
            for i in range(CASES)
        ],
        "header_node": [h.node for h in headers],
        "header_modelId": [_hex(h.model_id) for h in headers],
        "header_root": [_hex(h.root) for h in headers],
        "header_canary": [_hex(h.canary) for h in headers],
        "header_batchId": [_hex(batch_id(CHAIN_ID, CONTRACT, h)) for h in headers],
        "majority": [
            _hex(majority([votes[i].words[0], votes[i - 1].words[0], votes[i - 2].words[0]]).to_bytes(32, "big"))
            for i in range(CASES)
        ],
        "seed_blockHash": [_hex(b) for b in block_hashes],
        "seed": [_hex(seed(block_hashes[i], batches[i], i % 3)) for i in range(CASES)],
        "model_name": names,
        "model_contentHash": [_hex(s) for s in salts],
        "model_id": [_hex(model_id(names[i], salts[i])) for i in range(CASES)],
        "voucher_payer": [v.payer for v in vouchers],
        "voucher_payee": [v.payee for v in vouchers],
        "voucher_cumulativeWei": [_hex(v.cumulative_wei.to_bytes(32, "big")) for v in vouchers],
        "voucher_earnedWei": [_hex(v.earned_wei.to_bytes(32, "big")) for v in vouchers],
        "voucher_asOf": [_hex(v.as_of.to_bytes(32, "big")) for v in vouchers],
        "voucher_digest": [_hex(v.digest(domain)) for v in vouchers],
        **{
            f"request_{name}": [_shown(kind, request.values()[i]) for request in requests]
            for i, (name, kind) in enumerate(Request.FIELDS)
        },
        "request_digest": [_hex(r.digest(domain)) for r in requests],
        **_majorities(rng),
        **_committees(rng, address),
        **_texts(rng),
    }


def _texts(rng: random.Random) -> dict[str, Any]:
    """Texts, their hashes under a salt, and without one."""
    texts = ["", "Yes.", "Four: \u56db", "a" * 1_000]
    salts = [rng.randbytes(32) for _ in texts]
    return {
        "text": texts,
        "text_salt": [_hex(salt) for salt in salts],
        "text_salted": [_hex(text_hash(text, salt)) for text, salt in zip(texts, salts, strict=True)],
        "text_bare": [_hex(text_hash(text)) for text in texts],
    }


def _majorities(rng: random.Random) -> dict[str, Any]:
    """Item i of `majority_of` is the majority of the first 2 i + 1 words."""
    words = [rng.randrange(2**256) for _ in range(15)]
    return {
        "majority_words": [_hex(word.to_bytes(32, "big")) for word in words],
        "majority_of": [_hex(majority(words[:n]).to_bytes(32, "big")) for n in range(1, 16, 2)],
    }


def _committees(rng: random.Random, address: Callable[[], str]) -> dict[str, Any]:
    """One pool and draws from it: draw i excludes the first `committee_excludedCount[i]` of `committee_excluded`.

    `committee_drawn` holds the draws' seats one after another.
    """
    classes = [engine_class_bytes(name) for name in ("cpu-bf16", "cpu-fp32", "cuda-bf16")]
    # Most are of one class, so that mixing matters.
    pool = [Member(address(), rng.randrange(200, 20_000), rng.choice([classes[0], *classes])) for _ in range(40)]
    pool[3] = Member(pool[3].address, 0, pool[3].hardware_class)  # left
    pool[5] = Member(pool[5].address, 0, classes[0])  # changed its class
    pool[20] = Member(pool[5].address, 900, classes[2])
    for i in (2, 8, 9, 30):
        pool[i] = replace(pool[i], valid_until=500)
    excluded = [pool[i].address for i in (0, 20, 7, 11, 39)] + [address()]
    cases = [
        (rng.randbytes(32), seats, count, fixed_at)
        for seats in COMMITTEE_SIZES
        for count in (0, 1, 4, 6)
        for fixed_at in (500, 501)
    ]
    return {
        "committee_address": [member.address for member in pool],
        "committee_weight": [_hex(member.weight.to_bytes(32, "big")) for member in pool],
        "committee_class": [_hex(member.hardware_class) for member in pool],
        "committee_validUntil": [_hex(member.valid_until.to_bytes(32, "big")) for member in pool],
        "committee_excluded": excluded,
        "committee_seed": [_hex(seed_) for seed_, _, _, _ in cases],
        "committee_seats": [_hex(seats.to_bytes(32, "big")) for _, seats, _, _ in cases],
        "committee_excludedCount": [_hex(count.to_bytes(32, "big")) for _, _, count, _ in cases],
        "committee_fixedAt": [_hex(fixed_at.to_bytes(32, "big")) for _, _, _, fixed_at in cases],
        "committee_drawn": [
            each
            for seed_, seats, count, fixed_at in cases
            for each in draw(seed_, pool, excluded[:count], seats, fixed_at=fixed_at)
        ],
    }


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


def _shown(kind: str, value: Any) -> Any:
    if kind == "address":
        return value
    return _hex(value if isinstance(value, bytes) else int(value).to_bytes(32, "big"))


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
