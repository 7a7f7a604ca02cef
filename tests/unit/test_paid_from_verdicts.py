"""Paid from verdicts: what a client acknowledges, what a node insists on, opens and answers for.

The contracts' side is in tests/contracts/PaymentsOpened.t.sol and Inclusion.t.sol.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from eth_account import Account as EthAccount
from test_client_parallel import client_of
from test_node_support import (
    CHAT,
    MESSAGES,
    NAME,
    PRICE_WEI,
    RECORD,
    RecordingChain,
    account,
    answer,
    chain_batch,
    model,
    sealed,
    serving,
    sign,
    signed_body,
)

from trine._answer import Answer, Told, checked_answer
from trine._ledger import Ledger
from trine._ordering import Draft, as_input, draft_request
from trine.chain import BatchState, ClaimState, Event, InclusionClaim, ModelEntry, Result, Verdict
from trine.errors import BadSignature, InvalidInput, NodeRefused, NotReady, VerificationFailed
from trine.protocol.messages import MAX_ANCHOR_SECONDS, Receipt, Request, Voucher, text_hash
from trine_node.answering import MAX_UNACKNOWLEDGED_WEI, Answering
from trine_node.orders import MAX_LIFETIME_SECONDS, parse_order
from trine_operator.inclusion import CLAIMS_AT_ONCE, Claims
from trine_operator.payments import OPENINGS_AT_ONCE, Collecting, collect_earned
from trine_operator.tables import AnswerRow


@pytest.fixture
def node(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as served:
        yield served


@pytest.fixture
def payer():
    return EthAccount.create()


def judge(node, results=None, *, final=True):
    """All answers that wait go into a batch, with these results, on the node's chain and in its store."""
    waiting = node.store.unbatched(256)
    batch = sealed(node.chain, waiting)
    node.store.seal(batch, [each.sequence for each in waiting])
    results = results or ["accept"] * len(waiting)
    accepted = sum(1 << leaf for leaf, result in enumerate(results) if result == "accept")
    rejected = sum(1 << leaf for leaf, result in enumerate(results) if result == "reject")
    state = BatchState.FINAL if final else BatchState.SETTLED
    node.chain.batches[batch.batch_id] = chain_batch(batch.batch_id, state, leaf_count=len(results))
    node.chain.results[batch.batch_id] = Result(len(results), accepted, rejected, 0, True, final)
    (node.store.mark_final if final else node.store.mark_settled)(batch.batch_id, accepted, rejected, results)
    return batch


def ask(node, payer, question="Question?", **options):
    """By a client that knows nothing of what was before: another process of the account."""
    with client_of(node, account=payer) as client:
        return client.chat(question, max_tokens=3, **options)


def refused(response):
    return response.status_code, response.json()["error"]["code"]


# What the client acknowledges


def test_the_next_voucher_acknowledges_what_was_accepted_and_the_node_collects_just_that(node, payer):
    fees = [ask(node, payer, f"{number}?").receipt.fee_wei for number in range(3)]
    judge(node, ["accept", "reject", "accept"])
    assert node.store.acknowledgement(payer.address) is None
    collect_earned(node.store, node.chain, node.chain.outbox)
    assert node.chain.sent == []
    ask(node, payer)
    kept = node.store.acknowledgement(payer.address)
    assert kept.earned_wei == fees[0] + fees[2]
    collect_earned(node.store, node.chain, node.chain.outbox)
    ((name, voucher, signature),) = node.chain.sent
    assert (name, voucher) == ("collect", kept.voucher(payer.address, node.chain.address).values())
    assert signature == sign(payer, Voucher(*voucher).digest(node.chain.payments_domain))


def test_acknowledging_goes_on_where_it_was_and_counts_nothing_twice(node, payer):
    total = 0
    for _ in range(3):
        node.chain.seconds += 10  # deadlines differ
        total += ask(node, payer).receipt.fee_wei
        judge(node)
    ask(node, payer)
    kept = node.store.acknowledgement(payer.address)
    assert kept.earned_wei == total
    assert account(node, payer)["orders"] == []


