"""A node and what contracts ask: read off a real chain, kept, answered once, brought; and the hostile ones."""

from __future__ import annotations

import contextlib
import json
import socketserver
import time
from dataclasses import dataclass, field, replace

import httpx2
import pytest
from bare_chain import bare_chain
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from sqlalchemy import select
from test_node_support import NAME, PRICE_WEI, RECORD, RecordingChain, SlowEngine, engine, in_thread, model, serving

from trine.bounded import fetch_small
from trine.chain import OperatorEntry, Role
from trine.errors import BadSignature, ChainUnreachable, InvalidInput, TransactionReverted
from trine.posted_price import ask_price
from trine.protocol.inputs import chat_input, text_input
from trine.protocol.messages import ZERO_ADDRESS, text_hash
from trine.protocol.requests import Order, Posted, RequestState, mismatch
from trine_node.answering import Answering
from trine_node.engines.base import EngineError
from trine_node.posted.bringing import Bringing, text_by
from trine_node.posted.peers import promised, receipt_of
from trine_node.posted.rules import Costs, Terms
from trine_node.posted.serving import Serving
from trine_node.posted.table import ANSWERED, BROUGHT, LOST, REFUSED, WAITING, PostedRequests, PostedRow
from trine_node.posted.watching import Watching
from trine_node.settings import NodeSettings
from trine_operator.store import Store, sealed_batch

ACCOUNT = Account.create()
CONTRACT = to_checksum_address("0x" + "c1" * 20)
ASKED = chat_input([{"role": "user", "content": "Name a colour."}])
COSTS = Costs(10, 1, 1)
TOKENS = 5


def terms_for(address):
    return Terms(address, RECORD.model_id, PRICE_WEI, 7, 10**6, 2_000_000, 64, 0, 0)


def order(number=1, **changes):
    given = Order(
        bytes([number] * 32),
        CONTRACT,
        RECORD.model_id,
        ZERO_ADDRESS,
        ASKED.canonical(),
        TOKENS,
        10**17,
        10**9,
        0,
        False,
    )
    return replace(given, **changes)


def posted_of(asked, state=RequestState.OPEN, paid=0):
    return Posted(
        asked.requester, asked.deadline, asked.callback_gas, asked.node, asked.max_tokens, asked.wait_for_final, state,
        asked.max_fee_wei, paid, asked.model_id, bytes(keccak(asked.input)),
    )  # fmt: skip


@dataclass
class AskedChain(RecordingChain):
    """With requests on it."""

    requests: dict = field(default_factory=dict)
    nodes: tuple = ()
    fulfilled_for: str = ""
    calibrated: bool = True

    def is_calibrated(self, _operator, _role, _model_id):
        return self.calibrated

    def posted_request(self, request_id):
        found = self.requests.get(request_id)
        if isinstance(found, Exception):
            raise found
        return found

    def operators(self, _model_id, role, at_most_pages=None):
        assert role is Role.NODE
        return [OperatorEntry(address, endpoint, True, 0, 0, 0) for address, endpoint in self.nodes]

    def newest_event(self, _contract, _name, requestId):  # noqa: N803
        return type("Event", (), {"args": {"node": self.fulfilled_for}}) if self.fulfilled_for else None


@pytest.fixture
def store(tmp_path):
    opened = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield opened
    opened.close()


class Node:
    """What a node does about posted requests, step by step."""

    def __init__(self, store, chain=None, engine_=None, queue=4, **options):
        self.store = store
        self.chain = chain or AskedChain()
        self.answering = Answering(engine_ or engine(), self.chain, store, model(), allow_unsigned=False)
        self.posted = PostedRequests(store)
        self.terms = terms_for(self.chain.address)
        self.costs = COSTS
        self.seconds = 0.0
        self.stopped = False
        settings = {"turn_seconds": 60, "timeout_seconds": 600.0, "max_busy": 8, **options}
        self.serving = Serving(
            self.answering, self.chain, self.posted, self.terms, lambda: self.costs, **settings,
            stopped=lambda: self.stopped, clock=lambda: self.seconds,
        )  # fmt: skip
        text_of = text_by(lambda ids: self.answering.engine.decode(ids))
        self.bringing = Bringing(
            store, self.chain, self.chain.outbox, self.posted, self.terms, lambda: self.costs, text_of,
            clock=lambda: self.seconds,
        )  # fmt: skip

    def ask(self, *orders, block=1):
        for each in orders:
            self.chain.requests.setdefault(each.request_id, posted_of(each))
        with self.store.writing() as session:
            self.posted.add(session, [(each, block) for each in orders], self.chain.now())

    def state(self, asked):
        with self.store.reading() as session:
            row = session.get(PostedRow, asked.request_id.hex())
            return (row.state, row.why) if row else None

    def settle(self, asked, result="accept", state="settled"):
        """Puts the answer into a batch that was judged."""
        answer = self.store.answer_to(asked.request_id)
        batch = sealed_batch(self.chain.domain, self.chain.address, RECORD.model_id, [answer.evidence])
        self.store.seal(batch, [answer.sequence])
        (self.store.mark_final if state == "final" else self.store.mark_settled)(batch.batch_id, 1, 0, [result])
        return batch


