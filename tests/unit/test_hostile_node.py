"""What a node may tell a client: any JSON in the place of any value ends in an error that is documented, or in none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account as EthAccount

from trine._accounts import acknowledged_by_proof, earned_by_proof, owed_by_proof, placed_certificate
from trine._answer import Answer, Told, checked_answer
from trine._ordering import Draft, as_input, draft_request
from trine._reading import refusal
from trine.chain import ModelEntry
from trine.errors import TrineError
from trine.protocol import merkle
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Domain, Receipt, Request, Voucher, engine_class_bytes, text_hash

CLIENT, NODE = EthAccount.create(), EthAccount.create()
HERE, PAYMENTS = Domain(1, "0x" + "11" * 20), Domain(1, "0x" + "22" * 20)
TEXT = "Yes."


def signed(account: Any, digest: bytes) -> str:
    return "0x" + bytes(account.unsafe_sign_hash(digest).signature).hex()


INPUT = as_input("Is it?")
REQUEST = draft_request(INPUT, ModelEntry(b"\1" * 32, "m", 10, 1), CLIENT.address, 8, 1_000)
RECEIPT = Receipt(
    REQUEST.digest(HERE), CLIENT.address, NODE.address, REQUEST.model_id, REQUEST.input_hash, b"\3" * 32, b"\4" * 32,
    text_hash(TEXT), b"\6" * 32, 3, 4, 8, 0, engine_class_bytes("cpu-fp32"), 50, 1_500, 1_600,
)  # fmt: skip
DRAFT = Draft(INPUT, REQUEST, REQUEST.digest(HERE), {}, 0, 10)
EXTRAS = {"receipt": RECEIPT.to_json(), "signature": signed(NODE, RECEIPT.digest(HERE))}
LEAVES = [merkle.leaf_hash(0, RECEIPT)]
PLACE = {
    "batchId": "0x" + "00" * 32,
    "root": "0x" + merkle.root(LEAVES).hex(),
    "canary": "0x" + "07" * 32,
    "index": 0,
    "proof": ["0x" + each.hex() for each in merkle.proof(LEAVES, 0)],
}
VOUCHER = Voucher(CLIENT.address, NODE.address, 10**18, 10**17, 500)
KEPT = {**VOUCHER.to_json(), "signature": signed(CLIENT, VOUCHER.digest(PAYMENTS))}
ORDER = {
    "request": REQUEST.to_json(),
    "requestSignature": signed(CLIENT, REQUEST.digest(HERE)),
    "receipt": RECEIPT.to_json(),
    "batch": PLACE,
}
ACCOUNT = {"owedWei": "5", "voucher": KEPT, "acknowledged": KEPT, "asOf": 5_000, "orders": [ORDER]}


def _checked(extras: Any) -> Answer:
    return checked_answer(extras, Told(TEXT, "stop"), DRAFT, NODE.address, "http://node", HERE)


ANSWER = _checked(EXTRAS)


def _verified(document: Any) -> None:
    Certificate.from_json(document).verify(1, 0, 0)


def _place(document: Any) -> Certificate:
    placed = placed_certificate(document, ANSWER, HERE)
    assert placed is not None
    return placed


READERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "what is owed": (lambda a: owed_by_proof(a, CLIENT.address, NODE.address, PAYMENTS), ACCOUNT),
    "what is acknowledged": (lambda a: acknowledged_by_proof(a, CLIENT.address, NODE.address, PAYMENTS), ACCOUNT),
    "what is earned": (lambda a: earned_by_proof(a, CLIENT.address, NODE.address, HERE, 0), ACCOUNT),
    "an answer": (_checked, EXTRAS),
    "a place": (lambda d: placed_certificate(d, ANSWER, HERE), {"batch": PLACE}),
    "a refusal": (lambda d: refusal(500, d, "5"), {"error": {"message": "m", "code": "c"}}),
    "a held answer": (Answer.from_held, ANSWER.held()),
    "a certificate": (_verified, replace(_place({"batch": PLACE}), accepted=1).to_json()),
    "a request": (lambda d: Request.from_json(d).digest(HERE), REQUEST.to_json()),
    "a receipt": (lambda d: Receipt.from_json(d).digest(HERE), RECEIPT.to_json()),
    "a voucher": (lambda d: Voucher.from_json(d).digest(HERE), VOUCHER.to_json()),
}
JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 2**64, 2**256, -(2**300), 10**400, 1.5, float("inf"), float("-inf"), float("nan"),
    "", "0", "-1", "0x", "0x1", "zz", "9" * 5_000, "1e5", "\u0663", "\ud800", "0x" + "ff" * 32, "0x" + "ff" * 10**5,
    "Infinity", "1_0", " 5 ", [], [[]], {}, {"a": 1}, [None], ["0x00"], [1] * 5_000,
]  # fmt: skip


def places(document: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*before, name))
    elif isinstance(document, list) and document:
        yield from places(document[0], (*before, 0))


def changed(good: Any) -> Iterator[Any]:
    """The document with junk in the place of any value, and without any."""
    yield from JUNK
    for place in places(good):
        for junk in (*JUNK, None) if place else ():
            document = copy.deepcopy(good)
            holder = document
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]] = junk
            yield document
        if place:
            del holder[place[-1]]
            yield document


@pytest.mark.parametrize(("read", "good"), READERS.values(), ids=READERS.keys())
def test_attack_any_json_in_the_place_of_any_value(read, good):
    read(copy.deepcopy(good))  # else nothing below says anything
    said: set[str] = set()
    for document in changed(good):
        try:
            read(document)
        except TrineError as error:
            said.add(str(error))
    assert max(map(len, said), default=0) < 3_000, "nor does it fill a log"
