"""Evidence and certificates: every way in which a node could show something else than what it anchored."""

import dataclasses
import functools

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from trine.errors import BadSignature, ChainUnreachable, InvalidInput, VerificationFailed
from trine.protocol import fingerprint, merkle
from trine.protocol.access import access_header, account_digest, caller, evidence_digest
from trine.protocol.certificate import Certificate
from trine.protocol.evidence import Anchor, Evidence, binding_fault, leaves_fault, missing
from trine.protocol.header import Header, batch_id
from trine.protocol.inputs import chat_input
from trine.protocol.messages import (
    ZERO_ADDRESS,
    ZERO_HASH,
    Domain,
    Receipt,
    Request,
    engine_class_bytes,
    text_hash,
)
from trine.protocol.requests import Posted, RequestState
from trine.protocol.tokens import tokens_hash

NODE, CLIENT, STRANGER = (Account.from_key(bytes([number] * 32)) for number in (1, 2, 3))
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
MODEL = bytes([7] * 32)
ASKED = chat_input([{"role": "user", "content": "Hello"}])


def sign(account, digest):
    return bytes(account.unsafe_sign_hash(digest).signature)


def make(*, signed=True, request_changes=None, **changes):
    request = Request(CLIENT.address, MODEL, ASKED.hash(), 8, 1000, 5, 2_000_000_000)
    request = dataclasses.replace(request, **(request_changes or {}))
    prompt, output = (1, 2, 3), (4, 5)
    encoded = fingerprint.encode([bytes(8), bytes(8)])
    receipt = Receipt(
        request_hash=request.digest(DOMAIN) if signed else ZERO_HASH,
        client=CLIENT.address if signed else ZERO_ADDRESS,
        node=NODE.address,
        model_id=MODEL,
        input_hash=ASKED.hash(),
        prompt_hash=tokens_hash(prompt),
        output_hash=tokens_hash(output),
        text_hash=text_hash("Hi"),
        fingerprint_hash=bytes(keccak(encoded)),
        prompt_tokens=3,
        output_tokens=2,
        max_tokens=8,
        finish_reason=0,
        engine_class=engine_class_bytes("cpu-fp32"),
        fee_wei=10 if signed else 0,
        issued_at=1_700_000_000,
        anchor_by=1_700_003_600,
    )
    receipt = dataclasses.replace(receipt, **changes)
    evidence = Evidence(
        receipt,
        sign(NODE, receipt.digest(DOMAIN)),
        ASKED.canonical(),
        prompt,
        output,
        encoded,
        request if signed else None,
        sign(CLIENT, request.digest(DOMAIN)) if signed else None,
    )
    leaf = merkle.leaf_hash(0, receipt)
    return evidence, leaf, Anchor(DOMAIN, NODE.address, MODEL, merkle.root([leaf]), 1)


@pytest.mark.parametrize("signed", [True, False])
def test_honest_evidence_holds_and_survives_json(signed):
    evidence, leaf, anchor = make(signed=signed)
    assert leaves_fault([leaf], anchor) is None
    assert missing(evidence, 0, leaf, anchor) is None
    assert binding_fault(evidence, anchor) is None
    assert Evidence.from_json(evidence.to_json()) == evidence


@pytest.mark.parametrize(
    ("shown", "complaint"),
    [
        ({"input": chat_input([{"role": "user", "content": "Bye"}]).canonical()}, "input"),
        ({"prompt_ids": (1, 2, 4)}, "prompt token ids"),
        ({"output_ids": (4, 6)}, "output token ids"),
        ({"fingerprint": fingerprint.encode([bytes(8), b"\1" * 8])}, "fingerprint"),
        ({"receipt_signature": sign(STRANGER, bytes(32))}, "receipt is signed by"),
        ({"request": None}, "not shown"),
        ({"request_signature": sign(STRANGER, bytes(32))}, "request is signed by"),
    ],
)
def test_other_bytes_than_the_receipts_show_nothing(shown, complaint):
    evidence, leaf, anchor = make()
    assert complaint in missing(dataclasses.replace(evidence, **shown), 0, leaf, anchor)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"node": STRANGER.address}, "in the name of"),
        ({"model_id": bytes(32)}, "another model"),
        ({"prompt_tokens": 4}, "numbers of tokens"),
        ({"fee_wei": 1001}, "over the client's limit"),
        ({"max_tokens": 9}, "at most 8"),
        ({"client": STRANGER.address}, "another client"),
    ],
)
def test_a_receipt_that_breaks_the_order_is_a_fault(changes, complaint):
    evidence, leaf, anchor = make(**changes)
    assert missing(evidence, 0, leaf, anchor) is None
    assert complaint in binding_fault(evidence, anchor)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"model_id": bytes(32)}, "another model"), ({"input_hash": bytes(32)}, "something else")],
)
def test_a_request_for_something_else_is_a_fault(changes, complaint):
    evidence, leaf, anchor = make(request_changes=changes)
    assert missing(evidence, 0, leaf, anchor) is None
    assert complaint in binding_fault(evidence, anchor)


