"""Verdicts that an operator publishes: each once, through crashes and re-orgs, and never at the cost of a duty."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import pytest
import structlog
from agents_support import agent, answered, decide
from chain_support import devnet, funded
from eth_utils.crypto import keccak
from outbox_support import open_operator, payment

from trine.chain.agents import Publication
from trine.errors import TransactionReverted
from trine_operator import publishing as module
from trine_operator.publishing import MAX_OPEN, MAX_TRIES, REST_AFTER, PublicationRow, Publishing, Terms
from trine_operator.tables import BatchRow

TERMS = Terms(every=1, max_gas=600_000, max_fee_wei=10**12)
# Runtime code of a registry: one that reverts, and one that takes all the gas it is given.
REVERTS = "0x60006000fd"
BURNS = "0x5b600056"
# It answers questions with nothing known (it reverts), and burns gas when it is to write: 0x... of validationRequest.
BURNS_IN_WRITES = (
    "0x60003560e01c63"
    + keccak(text="validationRequest(address,uint256,string,bytes32)")[:4].hex()
    + "1460145760006000fd5b601456"
)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with devnet(tmp_path_factory.mktemp("chain") / "home") as network:
        decide(network)
        yield network


@pytest.fixture
def node(net, tmp_path):
    return agent(net, tmp_path)


@pytest.fixture
def opened(net, node, tmp_path):
    """Opens the operator's process anew, with the same store."""
    account = node[0]
    open_ones = []

    def open_one(terms=TERMS):
        operator = open_operator(
            net.rpc_url, net.deployment_file, account.key.hex(), f"sqlite:///{tmp_path}/node.sqlite"
        )
        open_ones.append(operator)
        return operator, Publishing(operator.store, operator.chain, operator.outbox, terms, operator.clock)

    yield open_one
    for operator in open_ones:
        operator.store.close()


def note_final(operator, publishing, chain, account, name="one"):
    """A batch of the operator's becomes final in its store."""
    batch = answered(chain, account, canary=keccak(text=name))
    header = batch.header
    with operator.store.writing() as session:
        session.add(
            BatchRow(
                batch_id=batch.batch_id.hex(),
                model_id=header.model_id.hex(),
                root=header.root.hex(),
                canary=header.canary.hex(),
                leaves="[]",
                state="settled",
            )
        )
    operator.store.mark_final(batch.batch_id, 1, 0, ["accept"], publishing.note_final)
    return batch


def mine(net, blocks=1):
    net.rpc.call("anvil_mine", hex(blocks))


def run(net, operator, publishing, done, steps=40):
    """Steps of both, and blocks, until it is so."""
    for _ in range(steps):
        publishing.step()
        if done():
            return
        operator.step(seconds=1.0)
        mine(net, 2)
    raise AssertionError(publishing.waiting())


def test_a_final_batch_is_published_and_leaves_the_list(net, node, opened):
    account, chain, agent_id = node
    operator, publishing = opened()
    batch = note_final(operator, publishing, chain, account)
    assert publishing.waiting() == [batch.batch_id]
    run(net, operator, publishing, lambda: not publishing.waiting())
    assert chain.publication(batch.batch_id) is Publication.FINAL
    assert chain.validation_summary(agent_id) == (1, 100)


@pytest.mark.parametrize("crash", ["before it is queued", "queued", "sent", "mined"])
def test_a_crash_at_any_point_publishes_once(net, node, opened, crash):
    account, chain, agent_id = node
    operator, publishing = opened()
    batch = note_final(operator, publishing, chain, account)
    if crash != "before it is queued":
        publishing.step()
        assert operator.outbox.open_names()
    if crash in ("sent", "mined"):
        operator.step()
    if crash == "mined":
        mine(net, 2)
        publishing.step()
    operator.store.close()
    operator, publishing = opened()
    assert publishing.waiting() == [batch.batch_id]
    run(net, operator, publishing, lambda: not publishing.waiting())
    assert chain.validation_summary(agent_id) == (1, 100)
    assert len(chain.publications_of(agent_id)) == 1


def test_a_reorg_that_takes_a_publication_back_publishes_it_again(net, node, opened):
    account, chain, agent_id = node
    operator, publishing = opened()
    snapshot = net.rpc.call("evm_snapshot")
    batch = note_final(operator, publishing, chain, account)
    run(net, operator, publishing, lambda: chain.publication(batch.batch_id) is Publication.FINAL)
    assert publishing.waiting(), "its block may still be taken back"
    net.rpc.call("evm_revert", snapshot)
    mine(net, 3)
    assert chain.publication(batch.batch_id) is not Publication.FINAL
    run(net, operator, publishing, lambda: not publishing.waiting())
    assert chain.publication(batch.batch_id) is Publication.FINAL
    assert len(chain.publications_of(agent_id)) == 1