def test_what_is_not_final_is_not_acknowledged_and_holds_back_what_was_ordered_later(node, payer):
    ask(node, payer)
    judge(node, final=False)
    node.chain.seconds += 10
    ask(node, payer)
    judge(node)
    ask(node, payer)
    assert node.store.acknowledgement(payer.address) is None


@pytest.mark.parametrize("result", ["reject", "inconclusive"])
def test_a_node_asks_for_no_acknowledgement_beyond_what_may_be_accepted_on_appeal(node, payer, result):
    first = ask(node, payer)
    judge(node, [result], final=False)
    node.chain.seconds += 10
    ask(node, payer)
    judge(node)
    shown = account(node, payer)
    assert shown["orders"] == []
    assert shown["asOf"] == node.store.answer(first.digest).evidence.request.deadline


def test_what_the_chain_calls_final_is_acknowledged_before_the_node_is_sure_of_it(node, payer):
    """It looks for some blocks more whether a re-org takes the end back."""
    fee = ask(node, payer).receipt.fee_wei
    batch = judge(node, final=False)
    node.chain.results[batch.batch_id] = replace(node.chain.results[batch.batch_id], is_final=True)
    ask(node, payer)
    assert node.store.acknowledgement(payer.address).earned_wei == fee


def test_what_is_final_to_the_node_alone_is_not_acknowledged_yet(node, payer):
    ask(node, payer)
    batch = judge(node)
    node.chain.results[batch.batch_id] = replace(node.chain.results[batch.batch_id], is_final=False)
    ask(node, payer)  # by an endpoint that is behind
    assert node.store.acknowledgement(payer.address) is None


def edited(node, payer, change):
    """A client whose node shows another account than it has."""
    shown = account(node, payer)
    change(shown)
    with client_of(node, account=payer) as client:
        client._core.learn(shown, node.chain.address)
        return client._core.ledger(node.chain.address)


def of_stranger(shown):
    request = Request.from_json(shown["orders"][0]["request"])
    shown["orders"][0]["requestSignature"] = (
        "0x" + sign(EthAccount.create(), request.digest(RecordingChain.domain)).hex()
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda shown: shown["orders"].append(copy.deepcopy(shown["orders"][0])), "is shown twice"),
        (lambda shown: shown["orders"][0]["receipt"].update(feeWei=str(10**15)), "costs more than it allowed"),
        (lambda shown: shown["orders"][0]["receipt"].update(feeWei="1"), "is not in the batch"),
        (lambda shown: shown["orders"][0]["receipt"].update(node="0x" + "11" * 20), "by another node"),
        (lambda shown: shown["orders"][0]["request"].update(nonce="1"), "an order that the node shows"),
        (lambda shown: shown["orders"][0]["batch"].update(index=1), "is not in the batch"),
        (lambda shown: shown.update(asOf=shown["asOf"] - 1), "outside of what is to be acknowledged"),
        (lambda shown: shown.update(orders=[{}]), "malformed"),
        (lambda shown: shown.update(orders=None), "malformed"),
        (lambda shown: shown.update(acknowledged={"cumulativeWei": "9"}), "malformed"),
        (of_stranger, "an order that the node shows is signed by"),
    ],
)
def test_attack_a_node_that_is_believed_charges_for_what_nobody_ordered(node, payer, change, told):
    """A client that took the node's count paid 3.6 times what it should have."""
    ask(node, payer)
    judge(node)
    with pytest.raises((VerificationFailed, BadSignature), match=told):
        edited(node, payer, change)


def test_attack_a_node_wants_to_be_paid_for_what_was_rejected(node, payer):
    ask(node, payer)
    batch = judge(node)
    node.chain.results[batch.batch_id] = replace(node.chain.results[batch.batch_id], accepted=0, rejected=1)
    with pytest.raises(VerificationFailed, match="not accepted"):
        ask(node, payer)