def test_charging_without_a_request_is_a_fault():
    evidence, leaf, anchor = make(signed=False, fee_wei=1)
    assert missing(evidence, 0, leaf, anchor) is None
    assert "no request" in binding_fault(evidence, anchor)


POSTED_ID = bytes([9] * 32)
POSTED = Posted(
    STRANGER.address, 2_000_000_000, 0, ZERO_ADDRESS, 8, True, RequestState.OPEN, 10, 0, MODEL, ASKED.hash()
)


def make_posted(posted=POSTED, **changes):
    """An answer to what a contract has posted: nobody has signed anything but the node."""
    changes = {"request_hash": POSTED_ID, "client": STRANGER.address, "fee_wei": 10, **changes}
    evidence, leaf, anchor = make(signed=False, **changes)
    known = {POSTED_ID: posted} if posted else {}
    return evidence, leaf, dataclasses.replace(anchor, posted=known.get)


@pytest.mark.parametrize("state", [RequestState.OPEN, RequestState.FULFILLED, RequestState.EXPIRED])
def test_an_answer_to_a_posted_request_needs_no_signature(state):
    """However far the request is: verdicts come after it was answered, appeals later still."""
    evidence, leaf, anchor = make_posted(dataclasses.replace(POSTED, state=state))
    assert missing(evidence, 0, leaf, anchor) is None
    assert binding_fault(evidence, anchor) is None
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_an_answer_in_the_name_of_somebody_who_posted_nothing_is_not_shown():
    evidence, leaf, anchor = make_posted(None)
    assert "none of that id was posted" in missing(evidence, 0, leaf, anchor)
    assert "signed no request" in binding_fault(evidence, anchor)


@pytest.mark.parametrize("shown", [{"request": make()[0].request}, {"request_signature": bytes(65)}])
def test_half_a_signed_request_is_not_made_good_by_a_posted_one(shown):
    evidence, leaf, anchor = make_posted()
    assert missing(dataclasses.replace(evidence, **shown), 0, leaf, anchor) is not None


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"requester": CLIENT.address}, "another client"),
        ({"node": CLIENT.address}, "another node"),
        ({"model_id": bytes(32)}, "another model"),
        ({"input_hash": bytes(32)}, "something else"),
        ({"max_tokens": 9}, "at most 9"),
        ({"escrow": 9}, "over what waits"),
    ],
)
def test_an_answer_that_breaks_the_posted_request_is_a_fault(changes, complaint):
    evidence, leaf, anchor = make_posted(dataclasses.replace(POSTED, **changes))
    assert missing(evidence, 0, leaf, anchor) is None
    assert complaint in binding_fault(evidence, anchor)


def test_a_chain_that_does_not_answer_blames_nobody():
    """What the look-up raises goes on: a vote that the node withheld would cost it stake."""
    evidence, leaf, anchor = make_posted()

    def away(_request_id):
        raise ChainUnreachable("the RPC endpoint does not answer")

    broken = dataclasses.replace(anchor, posted=away)
    with pytest.raises(ChainUnreachable):
        missing(evidence, 0, leaf, broken)
    with pytest.raises(ChainUnreachable):
        binding_fault(evidence, broken)


