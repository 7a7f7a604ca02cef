"""Answers that are in no batch, and batches that nobody judges: what a client claims, what it costs whom.

Real processes on a real chain. Hours pass between what is done, and cost nothing but a call.
"""

import json
import subprocess
import sys
from functools import partial

import pytest
import waiting
from conftest import VERIFIERS

from trine.chain import BatchState, ClaimState

eventually = partial(waiting.eventually, timeout=180.0)


@pytest.fixture
def claim(net, tmp_path):
    """`trine claim` of the account that asks; (exit code, what it says)."""

    def run(answer):
        file = tmp_path / f"{answer.digest.hex()}.json"
        file.write_text(json.dumps(answer.held()))
        command = [sys.executable, "-m", "trine", "claim", str(file), "--rpc-url", net.rpc_url]
        command += ["--deployment", str(net.deployment_file), "--keystore", str(net.keystore("client"))]
        command += ["--password-file", str(net.password_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, (done.stdout + done.stderr).strip()

    return run


def slashed(chain, operator, cause):
    return sum(e.args["taken"] for e in chain.events("Staking", "Slashed", operator=operator, cause=cause))


def test_a_node_that_keeps_a_receipt_out_of_every_batch_is_slashed_on_its_clients_claim(net, ask, claim):
    client = ask("hider")
    chain, node = client.chain, net.operators["hider"].account.address
    answer = client.chat("Name a river.", max_tokens=8)
    code, said = claim(answer)
    assert code == 4
    assert "has promised to anchor the answer within" in said

    net.pass_time(answer.receipt.anchor_by - chain.timestamp() + 1)
    assert client.batch_of(answer) is None
    code, said = claim(answer)
    assert (code, said.splitlines()[0]) == (0, "open")
    code, said = claim(answer)
    assert code == 4
    assert "to show it: then come again" in said

    net.pass_time(chain.inclusion_answer_seconds() + 1)
    stake, tokens = chain.stake_of(node).active, chain.token_balance(chain.address)
    assert claim(answer) == (0, "broken")
    lost = chain.parameters().stake_per_leaf + answer.receipt.fee_wei
    assert stake - chain.stake_of(node).active == slashed(chain, node, answer.digest) == lost
    assert chain.token_balance(chain.address) - tokens == lost // 2 + chain.inclusion_bond()
    assert claim(answer)[1] == "broken"  # and once only
    assert slashed(chain, node, answer.digest) == lost


def test_a_node_that_was_away_and_answers_a_claim_in_time_loses_nothing(net, ask, claim):
    client = ask("honest")
    chain, node = client.chain, net.operators["honest"].account.address
    answer = client.chat("Name a lake.", max_tokens=8)
    net.operators["honest"].child.kill()  # before the answer was sealed
    try:
        net.pass_time(answer.receipt.anchor_by - chain.timestamp() + 1)
        before = chain.token_balance(chain.address)
        code, said = claim(answer)
        assert (code, said.splitlines()[0]) == (0, "open")
        assert chain.token_balance(chain.address) == before - chain.inclusion_bond()
    finally:
        net.restart("honest")
    net.wait_ready(["honest"])
    eventually(lambda: chain.inclusion_claim(answer.digest).state == ClaimState.ANSWERED, "the claim to be answered")
    assert chain.token_balance(chain.address) == before  # the claim was true when it was made
    certificate = client.certify(answer)
    assert certificate.result == "accept"
    assert chain.inclusion_claim(answer.digest).answered_in == certificate.batch_id
    assert slashed(chain, node, answer.digest) == slashed(chain, node, certificate.batch_id) == 0
    code, said = claim(answer)
    assert code == 3
    assert "would lose its bond" in said


def test_a_batch_that_nobody_judges_burns_its_fee_and_is_anchored_again(net, ask):
    client = ask("honest")
    chain, node = client.chain, net.operators["honest"].account.address
    for name in VERIFIERS:
        net.operators[name].child.kill()
    try:
        answer = client.chat("Name a sea.", max_tokens=8)
        eventually(lambda: client.batch_of(answer), "the answer to be sealed")
        batch_id = client.batch_of(answer)
        eventually(lambda: chain.batch(batch_id).state == BatchState.DRAWN, "the committee to be drawn")
        batch, credit, supply = chain.batch(batch_id), chain.credit_of(node), supply_of(chain)
        terms, rounds = chain.parameters(batch.terms), set()

        def is_void():
            now = chain.batch(batch_id)
            if now.state == BatchState.DRAWN and now.round not in rounds:
                rounds.add(now.round)
                net.pass_time(terms.commit_seconds + 10)  # and nobody has voted
            return list(chain.events("Batches", "BatchVoided", batchId=batch_id))

        (voided,) = eventually(is_void, "the batch to be void")
        assert len(rounds) == terms.max_rounds
    finally:
        for name in VERIFIERS:
            net.restart(name)
    taken = [
        event.args["amount"]
        for event in chain.events("Batches", "VerifierPenalized", batchId=batch_id)
        if event.block <= voided.block
    ]
    assert len(taken) == 3 * len(rounds)
    fee = terms.verifier_fee(batch.leaf_count, batch.known_header.tokens)
    assert supply - supply_of(chain, voided.block) >= fee + sum(taken)
    assert slashed(chain, node, batch_id) == 0  # no doing of its own
    assert credit >= chain.credit_of(node)

    net.wait_ready(list(VERIFIERS))
    certificate = client.certify(answer)
    assert (certificate.batch_id, certificate.result) == (batch_id, "accept")
    assert len(list(chain.events("Batches", "BatchAnchored", batchId=batch_id))) >= 2


def supply_of(chain, block=None):
    return chain._read("TrineToken", "totalSupply", block=block)
