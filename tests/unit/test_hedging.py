"""A second node is asked where the first is slow, and never paid beside it unless there is money for both; limits on
what orders cost; orders that are repeated by name; which node is asked first. Real HTTP, a real node."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_failover import asking, breaking_off, events, odd, refusing, say, silent
from test_node_support import serving

from trine import AsyncClient, Client
from trine._choosing import NEAR_BEST_BPS, Candidate, Speed, Speeds, ranked
from trine._spending import Spending
from trine.errors import InvalidInput, NodeRefused, NodeUnreachable, SpendLimitReached, TrineError

QUESTION = "Who is there?"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


def asked(kind, client, **options):
    """The answer by a stream, or whole."""

    async def run():
        async with client:
            return await client.chat(QUESTION, max_tokens=3, **options)

    if isinstance(client, AsyncClient):
        return asyncio.run(run())
    if kind == "chat":
        return client.chat(QUESTION, max_tokens=3, **options)
    stream = client.stream(QUESTION, max_tokens=3, **options)
    assert "".join(stream) == stream.answer.text
    return stream.answer


def worst(client):
    return client._core.model(None).price_per_token_wei * 10_000


WAYS = [("chat", Client), ("stream", Client), ("chat", AsyncClient)]


@pytest.mark.parametrize(("how", "kind"), WAYS)
def test_a_slow_node_is_left_for_a_second_one_and_what_it_may_ask_is_counted(node, how, kind):
    left = threading.Event()

    def slow(handler):
        while not handler.server.over.wait(0.05):
            if handler.connection.recv(1) == b"":  # the client has gone
                left.set()
                return

    with odd(slow) as first, asking(node, first.url, kind=kind) as client:
        answer = asked(how, client, hedge_after=0.2, max_cost_wei=worst(client))
        assert answer.receipt.node == node.chain.address
        (tried,) = answer.tried
        signed = int(first.orders[0]["trine"]["request"]["maxFeeWei"])
        assert tried.may_cost_wei == signed > 0
        ledger = client._core.ledger(tried.node)
        assert ledger.reserved_wei == signed
        assert ledger._taken == {}
        assert client.spent_wei == signed + answer.receipt.fee_wei
        assert left.wait(20)  # it was cancelled, not forgotten


def test_a_node_that_is_quick_enough_is_the_only_one(node):
    with odd(silent) as second, asking(node) as client:
        client._core.nodes = lambda *_: [(node.chain.address, node.url), ("0x" + "1" * 40, second.url)]
        answer = asked("stream", client, hedge_after=20.0, max_cost_wei=worst(client))
        assert answer.tried == ()
        assert second.orders == []


@pytest.mark.parametrize("factor", [1.0, 1.9])
def test_attack_nobody_is_asked_beside_another_without_money_for_both(node, factor):
    with odd(breaking_off_late) as first, asking(node, first.url, timeout=20.0) as client:
        most = int(client.worst_fee_wei(QUESTION, max_tokens=3) * factor)
        with pytest.raises(NodeUnreachable):  # nor is it asked afterwards: the first may have begun
            asked("stream", client, hedge_after=0.1, max_cost_wei=most)
        assert node.store.owed(client.chain.address) == 0
        assert len(first.orders) == 1
        assert client.spent_wei <= most


def breaking_off_late(handler):
    handler.server.over.wait(0.6)
    breaking_off(handler)


def test_hedging_needs_to_be_told_what_both_may_cost(node):
    with asking(node) as client, pytest.raises(InvalidInput, match="max_cost_wei"):
        client.chat(QUESTION, hedge_after=1.0)


def test_of_two_that_fail_each_is_told_and_one_that_only_refuses_costs_nothing(node):
    def late_refusal(handler):
        handler.server.over.wait(0.5)
        refusing(429, retry_after="60")(handler)

    with odd(late_refusal) as first, asking(node, first.url) as client:
        client._core.nodes = lambda *_: [("0x" + "1" * 40, first.url), ("0x" + "2" * 40, first.url)]
        with pytest.raises(TrineError):
            asked("stream", client, hedge_after=0.1, max_cost_wei=worst(client))
        assert client.spent_wei == 0
        for number in (1, 2):
            ledger = client._core.ledger("0x" + str(number) * 40)
            assert ledger.reserved_wei == 0
            assert ledger._taken == {}


def test_both_are_never_asked_for_more_than_is_allowed_together(node):
    with odd(silent) as first, asking(node, first.url) as client:
        one = client.worst_fee_wei(QUESTION, max_tokens=3)
        answer = asked("stream", client, hedge_after=0.1, max_cost_wei=2 * one)
        assert answer.tried[0].may_cost_wei + answer.receipt.fee_wei <= 2 * one
        assert int(first.orders[0]["trine"]["request"]["maxFeeWei"]) == one


def test_who_leaves_while_an_order_is_signed_owes_nothing(node):
    """What a thread makes is not lost when nobody waits for it any more."""
    signing, go_on = threading.Event(), threading.Event()

    async def run(client):
        async with client:
            core, prepare = client._core, client._core.prepare

            def slow(*arguments):
                draft = prepare(*arguments)
                signing.set()
                go_on.wait(20)
                return draft

            core.prepare = slow
            asking_it = asyncio.create_task(client.chat(QUESTION, max_tokens=3))
            await asyncio.to_thread(signing.wait, 20)
            asking_it.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking_it
            assert core.ledger(node.chain.address)._taken
            go_on.set()
            for _ in range(400):
                if not core.ledger(node.chain.address)._taken:
                    break
                await asyncio.sleep(0.05)
            assert core.ledger(node.chain.address)._taken == {}
            assert client.spent_wei == 0
            assert core.spending._open == {}

    with asking(node, kind=AsyncClient) as client:
        asyncio.run(run(client))


# Limits


def test_a_fee_that_becomes_known_takes_the_place_of_the_worst_price():
    spending = Spending(100)
    spending.begin(b"sent twice", 60)
    spending.end(b"sent twice", None)
    spending.end(b"sent twice", 0)  # of a copy that was refused: the other may have been served
    assert (spending.spent_wei, spending.left_wei) == (60, 40)
    spending.end(b"sent twice", 7)
    spending.end(b"sent twice", 9)
    assert (spending.spent_wei, spending.left_wei) == (7, 93)


@given(limit=st.integers(0, 60), acts=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.booleans())))
def test_no_number_of_orders_goes_beyond_the_limit(limit, acts):
    spending, at_most = Spending(limit), 0
    for number, (worst_wei, cost, is_known) in enumerate(acts):
        order = bytes([number % 256, number // 256])
        try:
            spending.begin(order, worst_wei)
        except SpendLimitReached:
            assert worst_wei > spending.left_wei
            continue
        if cost < 9:  # else it stays on its way
            spending.end(order, min(cost, worst_wei) if is_known else None)
            at_most += min(cost, worst_wei) if is_known else worst_wei
            spending.end(order, worst_wei)  # twice is once
        assert spending.spent_wei == at_most
        assert spending.spent_wei + sum(spending._open.values()) <= limit
        assert spending.left_wei >= 0


def test_a_client_spends_no_more_than_its_limit(node):
    with asking(node) as client:
        one = client.worst_fee_wei(QUESTION, max_tokens=3)
        client._core.spending._limit_wei = 2 * one
        fee = client.chat(QUESTION, max_tokens=3).receipt.fee_wei
        assert client.spent_wei == fee
        client.chat(QUESTION, max_tokens=3)
        with pytest.raises(SpendLimitReached, match="spend_limit_wei"):
            [client.chat(QUESTION, max_tokens=3) for _ in range(100)]
        assert node.store.owed(client.chain.address) == client.spent_wei <= 2 * one
        assert client._core.ledger(node.chain.address)._taken == {}


def test_what_an_order_may_cost_is_signed(node):
    with asking(node) as client:
        order = client.order(QUESTION, max_tokens=3, max_cost_wei=5)
        assert order["trine"]["request"]["maxFeeWei"] == "5"
        with pytest.raises(NodeRefused, match="the request allows 5"):
            client.chat(QUESTION, max_tokens=3, max_cost_wei=5)


# Names


@pytest.mark.parametrize("how", ["chat", "stream"])
def test_the_same_name_is_the_same_answer_and_is_paid_for_once(node, how):
    with asking(node) as client:
        options = {"idempotency_key": "one", "temperature": 1.0}
        first = asked(how, client, **options)
        owed = node.store.owed(client.chain.address)
        again = asked(how, client, **options)
        assert again.digest == first.digest
        assert node.store.owed(client.chain.address) == owed == first.receipt.fee_wei
        with pytest.raises(InvalidInput, match="another question"):
            client.chat("Another?", max_tokens=3, idempotency_key="one")
        assert asked(how, client, idempotency_key="two").digest != first.digest


@pytest.mark.parametrize("how", ["chat", "stream"])
def test_an_answer_that_was_lost_on_its_way_is_had_by_its_name(node, how):
    """The node has answered, nobody has heard it: the same order gets the same answer."""
    lose = [True]

    def relaying(handler):
        order = handler.server.orders[-1]
        answer = httpx2.post(node.url + handler.path, json=order, timeout=60)
        if lose[0]:
            return
        if order.get("stream"):
            events(handler, answer.text.strip())
        else:
            say(handler, answer.status_code, answer.json())

    with odd(relaying) as first, asking(node, timeout=20.0) as client:
        client._core.nodes = lambda *_: [(node.chain.address, first.url)]
        with pytest.raises(NodeUnreachable):
            asked(how, client, idempotency_key="lost")
        lose[0] = False
        answer = asked(how, client, idempotency_key="lost")
        assert node.store.owed(client.chain.address) == answer.receipt.fee_wei
        assert len({order["trine"]["signature"] for order in first.orders}) == 1


def test_a_named_order_that_the_node_has_not_taken_is_made_anew(node):
    refuse = [True]

    def now_and_then(handler):
        order = handler.server.orders[-1]
        if refuse[0]:
            refusing(402)(handler)
        else:
            answer = httpx2.post(node.url + handler.path, json=order, timeout=60)
            say(handler, answer.status_code, answer.json())

    with odd(now_and_then) as first, asking(node, timeout=20.0) as client:
        client._core.nodes = lambda *_: [(node.chain.address, first.url)]
        with pytest.raises(NodeRefused):
            client.chat(QUESTION, max_tokens=3, idempotency_key="n")
        refuse[0] = False
        assert client.chat(QUESTION, max_tokens=3, idempotency_key="n").text


# Choosing


scores = st.integers(0, 10_000)
speeds = st.none() | st.builds(Speed, st.floats(0, 60), st.floats(0.1, 500))
candidates = st.lists(
    st.builds(Candidate, st.uuids().map(str), st.just(""), scores, st.booleans(), speeds), min_size=1, max_size=9
)


@given(candidates=candidates, prefer=st.sampled_from(["reputation", "speed", "price"]))
def test_no_preference_asks_a_node_of_bad_reputation_first(candidates, prefer):
    order = ranked(candidates, prefer)
    assert sorted(each.node for each in order) == sorted(each.node for each in candidates)
    best = max(each.score_bps for each in candidates)
    assert order[0].score_bps >= best - (0 if prefer == "reputation" else NEAR_BEST_BPS)
    near = [each for each in order if each.score_bps >= best - NEAR_BEST_BPS]
    if prefer == "speed" and all(each.speed for each in near):
        assert order[0].speed.seconds() == min(each.speed.seconds() for each in near)
    if prefer == "price" and any(each.has_deposit for each in near):
        assert order[0].has_deposit


def test_the_faster_node_is_asked_once_both_are_measured(node):
    def slow(handler):
        handler.server.over.wait(0.4)
        answer = httpx2.post(node.url + handler.path, json=handler.server.orders[-1], timeout=60)
        say(handler, answer.status_code, answer.json())

    with odd(slow) as first, asking(node) as client:
        # One operator at two addresses: what is slow is the way there.
        client._core._prefer = "speed"
        places = [(node.chain.address, node.url), (node.chain.address.lower(), first.url)]
        client._core.nodes = lambda *_: places
        for _ in range(6):
            client.chat(QUESTION, max_tokens=3)
        assert len(first.orders) == 1  # it was tried
        assert client.speed(node.chain.address).tokens_per_second > 0


def test_a_node_with_a_deposit_is_asked_first_where_a_new_one_would_cost_a_transaction(node):
    with odd(refusing(500)) as first, asking(node, first.url) as client:
        client._core._prefer = "price"
        asked_of = []

        def account(payer, payee):
            asked_of.append(payee)
            has = payee == node.chain.address
            return SimpleNamespace(collected=3, firm=10**18 if has else 0)

        client.chain.account = account
        assert client.chat(QUESTION, max_tokens=3).tried == ()
        assert first.orders == []
        looked = len(asked_of)
        client.chat(QUESTION, max_tokens=3)
        assert len(asked_of) == looked == 2  # once a minute


def test_speeds_move_with_what_is_measured_and_are_forgotten():
    speeds = Speeds()
    assert speeds.of("a") is None
    speeds.note("a", 1.0, 100, 2.0)
    assert speeds.of("a") == Speed(1.0, 50.0)
    speeds.note("a", 3.0, 100, 1.0)
    assert 1.0 < speeds.of("a").first_seconds < 3.0
    assert 50.0 < speeds.of("a").tokens_per_second < 100.0
    speeds.note_late("b", 5.0)
    assert speeds.of("b").seconds() > speeds.of("a").seconds()
    at, known = speeds._known["a"]
    speeds._known["a"] = at - 1e6, known
    assert speeds.of("a") is None


def test_a_preference_that_is_none_is_refused(node):
    from trine._core import Core

    with pytest.raises(InvalidInput, match="reputation, speed, price"):
        Core(None, None, 0, "fastest")
