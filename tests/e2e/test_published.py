"""ERC-8004 with real processes: a node publishes its verdicts, its client says what an answer was worth."""

import json
import subprocess
import sys

import httpx2
from waiting import eventually

from trine.agents import agent_report
from trine.chain.agents import Publication
from trine.registration import WELL_KNOWN, Registration
from trine_devnet.agents import published


def test_verdicts_and_feedback_of_running_processes_are_in_the_registries(net, ask):
    client = ask("honest")
    chain, honest = client.chain, net.operators["honest"]
    agent_id = chain.agent_of(honest.account.address)
    before, _, _ = chain.feedback_summary(agent_id, "starred", "accepted")  # of what other tests have said
    answer = client.chat("Name a tree.", max_tokens=6, wait=True)
    client.feedback(answer, "4.5", "starred")
    count, _, _ = chain.feedback_summary(agent_id, "starred", "accepted")
    assert count == before + 1
    eventually(lambda: published(chain, honest.account.address), "the node to publish a verdict")
    shown = Registration.parse(httpx2.get(honest.endpoint + WELL_KNOWN, trust_env=False).content)
    report = agent_report(chain, agent_id, local=True)
    assert report.registration == shown
    assert report.operator == honest.account.address
    assert report.problems == ()
    batch_id = report.published[0]
    assert chain.publication(batch_id) is Publication.FINAL
    held = chain.validation(chain.request_hash(batch_id))
    result = chain.result(batch_id)
    assert held.response == 100 * result.accepted.bit_count() // result.leaf_count
    assert held.tag == "hard"


def test_the_command_line_shows_an_operators_agent_beside_its_record(net):
    address = net.operators["honest"].account.address
    options = ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file), "--allow-local", "--json"]
    command = [sys.executable, "-m", "trine", "audit", "operator", address, *options]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert shown["agent"]["operator"] == address
    assert shown["agent"]["registration"]["supportedTrust"] == ["reputation", "crypto-economic"]
    verifier = net.operators["verifier-1"].account.address
    command = [sys.executable, "-m", "trine", "identity", "show", verifier, *options]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 3
    assert "has linked no agent" in refused.stderr
