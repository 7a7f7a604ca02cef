"""Nodes that show their evidence to one seat of three, or to nobody: real processes on a real chain.

What one seat was shown, all see: the node gains nothing, and nobody who judges pays for what was kept from it.
"""

import json

import pytest

from trine import Client
from trine.chain import Role
from trine_devnet.network import TOKEN, Devnet, Member
from trine_devnet.reporting import Report

PARAMETERS = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "commitSeconds": 60,
    "appealWindowSeconds": 10,
}
VERIFIERS = tuple(f"verifier-{number}" for number in range(1, 5))
SHOWS = {"shy": "one-seat", "silent": "nobody"}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", Report(print)) as network:
        network.start_chain(PARAMETERS)
        network.add([Member(name, Role.VERIFIER) for name in VERIFIERS])
        network.add([Member(name, Role.NODE, "bf16", shows=shows) for name, shows in SHOWS.items()])
        network.wait_ready()
        yield network


def judged(net, node):
    """The chain, and the certificate of an answer of that node that is final."""
    with Client(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=net.create_client(f"client-of-{node}"),
        node=net.operators[node].endpoint,
        deposit_wei=10 * TOKEN,
    ) as client:
        answer = client.chat("Name a metal.", max_tokens=8)
        return client.chain, client.certify(answer, final=True, timeout=400)


def slashed(chain, operator, batch_id):
    return sum(e.args["taken"] for e in chain.events("Staking", "Slashed", operator=operator, cause=batch_id))


def test_a_node_that_shows_its_evidence_to_one_seat_of_three_is_judged_by_all_and_nobody_is_fined(net):
    chain, certificate = judged(net, "shy")
    batch = chain.batch(certificate.batch_id)
    seats = chain.seats(batch)
    said = [json.loads(line) for line in net.operators["shy"].child.log.read_text().splitlines() if "evidence_" in line]
    ours = [line for line in said if line.get("batch") == certificate.batch_id.hex()]
    assert {line["to"] for line in ours if line["event"] == "evidence_shown"} == {seats[0].verifier}
    hidden = {line["to"] for line in ours if line["event"] == "evidence_hidden"}
    assert hidden == {seat.verifier for seat in seats[1:]}  # they asked the node, in vain

    assert certificate.result == "accept"
    assert [chain.vote(batch, index).accepts for index in range(3)] == [1, 1, 1]
    assert [slashed(chain, seat.verifier, batch.batch_id) for seat in seats] == [0, 0, 0]
    assert slashed(chain, batch.known_header.node, batch.batch_id) == 0


def test_a_node_that_shows_its_evidence_to_nobody_loses_what_a_cheat_loses_and_no_verifier_anything(net):
    chain, certificate = judged(net, "silent")
    batch = chain.batch(certificate.batch_id)
    assert chain.result(batch.batch_id).on(certificate.index) == "unavailable"
    assert [chain.vote(batch, index).unavailable for index in range(3)] == [1, 1, 1]
    assert [slashed(chain, seat.verifier, batch.batch_id) for seat in chain.seats(batch)] == [0, 0, 0]
    terms = chain.parameters(batch.terms)
    assert slashed(chain, batch.known_header.node, batch.batch_id) == terms.stake_per_leaf
