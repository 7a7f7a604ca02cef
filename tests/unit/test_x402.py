"""Paid by x402: the library's own client against a real node service, a real token and a real outbox.

Verdicts are written to the store as the batcher writes them; tests/e2e has real committees.
"""

import re
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path

import httpx2
import pytest
from chain_support import devnet, funded
from eth_account import Account
from outbox_support import Operator, open_operator
from test_node_support import PRICE_WEI, SlowEngine, body, model, sealed, serving, signed_body, wait_for
from x402 import x402ClientSync
from x402.http.clients import x402_requests
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.mechanisms.evm.exact import ExactEvmScheme

from trine.chain.confirmations import Confirmations, Confirming
from trine.errors import InvalidInput
from trine_node.examination import examine_x402
from trine_node.settings import X402, NodeSettings
from trine_node.x402.asset import execution
from trine_node.x402.authorization import parse_payment
from trine_node.x402.ledger import Ledger, State
from trine_node.x402.opening import open_door
from trine_node.x402.settling import Settling, name_of

CHAT = "/v1/chat/completions"
RICH = 10**6
"""Units, a thousand answers' worth."""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        yield network


@pytest.fixture
def payer(net):
    return funded(net, RICH)


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path}/node.sqlite"


@pytest.fixture
def node(net, store_url):
    with opened(net, store_url) as node:
        yield node


@dataclass
class Node:
    """A service with its door, and what settles."""

    served: object
    operator: Operator
    settling: Settling
    ledger: Ledger

    @property
    def http(self):
        return self.served.http

    @property
    def address(self):
        return self.operator.chain.address

    def judge(self, result="accept"):
        """A committee's final word on all answers that are in no batch."""
        store = self.served.store
        answers = store.unbatched(256)
        batch = sealed(self.operator.chain, answers)
        store.seal(batch, [answer.sequence for answer in answers])
        store.mark_settled(batch.batch_id, 0, 0, [result] * len(answers))
        self.settle()  # the verdict can still be appealed
        assert not self.operator.queue.open_acts()
        if result == "void":
            store.mark_void(batch.batch_id)
        else:
            store.mark_final(batch.batch_id, 0, 0, [result] * len(answers))

    def settle(self):
        """Until there is nothing more to do."""
        self.settling.step()
        self.operator.finish()
        self.settling.step()

    def offer(self, **fields):
        """What an order costs, from the header of a 402."""
        response = self.http.post(CHAT, json=body(**fields))
        assert response.status_code == 402
        return decode_payment_required_header(response.headers["payment-required"])

    def pay(self, header, **fields):
        return self.http.post(CHAT, json=body(**fields), headers={"payment-signature": header})

    def state(self, response):
        name = response.json()["trine"]["payment"]["payment"]
        return self.http.get(f"/v1/payments/{name}").json()["state"]


@contextmanager
def opened(net, store_url, *, settings=None, engine_=None, key=None):
    key = key or funded(net, 0).key.to_0x_hex()
    operator = open_operator(net.rpc_url, net.deployment_file, key, store_url)

    def door(chain, store):
        url = "http://node.example"
        return open_door(settings or X402(), chain, store, model(), url=url, anchor_within_seconds=3_600)

    try:
        with serving(store_url, allow_unsigned=False, chain=operator.chain, door=door, engine_=engine_) as served:
            ledger = served.answering.door.ledger
            settling = Settling(operator.chain, ledger, operator.outbox, keep_days=1)
            yield Node(served, operator, settling, ledger)
    finally:
        operator.store.close()


def stock(account):
    """The library's client; tokens that it does not know must be named to it."""
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(account))
    client.set_spend_controls({"allowed_assets": True})
    return client


def signed(account, offer):
    """The header that the library's client sends for an offer."""
    client = stock(account)
    payload = client.create_payment_payload(offer)
    return b64encode(payload.model_dump_json(by_alias=True, exclude_none=True).encode()).decode()


def changed(header, change):
    payload = loads(b64decode(header))
    change(payload)
    return b64encode(dumps(payload).encode()).decode()


def code(response):
    return response.status_code, response.json()["error"]["code"]


def balance(net, account):
    return net.admin.token_balance(getattr(account, "address", account))


# What is offered and paid


