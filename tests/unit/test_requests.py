"""What a receipt must say to answer a request that was posted on the chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.messages import ZERO_ADDRESS, FinishReason, Receipt, engine_class_bytes, text_hash
from trine.protocol.requests import MAX_OUTPUT_BYTES, Order, mismatch, request_id

REQUESTER = "0x" + "c1" * 20
NODE = "0x" + "a0" * 20
REQUESTS = "0x" + "e5" * 20
OUTPUT = "Grüße"
ORDER = Order(request_id(31337, REQUESTS, REQUESTER, 0), REQUESTER, b"\1" * 32, NODE, b"{}", 32, 10**18, 2**40, 0, True)
RECEIPT = Receipt(
    ORDER.request_id, REQUESTER, NODE, ORDER.model_id, keccak(ORDER.input), b"\2" * 32, b"\3" * 32, text_hash(OUTPUT),
    b"\4" * 32, 3, 32, 32, FinishReason.LENGTH, engine_class_bytes("cpu-fp32"), 10**17, 1_000_000, 1_003_600,
)  # fmt: skip


def test_a_receipt_that_says_what_was_asked_answers_it():
    assert mismatch(ORDER, RECEIPT, OUTPUT.encode()) is None
    assert mismatch(replace(ORDER, node=ZERO_ADDRESS), RECEIPT, OUTPUT.encode()) is None
    assert mismatch(replace(ORDER, requester=REQUESTER.upper().replace("X", "x")), RECEIPT, OUTPUT.encode()) is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (replace(RECEIPT, request_hash=b"\5" * 32), "requestHash"),
        (replace(RECEIPT, client=NODE), "client"),
        (replace(RECEIPT, node=REQUESTER), "node"),
        (replace(RECEIPT, model_id=b"\5" * 32), "modelId"),
        (replace(RECEIPT, input_hash=b"\5" * 32), "inputHash"),
        (replace(RECEIPT, output_tokens=33), "outputTokens"),
        (replace(RECEIPT, text_hash=text_hash("other")), "textHash"),
    ],
)
def test_another_answer_is_named_by_what_differs(changed: Receipt, field: str):
    assert mismatch(ORDER, changed, OUTPUT.encode()) == field


def test_an_answer_that_the_contract_would_not_take_is_refused():
    with pytest.raises(InvalidInput):
        mismatch(ORDER, RECEIPT, bytes(MAX_OUTPUT_BYTES + 1))


def test_ids_differ_by_all_that_makes_them():
    ids = {
        request_id(31337, REQUESTS, REQUESTER, 0),
        request_id(31337, REQUESTS, REQUESTER, 1),
        request_id(31337, REQUESTS, NODE, 0),
        request_id(31337, NODE, REQUESTER, 0),
        request_id(1, REQUESTS, REQUESTER, 0),
    }
    assert len(ids) == 5
    # tests/contracts/Requests.t.sol computes the same.
    assert request_id(31337, REQUESTS, REQUESTER, 7).hex() == (
        "1e10956ebcfebbab8e59f2eeb2042fdd98acdda4acb1350463f809d7dda4e92d"
    )
    with pytest.raises(InvalidInput):
        request_id(31337, REQUESTS, REQUESTER, -1)