def test_a_leaf_counts_only_at_its_own_index():
    evidence, leaf, anchor = make()
    assert "anchored leaf" in missing(evidence, 1, leaf, anchor)
    assert "root" in leaves_fault([b"\1" * 32], anchor)
    assert "2 leaf hashes" in leaves_fault([leaf, leaf], anchor)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("receipt", None), ("receiptSignature", "0x12"), ("input", 5), ("promptIds", []), ("promptIds", [-1]),
        ("outputIds", [2**32]), ("outputIds", ["4"]), ("fingerprint", "?"), ("request", {}), ("requestSignature", "zz"),
    ],
)  # fmt: skip
def test_malformed_evidence_is_refused(field, value):
    evidence, _, _ = make()
    with pytest.raises(InvalidInput):
        Evidence.from_json({**evidence.to_json(), field: value})


def test_a_certificate_holds_against_the_chain_only():
    evidence, leaf, anchor = make()
    certificate = Certificate(
        DOMAIN.chain_id, DOMAIN.verifying_contract, anchor.root, bytes([8]) * 32, 0, evidence.receipt,
        evidence.receipt_signature, tuple(merkle.proof([leaf], 0)), accepted=1, rejected=0,
    )  # fmt: skip
    assert Certificate.from_json(certificate.to_json()) == certificate
    assert certificate.result == "accept"
    certificate.verify(1, 0)
    hidden = dataclasses.replace(certificate, accepted=0, unavailable=1)
    assert Certificate.from_json(hidden.to_json()) == hidden
    assert hidden.result == "unavailable"
    hidden.verify(0, 0, 1)
    with pytest.raises(VerificationFailed, match="says unavailable, the chain says inconclusive"):
        hidden.verify(0, 0)
    certificate.verify(0b11, 0b100)  # what appeals did to other leaves does not matter
    for accepted, rejected in ((0, 1), (0, 0), (2, 0)):
        with pytest.raises(VerificationFailed, match="the certificate says accept"):
            certificate.verify(accepted, rejected)
    with pytest.raises(VerificationFailed, match="proof"):
        dataclasses.replace(certificate, root=bytes(32)).verify(1, 0)
    forged = dataclasses.replace(certificate, receipt_signature=sign(STRANGER, evidence.receipt.digest(DOMAIN)))
    with pytest.raises(BadSignature):
        forged.verify(1, 0)


def test_a_certificate_names_the_batch_that_its_header_makes():
    evidence, leaf, anchor = make()
    certificate = Certificate(
        DOMAIN.chain_id, DOMAIN.verifying_contract, anchor.root, bytes([8]) * 32, 0, evidence.receipt,
        evidence.receipt_signature, tuple(merkle.proof([leaf], 0)), accepted=1, rejected=0,
    )  # fmt: skip
    header = Header(NODE.address, MODEL, anchor.root, bytes([8]) * 32)
    assert certificate.batch_id == batch_id(DOMAIN.chain_id, DOMAIN.verifying_contract, header)
    shown = certificate.to_json()
    changes = {"canary": "0x" + "09" * 32, "batchId": "0x" + "00" * 32, "root": "0x12", "index": 256, "batches": "x"}
    for field, value in changes.items():
        with pytest.raises(InvalidInput):
            Certificate.from_json({**shown, field: value})
    with pytest.raises(InvalidInput):
        Certificate.from_json({"chainId": 1})


def test_access_is_proved_for_one_batch_and_a_short_time():
    batch, now = bytes([9] * 32), 1_700_000_000
    digest = functools.partial(evidence_digest, DOMAIN, batch)
    header = access_header(now, sign(CLIENT, digest(now)))
    assert caller(header, digest, now + 60).address == CLIENT.address
    assert caller(header, functools.partial(evidence_digest, DOMAIN, bytes(32)), now).address != CLIENT.address
    for bad, at in ((header, now + 121), ("", now), ("Bearer x", now), ("Trine x:y", now), ("Trine 1:zz", now)):
        with pytest.raises(BadSignature):
            caller(bad, digest, at)


def test_access_to_an_account_is_proved_for_one_node():
    now = 1_700_000_000
    header = access_header(now, sign(CLIENT, account_digest(DOMAIN, NODE.address, now)))
    assert caller(header, functools.partial(account_digest, DOMAIN, NODE.address), now).address == CLIENT.address
    assert caller(header, functools.partial(account_digest, DOMAIN, STRANGER.address), now).address != CLIENT.address
