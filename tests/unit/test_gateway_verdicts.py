"""What a gateway makes of verdicts: waited for, kept, acted on, and no answer's end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx2
import pytest
from gateway_support import body, gateway_before, post, seal
from test_failover import ACCOUNT, _Handler, events, odd, say
from test_node_support import serving, wait_for

from trine.chain import Result
from trine.errors import ChainError, VerificationFailed
from trine_gateway.keys import id_of
from trine_gateway.store import GatewayStore
from trine_gateway.verdicts import LATEST_SECONDS, next_look
from trine_operator.store import StoreError


def judged(node, gateway, key, *, word="accepted", final=False):
    """All the node's answers are in a batch, with this result."""
    batch = seal(node)
    count = len(node.store.batch(batch).leaves)
    words = {"accepted": 0, "rejected": 0, "unavailable": 0, **({word: (1 << count) - 1} if word else {})}
    node.chain.results[batch] = Result(count, **words, is_settled=True, is_final=final)
    return batch


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A node of its own, with a gateway that looks for verdicts at once."""
    monkeypatch.setattr("trine_gateway.store.FIRST_LOOK_SECONDS", 0)
    monkeypatch.setattr("trine_gateway.verdicts.FIRST_LOOK_SECONDS", 0)
    monkeypatch.setattr("trine_gateway.verdicts.LOOK_SECONDS", 0.05)
    with serving(f"sqlite:///{tmp_path}/fresh.sqlite", allow_unsigned=False) as node:
        yield node


def test_verdicts_are_waited_for_and_final_ones_end_it(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        fee = int(post(gateway, key).json()["trine"]["feeWei"])
        assert gateway.usage(key)["verdicts"]["pending"] == 1
        batch = judged(fresh, gateway, key)
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 1)
        assert gateway.usage(key)["recent"][0]["isFinal"] is False
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], is_final=True)
        wait_for(lambda: gateway.usage(key)["recent"][0]["isFinal"])
        assert gateway.store.pending() == 0
        assert gateway.usage(key)["spentWei"] == str(fee)


def test_a_node_whose_answer_was_rejected_is_asked_nothing_and_its_fee_is_given_back(fresh, tmp_path):
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    with gateway_before(fresh, tmp_path, store_url=url) as gateway:
        key, admin = gateway.key(), gateway.key("admin", is_admin=True)
        post(gateway, key)
        batch = judged(fresh, gateway, key, word="rejected")
        wait_for(lambda: gateway.usage(key)["verdicts"]["reject"] == 1)
        wait_for(lambda: gateway.usage(admin)["nodesCutOff"])
        refused = post(gateway, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_node")
        assert fresh.url not in refused.text
    with gateway_before(fresh, tmp_path, store_url=url) as gateway:  # started again, it goes on
        wait_for(lambda: post(gateway, key).status_code == 503)
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], is_final=True)
        wait_for(lambda: gateway.usage(key)["spentWei"] == "0")
        assert gateway.store.pending() == 0


def test_a_store_that_is_away_at_the_start_ends_no_looking_for_verdicts(fresh, tmp_path, monkeypatch):
    real, away = GatewayStore.all_cut_off, threading.Event()
    away.set()

    def all_cut_off(store):
        if away.is_set():
            raise StoreError("the database is away")
        return real(store)

    monkeypatch.setattr(GatewayStore, "all_cut_off", all_cut_off)
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        wait_for(lambda: gateway.http.get("/healthz").status_code == 503)
        assert gateway.http.get("/healthz").json()["reason"] == "verdicts are not looked for: the log says why"
        post(gateway, key)
        judged(fresh, gateway, key, final=True)
        away.clear()
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 1)
        wait_for(lambda: gateway.http.get("/healthz").status_code == 200)


def test_attack_a_node_that_does_not_know_its_own_receipt_is_asked_nothing(fresh, tmp_path, monkeypatch):
    hides = threading.Event()
    hides.set()

    class Handler(_Handler):
        def do_GET(self):  # noqa: N802
            if "/v1/receipts/" not in self.path:
                return say(self, 200, ACCOUNT)
            if hides.is_set():
                return say(self, 404, {"error": {"message": "no such receipt"}})
            found = httpx2.get(fresh.url + self.path)
            return say(self, found.status_code, found.json())

    def passes_on(handler):
        told = httpx2.post(fresh.url + handler.path, json=handler.server.orders[-1], timeout=60)
        events(handler, *[event for event in told.text.split("\n\n") if event.startswith("data")])

    monkeypatch.setattr("trine_gateway.verdicts.next_look", lambda _: 0)
    with odd(passes_on) as liar, gateway_before(fresh, tmp_path, (fresh.chain.address, liar.url)) as gateway:
        liar.RequestHandlerClass = Handler
        key, admin = gateway.key(), gateway.key("admin", is_admin=True)
        assert post(gateway, key).status_code == 200
        batch = judged(fresh, gateway, key)
        wait_for(lambda: gateway.store.due(1) and gateway.store.due(1)[0].looks > 2)
        assert post(gateway, key).status_code == 200  # it has time until `anchor_by`
        judged(fresh, gateway, key)
        monkeypatch.setattr("trine_gateway.verdicts.LATE_SECONDS", -(10**6))
        wait_for(lambda: gateway.usage(key)["recent"][-1]["verdict"] == "hidden")
        wait_for(lambda: gateway.usage(admin)["nodesCutOff"])
        assert post(gateway, key).status_code == 503
        assert gateway.usage(key)["verdicts"]["pending"] == 2
        digest = bytes.fromhex(gateway.store.all_cut_off()[0][2])
        assert not gateway.store.cut_off(fresh.chain.address, 60, bytes(32), replace=False)
        assert gateway.store.all_cut_off()[0][2] == digest.hex()
        hides.clear()
        wait_for(lambda: gateway.usage(key)["verdicts"]["accept"] == 2)
        wait_for(lambda: post(gateway, key).status_code == 200)
        assert batch


def test_an_appeal_that_turns_a_rejection_lets_the_node_be_asked_again(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        post(gateway, key)
        batch = judged(fresh, gateway, key, word="rejected")
        wait_for(lambda: gateway.usage(key)["verdicts"]["reject"] == 1)
        fresh.chain.results[batch] = replace(fresh.chain.results[batch], accepted=1, rejected=0, is_final=True)
        wait_for(lambda: gateway.usage(key)["recent"][0]["isFinal"])
        assert gateway.usage(key)["verdicts"] == {
            "accept": 1, "reject": 0, "unavailable": 0, "inconclusive": 0, "pending": 0,
        }  # fmt: skip
        wait_for(lambda: post(gateway, key).status_code == 200)


def test_a_header_asks_to_wait_for_the_verdict(fresh, tmp_path):
    with gateway_before(fresh, tmp_path) as gateway:
        key = gateway.key()
        late = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "0"})
        assert (late.headers["x-trine-verdict"], late.json()["trine"]["verdict"]) == ("pending", "pending")
        ended = []
        asked = {"x-trine-wait": "verdict", "x-trine-wait-seconds": "30"}
        threads = [
            threading.Thread(target=lambda s=s: ended.append(post(gateway, key, headers=asked, **body(stream=s))))
            for s in (False, True)
        ]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(fresh.store.unbatched(10)) == 3)
        judged(fresh, gateway, key)
        for thread in threads:
            thread.join()
        assert len(ended) == 2
        for answer in ended:
            assert '"verdict":"accept"' in answer.text.replace(" ", "")
            assert '"certificate":' in answer.text
    for wrong in ({"x-trine-wait": "yes"}, {**asked, "x-trine-wait-seconds": "-1"}):
        with gateway_before(fresh, tmp_path) as gateway:
            answer = post(gateway, gateway.key(), headers=wrong)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header")


def test_a_verdict_that_cannot_be_had_takes_no_answer_away(fresh, tmp_path, monkeypatch):
    with gateway_before(fresh, tmp_path, limits={"max_running_per_key": 1}) as gateway:
        key = gateway.key()
        monkeypatch.setattr("trine._flow.placed_certificate", lambda *_: broken("the batch is malformed"))
        answer = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "5"})
        assert (answer.status_code, answer.headers["x-trine-verdict"]) == (200, "pending")
        monkeypatch.undo()
        asking = gateway.app.state.asking
        finish = asking._end

        def others_wait(running):  # as many as may, when the answer is there
            asking._waiting[object()] = id_of(key)
            finish(running)

        asking._end = others_wait
        full = post(gateway, key, headers={"x-trine-wait": "verdict", "x-trine-wait-seconds": "60"})
        assert (full.status_code, full.headers["x-trine-verdict"]) == (200, "pending")


def broken(said):
    raise VerificationFailed(said)


WAIT = {"x-trine-wait": "verdict", "x-trine-wait-seconds": "20"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [ChainError("the endpoint is away"), RuntimeError("nobody has thought of this")])
def test_a_wait_outlasts_a_chain_that_is_away_and_ends_as_the_answer_where_it_stays_away(
    fresh, tmp_path, error, stream
):
    with gateway_before(fresh, tmp_path, checks_at_once=1) as gateway:
        key, settled, away = gateway.key(), gateway.client._core.settled, [3]

        def hiccup(*asked):
            if away[0] > 0:
                away[0] -= 1
                raise error
            return settled(*asked)

        gateway.client._core.settled = hiccup
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, gateway, key, headers=WAIT, **body(stream=stream))
            wait_for(lambda: fresh.store.unbatched(10))
            judged(fresh, gateway, key)
            assert '"verdict":"accept"' in answer.result().text.replace(" ", "")
        away[0] = 10**9
        late = post(gateway, key, headers={**WAIT, "x-trine-wait-seconds": "1"}, **body(stream=stream))
        assert late.status_code == 200
        assert '"verdict":"pending"' in late.text.replace(" ", "")
        assert gateway.usage(key)["answers"] == 2


def test_a_store_that_fails_at_a_verdict_takes_no_answer_away(fresh, tmp_path, monkeypatch):
    with gateway_before(fresh, tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
        key = gateway.key()
        monkeypatch.setattr(gateway.store, "judge", lambda *_, **__: 1 / 0)
        answer = pool.submit(post, gateway, key, headers=WAIT)
        wait_for(lambda: fresh.store.unbatched(10))
        judged(fresh, gateway, key)
        assert (answer.result().status_code, answer.result().headers["x-trine-verdict"]) == (200, "accept")


def test_attack_who_waits_for_verdicts_takes_room_of_the_key_and_no_thread_of_others(tmp_path):
    many, limits = 12, {"max_running_per_key": 12}
    with (
        serving(f"sqlite:///{tmp_path}/n.sqlite", allow_unsigned=False) as node,
        gateway_before(node, tmp_path, limits=limits) as gateway,
        ThreadPoolExecutor(2 * many) as pool,
    ):
        key, other, over = gateway.key(), gateway.key(), threading.Event()
        named = [{"idempotency-key": str(number)} for number in range(many)]
        for again in named:
            assert post(gateway, key, headers=again).status_code == 200
        judged(node, gateway, key)
        real, asked = gateway.client.chain.verdict, []

        def hangs(*place):
            asked.append(place)
            over.wait(30)
            return real(*place)

        gateway.client.chain.verdict = hangs
        final = {"x-trine-wait": "final", "x-trine-wait-seconds": "60"}
        waits = [pool.submit(post, gateway, key, headers={**again, **final}) for again in named]
        try:
            wait_for(lambda: len(gateway.app.state.asking._waiting) == many)
            wait_for(lambda: asked)
            assert post(gateway, other).status_code == 200
            full = post(gateway, key)
            assert (full.status_code, full.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        finally:
            for batch, result in node.chain.results.items():
                node.chain.results[batch] = replace(result, is_final=True)
            over.set()
        assert {wait.result().headers["x-trine-verdict"] for wait in waits} == {"accept"}
        assert gateway.usage(key)["answers"] == many


def test_many_who_wait_for_one_verdict_have_it_looked_for_once(fresh, tmp_path):
    with gateway_before(fresh, tmp_path, checks_at_once=1) as gateway, ThreadPoolExecutor(20) as pool:
        key, again = gateway.key(), {"idempotency-key": "one"}
        post(gateway, key, headers=again)
        waits = [pool.submit(post, gateway, key, headers={**again, **WAIT}) for _ in range(20)]
        asking = gateway.app.state.asking
        wait_for(lambda: len(asking._waiting) == 20)
        assert len(asking._waits._waits) == 1
        judged(fresh, gateway, key)
        assert {wait.result().headers["x-trine-verdict"] for wait in waits} == {"accept"}
        assert not asking._waiting
        assert not asking._waits._waits


def test_looks_become_rarer_and_have_an_end():
    looks = [next_look(n) for n in range(50)]
    assert looks == sorted(looks)
    assert looks[-1] == LATEST_SECONDS