# Off the chain


@pytest.fixture(scope="module")
def bare():
    with bare_chain() as chain:
        yield chain


def post(bare, asked):
    names = ("requestId", "requester", "modelId", "node", "input", "maxTokens", "maxFeeWei", "deadline", "callbackGas")
    values = (
        asked.request_id, asked.requester, asked.model_id, asked.node, asked.input, asked.max_tokens, asked.max_fee_wei,
        asked.deadline, asked.callback_gas,
    )  # fmt: skip
    given = dict(zip(names, values, strict=True))
    return bare.emit("Requests", "RequestPosted", **given, waitForFinal=asked.wait_for_final)


def watching(bare, store, queue=4):
    bare.mine(20)
    chain = bare.chain(signer=ACCOUNT)
    return Watching(store, chain, PostedRequests(store), terms_for(ACCOUNT.address), lambda: COSTS, queue=queue)


def in_time(bare, number, **changes):
    head = bare.rpc.call("eth_getBlockByNumber", "latest", False)
    return order(number, deadline=int(head["timestamp"], 16) + 10**6, **changes)


def waiting(store):
    return {each.order.request_id: each for each in PostedRequests(store).waiting()}


def test_requests_are_read_off_the_chain_and_go_with_their_blocks(bare, store):
    watch = watching(bare, store)
    watch.step()
    snapshot = bare.snapshot()
    asked = in_time(bare, 1, callback_gas=5, wait_for_final=True)
    block = post(bare, asked)
    watch.step()
    (found,) = waiting(store).values()
    assert (found.order, found.block) == (asked, block)
    bare.back_to(snapshot)
    bare.mine(2)
    watch.step()
    assert not waiting(store)
    post(bare, asked)  # in another block
    watch.step()
    assert set(waiting(store)) == {asked.request_id}


def test_requests_for_others_are_not_kept(bare, store):
    watch = watching(bare, store)
    watch.step()
    post(bare, in_time(bare, 1, model_id=bytes(32)))
    post(bare, in_time(bare, 2, node=CONTRACT))
    post(bare, replace(in_time(bare, 3), deadline=5))
    mine = in_time(bare, 4, node=ACCOUNT.address)
    post(bare, mine)
    watch.step()
    assert set(waiting(store)) == {mine.request_id}