def test_who_neither_signs_nor_pays_is_told_what_an_answer_costs(net, node):
    response = node.http.post(CHAT, json=body(max_tokens=4))
    assert code(response) == (402, "payment_required")
    offer = decode_payment_required_header(response.headers["payment-required"])
    (accepted,) = offer.accepts
    assert (accepted.scheme, accepted.network, accepted.pay_to) == ("exact", "eip155:31337", node.address)
    assert accepted.asset == net.admin.deployment.address("TrineToken")
    prompt_tokens = int(accepted.amount) // PRICE_WEI - 4
    assert prompt_tokens > 4
    assert int(node.offer(max_tokens=5).accepts[0].amount) == PRICE_WEI * (prompt_tokens + 5)
    assert offer.resource.url == "http://node.example/v1/chat/completions"
    assert node.served.store.unbatched(1) == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_stock_client_is_answered_at_once_and_charged_after_the_final_verdict(net, node, payer, stream):
    with x402_requests(stock(payer)) as session:
        response = session.post(node.served.url + CHAT, json=body(stream=stream))
    assert response.status_code == 200
    assert "payment-response" not in response.headers  # nothing was charged
    (stored,) = node.served.store.unbatched(9)
    assert "0x" + stored.digest.hex() in response.text
    price = PRICE_WEI * (stored.receipt.prompt_tokens + 4)
    assert node.ledger.outstanding(payer.address, net.admin.deployment.address("TrineToken")) == price

    node.settle()
    assert (balance(net, payer), balance(net, node.address)) == (RICH, 0)
    node.judge("accept")  # settled, and open to appeals, it charges nothing either
    assert (balance(net, payer), balance(net, node.address)) == (RICH, 0)
    node.settle()
    assert (balance(net, payer), balance(net, node.address)) == (RICH - price, price)
    node.settle()
    assert balance(net, payer) == RICH - price

    (payment,) = node.ledger.of(State.SETTLED)
    shown = node.http.get(f"/v1/payments/0x{payment.name.hex()}")
    assert shown.json()["receiptDigest"] == "0x" + stored.digest.hex()
    settlement = decode_payment_response_header(shown.headers["payment-response"])
    assert (settlement.success, settlement.payer, settlement.amount) == (True, payer.address, str(price))
    (event,) = net.admin.events("TrineToken", "AuthorizationUsed", authorizer=payer.address)
    assert settlement.transaction == shown.json()["transaction"] == "0x" + event.transaction.hex()


def test_what_the_documents_tell_developers_to_write_pays(node, payer, net):
    text = (Path(__file__).parents[2] / "docs" / "developers.md").read_text()
    code_block = re.search(r"## A stock x402 client\n.*?```python\n(.*?)```", text, re.DOTALL)
    node.served.answering.door._url = node.served.url
    said = {
        "key": payer.key,
        "token": net.admin.deployment.address("TrineToken"),
        "model": body()["model"],
        "node": node.served.url,
    }
    exec(code_block[1], said)  # noqa: S102
    said["session"].close()
    assert said["status"] == "answered"
    assert len(node.served.store.unbatched(9)) == 1


@pytest.mark.parametrize("result", ["reject", "unavailable", "inconclusive", "void"])
def test_an_answer_that_is_not_accepted_is_never_charged(net, node, payer, result):
    response = node.pay(signed(payer, node.offer()))
    assert response.status_code == 200
    node.judge(result)
    for _ in range(3):
        node.settle()
    assert node.state(response) == "dropped"
    assert balance(net, payer) == RICH
    (payment,) = node.ledger.of(State.DROPPED)
    assert not node.served.answering.door.asset.is_used(payment.authorization)
    assert node.ledger.outstanding(payer.address, payment.authorization.asset) == 0


def test_signed_requests_are_none_of_its_business(node, payer):
    order = signed_body(node.operator.chain, payer, voucher=False)
    assert code(node.http.post(CHAT, json=order)) == (402, "voucher_required")
    assert node.http.get("/v1/models").status_code == 200


# Sent again


def test_the_same_payment_brings_the_same_answer_and_is_charged_once(net, node, payer):
    header = signed(payer, node.offer())
    first, again = node.pay(header), node.pay(header, stream=True)
    assert first.json()["trine"]["receiptDigest"] in again.text
    node.judge()
    node.settle()
    price = RICH - balance(net, payer)
    late = node.pay(header)
    assert late.json()["trine"] == first.json()["trine"]
    assert decode_payment_response_header(late.headers["payment-response"]).success
    node.settle()
    assert RICH - balance(net, payer) == price > 0