def test_attack_a_node_anchors_another_receipt_than_the_client_got(node, payer):
    """For the same order and answer, with all that the order allowed: verifiers know no price."""
    with client_of(node, account=payer) as client:
        given = client.chat("Question?", max_tokens=3)
        stored = node.store.answer(given.digest)
        dear = replace(stored.receipt, fee_wei=stored.evidence.request.max_fee_wei)
        with node.store.writing() as session:
            row = session.get(AnswerRow, stored.sequence)
            row.evidence = json.dumps(json.loads(row.evidence) | {"receipt": dear.to_json()})
            row.signed_order = json.dumps(json.loads(row.signed_order) | {"receipt": dear.to_json()})
        judge(node)
        with pytest.raises(VerificationFailed, match=f"whose receipt to us says {given.receipt.fee_wei}"):
            client.acknowledge()
    assert node.store.acknowledgement(payer.address) is None


def test_attack_a_node_shows_an_old_acknowledgement_to_be_paid_once_more(node, payer):
    first = ask(node, payer).receipt.fee_wei
    judge(node)
    with client_of(node, account=payer) as client:
        client.chat("acknowledges", max_tokens=3)
        ledger = client._core.ledger(node.chain.address)
        shown = account(node, payer)
        shown["acknowledged"] = None
        client._core.learn(shown | {"orders": [], "asOf": 0}, node.chain.address)
        taken = ledger.take(1, 10**6)
        assert (taken.earned_wei, taken.as_of > 0) == (first, True)


def test_attack_what_is_counted_already_is_opened_because_a_voucher_reaches_less_far(node, payer):
    """Of a process with an order on its way from before another one acknowledged: not with the other's sum."""
    with client_of(node, account=payer) as behind:
        ledger = behind._core.ledger(node.chain.address)
        ledger.learn(0)
        ledger.take(1, node.chain.now() + 10)
        ask(node, payer)
        judge(node)
        ask(node, payer)
        assert node.store.acknowledgement(payer.address).earned_wei > 0
        behind._core.learn(account(node, payer), node.chain.address)
        assert ledger.acknowledged == (0, 0)


def test_a_ledger_acknowledges_nothing_that_an_order_on_its_way_would_be_part_of():
    ledger = Ledger()
    ledger.learn(0)
    taken = ledger.take(5, deadline=100)
    ledger.acknowledge(3, 101)
    assert ledger.take(5, deadline=200).as_of == 0
    ledger.acknowledge(3, 100)
    later = ledger.take(5, deadline=50)
    assert (later.earned_wei, later.as_of, later.deadline) == (3, 100, 100)
    ledger.give_back(taken.number, 0)
    ledger.acknowledge(2, 90)
    assert ledger.take(0).earned_wei == 3


def test_no_voucher_is_over_less_than_it_acknowledges():
    ledger = Ledger()
    ledger.acknowledge(7, 10)
    assert ledger.take(1).cumulative_wei == 7


def test_who_orders_nothing_more_acknowledges_all_the_same(node, payer):
    collecting_ = collecting(node)
    with client_of(node, account=payer) as client:
        fee = client.chat("The last one?", max_tokens=3).receipt.fee_wei
        assert client.acknowledge() == 0
        judge(node)
        assert client.acknowledge() == fee
        assert client.acknowledge() == fee
    assert node.store.acknowledgement(payer.address).earned_wei == fee
    collecting_.step()
    ((name, _, _),) = node.chain.sent
    assert name == "collect"
    node.chain.outbox.in_flight = frozenset(node.chain.outbox.acts[0].names)
    collecting_.step()
    assert len(node.chain.sent) == 1


def test_a_final_certificate_acknowledges_what_it_is_of(node, payer):
    with client_of(node, account=payer) as client:
        given = client.chat("Certified?", max_tokens=3)
        batch = judge(node)
        client.chain.result = node.chain.result
        client.chain.verdict = lambda *_: (Verdict.ACCEPTED, True)
        assert client.certify(given, final=True).batch_id == batch.batch_id
    assert node.store.acknowledgement(payer.address).earned_wei == given.receipt.fee_wei


