"""An appeal, from the client's command line to the end: seven verifiers that have not judged before."""

import json
import subprocess
import sys

import pytest

from trine import Client
from trine.chain import AppealPhase, Role, Verdict
from trine_devnet.network import TOKEN, Devnet, Member

# Three judge the batch, seven others the appeal.
VERIFIERS = tuple(f"verifier-{number}" for number in range(1, 11))
PARAMETERS = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "appealWindowSeconds": 20,
    "answerSeconds": 1200,
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A network of its own, gone before the other tests start theirs."""
    with Devnet(tmp_path_factory.mktemp("devnet") / "home", print) as network:
        network.start_chain(PARAMETERS)
        network.add([Member(name, Role.VERIFIER) for name in VERIFIERS])
        network.add([Member("honest", Role.NODE)])
        network.wait_ready(timeout=600)
        yield network


def test_who_appeals_a_right_verdict_is_judged_by_seven_others_and_loses_the_bond(net, tmp_path):
    account = net.create_client()
    with Client(
        rpc_url=net.rpc_url,
        deployment=net.deployment_file,
        account=account,
        node=net.operators["honest"].endpoint,
        deposit_wei=10 * TOKEN,
    ) as client:
        chain = client.chain
        certificate = client.certify(client.chat("Name a metal.", max_tokens=8))
        held = tmp_path / "certificate.json"
        held.write_text(json.dumps(certificate.to_json()))
        before = chain.token_balance(account.address)
        stakes = {name: chain.stake_of(r.account.address).active for name, r in net.operators.items()}

        appealed = _trine(net, "appeal", str(held), "reject", "--keystore", str(net.keystore("client")),
                          "--password-file", str(net.password_file), "--timeout", "400", "--json")  # fmt: skip
        assert json.loads(appealed.stdout) == {"verdict": "accepted", "withdrawnWei": "0"}

        case = chain.appeal_case(certificate.batch_id, certificate.index)
        assert (case.phase, case.level, case.verdict) == (AppealPhase.CONCLUDED, 1, Verdict.ACCEPTED)
        judges = {seat.verifier for seat in chain.seats(chain.batch(certificate.batch_id))}
        seven = {seat.verifier for seat in chain.appeal_seats(case, 1)}
        assert len(seven) == 7
        assert not judges & seven
        assert case.current.accepts.bit_count() >= 4
        terms = chain.parameters(case.terms)
        assert chain.token_balance(account.address) == before - 7 * terms.appeal_bond_per_seat
        for name, running in net.operators.items():
            if running.account.address in seven:
                gained = chain.stake_of(running.account.address).active - stakes[name]
                assert gained >= terms.appeal_fee_per_seat
        shown = _trine(net, "audit", "certificate", str(held))
        assert "result accept (final)" in shown.stdout
        assert chain.verdict(certificate.batch_id, certificate.index) == (Verdict.ACCEPTED, True)


def _trine(net, *arguments):
    command = [sys.executable, "-m", "trine", *arguments]
    command += ["--rpc-url", net.rpc_url, "--deployment", str(net.deployment_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