def test_somebody_elses_publication_is_as_good(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened()
    batch = note_final(operator, publishing, chain, account)
    net.chain(funded(net, 1)).publish(batch.header)
    sent = chain.gateway().nonce()
    run(net, operator, publishing, lambda: not publishing.waiting())
    assert chain.gateway().nonce() == sent


def test_a_squatted_request_delays_nothing(net, node, opened, tmp_path):
    account, chain, agent_id = node
    operator, publishing = opened()
    batch = note_final(operator, publishing, chain, account, "squatted")
    _, squatter, theirs = agent(net, tmp_path)
    squatter.registry("Erc8004Validation")
    taken = chain.request_hash(batch.batch_id)
    squatter._write(
        "Erc8004Validation", "validationRequest", squatter.deployment.address("Erc8004Adapter"), theirs, "", taken
    )
    run(net, operator, publishing, lambda: not publishing.waiting())
    assert chain.validation_summary(agent_id) == (1, 100)


def test_only_a_few_are_open_at_a_time(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened()
    for number in range(5):
        note_final(operator, publishing, chain, account, f"batch {number}")
    for _ in range(3):
        publishing.step()
        assert len(operator.outbox.open_names()) <= MAX_OPEN
    run(net, operator, publishing, lambda: not publishing.waiting(), steps=120)


@pytest.mark.parametrize("code", [REVERTS, BURNS, BURNS_IN_WRITES], ids=["reverts", "burns gas", "burns it in writes"])
def test_a_hostile_registry_costs_no_duty_anything(net, node, opened, code):
    """It reverts, or burns what it is given: nothing is sent for it, all of it rests, and what is due goes out."""
    account, chain, _ = node
    operator, publishing = opened()
    for number in range(REST_AFTER):
        note_final(operator, publishing, chain, account, f"hostile {number}")
    funds_before = chain.gas_balance(account.address)
    with replaced(net, chain.registry("Erc8004Validation"), code), structlog.testing.capture_logs() as logs:
        for _ in range(30):
            publishing.step()
            operator.step(seconds=1.0)
        assert any(entry["event"] == "publishing_rests" for entry in logs), {entry["event"] for entry in logs}
        assert not operator.outbox.open_names()
        assert chain.gas_balance(account.address) == funds_before, "no gas was paid for it"
        operator.outbox.submit(payment("a duty", due=chain.timestamp() + 600))
        operator.finish()
    assert len(publishing.waiting()) == REST_AFTER
    # Once it is well again, what waits is published.
    operator.clock.now += 4_000
    run(net, operator, publishing, lambda: not publishing.waiting(), steps=120)


def test_more_gas_than_is_allowed_is_not_spent(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened(dataclasses.replace(TERMS, max_gas=100_000))
    batch = note_final(operator, publishing, chain, account)
    before = chain.gas_balance(account.address)
    publishing.step()
    operator.finish()
    with structlog.testing.capture_logs() as logs:
        publishing.step()
    assert any("may take 100000 gas" in str(entry.get("reason")) for entry in logs), logs
    assert chain.publication(batch.batch_id) is Publication.SETTLED
    assert chain.gas_balance(account.address) == before


def test_it_waits_while_gas_is_dear(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened(dataclasses.replace(TERMS, max_fee_wei=1))
    note_final(operator, publishing, chain, account)
    net.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    mine(net)
    with structlog.testing.capture_logs() as logs:
        publishing.step()
        publishing.step()
    assert [entry["event"] for entry in logs] == ["publishing_waits"], "told once"
    assert not operator.outbox.open_names()


def test_without_an_agent_it_says_what_to_do_and_keeps_the_list(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened()
    note_final(operator, publishing, chain, account)
    chain.unlink_agent()
    with structlog.testing.capture_logs() as logs:
        publishing.step()
    assert "trine identity register" in logs[0]["why"]
    assert publishing.waiting()


def test_a_batch_that_is_refused_again_and_again_is_given_up(node, opened, monkeypatch):
    account, chain, _ = node
    monkeypatch.setattr(module, "REST_AFTER", 1_000)
    operator, publishing = opened()
    batch = note_final(operator, publishing, chain, account)

    def refuse(act):
        raise TransactionReverted("no", reason="no")

    operator.outbox.submit = refuse
    for tries in range(MAX_TRIES):
        assert publishing.waiting() == [batch.batch_id], tries
        publishing.step()
        publishing.step()  # within its pause: not tried
        operator.clock.now += 4_000
    assert publishing.waiting() == []


def test_the_list_is_bounded(node, opened, monkeypatch):
    _, chain, _ = node
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    operator, publishing = opened()
    with operator.store.writing() as session:
        session.add_all(PublicationRow(batch_id=bytes([n]).hex() * 32) for n in range(10))
    chain.unlink_agent()
    publishing.step()
    assert publishing.waiting() == [bytes([n]) * 32 for n in (7, 8, 9)]


def test_which_batches_are_published_nobody_chooses():
    terms = Terms(3, 0, 0)
    covered = [n for n in range(300) if terms.covers(n.to_bytes(32, "big"))]
    assert covered == list(range(0, 300, 3))
    assert all(Terms(1, 0, 0).covers(keccak(text=str(n))) for n in range(20))


def test_a_duty_goes_before_publications_that_wait(net, node, opened):
    account, chain, _ = node
    operator, publishing = opened()
    for number in range(MAX_OPEN):
        note_final(operator, publishing, chain, account, f"patient {number}")
    publishing.step()
    operator.outbox.submit(payment("urgent", due=chain.timestamp() + 600))
    signed = []
    sign = operator.queue.sign

    def signing(number, transaction):
        signed.append(next(act.name for act in operator.queue.open_acts() if act.number == number))
        sign(number, transaction)

    operator.queue.sign = signing
    operator.finish()
    assert signed[0] == "urgent"
    assert len(signed) == 1 + MAX_OPEN


@contextmanager
def replaced(net, address, code):
    before = net.rpc.call("eth_getCode", address, "latest")
    net.rpc.call("anvil_setCode", address, code)
    try:
        yield
    finally:
        net.rpc.call("anvil_setCode", address, before)
