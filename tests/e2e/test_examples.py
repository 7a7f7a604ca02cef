"""Examples of docs/examples, as a reader starts them, on the real network."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agent.certified import Certified
from agent.guarded import Guarded
from agent.loop import carry_out
from agent.mandate import TOKEN, Mandate
from agent.memory import Memory
from gateway_process import usage
from waiting import eventually

from trine import NotReady

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TOOLS = Path(__file__).parents[2] / ".examples-venv" / "bin" / "python"
ALICE = "0x00000000000000000000000000000000000A11CE"


@pytest.fixture
def owner(net, account):
    """What a reader has set: chain, account, and one node, as the best one may be one that cheats here."""
    return {
        **os.environ,
        "TRINE_RPC_URL": net.rpc_url,
        "TRINE_DEPLOYMENT": str(net.deployment_file),
        "TRINE_KEYSTORE": str(net.keystore("client")),
        "TRINE_PASSWORD_FILE": str(net.password_file),
        "TRINE_NODE": net.operators["honest"].endpoint,
        "PYTHONPATH": str(EXAMPLES),
    }


@pytest.fixture
def tenant(gateway, key):
    """What somebody has set who was given a base URL and a key."""
    return {**os.environ, "OPENAI_BASE_URL": f"{gateway.url}/v1", "OPENAI_API_KEY": key}


def run(command, variables, folder, given=""):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=variables,
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_chat_shows_what_verifiers_said_of_its_answers(owner, tmp_path):
    told = run(
        [sys.executable, EXAMPLES / "chat.py", "--max-tokens", 6], owner, tmp_path, "Name a bird.\nAnd a fish?\n"
    )
    assert [line.split(",")[0] for line in told.splitlines()[-2:]] == ["answer 1: accept", "answer 2: accept"]


def test_a_batch_that_is_killed_and_started_again_asks_and_pays_nothing_twice(gateway, key, tenant, tmp_path):
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.csv"
    asked = [f'Name a "bird", number {number}.\nIn a word.' for number in range(6)]
    with questions.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["question"], *([text] for text in asked)])
    before = usage(gateway, key)
    command = [sys.executable, EXAMPLES / "batch.py", questions, answers, "--max-tokens", "5", "--at-once", "2"]
    killed = subprocess.Popen(command, env=tenant, stdout=subprocess.DEVNULL)
    eventually(lambda: answers.exists() and answers.read_text().count("0x") >= 1, "the first row", 120)
    killed.kill()
    killed.wait()
    with answers.open("ab") as file:
        file.write(b'9,"half a r')  # as it is killed while it writes
    run(command, tenant, tmp_path)
    with answers.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((int(row["row"]), row["question"]) for row in rows) == list(enumerate(asked))
    assert {row["verdict"] for row in rows} == {"accept"}
    assert len({row["receipt"] for row in rows}) == len(asked)
    after = usage(gateway, key)
    assert after["answers"] - before["answers"] == len(asked)
    assert int(after["spentWei"]) - int(before["spentWei"]) == sum(int(row["fee_wei"]) for row in rows)
    run(command, tenant, tmp_path)  # all is there: nothing is asked
    assert usage(gateway, key)["answers"] == after["answers"]


def test_an_agent_pays_on_proven_answers(net, owner, tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "documents").mkdir()
    mandate = {"payees": {"alice": ALICE}, "paymentLimit": "5", "taskLimit": "5"}
    (tmp_path / "owner" / "mandate.json").write_text(json.dumps(mandate))
    before = net.chain().token_balance(ALICE)
    told = run([sys.executable, "-m", "agent", "Pay alice 2 tokens.", "--pay", "alice", 2], owner, tmp_path)
    assert "paid: 2 to alice" in told
    assert net.chain().token_balance(ALICE) - before == 2 * TOKEN


def test_an_agent_does_nothing_on_answers_of_a_node_that_has_none_judged(ask, tmp_path):
    model = Certified(ask("hider"), timeout=3.0)
    mandate = Mandate({"alice": ALICE}, TOKEN, TOKEN, 2**40)
    paid = []
    rules = Guarded(mandate, Memory(tmp_path / "m", tmp_path / "owner"), tmp_path, paid, model.prove)
    with pytest.raises(NotReady):
        carry_out("Pay alice 1 tokens.", model, rules)
    assert not rules.paid
    assert not model.answers


@pytest.mark.skipif(not TOOLS.exists(), reason="make examples has not been run")
@pytest.mark.parametrize("example", ["with_langchain.py", "with_litellm.py"])
def test_a_library_is_pointed_at_the_gateway(gateway, key, tenant, example, tmp_path):
    told = run([TOOLS, EXAMPLES / example], {**tenant, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, tmp_path)
    verdict, receipt = told.splitlines()[-1].split()
    assert verdict == "accept"
    assert receipt in {answer["receipt"] for answer in usage(gateway, key)["recent"]}


EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=200).execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.mark.skipif(not TOOLS.exists(), reason="make examples has not been run")
def test_the_notebook_plots_what_verifiers_said(owner, tmp_path):
    variables = {
        **owner,
        "PYTHONPATH": str(EXAMPLES.parents[1] / "client_sdk"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    run([TOOLS, "-c", EXECUTE, EXAMPLES / "verdicts.ipynb", tmp_path / "done.ipynb"], variables, tmp_path)
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert "of them judged" in "".join(outputs[0]["text"])
