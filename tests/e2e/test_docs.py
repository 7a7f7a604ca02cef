"""What README.md and docs/developers.md tell a reader to write, run as it stands there, against a real network.

Blocks of a page follow one another, as a reader would type them; names that the text leaves to the reader are here.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trine import NotReady, PortableCertificate

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "docs/developers.md")
ELSEWHERE = {
    "client.chain.refund": "needs an answer that was rejected: test_protocol",
    "client.claim_inclusion(answer)": "needs a node that breaks its promise: test_unanchored",
    "tools=[weather]": "needs a model whose template knows tools: tests/unit/test_tool_answers.py",
    "wrapRequestsWithPayment": "needs a node that takes x402: test_protocol_x402 does the same",
}
"""Blocks with one of these are not run here, and why."""
COMMANDS = ("trine devnet dapp", "trine request price", "trine request post", "trine ask", "trine audit certificate")
"""What is run of a page's shell blocks, by its beginning; the others start networks, or need ten verifiers."""


def blocks(page, language):
    """Commands have no language."""
    found = [code for named, code in BLOCK.findall((REPOSITORY / page).read_text("utf-8")) if named == language]
    assert found
    return found


@pytest.fixture
def reader(net, account, tmp_path, monkeypatch):
    """In a checkout whose devnet is up, in the folder where the page says."""
    (tmp_path / ".trine").mkdir()
    (tmp_path / ".trine" / "devnet").symlink_to(net.home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRINE_RPC_URL", net.rpc_url)
    monkeypatch.setenv("TRINE_DEPLOYMENT", str(net.deployment_file))
    monkeypatch.setenv("TRINE_KEYSTORE", str(net.keystore("client")))
    monkeypatch.setenv("TRINE_PASSWORD_FILE", str(net.password_file))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_runs_as_it_stands_there(net, ask, reader, page):
    names = {}
    ran, left = 0, set()
    for block in blocks(page, "python"):
        if reasons := {beginning for beginning in ELSEWHERE if beginning in block}:
            left |= reasons
            continue
        # The one thing that a reader changes: `--keep` prints the address.
        code = block.replace("http://127.0.0.1:8545", net.rpc_url)
        if "Client(" in code:  # the best node may be one that cheats here
            code = code.replace("deposit_wei=", f"node={net.operators['honest'].endpoint!r}, deposit_wei=")
        if "hard=True" in code:
            code = portable(code, names)
        exec(compile(code, f"{page}, block {ran + 1}", "exec"), names)  # noqa: S102  (the page is ours)
        ran += 1
    assert ran >= (1 if page == "README.md" else 4)
    assert left == (set() if page == "README.md" else set(ELSEWHERE)), "what is excused is still there"
    assert names["answer"].certificate.result == "accept"
    names["client"].close()


def portable(code, names):
    """The page's three lines, once for an answer that its committee has signed; how it settles is up to them."""
    import json
    import time

    client = names["client"]
    for _ in range(5):
        try:
            held = client.certify(names["answer"], hard=True)
            break
        except NotReady:
            names["answer"] = client.chat("Name a bird.", max_tokens=4, wait=True)
    else:
        pytest.fail("none of five answers was settled by signatures")
    document = held.to_json()
    names |= {"json": json, "time": time, "PortableCertificate": PortableCertificate}
    names |= {"document": document, "trusted_id": PortableCertificate.from_json(document).root_id}
    return code


def test_commands_of_the_pages_do_what_they_say(net, reader):
    shell = [block for page in PAGES for block in blocks(page, "")]
    lines = [line.removeprefix(".venv/bin/") for block in shell for line in block.splitlines()]
    commands = dict.fromkeys(line.partition(" #")[0].strip() for line in lines)
    chosen = [command for command in commands if command.startswith(COMMANDS)]
    assert {start for start in COMMANDS if any(command.startswith(start) for command in chosen)} == set(COMMANDS)
    for command in chosen:
        words = re.findall(r'"[^"]*"|\S+', command)
        arguments = [word.strip('"') for word in words[1:]]
        if arguments[0] == "ask":
            arguments += ["--node", net.operators["honest"].endpoint]
        done = subprocess.run(
            [sys.executable, "-m", "trine", *arguments], capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