@pytest.mark.parametrize(
    ("changes", "signer", "expected"),
    [
        ({}, "payer", (404, "no_account")),
        ({"payee": "0x" + "11" * 20}, "payer", (402, "voucher_mismatch")),
        ({"as_of": 1_000 + MAX_LIFETIME_SECONDS + 2}, "payer", (400, "acknowledged_too_far")),
        ({}, "stranger", (401, "bad_signature")),
    ],
)
def test_a_voucher_alone_is_taken_of_clients_only(node, payer, changes, signer, expected):
    voucher = replace(Voucher(payer.address, node.chain.address, 9, 9, 1_000), **changes)
    key = payer if signer == "payer" else EthAccount.create()
    body = {
        "voucher": voucher.to_json(),
        "signature": "0x" + sign(key, voucher.digest(node.chain.payments_domain)).hex(),
    }
    assert refused(node.http.post("/v1/vouchers", json=body)) == expected
    assert node.store.voucher(payer.address) is None


@pytest.mark.parametrize("body", [None, [], {}, {"voucher": {}, "signature": ""}, {"voucher": "x", "signature": 1}])
def test_a_malformed_voucher_is_refused(node, body):
    assert node.http.post("/v1/vouchers", json=body).status_code == 400


# What the node insists on


def signed(node, payer, **options):
    return node.http.post(CHAT, json=signed_body(node.chain, payer, **options))


def test_a_voucher_that_acknowledges_too_little_is_refused(node, payer):
    receipt = Receipt.from_json(signed(node, payer).json()["trine"]["receipt"])
    judge(node)
    deadline = node.chain.now() + 600
    response = signed(node, payer, earned=receipt.fee_wei - 1, as_of=deadline + 1, deadline=deadline + 9)
    assert refused(response) == (402, "acknowledged_too_little")
    assert str(receipt.fee_wei) in response.json()["error"]["message"]
    assert signed(node, payer, earned=receipt.fee_wei, as_of=deadline + 1, deadline=deadline + 9).status_code == 200
    assert node.store.acknowledgement(payer.address).earned_wei == receipt.fee_wei


def test_an_order_that_seems_to_be_acknowledged_before_it_is_answered_is_refused(node, payer):
    deadline = node.chain.now() + 600
    assert refused(signed(node, payer, as_of=deadline + 1)) == (402, "order_behind")
    fee = Receipt.from_json(signed(node, payer).json()["trine"]["receipt"]).fee_wei
    judge(node)
    assert signed(node, payer, earned=fee, as_of=deadline + 1, deadline=deadline + 1).status_code == 200
    # Another process of the account does not know of that yet: its client signs anew.
    assert refused(signed(node, payer)) == (402, "order_behind")
    assert ask(node, payer).text


def test_an_order_with_a_deadline_far_away_is_refused(node, payer):
    far = node.chain.now() + MAX_LIFETIME_SECONDS + 1
    assert refused(signed(node, payer, deadline=far)) == (400, "deadline_too_far")


def test_who_does_not_acknowledge_is_not_served_for_ever(node, payer):
    node.answering._max_unacknowledged_wei = 10
    assert signed(node, payer).status_code == 200
    batch = judge(node, final=False)
    node.chain.seconds += 10
    assert signed(node, payer).status_code == 200  # nobody can acknowledge what is not final
    judge(node)
    assert signed(node, payer).status_code == 200  # nor what was ordered later
    node.chain.seconds += 10
    node.store.mark_final(batch.batch_id, 1, 0, ["accept"])
    node.chain.results[batch.batch_id] = replace(node.chain.results[batch.batch_id], is_final=True)
    response = signed(node, payer)
    assert refused(response) == (402, "acknowledgement_required")
    assert "GET /v1/accounts" in response.json()["error"]["message"]
    with client_of(node, account=payer) as client:
        client._core.ledger(node.chain.address).learn(0)  # it believes that nothing is to be acknowledged
        assert client.chat("Acknowledged now?", max_tokens=2).text


def test_no_answer_is_sold_or_bought_for_more_than_the_stake_behind_it(tmp_path, payer):
    chain = RecordingChain(stake_per_leaf=100)
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, chain=chain) as node:
        assert refused(signed(node, payer)) == (400, "fee_over_stake")
        with pytest.raises(NodeRefused, match="shorten the prompt or lower max_tokens") as dear:
            ask(node, payer)
        assert (dear.value.code, len(chain.batches)) == ("fee_over_stake", 0)
    chain = RecordingChain(stake_per_leaf=2 * PRICE_WEI)
    with (
        serving(f"sqlite:///{tmp_path}/other.sqlite", allow_unsigned=False, chain=chain) as node,
        pytest.raises(InvalidInput, match=r"3 tokens may cost .* more than the .* that secure an answer"),
    ):
        ask(node, payer)


