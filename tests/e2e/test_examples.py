"""Examples of docs/examples, as a reader starts them, on the real network."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
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


def test_ctrl_c_at_the_prompt_of_a_chat_loses_no_verdict(owner, tmp_path):
    command = [sys.executable, str(EXAMPLES / "chat.py"), "--max-tokens", "6"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    chat = subprocess.Popen(command, cwd=tmp_path, env=owner, text=True, **pipes)
    chat.stdin.write("Name a bird.\n")
    chat.stdin.flush()
    assert chat.stdout.readline()  # the answer; the next question is waited for
    time.sleep(1)
    chat.send_signal(signal.SIGINT)
    told, wrong = chat.communicate(timeout=300)
    assert (chat.returncode, "answer 1: accept" in told) == (0, True), told + wrong


def test_an_agent_pays_on_proven_answers(net, owner, tmp_path):
    """By the commands of its README, as they are typed in a checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "owner", "documents", "memory.jsonl")
    shutil.copytree(EXAMPLES, tmp_path / "docs" / "examples", ignore=ignored)
    (typed,) = re.findall(r"^```\n(.*?)^```$", (EXAMPLES / "agent" / "README.md").read_text("utf-8"), re.M | re.S)
    reader = {**owner, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    del reader["PYTHONPATH"]
    before = net.chain().token_balance(ALICE)
    told = run(["bash", "-e", "-c", typed], reader, tmp_path)
    assert "paid: 2 to alice" in told
    assert net.chain().token_balance(ALICE) - before == 2 * TOKEN
    transaction = re.search(r"transaction (0x[0-9a-f]{64})$", told, re.M)[1]
    assert int(net.rpc.call("eth_getTransactionReceipt", transaction)["status"], 16) == 1


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
