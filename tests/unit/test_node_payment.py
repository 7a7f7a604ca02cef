"""Signed requests and vouchers over HTTP: what is served, what is refused, what is owed."""

import re

import pytest
from eth_account import Account as EthAccount
from test_node_support import (
    CHAT,
    MESSAGES,
    NAME,
    PRICE_WEI,
    RecordingChain,
    SlowEngine,
    account,
    account_access,
    answer,
    body,
    sealed,
    serving,
    sign,
    signed_body,
    wait_for,
)

from trine.errors import ChainUnreachable, TransactionReverted
from trine.protocol.messages import Receipt, Voucher
from trine_node.orders import parse_order
from trine_operator.payments import collect_earned


@pytest.fixture
def node(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as served:
        yield served


@pytest.fixture
def client():
    return EthAccount.create()


def refused(response):
    return response.status_code, response.json()["error"]["code"]


def test_a_signed_and_paid_order_is_answered_with_a_receipt_for_it(node, client):
    order = signed_body(node.chain, client, max_tokens=4)
    response = node.http.post(CHAT, json=order)
    receipt = Receipt.from_json(response.json()["trine"]["receipt"])
    assert receipt.client == client.address
    assert receipt.fee_wei == PRICE_WEI * (receipt.prompt_tokens + 4)
    stored = node.store.answer(receipt.struct_hash())
    assert stored.evidence.request.to_json() == order["trine"]["request"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_order_gets_the_same_answer_and_is_owed_once(node, client, stream):
    order = signed_body(node.chain, client)
    first = node.http.post(CHAT, json=order).json()["trine"]
    owed = account(node, client)["owedWei"]
    again = node.http.post(CHAT, json={**order, "stream": stream})
    assert first["receiptDigest"] in again.text
    assert account(node, client)["owedWei"] == owed
    assert len(node.store.unbatched(9)) == 1


def test_an_order_whose_other_copy_is_answered_while_it_is_looked_at_is_not_answered_again(
    tmp_path, client, monkeypatch
):
    engine = SlowEngine(0)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, engine_=engine) as node:
        order = signed_body(node.chain, client, max_tokens=4)
        covered_by, first = node.answering._covered_by, []

        def slowly(*args):
            monkeypatch.setattr(node.answering, "_covered_by", covered_by)
            first.append(node.http.post(CHAT, json=order).json()["trine"])
            return covered_by(*args)

        monkeypatch.setattr(node.answering, "_covered_by", slowly)
        second = node.http.post(CHAT, json=order).json()["trine"]
        assert second["receiptDigest"] == first[0]["receiptDigest"]
        assert engine.produced == 4


def test_plain_completions_are_signed_and_paid_alike(node, client):
    order = signed_body(node.chain, client, prompt="Once upon a time")
    assert node.http.post("/v1/completions", json=order).status_code == 200


def test_unsigned_orders_are_refused_unless_the_node_allows_them(node):
    assert refused(node.http.post(CHAT, json=body())) == (402, "signed_request_required")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model_id": bytes(32)}, 400, "request_mismatch"),
        ({"input_hash": bytes(32)}, 400, "request_mismatch"),
        ({"max_tokens": 3, "body_tokens": 4}, 400, "request_mismatch"),
        ({"deadline": 1}, 400, "request_expired"),
        ({"max_fee_wei": 10}, 402, "max_fee_too_low"),
        ({"voucher": False}, 402, "voucher_required"),
        ({"cumulative": 10}, 402, "voucher_too_low"),
    ],
)
def test_an_order_that_is_not_this_order_or_does_not_pay_is_refused(node, client, changes, status, code):
    wanted = changes.pop("body_tokens", None)
    order = signed_body(node.chain, client, **changes)
    if wanted:
        order["max_tokens"] = wanted
    assert refused(node.http.post(CHAT, json=order)) == (status, code)
    assert node.store.unbatched(1) == []