def test_a_prompt_of_many_bytes_and_few_tokens_is_served_where_only_its_bytes_cost_more_than_the_stake(tmp_path, payer):
    chain = RecordingChain(stake_per_leaf=1_000 * PRICE_WEI)
    question = "What is " + "internationalization " * 100
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, chain=chain) as node:
        answer = ask(node, payer, question)
        assert repr(answer).startswith("<Answer ")
        assert len(repr(answer)) < 500  # no signatures and hashes
        assert len(question) > 2 * 1_000 > 2 * answer.receipt.prompt_tokens
        with client_of(node, account=payer) as client:
            assert client.worst_fee_wei(question, max_tokens=3) == 1_000 * PRICE_WEI
            assert client.worst_fee_wei("Question?", max_tokens=3) < 1_000 * PRICE_WEI


def test_the_default_is_served_by_a_node_with_the_default_settings():
    from trine_node.settings import NodeSettings

    fields = NodeSettings.model_fields
    assert int(fields["max_unacknowledged"].default * 10**18) == MAX_UNACKNOWLEDGED_WEI


# What it collects from clients that are silent


def collecting(node, **options):
    options = {"after_seconds": 100, "threshold_wei": 0, **options}
    return Collecting(node.store, node.chain, node.chain.outbox, clock=lambda: 0.0, **options)


def served(node, payer, count=2):
    """So many answers, without a word of acknowledgement."""
    orders = [signed_body(node.chain, payer) for _ in range(count)]
    return [Receipt.from_json(node.http.post(CHAT, json=order).json()["trine"]["receipt"]) for order in orders]


def test_a_silent_clients_accepted_answers_are_opened_with_its_highest_voucher(node, payer):
    receipts = served(node, payer, 3)
    batch = judge(node, ["accept", "reject", "accept"])
    collecting(node).step()
    assert node.chain.sent == []  # it was heard of just now
    node.chain.seconds += 100
    collecting(node).step()
    ((name, voucher, signature, requests, openings),) = node.chain.sent
    assert name == "collectOpened"
    kept = node.store.voucher(payer.address)
    assert (voucher, signature) == (kept.voucher(payer.address, node.chain.address).values(), kept.signature)
    assert [opened[2] for opened in openings] == [0, 2]
    assert [opened[3] for opened in openings] == [receipts[0].values(), receipts[2].values()]
    assert {opened[0] for opened in openings} == {batch.root}
    digests = [Request(*values).digest(node.chain.domain) for values in requests]
    assert digests == [receipts[0].request_hash, receipts[2].request_hash]


def test_attack_a_client_takes_its_deposit_out_before_anything_is_collected(node, payer):
    served(node, payer)
    judge(node)
    node.chain.leaving = 1  # notice was given
    collecting(node).step()
    assert node.chain.names_sent() == ["collectOpened"]


def test_all_who_owe_have_their_turn(node, monkeypatch):
    monkeypatch.setattr("trine_operator.payments.ACCOUNTS_AT_ONCE", 1)
    for _ in range(3):
        served(node, EthAccount.create(), 1)
    judge(node)
    node.chain.seconds += 100
    now = [0.0]
    looking = Collecting(
        node.store, node.chain, node.chain.outbox, after_seconds=100, threshold_wei=0, clock=lambda: now[0]
    )
    for _ in range(3):
        looking.step()
        now[0] += 1_000
    assert len({voucher[0] for _, voucher, *_ in node.chain.sent}) == 3