def test_one_payment_sent_many_times_at_once_makes_one_answer(net, store_url, payer):
    with opened(net, store_url, engine_=SlowEngine(0.05)) as node:
        header = signed(payer, node.offer())
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(node.pay(header))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(response.status_code for response in answers) == [200] + [429] * 5
        assert {code(response)[1] for response in answers if response.status_code == 429} == {"in_progress"}
        assert node.served.answering.engine.produced == 4
        assert len(node.served.store.unbatched(9)) == 1


def test_a_payment_pays_for_one_order(node, payer):
    header = signed(payer, node.offer())
    assert node.pay(header).status_code == 200
    other = [{"role": "user", "content": "Name three primary numbers."}]
    assert code(node.pay(header, messages=other)) == (402, "payment_reused")
    assert code(node.pay(header, max_tokens=5)) == (402, "payment_reused")
    # Nor is another signature over the same nonce another payment.
    forged = changed(header, lambda payload: payload["payload"].update(signature="0x" + "11" * 64 + "1b"))
    assert code(node.pay(forged)) == (402, "payment_reused")


def test_a_payment_that_the_token_has_seen_is_refused(net, node, payer):
    header = signed(payer, node.offer())
    fields = loads(b64decode(header))["payload"]
    authorization = fields["authorization"]
    signature = bytes.fromhex(fields["signature"][2:])
    net.admin._write(
        "TrineToken", "transferWithAuthorization", authorization["from"], authorization["to"],
        int(authorization["value"]), int(authorization["validAfter"]), int(authorization["validBefore"]),
        bytes.fromhex(authorization["nonce"][2:]), signature[64], signature[:32], signature[32:64],
    )  # fmt: skip
    assert code(node.pay(header)) == (402, "payment_used")


# What does not pay


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amount": "1"}, "it pays 1 units"),
        ({"amount": str(10**9)}, "units, the answer costs"),
        ({"pay_to": "0x" + "77" * 20}, "not 0x"),
        ({"asset": "0x" + "77" * 20}, "token 0x7777777777777777777777777777777777777777 is not offered"),
        ({"network": "eip155:1"}, "network 'eip155:1' is not offered"),
        ({"scheme": "upto"}, "scheme 'upto' is not offered"),
        ({"max_timeout_seconds": 600}, "must be until a verdict is final"),
        ({"max_timeout_seconds": 1 << 47}, "beyond any clock"),
    ],
)
def test_a_payment_that_is_not_what_was_offered_is_refused_by_name(node, payer, change, said):
    offer = node.offer()
    (accepted,) = offer.accepts
    # Signed as changed: the payer means it.
    other = accepted.model_copy(update={name: value for name, value in change.items() if name != "scheme"})
    header = signed(payer, offer.model_copy(update={"accepts": [other]}))
    if "scheme" in change:
        header = changed(header, lambda payload: payload["accepted"].update(change))
    response = node.pay(header)
    assert code(response) == (402, "payment_mismatch")
    assert said in response.json()["error"]["message"]
    # Told again what to pay, and why this did not.
    assert said in decode_payment_required_header(response.headers["payment-required"]).error
    assert node.served.store.unbatched(1) == []


def test_what_somebody_else_has_signed_pays_for_nothing(node, payer):
    header = signed(payer, node.offer())
    poor = Account.create()
    forged = changed(header, lambda payload: payload["payload"]["authorization"].update({"from": poor.address}))
    assert code(node.pay(forged)) == (402, "bad_signature")
    high_s = "0x" + "11" * 32 + "ff" * 32 + "1b"
    assert code(node.pay(changed(header, lambda payload: payload["payload"].update(signature=high_s)))) == (
        402,
        "bad_signature",
    )
    assert node.pay(header).status_code == 200


