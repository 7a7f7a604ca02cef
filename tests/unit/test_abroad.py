"""The devnet's second chain, with `trine relay` as a process of its own and the commands that make and check files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from signed_support import TEXT, Endpoints, anchoring_node, signing

from trine.certificates import portable_certificate
from trine.protocol.portable import PortableCertificate
from trine_devnet.abroad import FOREIGN_CHAIN_ID, Abroad


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with signing(tmp_path_factory.mktemp("chain") / "home") as found:
        found.endpoints = Endpoints(found)
        for _ in range(2):
            found.next_epoch()
        yield found
        found.endpoints.close()


@pytest.fixture(scope="module")
def answers(net):
    return net.settled(anchoring_node(net), 3, rejects=[1])


def trine(*arguments):
    command = [sys.executable, "-m", "trine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_answer_is_taken_and_paid_for_on_the_second_chain(net, answers):
    portable = portable_certificate(net.network.chain(), answers[0])
    with Abroad(net.network) as abroad:
        shown = abroad.show(portable, TEXT)
    assert shown.holds
    assert shown.chain_id == FOREIGN_CHAIN_ID != net.chain.deployment.chain_id
    assert "CertificateVerifierNotSigned" in shown.refused
    assert len(shown.relayed) == 1
    assert f"handed over to {portable.certificate.epoch}: 4 signers" in shown.relayed[0]
    assert 0 < shown.gas < 700_000


def test_the_commands_from_a_saved_answer_to_a_checked_file(net, answers, tmp_path):
    here = ["--rpc-url", net.network.rpc_url, "--deployment", net.network.deployment_file]
    saved, out = tmp_path / "answer.json", tmp_path / "certificate.json"
    saved.write_text(json.dumps(answers[0].to_json()))
    epoch = portable_certificate(net.network.chain(), answers[0]).certificate.epoch
    root = json.loads(trine("certificate", "root", "--epoch", epoch - 1, "--json", *here).stdout)
    made = trine("certificate", "get", saved, "-o", out, "--root-epoch", epoch - 1, *here)
    assert made.returncode == 0, made.stderr
    ask_the_chain = f'"$(trine certificate root --epoch {epoch - 1} --id)"'
    assert made.stdout.strip() == f"trine verify {out} --root {ask_the_chain}", "not the file's own word"
    assert trine("certificate", "root", "--epoch", epoch - 1, "--id", *here).stdout.strip() == root["id"]
    refused = trine("verify", out, "--root", root["merkleRoot"])
    assert (refused.returncode, f"`trine certificate root --epoch {epoch - 1}`" in refused.stderr) == (3, True)
    text = tmp_path / "text"
    text.write_text(TEXT)
    checked = trine("verify", out, "--root", root["id"], "--text", text)
    assert checked.returncode == 0, checked.stderr
    assert "result accept" in checked.stdout
    assert len(PortableCertificate.from_json(json.loads(out.read_text())).handovers) == 1
    rejected = tmp_path / "rejected.json"
    saved.write_text(json.dumps(answers[1].to_json()))
    assert trine("certificate", "get", saved, "-o", rejected, *here).returncode == 0
    own = json.loads(trine("certificate", "root", "--epoch", epoch, "--json", *here).stdout)["id"]
    refused = trine("verify", rejected, "--root", own)
    assert (refused.returncode, "result is reject" in refused.stderr) == (7, True)


def test_commands_say_what_is_wrong(net, answers, tmp_path):
    here = ["--rpc-url", net.network.rpc_url, "--deployment", net.network.deployment_file]
    saved = tmp_path / "answer.json"
    saved.write_text(json.dumps(answers[0].to_json()))
    assert trine("certificate", "root", "--epoch", 10**6, *here).returncode == 4
    nowhere = trine("certificate", "get", saved, "-o", tmp_path / "no" / "folder.json", *here)
    assert (nowhere.returncode, "cannot write" in nowhere.stderr) == (3, True)
    saved.write_text("{}")
    assert trine("certificate", "get", saved, "-o", tmp_path / "out", *here).returncode == 3
    old = replace(answers[0].receipt, issued_at=1, anchor_by=2).to_json()
    saved.write_text(json.dumps({"receipt": old, "receiptSignature": "0x", "nodeUrl": "http://127.0.0.1:9"}))
    lost = trine("certificate", "get", saved, "-o", tmp_path / "out", *here)
    assert (lost.returncode, "was given on another chain" in lost.stderr) == (3, True)
    assert not (tmp_path / "out").exists()
    account = ["--keystore", "none", "--password-file", "none"]
    lost = trine("relay", "run", "--to", "http://127.0.0.1:9", "--verifier", "0x" + "11" * 20, *account, *here)
    assert lost.returncode == 3
    assert "Traceback" not in lost.stderr


def test_a_verifier_is_deployed_once_and_only_with_a_genesis_that_was_compared(net):
    network, epoch = net.network, net.chain.newest_key_epoch()
    here = ["--rpc-url", network.rpc_url, "--deployment", network.deployment_file]
    genesis = json.loads(trine("certificate", "root", "--epoch", epoch, "--json", *here).stdout)["id"]
    with Abroad(network) as abroad:
        account = ["--keystore", abroad.keystore, "--password-file", network.password_file]
        to = ["--to", abroad.rpc_url, "--epoch", epoch, *account, *here]
        wrong = trine("relay", "deploy", "--genesis", "0x" + "00" * 32, *to)
        assert (wrong.returncode, "one of the two is wrong" in " ".join(wrong.stderr.split())) == (3, True)
        deployed = trine("relay", "deploy", "--genesis", genesis, *to)
        assert deployed.returncode == 0, deployed.stderr
        assert trine("relay", "deploy", "--genesis", genesis, *to).stdout == deployed.stdout
        run = ["relay", "run", "--once", "--to", abroad.rpc_url, "--verifier", deployed.stdout.strip(), *account, *here]
        assert trine(*run).stdout == ""
        net.next_epoch()
        said = trine(*run)
        assert f"epoch {epoch} handed over to {epoch + 1}: 4 signers" in said.stdout
        assert f"newest key set there is of epoch {epoch + 1}" in said.stderr
        net.next_epoch()
        refused = trine(*run, "--max-gas", 1000)
        assert (refused.returncode, "raise --max-gas" in " ".join(refused.stderr.split())) == (3, True)
        assert trine("relay", "run", "--once", "--to", network.rpc_url, *run[5:]).returncode == 3