def test_what_was_opened_is_not_opened_again(node, payer):
    receipts = served(node, payer)
    judge(node)
    node.chain.seconds += 100
    node.chain.opened = (receipts[0].request_hash,)
    collecting(node).step()
    ((_, _, _, requests, _),) = node.chain.sent
    assert len(requests) == 1
    node.chain.opened = tuple(receipt.request_hash for receipt in receipts)
    collecting(node).step()
    assert len(node.chain.sent) == 1
    assert node.store.to_open(payer.address, 0, 9) == []


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"balance": 0}, {}),
        ({"as_of": 10**6}, {}),  # the client has counted them already
        ({}, {"threshold_wei": 10**18}),
    ],
)
def test_what_would_fail_or_is_not_worth_it_is_not_opened(node, payer, fields, options):
    served(node, payer)
    judge(node)
    node.chain.seconds += 100
    for name, value in fields.items():
        setattr(node.chain, name, value)
    collecting(node, **options).step()
    assert node.chain.sent == []


def test_what_is_acknowledged_is_collected_before_anything_is_opened(node, payer):
    served(node, payer)
    judge(node)
    ask(node, payer)
    judge(node)
    node.chain.seconds += 1_000
    collecting(node).step()
    assert set(node.chain.names_sent()) == {"collect"}
    node.chain.sent.clear()
    node.chain.collected_wei = node.store.acknowledgement(payer.address).earned_wei
    node.chain.as_of = node.store.acknowledgement(payer.address).as_of
    collecting(node).step()
    assert len(node.chain.sent[0][3]) == 1  # the last one alone


def test_no_more_is_opened_at_once_than_a_transaction_holds(node, payer):
    for number in range(OPENINGS_AT_ONCE + 3):
        body = signed_body(node.chain, payer, max_tokens=1)
        order = parse_order(body, chat=True, model_name=NAME, default_max_tokens=1, limit_tokens=9)
        given = answer(node.answering, signed=order.signed, max_tokens=1)
        assert given.evidence.receipt.fee_wei > 0, number
    node.store.save_voucher(Voucher(payer.address, node.chain.address, 10**9), bytes(65))
    judge(node)
    node.chain.seconds += 100
    collecting(node).step()
    assert len(node.chain.sent[0][3]) == OPENINGS_AT_ONCE


# Claims that a receipt is in no batch