def _nested(depth):
    return b64encode(b'{"payload":' + b"[" * depth + b"]" * depth + b"}").decode()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "?",
        "A" * 8_193,
        b64encode(b"{").decode(),
        b64encode(b"[]").decode(),
        b64encode(b"\xff\xfe").decode(),
        b64encode(b'{"x402Version": NaN}').decode(),
        _nested(2_900),
    ],
)
def test_headers_that_are_no_payment_are_refused(node, header):
    response = node.pay(header)
    assert code(response) == (402, "invalid_payment")
    assert "payment-required" in response.headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.update(x402Version=1), "version 1 is not served"),
        (lambda p: p["payload"].pop("authorization"), "Permit2 is not served"),
        (lambda p: p["payload"].update(signature=None), "signature is malformed"),
        (lambda p: p["payload"].update(signature="0x" + "11" * 96), "signature is malformed"),
        (lambda p: p["payload"]["authorization"].update(value=-1), "authorization.value is malformed"),
        (lambda p: p["payload"]["authorization"].update(value="1_0"), "authorization.value is malformed"),
        (lambda p: p["payload"]["authorization"].update(value="9" * 78), "exceeds 256 bits"),
        (lambda p: p["payload"]["authorization"].update(validBefore="٣"), "validBefore is malformed"),
        (lambda p: p["payload"]["authorization"].update(nonce="0x12"), "nonce is malformed"),
        (lambda p: p["payload"]["authorization"].update({"from": "me"}), "authorization.from is no address"),
        (lambda p: p["accepted"].update(asset="token"), "accepted.asset is no address"),
        (lambda p: p.pop("accepted"), "accepted"),
    ],
)
def test_payments_of_another_shape_are_refused_by_name(node, payer, change, said):
    response = node.pay(changed(signed(payer, node.offer()), change))
    assert code(response) == (402, "invalid_payment")
    assert said in response.json()["error"]["message"]


def test_two_payments_for_one_order_are_refused(node):
    response = httpx2.post(
        node.served.url + CHAT, json=body(), headers=[("payment-signature", "a"), ("payment-signature", "b")]
    )
    assert code(response) == (400, "invalid_payment")


def test_payments_that_nobody_has_sent_are_not_known(node):
    assert node.http.get("/v1/payments/0x" + "12" * 32).status_code == 404
    assert node.http.get("/v1/payments/nonsense").status_code == 400


# Who cannot or will not pay


def test_a_payer_signs_for_no_more_than_it_has(net, node):
    price = int(node.offer().accepts[0].amount)
    poor = funded(net, 2 * price - 1)
    assert node.pay(signed(poor, node.offer())).status_code == 200
    response = node.pay(
        signed(poor, node.offer()), messages=[{"role": "user", "content": "Name three primary colours!"}]
    )
    assert code(response)[1] in ("balance_too_low", "payment_mismatch")
    assert code(node.pay(signed(poor, node.offer()))) == (402, "balance_too_low")
    assert code(node.pay(signed(Account.create(), node.offer()))) == (402, "balance_too_low")
    assert len(node.served.store.unbatched(9)) == 1


def test_credit_is_bounded_for_each_payer_and_for_all(net, store_url, payer):
    with opened(net, store_url, settings=X402(max_unsettled=3, max_unsettled_per_payer=2)) as node:
        for _ in range(2):
            assert node.pay(signed(payer, node.offer())).status_code == 200
        assert code(node.pay(signed(payer, node.offer()))) == (429, "payer_credit_used_up")
        assert node.pay(signed(funded(net, RICH), node.offer())).status_code == 200
        assert code(node.pay(signed(funded(net, RICH), node.offer()))) == (429, "credit_used_up")
        node.judge()
        node.settle()
        assert node.pay(signed(payer, node.offer())).status_code == 200


def test_a_payer_that_moves_its_tokens_away_is_tried_until_its_signature_ends_and_not_served_again(net, node, payer):
    response = node.pay(signed(payer, node.offer()))
    net.chain(payer).transfer(net.admin.address, RICH)
    node.judge()
    node.settle()
    assert node.state(response) == "answered"
    assert not net.admin.events_at("TrineToken", node.served.answering.door.asset.address, "AuthorizationUsed", 0,
                                   authorizer=payer.address)  # fmt: skip
    (payment,) = node.ledger.of(State.ANSWERED)
    net.pass_time(payment.authorization.valid_before - net.admin.timestamp() + 1)
    node.operator.chain.forget_time()
    node.settling._not_before.clear()
    node.settle()
    assert node.state(response) == "unpaid"
    net.admin.transfer(payer.address, RICH)
    assert code(node.pay(signed(payer, node.offer()))) == (402, "payer_defaulted")
    # The chain's clock is a day ahead by now: others' signatures are asked to be good for as much longer.
    assert node.pay(signed(funded(net, RICH), node.offer())).status_code == 200


def test_a_payer_that_has_its_tokens_back_in_time_pays(net, node, payer):
    response = node.pay(signed(payer, node.offer()))
    net.chain(payer).transfer(net.admin.address, RICH)
    node.judge()
    node.settle()
    net.admin.transfer(payer.address, RICH)
    node.settling._not_before.clear()
    node.settle()
    assert node.state(response) == "settled"


