"""Whether a verifier has said two things about one seat, from the transactions that it ever asked to be sent."""

from __future__ import annotations

import pytest
from eth_abi import encode
from eth_account import Account
from eth_utils.abi import function_abi_to_4byte_selector, get_abi_input_types

from trine.chain.deployment import Deployment, abi
from trine.protocol.header import Header, batch_id
from trine_devnet.faults.votes import said_by_seat, said_twice

BATCHES = Deployment.bundled(31337).address("Batches")
ALICE, BOB = (Account.from_key(bytes([number]) * 32) for number in (1, 2))
HEADER = Header(BOB.address, bytes([3]) * 32, bytes([4]) * 32, bytes([5]) * 32)
BATCH = batch_id(31337, BATCHES, HEADER)
SEATS = [(ALICE.address, 60), (BOB.address, 60)]


def call(name, *values):
    (function,) = (entry for entry in abi("Batches") if entry.get("name") == name and entry["type"] == "function")
    return function_abi_to_4byte_selector(function) + encode(get_abi_input_types(function), values)


def signed(account, data, nonce=0, to=BATCHES):
    filled = {
        "to": to,
        "data": data,
        "nonce": nonce,
        "gas": 10**6,
        "maxFeePerGas": 10,
        "maxPriorityFeePerGas": 1,
        "chainId": 31337,
        "type": 2,
    }
    return bytes(account.sign_transaction(filled).raw_transaction)


def commit(account, commitment, **how):
    return signed(account, call("commit", BATCH, SEATS, 0, bytes([commitment]) * 32), **how)


def reveal(account, accepts, rejects, **how):
    return signed(account, call("reveal", HEADER.values(), SEATS, 0, accepts, rejects, 12, bytes([9]) * 32), **how)


def faults(*transactions, redraws=None):
    return said_twice(said_by_seat(transactions, 31337, BATCHES), redraws or {})


def test_one_vote_sent_again_and_again_is_one_vote():
    sent = [commit(ALICE, 1), commit(ALICE, 1, nonce=7), reveal(ALICE, 3, 0), reveal(ALICE, 3, 0, nonce=9)]
    assert faults(*sent, commit(BOB, 2), reveal(BOB, 1, 2)) == []
    said = said_by_seat(sent, 31337, BATCHES)
    assert said[ALICE.address, BATCH].commitments == {bytes([1]) * 32}
    assert said[ALICE.address, BATCH].votes == {(3, 0)}


def test_two_commitments_are_said_once_there_are_more_than_rounds():
    sent = commit(ALICE, 1), commit(ALICE, 2)
    (fault,) = faults(*sent)
    assert fault.startswith(f"{ALICE.address} sent 2 different commitments on batch 0x{BATCH.hex()[:12]}")
    assert faults(*sent, redraws={BATCH: 1}) == []


def test_two_votes_are_said():
    (fault,) = faults(reveal(ALICE, 3, 0), reveal(ALICE, 1, 2))
    assert "2 different votes" in fault


def settle_signed(account, accepts, rejects):
    return signed(account, call("settleSigned", HEADER.values(), SEATS, 5, accepts, rejects, bytes(512), bytes(128)))


def test_a_signed_result_is_the_vote_of_every_seat():
    said = said_by_seat([settle_signed(BOB, 3, 0)], 31337, BATCHES)
    assert {seat: each.votes for seat, each in said.items()} == {
        (ALICE.address, BATCH): {(3, 0)},
        (BOB.address, BATCH): {(3, 0)},
    }
    assert faults(settle_signed(BOB, 3, 0), reveal(ALICE, 3, 0)) == []
    (fault,) = faults(settle_signed(BOB, 3, 0), reveal(ALICE, 1, 2))
    assert "2 different votes" in fault


@pytest.mark.parametrize(
    "other",
    [b"", b"\x02\xff", b"nonsense", signed(ALICE, b""), signed(ALICE, b"\1\2\3\4"), commit(ALICE, 2, to=BOB.address)],
)
def test_what_is_no_vote_is_passed_over(other):
    assert faults(commit(ALICE, 1), other) == []