class ClaimedChain(RecordingChain):
    """With events of claims."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self.events, self.states = [], {}
        self.asked_for, self.looked_back_to, self.states_asked = [], [], []

    def events_of(self, _kinds, first, last, indexed=()):
        self.asked_for.append((first, last, indexed))
        return [event for event in self.events if first <= event.block <= last]

    def block_before(self, timestamp):
        self.looked_back_to.append(timestamp)
        return self.deployment.block

    def inclusion_answer_seconds(self):
        return 3_600

    def batch_state(self, batch_id):
        self.states_asked.append(batch_id)
        return self.batch(batch_id).state

    def block_hashes(self, blocks):
        return [None for _ in blocks]

    def inclusion_claim(self, receipt_hash):
        return self.states.get(receipt_hash, InclusionClaim(ClaimState.NONE, 0, bytes(32)))

    def claim(self, receipt_hash, answer_by, node=None):
        self.block += 1
        args = {"receiptHash": receipt_hash, "node": node or self.address, "client": MESSAGES, "answerBy": answer_by}
        self.events.append(Event("Inclusion", "InclusionClaimed", args, self.block, 0, bytes(32), bytes(32)))
        self.states[receipt_hash] = InclusionClaim(ClaimState.OPEN, answer_by, bytes(32))


@pytest.fixture
def claimed(tmp_path, payer):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False, chain=ClaimedChain()) as node:
        (receipt,) = served(node, payer, 1)
        yield node, receipt, Claims(node.store, node.chain, node.chain.outbox, clock=lambda: 0.0)


def test_a_claim_is_answered_by_showing_the_receipt_in_its_batch(claimed):
    node, receipt, claims = claimed
    batch = judge(node)
    claims.step()
    assert node.chain.sent == []
    node.chain.claim(receipt.struct_hash(), node.chain.seconds + 1_000)
    claims.step()
    ((_, opening_),) = node.chain.sent
    assert opening_[:4] == (batch.root, batch.canary, 0, receipt.values())
    (act,) = node.chain.outbox.acts
    assert act.due.at == node.chain.seconds + 1_000


def test_a_claim_waits_for_the_batch_and_survives_a_restart(claimed):
    node, receipt, claims = claimed
    node.chain.claim(receipt.struct_hash(), node.chain.seconds + 1_000)
    claims.step()
    assert node.chain.sent == []  # it is in no batch yet
    batch = judge(node)
    node.chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.VOID)
    again = Claims(node.store, node.chain, node.chain.outbox, clock=lambda: 0.0)
    again.step()
    assert node.chain.sent == []  # nobody judges that one
    node.chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.ANCHORED)
    Claims(node.store, node.chain, node.chain.outbox, clock=lambda: 0.0).step()
    assert len(node.chain.sent) == 1


def test_claims_against_others_that_are_over_or_of_unknown_receipts_are_left_alone(claimed):
    node, receipt, claims = claimed
    judge(node)
    node.chain.claim(receipt.struct_hash(), node.chain.seconds - 1)
    node.chain.claim(bytes(32), node.chain.seconds + 9)
    node.chain.claim(receipt.struct_hash(), node.chain.seconds + 9, node="0x" + "11" * 20)
    claims.step()
    assert node.chain.sent == []


def test_claims_on_a_batch_are_looked_at_together_and_a_known_store_asks_for_no_time(claimed, payer):
    node, receipt, claims = claimed
    more = served(node, payer, 3)
    judge(node)
    for each in (receipt, *more):
        node.chain.claim(each.struct_hash(), node.chain.seconds + 1_000)
    claims.step()
    assert len(node.chain.sent) == 4
    assert len(node.chain.states_asked) == 1
    mine = "0x" + bytes(12).hex() + node.chain.address[2:].lower()
    assert {indexed for _, _, indexed in node.chain.asked_for} == {(None, mine)}
    assert node.chain.looked_back_to == [node.chain.seconds - 3_600]
    Claims(node.store, node.chain, node.chain.outbox, clock=lambda: 0.0).step()
    assert len(node.chain.looked_back_to) == 1


def test_attack_whoever_claims_much_hides_the_last_claim_behind_the_first(claimed):
    node, receipt, claims = claimed
    judge(node)
    for number in range(2 * CLAIMS_AT_ONCE):
        node.chain.claim(number.to_bytes(32, "big"), node.chain.seconds + 1_000)
    node.chain.claim(receipt.struct_hash(), node.chain.seconds + 1_001)
    for _ in range(3):
        claims.step()
    ((_, opening_),) = node.chain.sent
    assert opening_[3] == receipt.values()


def test_receipts_promise_to_be_anchored_as_the_settings_say(tmp_path, payer):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as node:
        node.answering._anchor_within_seconds = 700
        (receipt,) = served(node, payer, 1)
        assert receipt.anchor_by == receipt.issued_at + 700
        beyond = Answering(node.answering.engine, node.chain, node.store, model(), allow_unsigned=False)
        beyond._anchor_within_seconds = 10**6
        order = parse_order(
            signed_body(node.chain, payer), chat=True, model_name=NAME, default_max_tokens=4, limit_tokens=9
        )
        late = answer(beyond, signed=order.signed, max_tokens=4).evidence.receipt
        assert late.anchor_by == late.issued_at + MAX_ANCHOR_SECONDS


# What a client checks and does


def receipt_for(draft, node, **changes):
    request = draft.request
    fields = {
        "request_hash": draft.digest,
        "client": request.client,
        "node": node.address,
        "model_id": request.model_id,
        "input_hash": request.input_hash,
        "prompt_hash": bytes(32),
        "output_hash": bytes(32),
        "text_hash": text_hash("text"),
        "fingerprint_hash": bytes(32),
        "prompt_tokens": 9,
        "output_tokens": 4,
        "max_tokens": request.max_tokens,
        "finish_reason": 0,
        "engine_class": bytes(32),
        "fee_wei": 13 * PRICE_WEI,
        "issued_at": 1_000,
        "anchor_by": 4_600,
    }
    return Receipt(**{**fields, **changes})


def drafted(payer):
    asked = as_input("Hello?")
    entry = ModelEntry(RECORD.model_id, NAME, PRICE_WEI, 1)
    request = draft_request(asked, entry, payer.address, 4, 1_000)
    return Draft(asked, request, request.digest(RecordingChain.domain), {}, 0, PRICE_WEI)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"fee_wei": 13 * PRICE_WEI + 1}, "a higher fee than its tokens cost"),
        ({"output_tokens": 5, "fee_wei": 14 * PRICE_WEI}, "more tokens than were ordered"),
        ({"prompt_tokens": 400}, "more prompt tokens than the text can have"),
        ({"anchor_by": 999}, "no time by which it will be judged"),
        ({"anchor_by": 1_000 + MAX_ANCHOR_SECONDS + 1}, "no time by which it will be judged"),
        ({"issued_at": 10**6, "anchor_by": 10**6 + 1}, "another time"),
    ],
)
def test_attack_overcharging_or_promising_nothing_in_the_receipt(payer, changes, told):
    node, draft = EthAccount.create(), drafted(payer)
    receipt = receipt_for(draft, node, **changes)
    extras = {
        "receipt": receipt.to_json(),
        "signature": "0x" + sign(node, receipt.digest(RecordingChain.domain)).hex(),
    }

    def check():
        return checked_answer(extras, Told("text", "stop"), draft, node.address, "http://node", RecordingChain.domain)

    if told is None:
        assert check().receipt == receipt
        return
    with pytest.raises(VerificationFailed, match=told):
        check()


class Claiming:
    """A chain that takes claims."""

    def __init__(self):
        self.now, self.sent = 0, []
        self.state = InclusionClaim(ClaimState.NONE, 0, bytes(32))

    def timestamp(self):
        return self.now

    def inclusion_claim(self, _receipt_hash):
        return self.state

    def inclusion_bond(self):
        return 7

    def allow(self, contract, amount):
        self.sent.append(("allow", contract, amount))

    def claim_inclusion(self, receipt, signature):
        self.sent.append(("claim", receipt, signature))
        self.state = InclusionClaim(ClaimState.OPEN, self.now + 100, bytes(32))

    def conclude_inclusion(self, receipt):
        self.sent.append(("conclude", receipt))
        self.state = InclusionClaim(ClaimState.BROKEN, 0, bytes(32))


def test_a_client_claims_what_is_in_no_batch_when_it_is_time_and_ends_it_later(node, payer):
    given = ask(node, payer)
    held = Answer.from_held(given.held())
    assert (held.receipt, held.receipt_signature, held.digest) == (given.receipt, given.receipt_signature, given.digest)
    with client_of(node, account=payer) as client:
        client.chain = client._core.chain = chain = Claiming()
        chain.domain, chain.batch = node.chain.domain, node.chain.batch
        chain.now = given.receipt.anchor_by
        with pytest.raises(NotReady, match="has promised"):
            client.claim_inclusion(held)
        chain.now += 1
        assert client.claim_inclusion(held).state == ClaimState.OPEN
        assert chain.sent == [("allow", "Inclusion", 7), ("claim", given.receipt, given.receipt_signature)]
        with pytest.raises(NotReady, match="the node has 100 s"):
            client.claim_inclusion(held)
        chain.now += 101
        assert client.claim_inclusion(held).state == ClaimState.BROKEN
        assert chain.sent[2:] == [("conclude", given.receipt)]
        assert client.claim_inclusion(held).state == ClaimState.BROKEN
        assert len(chain.sent) == 3


def test_a_client_does_not_lose_its_bond_for_an_answer_that_is_in_a_batch(node, payer):
    given = ask(node, payer)
    judge(node)
    with client_of(node, account=payer) as client:
        client.chain = client._core.chain = chain = Claiming()
        chain.domain, chain.batch = node.chain.domain, node.chain.batch
        chain.now = given.receipt.anchor_by + 1
        with pytest.raises(InvalidInput, match="a claim would lose its bond"):
            client.claim_inclusion(given)
        assert chain.sent == []


@pytest.mark.parametrize("document", [None, [], {}, {"receipt": {}}, {"receipt": None, "nodeUrl": 1}])
def test_a_receipt_file_that_is_none_is_refused(document):
    with pytest.raises(InvalidInput, match="no receipt as it was saved"):
        Answer.from_held(document)