@pytest.mark.parametrize("how", ["cancel", "pay another"])
def test_a_payer_that_takes_its_signature_back_has_not_paid(net, node, payer, how):
    response = node.pay(signed(payer, node.offer()))
    (payment,) = node.ledger.of(State.ANSWERED)
    authorization, chain = payment.authorization, net.chain(payer)
    domain = {
        "name": "Trine",
        "version": "1",
        "chainId": 31337,
        "verifyingContract": authorization.asset,
    }
    if how == "cancel":
        types = {
            "CancelAuthorization": [{"name": "authorizer", "type": "address"}, {"name": "nonce", "type": "bytes32"}]
        }
        said = payer.sign_typed_data(domain, types, {"authorizer": payer.address, "nonce": authorization.nonce})
        v, r, s = said.v, said.r.to_bytes(32, "big"), said.s.to_bytes(32, "big")
        chain._write("TrineToken", "cancelAuthorization", payer.address, authorization.nonce, v, r, s)
    else:
        offer = node.offer()
        elsewhere = offer.accepts[0].model_copy(update={"pay_to": net.admin.address})
        other = loads(b64decode(signed(payer, offer.model_copy(update={"accepts": [elsewhere]}))))["payload"]
        names = ("from", "to", "value", "validAfter", "validBefore", "nonce")
        types = {
            "TransferWithAuthorization": [
                {"name": name, "type": kind}
                for name, kind in zip(names, ("address", "address", *["uint256"] * 3, "bytes32"), strict=True)
            ]
        }
        fields = {**other["authorization"], "nonce": authorization.nonce}
        fields |= {name: int(fields[name]) for name in ("value", "validAfter", "validBefore")}
        said = payer.sign_typed_data(domain, types, fields)
        v, r, s = said.v, said.r.to_bytes(32, "big"), said.s.to_bytes(32, "big")
        chain._write("TrineToken", "transferWithAuthorization", *(fields[name] for name in names), v, r, s)
    node.judge()
    node.settle()
    assert node.state(response) == "unpaid"
    assert balance(net, node.address) == 0


def test_whoever_sends_the_transaction_first_pays_the_node_all_the_same(net, node, payer):
    response = node.pay(signed(payer, node.offer()))
    (payment,) = node.ledger.of(State.ANSWERED)
    call = execution(payment.authorization)
    receipt = net.admin._write(call.contract, call.function, *call.arguments)
    node.judge()
    node.settle()
    assert node.state(response) == "settled"
    assert node.ledger.payment(payment.name).executed == bytes(receipt["transactionHash"])
    assert balance(net, node.address) == payment.authorization.value


def test_no_verdict_in_time_costs_the_node_and_not_the_payer(net, node, payer):
    response = node.pay(signed(payer, node.offer()))
    (payment,) = node.ledger.of(State.ANSWERED)
    net.pass_time(payment.authorization.valid_before - net.admin.timestamp() + 1)
    node.operator.chain.forget_time()
    node.settle()
    assert node.state(response) == "expired"
    assert balance(net, payer) == RICH
    assert node.pay(signed(payer, node.offer())).status_code == 200


# Leaving, crashes, rollbacks


def test_who_leaves_in_the_middle_of_a_paid_answer_pays_for_it_and_can_have_it(net, store_url, payer):
    with opened(net, store_url, engine_=SlowEngine(0.05)) as node:
        header = signed(payer, node.offer(max_tokens=12))
        with node.http.stream(
            "POST", CHAT, json=body(max_tokens=12, stream=True), headers={"payment-signature": header}
        ) as response:
            next(response.iter_lines())
        wait_for(lambda: node.served.store.unbatched(1))
        assert node.served.answering.engine.produced == 12
        again = node.pay(header, max_tokens=12)
        assert again.status_code == 200
        node.judge()
        node.settle()
        assert node.state(again) == "settled"


def test_an_answer_that_fails_takes_no_payment(net, store_url, payer):
    class Broken(SlowEngine):
        is_broken = True

        def generate(self, prompt_ids, max_tokens, cancelled=None, decoding=None):
            if self.is_broken:
                raise RuntimeError("no answer")
            yield from super().generate(prompt_ids, max_tokens, cancelled, decoding)

    with opened(net, store_url, engine_=Broken(0)) as node:
        header = signed(payer, node.offer())
        assert node.pay(header).status_code == 500
        node.served.answering.engine.is_broken = False
        assert node.pay(header).status_code == 200


