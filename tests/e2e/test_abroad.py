"""From a running network to another chain: verifiers hand their keys over, a relay carries that, a contract there takes
an answer. Nothing here knows a verifier's key."""

import json
import subprocess
import sys

import httpx2
import pytest

from trine.certificates import handed_over, source_of
from trine.chain import Role
from trine.errors import NotReady
from trine.handovers import collect
from trine_devnet.abroad import FOREIGN_CHAIN_ID, certificate_abroad
from trine_devnet.waiting import wait_until

QUESTION = "Name the capital of France."


@pytest.fixture(scope="module")
def epochs(net):
    """Two epochs in a row of which all four verifiers know the key sets."""
    chain = net.chain()
    verifiers = [o for o in net.operators.values() if o.member.role == Role.VERIFIER]

    def served() -> bool:
        newest = chain.newest_key_epoch()
        answers = [httpx2.get(f"{each.endpoint}/v1/handovers/{newest}", trust_env=False) for each in verifiers]
        return all(answer.status_code == 200 for answer in answers)

    blocks, number = chain.epoch_blocks(), chain.block_number()
    if not served():
        net.rpc.call("anvil_mine", hex(blocks - number % blocks), "0x0")
    wait_until(served, "hand-overs", [each.child for each in verifiers], net.report)
    newest = chain.newest_key_epoch()
    return newest - 1, newest


def test_verifiers_hand_over_from_epoch_to_epoch(net, epochs):
    chain = net.chain()
    current, following = (chain.roster(epoch) for epoch in epochs)
    assert {each.operator for each in current.eligible} == {
        o.account.address for o in net.operators.values() if o.member.role == Role.VERIFIER
    }
    collected = collect(current, following, source_of(chain), chain.endpoint_of)
    assert collected.refused == {}
    rosters, handovers = handed_over(chain, current, following)
    assert len(rosters) == 2
    assert len(handovers[0].members) == 3  # of four, more than two thirds by weight


def test_an_answer_is_taken_on_another_chain_and_a_tampered_one_is_not(net, ask, epochs, tmp_path):
    client = ask("honest", salted=False)  # the contract compares the bare text
    for _ in range(5):
        answer = client.chat(QUESTION, max_tokens=8)
        try:
            portable = client.certify(answer, hard=True)
            break
        except NotReady as error:
            problem = error  # settled by votes: it happens
    else:
        raise AssertionError(problem)
    shown = certificate_abroad(net, client, answer)
    assert shown.holds
    assert shown.chain_id == FOREIGN_CHAIN_ID != client.chain.deployment.chain_id
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(portable.to_json()))
    command = [sys.executable, "-m", "trine", "verify", str(file), "--root", "0x" + portable.root_id.hex()]
    checked = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(checked.stdout)["result"] == "accept"