def test_orders_in_another_name_are_refused(node, client):
    order = signed_body(node.chain, client)
    order["trine"]["signature"] = signed_body(node.chain, EthAccount.create())["trine"]["signature"]
    assert refused(node.http.post(CHAT, json=order)) == (401, "bad_signature")
    order = signed_body(node.chain, client)
    order["trine"]["voucher"] = signed_body(node.chain, EthAccount.create())["trine"]["voucher"]
    assert refused(node.http.post(CHAT, json=order)) == (402, "voucher_mismatch")
    order = signed_body(node.chain, client)
    forged = sign(EthAccount.create(), bytes(32))
    order["trine"]["voucher"]["signature"] = "0x" + forged.hex()
    assert refused(node.http.post(CHAT, json=order)) == (401, "bad_signature")


@pytest.mark.parametrize("extra", [7, [], {}, {"request": {}}, {"request": None, "signature": "0x"}])
def test_malformed_extras_are_refused_by_name(node, extra):
    response = node.http.post(CHAT, json={**body(), "trine": extra})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "trine"


def test_a_deposit_that_does_not_cover_the_answer_is_refused_with_the_amounts(tmp_path, client):
    chain = RecordingChain(balance=100, collected_wei=50)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, chain=chain) as node:
        response = node.http.post(CHAT, json=signed_body(chain, client))
        assert refused(response) == (402, "deposit_too_low")
        assert "1.5e-16 tokens" in response.json()["error"]["message"]


def test_a_deposit_under_notice_covers_nothing(tmp_path, client):
    chain = RecordingChain(balance=10**9, leaving=10**9 - 100)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, chain=chain) as node:
        response = node.http.post(CHAT, json=signed_body(chain, client))
        assert refused(response) == (402, "deposit_too_low")
        assert f"with {chain.address} covers 1e-16 tokens" in response.json()["error"]["message"]
        chain.leaving = 0
        assert node.http.post(CHAT, json=signed_body(chain, client)).status_code == 200


def test_clients_are_not_told_where_a_node_asks_its_chain(node, client, monkeypatch):
    def ask(*_):
        raise ChainUnreachable("no answer from http://10.0.0.7:8545 (ReadTimeout)")

    monkeypatch.setattr(node.chain, "account", ask, raising=False)
    response = node.http.post(CHAT, json=signed_body(node.chain, client))
    assert refused(response) == (503, "ChainUnreachable")
    assert "10.0.0.7" not in response.text
    assert int(response.headers["retry-after"]) > 0


def test_answers_of_a_model_without_a_price_need_no_voucher(tmp_path, client):
    with serving(
        f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, price=0, chain=RecordingChain(balance=0)
    ) as node:
        assert node.http.post(CHAT, json=signed_body(node.chain, client, voucher=False)).status_code == 200


def test_of_orders_on_their_way_the_highest_voucher_counts_whichever_comes_first(node, client):
    told = node.http.post(CHAT, json=signed_body(node.chain, client, cumulative=1)).json()["error"]["message"]
    fee = round(float(re.search(r"may cost ([\d.e-]+) tokens", told)[1]) * 10**18)
    for promised, status in ((3 * fee, 200), (fee, 200), (2 * fee, 200), (fee, 402), (4 * fee, 200)):
        order = signed_body(node.chain, client, cumulative=promised)
        assert node.http.post(CHAT, json=order).status_code == status


def test_each_voucher_covers_what_was_owed_before(node, client):
    told = node.http.post(CHAT, json=signed_body(node.chain, client, cumulative=1)).json()["error"]["message"]
    fee = round(float(re.search(r"may cost ([\d.e-]+) tokens", told)[1]) * 10**18)
    assert node.http.post(CHAT, json=signed_body(node.chain, client, cumulative=fee)).status_code == 200
    assert refused(node.http.post(CHAT, json=signed_body(node.chain, client, cumulative=2 * fee - 1))) == (
        402,
        "voucher_too_low",
    )
    assert node.http.post(CHAT, json=signed_body(node.chain, client, cumulative=2 * fee)).status_code == 200