def test_a_crash_before_the_answer_releases_the_payment_and_one_after_it_loses_nothing(net, store_url, payer):
    key = funded(net, 0).key.to_0x_hex()
    with opened(net, store_url, key=key) as node:
        header, other = signed(payer, node.offer()), signed(payer, node.offer())
        assert node.pay(header).status_code == 200
        (payment,) = node.ledger.of(State.ANSWERED)
        # As a process leaves the store that is killed while it generates.
        begun = parse_payment(other)[1]
        node.ledger.reserve(begun, payment.ordered, 0, RICH, node.served.answering.door.caps)
        node.judge()
        node.settling.step()  # queued, not sent
        assert name_of(payment) in node.operator.outbox.open_names()
        assert balance(net, payer) == RICH
    with opened(net, store_url, key=key) as node:
        assert node.ledger.of(State.RESERVED) == []
        node.settle()
        assert node.ledger.payment(payment.name).state is State.SETTLED
        assert balance(net, payer) == RICH - payment.authorization.value
        assert node.pay(other).status_code == 200


def test_a_settlement_counts_once_its_block_stays(net, node, payer):
    node.operator.chain._confirming = Confirming(Confirmations.of(3), lambda _tag: None)
    response = node.pay(signed(payer, node.offer()))
    node.judge()
    before = net.rpc.call("evm_snapshot")
    node.settling.step()
    node.operator.until(lambda: balance(net, payer) < RICH)
    node.settling.step()
    assert node.state(response) == "answered"
    net.rpc.call("evm_revert", before)  # the block is taken back
    assert balance(net, payer) == RICH
    node.operator.until(lambda: not node.operator.outbox.open_names())
    node.settling.step()
    assert node.state(response) == "settled"
    assert balance(net, payer) == RICH - node.ledger.of(State.SETTLED)[0].authorization.value


# Opening


def test_a_token_without_authorizations_is_refused_by_name(net, store_url):
    settings = X402(asset=net.admin.deployment.address("Staking"), units_per_million_tokens=1)
    with pytest.raises(InvalidInput, match="no EIP-3009 authorizations"), opened(net, store_url, settings=settings):
        pass


@pytest.mark.parametrize("wrong", [{"asset_name": "Another"}, {"asset_version": "2"}])
def test_a_domain_that_is_not_the_tokens_is_refused(net, store_url, wrong):
    with pytest.raises(InvalidInput, match=r"correct x402\.asset_name"), opened(net, store_url, settings=X402(**wrong)):
        pass


def test_another_token_has_a_price_of_its_own(net, store_url, payer):
    asset = net.admin.deployment.address("TrineToken").lower()
    with opened(net, store_url, settings=X402(asset=asset, units_per_million_tokens=1, min_units=3)) as node:
        assert node.offer().accepts[0].amount == "3"
        assert node.pay(signed(payer, node.offer())).status_code == 200


def test_nobody_loads_the_library_but_who_asks_for_it():
    said = subprocess.run(
        [sys.executable, "-c", "import sys, trine, trine_node.run; print('x402' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "charged after final verdicts"),
        ({"asset_name": "Another"}, "correct x402.asset_name"),
    ],
)
def test_the_check_before_a_start_says_whether_payments_could_be_charged(net, given, said):
    name = f"checked-{len(given)}"
    net.create_account(name, 0)
    settings = NodeSettings(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        keystore=net.keystore(name),
        password_file=net.password_file,
        model=net.record.name,
        x402=X402(**given),
    )
    (finding,) = examine_x402(settings)
    assert said in finding.found
    assert (finding.todo is None) == (not given)


def test_unsigned_requests_are_free_or_paid_and_another_token_needs_a_price(tmp_path):
    file = tmp_path / "node.toml"
    file.write_text('allow_unsigned = true\n[x402]\nasset = "0x' + "12" * 20 + '"\n')
    with pytest.raises(InvalidInput, match="another asset needs units_per_million_tokens"):
        NodeSettings.load(file)
    file.write_text(
        'allow_unsigned = true\nmodel = "m"\n'
        + "".join(f'{name} = "x"\n' for name in ("deployment", "keystore", "password_file"))
        + "[x402]\n"
    )
    with pytest.raises(InvalidInput, match="either free or paid"):
        NodeSettings.load(file)