def test_of_a_flood_the_best_paid_stay(bare, store):
    watch = watching(bare, store, queue=3)
    watch.step()
    fees = [5, 1, 9, 7, 3, 8]
    for number, fee in enumerate(fees):
        post(bare, in_time(bare, number + 1, max_fee_wei=fee * 10**17))
    watch.step()
    assert sorted(each.order.max_fee_wei // 10**17 for each in waiting(store).values()) == [7, 8, 9]
    with store.reading() as session:
        gone = session.scalars(select(PostedRow).where(PostedRow.state == REFUSED)).all()
    assert len(gone) == 3
    assert all(row.input == "" for row in gone)  # a flood fills no disk


# Answers


def test_a_request_is_answered_once_and_its_receipt_is_what_the_contract_takes(store):
    node = Node(store)
    asked = order()
    node.ask(asked)
    node.serving.step()
    assert node.state(asked) == (ANSWERED, "")
    answer = store.answer_to(asked.request_id)
    output = engine().decode(answer.evidence.output_ids).encode()
    assert mismatch(asked, answer.receipt, output) is None
    assert answer.receipt.text_hash == text_hash(output.decode())
    assert answer.evidence.request is None
    assert answer.receipt.fee_wei > PRICE_WEI * (answer.receipt.prompt_tokens + answer.receipt.output_tokens)
    assert store.owed(CONTRACT) == 0  # the escrow pays, no voucher
    node.serving.step()
    assert len(store.unbatched(10)) == 1


def test_a_crash_after_the_answer_is_stored_makes_no_second_one(store):
    node = Node(store)
    asked = order()
    node.ask(asked)
    node.serving.step()
    node.posted.note(asked.request_id, WAITING)  # as if that had not been written
    Node(store, node.chain).serving.step()
    assert node.state(asked)[0] == ANSWERED
    assert len(store.unbatched(10)) == 1


def test_the_best_paid_goes_first(store):
    node = Node(store)
    orders = [order(number, max_fee_wei=fee * 10**16) for number, fee in ((1, 2), (2, 9), (3, 5))]
    node.ask(*orders)
    node.serving.step()
    assert [answer.receipt.request_hash[0] for answer in store.unbatched(10)] == [2, 3, 1]


def test_what_a_re_org_may_still_take_back_is_not_answered(store):
    node = Node(store)
    asked = order()
    node.ask(asked, block=node.chain.block + 1)
    node.serving.step()
    assert node.state(asked)[0] == WAITING
    node.chain.block += 1
    node.serving.step()
    assert node.state(asked)[0] == ANSWERED


@pytest.mark.parametrize(
    "told",
    [
        None,
        posted_of(order(), RequestState.FULFILLED),
        posted_of(order(), RequestState.EXPIRED),
        posted_of(order(max_fee_wei=1)),
        posted_of(order(input=b"{}")),
        posted_of(order(requester=ACCOUNT.address)),
        posted_of(order(max_tokens=TOKENS + 1)),
    ],
)
def test_what_the_contract_does_not_have_open_is_not_answered(store, told):
    """An endpoint makes events up, or somebody else was faster."""
    node = Node(store)
    node.chain.requests[order().request_id] = told
    node.ask(order())
    node.serving.step()
    assert node.state(order())[0] == LOST
    assert not store.unbatched(10)


HOSTILE = {
    "no JSON": b"what",
    "no UTF-8": b'{"prompt":"\xff\xfe"}',
    "a lone surrogate": rb'{"prompt":"\ud800"}',
    "not canonical": b'{"prompt": "x"}',
    "brackets": b"[" * 24_000,
    "digits": b"1" * 24_000,
    "another shape": b'{"prompt":"x","n":2}',
    "no messages": b'{"messages":[]}',
    "drawn without a seed": b'{"prompt":"x","sampling":{"rule":"gumbel-1","temperature":"0.7"}}',
    "drawn by another rule": b'{"prompt":"x","sampling":{"rule":"gumbel-2","seed":"1","temperature":"0.7"}}',
    "an unknown role": b'{"messages":[{"content":"x","role":"tool"}]}',
    "roles that are none": b'{"messages":[{"content":"x","role":[1]}]}',
    "too long for the context": text_input("word " * 4_600).canonical(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_inputs_are_refused_and_delay_nobody(store, name):
    node = Node(store)
    bad, good = order(1, input=HOSTILE[name], max_fee_wei=10**18), order(2)
    node.ask(bad, good)
    node.serving.step()
    assert node.state(bad)[0] == REFUSED
    assert node.state(bad)[1]
    assert node.state(good)[0] == ANSWERED


class Raising(SlowEngine):
    """Renders one text with a fault."""

    def __init__(self, error):
        super().__init__(0)
        self._error = error

    def encode_text(self, text):
        if text == "bad":
            raise self._error
        return self._engine.encode_text(text)


@pytest.mark.parametrize("error", [RuntimeError("template"), RecursionError(), InvalidInput("no")])
def test_a_template_that_raises_refuses_its_own_request_only(store, error):
    node = Node(store, engine_=Raising(error))
    bad, good = order(1, input=text_input("bad").canonical(), max_fee_wei=10**18), order(2)
    node.ask(bad, good)
    node.serving.step()
    assert (node.state(bad)[0], node.state(good)[0]) == (REFUSED, ANSWERED)


def test_an_engine_that_fails_is_tried_again_and_holds_up_no_other(store):
    node = Node(store, engine_=Raising(EngineError("server away")))
    bad, good = order(1, input=text_input("bad").canonical(), max_fee_wei=10**18), order(2)
    node.ask(bad, good)
    node.serving.step()
    assert (node.state(bad)[0], node.state(good)[0]) == (WAITING, ANSWERED)


def test_what_does_not_pay_is_refused_with_its_price(store):
    node = Node(store)
    node.ask(order(max_fee_wei=1))
    node.serving.step()
    state, why = node.state(order())
    assert state == REFUSED
    assert "it may cost" in why


def test_an_answer_that_becomes_longer_than_it_pays_for_is_never_signed(store, monkeypatch):
    """Tokens may be of many bytes: what the text costs is known when it is there."""
    node = Node(store)
    node.costs = replace(COSTS, gas_price_wei=10**6)
    monkeypatch.setattr("trine_node.posted.serving.fee_of", lambda *_: None)
    node.ask(order(max_fee_wei=10**18))
    node.serving.step()
    assert node.state(order()) == (REFUSED, "the answer is longer than what waits for it pays for")
    assert not store.unbatched(10)


def test_paying_clients_go_first(store):
    node = Node(store, max_busy=1)
    node.ask(order())
    node.answering._promised[b"a client's"] = object()
    node.serving.step()
    assert node.state(order())[0] == WAITING
    node.answering._promised.clear()
    node.serving.step()
    assert node.state(order())[0] == ANSWERED


def test_a_node_that_stops_leaves_the_request_for_its_next_start(store):
    node = Node(store, engine_=SlowEngine(0.0))
    node.stopped = False
    produced = node.answering.engine

    class Stopping(SlowEngine):
        def generate(self, prompt_ids, max_tokens, cancelled=None, decoding=None):
            for step in produced.generate(prompt_ids, max_tokens, cancelled, decoding):
                node.stopped = True
                yield step

    node.answering.engine = Stopping(0.0)
    node.ask(order())
    node.serving.step()
    assert node.state(order())[0] == WAITING
    assert not store.unbatched(10)
    Node(store, node.chain).serving.step()
    assert node.state(order())[0] == ANSWERED


def test_a_node_whose_calibration_has_run_out_promises_nothing(store):
    """Its batches would not be taken."""
    node = Node(store)
    node.chain.calibrated = False
    node.ask(order())
    node.serving.step()
    assert node.state(order())[0] == WAITING
    node.chain.calibrated = True
    node.serving.step()
    assert node.state(order())[0] == ANSWERED


def test_a_chain_that_is_away_refuses_nothing(store):
    node = Node(store)
    node.chain.requests[order().request_id] = ChainUnreachable("away")
    node.ask(order())
    node.serving.step()
    assert node.state(order())[0] == WAITING


# Several nodes


def neighbours(number, first):
    """So many nodes, of which `first` is before all others for this request."""
    accounts = [Account.create() for _ in range(number)]
    lots = sorted(accounts, key=lambda each: keccak(order().request_id + bytes.fromhex(each.address[2:])))
    return lots if first else lots[::-1]


def test_who_comes_later_waits_and_takes_over_when_nobody_has_answered(store):
    first, second = neighbours(2, True)
    chain = AskedChain(signer=second, nodes=((first.address, "http://127.0.0.1:1"), (second.address, "")))
    node = Node(store, chain)
    node.ask(order())
    node.serving.step()
    assert node.state(order())[0] == WAITING
    chain.seconds += 60
    node.serving.step()  # the other does not even answer
    assert node.state(order())[0] == ANSWERED


def test_a_request_is_left_to_a_node_that_shows_its_receipt(store, tmp_path):
    first, second = neighbours(2, True)
    both = ((first.address, ""), (second.address, ""))
    with serving(f"sqlite:///{tmp_path}/other.sqlite", chain=AskedChain(signer=first, nodes=both)) as served:
        url, theirs = served.url, Node(served.store, served.chain)
        theirs.ask(order())
        theirs.serving.step()
        assert httpx2.get(f"{url}/v1/posted/{'00' * 32}").json() == {"receipt": None, "signature": None}
        assert httpx2.get(f"{url}/v1/posted/12").status_code == 400
        chain = AskedChain(signer=second, nodes=((first.address, url), (second.address, "")))
        chain.seconds = 1_000
        node = Node(store, chain)
        node.ask(order())
        chain.seconds += 60
        node.serving.step()
        assert node.state(order())[0] == WAITING
        assert not store.unbatched(1)
    chain.seconds += 10_000  # its answer was not brought
    node.serving.step()
    assert node.state(order())[0] == ANSWERED


def test_words_hold_nobody_off(store):
    """A receipt of another request, of another node, unsigned, or garbage."""
    node = Node(store)
    node.ask(order(1), order(2))
    node.serving.step()
    answer = store.answer_to(order(1).request_id)
    told = {"receipt": answer.receipt.to_json(), "signature": "0x" + answer.receipt_signature.hex()}
    mine, domain = node.chain.address, node.chain.domain
    assert receipt_of(json.dumps(told).encode(), order(1).request_id, mine, domain) == answer.receipt
    with pytest.raises(InvalidInput):
        receipt_of(json.dumps(told).encode(), order(2).request_id, mine, domain)
    with pytest.raises(InvalidInput):
        receipt_of(json.dumps(told).encode(), order(1).request_id, CONTRACT, domain)
    with pytest.raises(BadSignature):
        receipt_of(json.dumps({**told, "signature": "0x" + "11" * 65}).encode(), order(1).request_id, mine, domain)
    for garbage in (
        b"",
        b"[" * 9_000,
        b"{}",
        b"[]",
        b'{"receipt":1,"signature":2}',
        b'{"receipt":{},"signature":"0x"}',
    ):
        with pytest.raises((InvalidInput, BadSignature)):
            receipt_of(garbage, order(1).request_id, mine, domain)
        assert promised(order(1).request_id, [(mine, "http://x")], domain, lambda _u, _s, g=garbage: [g]) is None


class Dripping(socketserver.BaseRequestHandler):
    """Sends a header without end, a byte at a time."""

    def handle(self):
        self.request.recv(4096)
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while True:
                self.request.sendall(b"a")
                time.sleep(0.05)


class Endless(socketserver.BaseRequestHandler):
    """Sends a body without end."""

    def handle(self):
        self.request.recv(4096)
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                self.request.sendall(b"a" * 65_536)


@pytest.mark.parametrize("handler", [Dripping, Endless])
def test_a_peer_that_drips_or_never_ends_is_left(handler):
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), handler) as server:
        in_thread(server.serve_forever)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert fetch_small([url, "file:///etc/passwd", "http://127.0.0.1:1", "no address"], 0.5) == [None] * 4
        server.shutdown()


@pytest.mark.parametrize(
    "told", [b"", b"[" * 9_000, b"{}", b'{"maxFeeWei":5}', b'{"maxFeeWei":"-5"}', b'{"maxFeeWei":"' + b"9" * 50 + b'"}']
)
def test_a_price_that_is_none_is_not_shown(monkeypatch, told):
    monkeypatch.setattr("trine.posted_price.fetch_small", lambda urls, _s: [told, b'{"maxFeeWei":"7"}'])
    assert ask_price(["http://a", "http://b"], 1, 1, 0) == [(7, "http://b")]


def test_a_node_tells_its_price_where_it_answers(tmp_path):
    with serving(f"sqlite:///{tmp_path}/none.sqlite") as served:
        asked = served.http.get("/v1/posted-price", params={"prompt_tokens": 1, "max_tokens": 1})
        assert asked.json()["error"]["code"] == "no_posted_requests"
        wrong = served.http.get("/v1/posted-price", params={"prompt_tokens": 0, "max_tokens": 1})
        assert wrong.status_code in (400, 422)


# To the contract


def answered(store, asked=None, **options):
    asked = asked or order(**options)
    node = Node(store)
    node.ask(asked)
    node.serving.step()
    return node, asked


def test_a_settled_answer_is_brought_with_its_proof_and_paid(store):
    node, asked = answered(store)
    node.bringing.step()
    assert node.chain.names_sent() == []
    batch = node.settle(asked)
    node.bringing.step()
    ((name, request_id, batch_id, opening, output),) = node.chain.sent
    assert (name, request_id, batch_id) == ("fulfil", asked.request_id, batch.batch_id)
    answer = store.answer_to(asked.request_id)
    assert opening[:3] == (batch.root, batch.canary, 0)
    assert keccak(output) == answer.receipt.text_hash
    assert node.chain.outbox.acts[0].due.at == asked.deadline
    node.chain.requests[asked.request_id] = posted_of(asked, RequestState.FULFILLED, 1)
    node.chain.fulfilled_for = node.chain.address.lower()
    node.bringing.step()
    assert node.state(asked) == (BROUGHT, "")
    node.bringing.step()
    assert len(node.chain.sent) == 1


def test_while_it_is_in_flight_it_is_not_sent_again(store):
    node, asked = answered(store)
    node.settle(asked)
    node.chain.outbox.in_flight = frozenset({f"fulfil {asked.request_id.hex()}"})
    node.bringing.step()
    assert node.chain.sent == []


def test_who_waits_for_the_final_verdict_gets_it_then(store):
    node, asked = answered(store, wait_for_final=True)
    batch = node.settle(asked)
    node.bringing.step()
    assert node.chain.sent == []
    store.mark_final(batch.batch_id, 1, 0, ["accept"])
    node.bringing.step()
    assert node.chain.names_sent() == ["fulfil"]


@pytest.mark.parametrize("result", ["reject", "unavailable", "inconclusive"])
def test_what_was_not_accepted_is_never_brought(store, result):
    node, asked = answered(store)
    node.settle(asked, result, "final")
    node.bringing.step()
    assert node.chain.sent == []
    assert node.state(asked)[0] == LOST


@pytest.mark.parametrize("state", [RequestState.FULFILLED, RequestState.EXPIRED])
def test_another_who_was_faster_costs_no_transaction(store, state):
    node, asked = answered(store)
    node.settle(asked)
    node.chain.requests[asked.request_id] = posted_of(asked, state)
    node.chain.fulfilled_for = CONTRACT
    node.bringing.step()
    assert node.chain.sent == []
    assert node.state(asked)[0] == LOST


def test_after_its_deadline_nothing_is_sent(store):
    node, asked = answered(store)
    node.settle(asked)
    node.chain.seconds = asked.deadline + 1
    node.bringing.step()
    assert node.chain.sent == []
    assert node.state(asked)[0] == LOST


def test_gas_that_has_become_too_dear_is_waited_out(store):
    node, asked = answered(store)
    node.settle(asked)
    node.costs = replace(COSTS, gas_price_wei=10**12)
    node.bringing.step()
    assert node.chain.sent == []
    node.costs = COSTS
    node.bringing.step()
    assert node.chain.names_sent() == ["fulfil"]


def test_a_refusal_of_one_holds_up_no_other(store):
    node, first = answered(store)
    second = order(2)
    node.ask(second)
    node.serving.step()
    node.settle(first)
    node.settle(second)
    calls = []

    def submit(act):
        calls.append(act.names[0])
        if first.request_id.hex() in act.names[0]:
            raise TransactionReverted("fulfil: RequestsTooLittleGas", reason="RequestsTooLittleGas")

    node.chain.outbox.submit = submit
    node.bringing.step()
    assert len(calls) == 2
    node.bringing.step()
    assert len(calls) == 3  # the first waits a while


def test_a_request_whose_block_is_gone_stays_answered(store):
    """It may come again in another block; what was answered is not answered twice."""
    node, asked = answered(store)
    with store.writing() as session:
        node.posted.drop(session, [asked.request_id])
    assert node.state(asked)[0] == ANSWERED
    node.settle(asked)
    node.chain.requests[asked.request_id] = None
    node.bringing.step()
    assert node.chain.sent == []
    node.ask(asked, block=50)
    node.chain.requests[asked.request_id] = posted_of(asked)
    node.bringing.step()
    assert node.chain.names_sent() == ["fulfil"]


def test_what_is_over_for_long_is_forgotten(store):
    node = Node(store)
    node.ask(order(max_fee_wei=1))
    node.serving.step()
    node.posted.forget(order().deadline)
    assert node.state(order()) is not None
    node.posted.forget(order().deadline + 8 * 86_400)
    assert node.state(order()) is None


# Settings


def settings(**changes):
    given = {"deployment": "d", "keystore": "k", "password_file": "p", "model": NAME, **changes}
    return NodeSettings.load(**given)


def test_answering_needs_to_know_what_gas_is_worth():
    with pytest.raises(InvalidInput, match="request_tokens_per_coin"):
        settings(answer_requests=True)
    chosen = settings(answer_requests=True, request_tokens_per_coin="2500.5")
    assert chosen.request_coin_micro == 2_500_500_000
    assert not settings().answer_requests


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_tokens_per_coin": 0},
        {"request_tokens_per_coin": "nan"},
        {"request_least_profit": -1},
        {"request_max_callback_gas": 2_000_001},
        {"request_queue": 0},
        {"request_turn_seconds": 0},
        {"request_margin_seconds": -1},
        {"request_max_tokens": 0},
    ],
)
def test_settings_have_bounds(wrong):
    (name,) = wrong
    with pytest.raises(InvalidInput, match=name):
        settings(**wrong)
