"""Faults in the middle of a batch, one after the other; `benchmarks/faults.py` injects many of them by chance."""

import contextlib
import random
import time

import pytest
from conftest import VERIFIERS
from waiting import eventually

from trine.chain import Ballot, BatchState
from trine.chain.writes import CALLS
from trine.errors import NotReady, TransactionReverted
from trine_devnet.faults.chain import reorganize
from trine_devnet.faults.endpoint_faults import Silent
from trine_devnet.faults.votes import said_by_seat, said_twice

NONE_OF_THEM = random.Random(1)


@pytest.fixture
def batch_of(net, ask):
    """Asks for an answer and waits until its batch has got so far; returns client, answer and batch id."""

    def asked(question, state):
        client = ask("honest")
        answer = client.chat(question, max_tokens=8)
        eventually(lambda: client.batch_of(answer) is not None, "the answer to be sealed")
        batch_id = client.batch_of(answer)
        eventually(lambda: client.chain.batch(batch_id).state >= state, f"the batch to be {state.name.lower()}")
        return client, answer, batch_id

    return asked


@pytest.fixture(autouse=True)
def nobody_was_punished_or_said_two_things(net, endpoints):
    before = penalties(net)
    yield
    assert penalties(net) == before
    chain = net.chain()
    sent = [raw for proxy in endpoints.values() for raw in proxy.sent]
    said = said_by_seat(sent, chain.deployment.chain_id, chain.deployment.address("Batches"))
    redraws = {}
    for event in chain.events("Batches", "CommitteeRedrawn"):
        redraws[bytes(event.args["batchId"])] = redraws.get(bytes(event.args["batchId"]), 0) + 1
    assert said
    assert said_twice(said, redraws) == []


def test_a_node_that_dies_before_its_evidence_is_fetched_is_waited_for(net, batch_of):
    client, answer, batch_id = batch_of("Name a bird.", BatchState.ANCHORED)
    net.operators["honest"].child.kill()
    try:
        eventually(lambda: draw(client.chain, batch_id), "the committee to be drawn")
        time.sleep(3)  # verifiers ask, and nobody is there
    finally:
        net.restart("honest")
    net.wait_ready(["honest"])
    assert client.certify(answer).result == "accept"
    assert client.chain.batch(batch_id).round == 0


@pytest.fixture
def voters(net):
    """Two of the four vote on the chain meanwhile, so that every committee does."""
    names = VERIFIERS[:2]
    before = {name: net.operators[name].config.read_text() for name in names}

    def restart(changes):
        for name in names:
            net.operators[name].child.stop()
            net.operators[name].config.write_text(before[name] + changes)
            net.restart(name)
        net.wait_ready(list(names))

    restart("sign_results = false\n")
    yield
    restart("")


def test_a_verifier_that_dies_between_commit_and_reveal_reveals(net, voters, batch_of):
    client, answer, batch_id = batch_of("Name a fish.", BatchState.DRAWN)
    seats = client.chain.seats(client.chain.batch(batch_id))
    names = {running.account.address: name for name, running in net.operators.items()}
    seat, name = 0, names[seats[0].verifier]
    eventually(lambda: client.chain.batch(batch_id).ballot(seat) >= Ballot.COMMITTED, "a commitment")
    net.operators[name].child.kill()
    net.restart(name)
    assert client.certify(answer).result == "accept"
    batch = client.chain.batch(batch_id)
    assert (batch.revealed, batch.signed) == (3, False)
    net.wait_ready([name])


@pytest.mark.parametrize("state", [BatchState.DRAWN, BatchState.SETTLED])
def test_a_batch_whose_whole_life_is_reorganized_away_is_judged_again(net, batch_of, state):
    client, answer, batch_id = batch_of(f"Name a flower, {state.name}.", state)
    chain = client.chain
    depth = chain.block_number() - chain.anchoring(batch_id).block + 1
    reorganized = reorganize(net.rpc, depth, 0.0, NONE_OF_THEM)
    assert reorganized.dropped > 0
    assert chain.batch(batch_id).state < BatchState.SETTLED  # the node may have sent again what was taken back
    assert client.certify(answer, timeout=60).result == "accept"


def test_a_verifier_whose_endpoint_is_silent_votes_when_it_is_back(net, endpoints, batch_of):
    client, answer, batch_id = batch_of("Name a tree.", BatchState.DRAWN)
    names = {running.account.address: name for name, running in net.operators.items()}
    name = names[client.chain.seats(client.chain.batch(batch_id))[0].verifier]
    endpoints[name].inject(Silent())
    time.sleep(8)
    endpoints[name].lift()
    assert client.certify(answer).result == "accept"
    assert client.chain.batch(batch_id).revealed == 3


def draw(chain, batch_id):
    """Anybody may, once the seed block is mined."""
    with contextlib.suppress(TransactionReverted, NotReady):
        batch = chain.batch(batch_id)
        chain.send_seeded(CALLS.draw(batch.known_header), batch.clock, chain.fixed_at(batch_id))
    return chain.batch(batch_id).state >= BatchState.DRAWN


def penalties(net):
    chain = net.chain()
    mine = {running.account.address for name, running in net.operators.items() if name not in ("cheater", "hider")}
    kinds = (
        ("Batches", "VerifierPenalized", "verifier"),
        ("Finality", "WrongVotePenalized", "verifier"),
        ("Staking", "Slashed", "operator"),
    )
    return [
        (name, event.args) for contract, name, who in kinds for event in chain.events(contract, name)
        if event.args[who] in mine
    ]  # fmt: skip