def test_an_order_given_up_leaves_nothing_owed_and_can_be_sent_again(tmp_path, client):
    with serving(
        f"sqlite:///{tmp_path}/node.sqlite",
        allow_unsigned=False,
        engine_=SlowEngine(0.05),
        request_timeout_seconds=0.3,
    ) as node:
        order = signed_body(node.chain, client, max_tokens=500)
        assert refused(node.http.post(CHAT, json=order)) == (503, "timeout")
        wait_for(lambda: not node.answering._promised)
        assert node.store.owed(client.address) == 0
        assert refused(node.http.post(CHAT, json=order)) == (503, "timeout")  # not "in_progress"


def settle(store, node, results):
    """Puts the node's answers in a settled batch."""
    answers = store.unbatched(256)
    batch = sealed(node.chain, answers)
    store.seal(batch, [a.sequence for a in answers])
    store.mark_settled(batch.batch_id, 0, 0, results)


def test_only_accepted_answers_are_collected_and_what_was_not_accepted_is_not_owed(node, client):
    fees = []
    for _ in range(3):
        order = signed_body(node.chain, client)
        signed = parse_order(order, chat=True, model_name=NAME, default_max_tokens=4, limit_tokens=9).signed
        fees.append(answer(node.answering, signed=signed, max_tokens=4).evidence.receipt.fee_wei)
    assert node.store.owed(client.address) == sum(fees)
    assert node.store.earned(client.address) == 0
    settle(node.store, node, ["accept", "reject", "inconclusive"])
    assert node.store.owed(client.address) == node.store.earned(client.address) == fees[0]
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert node.chain.sent == []  # no voucher pays for what it does not acknowledge
    voucher = Voucher(client.address, node.chain.address, sum(fees), fees[0], 2_000)
    node.store.save_voucher(voucher, bytes(65))
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert node.chain.sent == [("collect", voucher.values(), bytes(65))]
    node.chain.outbox.in_flight = frozenset(node.chain.outbox.acts[0].names)
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert len(node.chain.sent) == 1
    node.chain.outbox.in_flight = frozenset()
    node.chain.collected_wei = fees[0]
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert len(node.chain.sent) == 1


def test_a_refused_collection_does_not_stop_the_others(node):
    for _ in range(2):
        payer = EthAccount.create()
        assert node.http.post(CHAT, json=signed_body(node.chain, payer)).status_code == 200
        owed = node.store.owed(payer.address)
        node.store.save_voucher(Voucher(payer.address, node.chain.address, owed, owed, 2_000), bytes(65))
    settle(node.store, node, ["accept", "accept"])
    tried = []

    def collect(act):
        tried.append(act.call.arguments[0][0])
        raise TransactionReverted("collect: no", reason="no")

    node.chain.outbox.submit = collect
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert len(tried) == 2


def test_the_account_shows_the_clients_own_voucher_as_proof(node, client):
    none = {"owedWei": "0", "voucher": None, "acknowledged": None, "asOf": 0, "orders": []}
    assert account(node, client) == none
    order = signed_body(node.chain, client, cumulative=12345)
    node.http.post(CHAT, json=order)
    signature = order["trine"]["voucher"]["signature"]
    shown = account(node, client)["voucher"]
    assert shown == {"cumulativeWei": "12345", "earnedWei": "0", "asOf": 0, "signature": signature}


def test_nobody_but_the_client_sees_its_account(node, client):
    node.http.post(CHAT, json=signed_body(node.chain, client))
    path = f"/v1/accounts/{client.address}"
    assert refused(node.http.get(path)) == (401, "authorization_required")
    assert refused(node.http.get(path, headers={"authorization": "Trine 1:00"})) == (401, "bad_authorization")
    stranger = account_access(node.chain, EthAccount.create())
    assert refused(node.http.get(path, headers=stranger)) == (403, "not_yours")
    # What the client signed for another node is worthless here: the signature is over something else.
    elsewhere = account_access(RecordingChain(), client)
    assert refused(node.http.get(path, headers=elsewhere)) == (403, "not_yours")


def test_the_messages_must_be_the_signed_ones(node, client):
    order = signed_body(node.chain, client)
    order["messages"] = [*MESSAGES, {"role": "user", "content": "and more"}]
    assert refused(node.http.post(CHAT, json=order)) == (400, "request_mismatch")
