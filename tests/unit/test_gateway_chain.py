"""A gateway whose chain is another one all of a sudden: a devnet that was started again, at the same address."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import httpx2
import pytest
from bare_chain import bare_chain
from eth_account import Account
from gateway_support import bearer, kept
from sqlalchemy import update
from test_node_support import wait_for

from trine.chain import Chain
from trine.errors import InvalidInput
from trine_devnet.network import Devnet
from trine_devnet.processes import free_port
from trine_devnet.reporting import Report
from trine_gateway.chain_watch import difference, require_own_chain
from trine_gateway.keys import id_of
from trine_gateway.records import ChainMark
from trine_gateway.store import GatewayStore
from trine_gateway.tables import AnswerRow

TRINE = [sys.executable, "-m", "trine", "gateway"]
FORTNIGHT = 15 * 86_400


@contextmanager
def chain_at(port, home):
    """Contracts and the model, no operators."""
    with Devnet(home, Report(print)) as network:
        network.start_chain(preferred_port=port)
        assert network.rpc_url.endswith(f":{port}")
        yield network


def trine(folder, *arguments):
    return subprocess.run([*TRINE, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def running(folder, port):
    """`trine gateway run`."""
    command = [*TRINE, "run", "--port", str(port)]
    with (
        (folder / "gateway.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stderr=log) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        try:
            wait_for(lambda: answers(http), 60)
            yield http
        finally:
            process.terminate()
            assert process.wait(60) == 0


def answers(http):
    try:
        return http.get("/healthz").status_code
    except httpx2.TransportError:
        return 0


def due_again(store):
    with store.writing() as session:
        session.execute(update(AnswerRow).values(look_at=0, created_at=int(time.time()) - FORTNIGHT))


@pytest.mark.slow
def test_a_gateway_whose_chain_was_started_anew_says_so_and_leaves_its_accounts_as_they_are(tmp_path):
    account = Account.create()
    (tmp_path / "k.json").write_text(json.dumps(Account.encrypt(account.key, "secret", iterations=1024)))
    (tmp_path / "password").write_text("secret")
    port, here = free_port(), tmp_path / "home"
    named = [
        *("--rpc-url", f"http://127.0.0.1:{port}", "--deployment", str(here / "deployment.json")),
        *("--keystore", str(tmp_path / "k.json"), "--password-file", str(tmp_path / "password")),
    ]
    with chain_at(port, here):
        made = trine(tmp_path, "init", *named)
        assert made.returncode == 0, made.stderr
        key = trine(tmp_path, "keys", "add", "me", "--budget", "1").stdout.strip()
        store = GatewayStore(f"sqlite:///{tmp_path}/gateway.sqlite")
        store.settle(store.reserve(id_of(key), 9, 60), id_of(key), kept(1, 7))
        asks = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        stack = running(tmp_path, free_port())
        http = stack.__enter__()
        assert http.get("/healthz").status_code == 200
        assert http.post("/v1/chat/completions", json=asks, headers=bearer(key)).json()["error"]["code"] == "no_node"
    try:
        due_again(store)  # what is never judged is given up by now
        wait_for(lambda: http.get("/healthz").status_code == 503)
        with chain_at(port, here):
            wait_for(lambda: "replaced" in http.get("/healthz").json()["reason"])
            for refused in (
                http.post("/v1/chat/completions", json=asks, headers=bearer(key)),
                http.post("/v1/responses", json={"model": asks["model"], "input": "Hi"}, headers=bearer(key)),
                http.get("/v1/models", headers=bearer(key)),
            ):
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "chain_replaced")
                assert "was replaced by another one" in refused.json()["error"]["message"]
            due_again(store)
            time.sleep(3)  # as many looks for verdicts
            usage = http.get("/usage", headers=bearer(key)).json()
            assert (usage["spentWei"], usage["answers"], usage["verdicts"]["pending"]) == ("7", 1, 1)
            assert store.verdict(kept(1).digest) == (None, False)
            log = (tmp_path / "gateway.log").read_text()
            assert log.count("chain_replaced") == 1
            stack.__exit__(None, None, None)
            again = trine(tmp_path, "run")
            said = " ".join(again.stderr.split())
            assert (again.returncode, "Traceback" in said) == (3, False)
            assert "this is another chain than the one that the gateway's store is about: its block" in said
            assert "set store_url to a new store" in said
            assert store.verdict(kept(1).digest) == (None, False)
            assert store.key(id_of(key)).is_valid(time.time())
            other = trine(tmp_path, "init", *named, "--config", "other.toml")
            assert other.returncode == 0, other.stderr
    finally:
        store.close()


def test_a_chain_is_told_by_the_block_where_its_deployment_began(tmp_path):
    with bare_chain() as bare, bare_chain() as other:
        bare.mine(5)
        other.rpc.call("anvil_mine", hex(5), hex(7))  # two that are started in one second are alike up to here
        here = replace(bare.deployment, block=3)
        chain, elsewhere = Chain.connect(here, bare.url), Chain.connect(here, other.url)
        mark = ChainMark(here.chain_id, here.address("Batches"), 3, chain.block_hash(3))
        assert difference(chain, mark) is None
        assert "its block 3 is 0x" in difference(elsewhere, mark)
        assert "it ends at block" in difference(chain, replace(mark, block=100))
        store = GatewayStore(f"sqlite:///{tmp_path}/g.sqlite")
        with pytest.raises(InvalidInput, match="there are no contracts at the deployment's addresses on chain 31337"):
            require_own_chain(store, chain)
        assert store.chain_mark() is None
        for each in (bare, other):
            each.rpc.call("anvil_setCode", here.address("Directory"), "0x00")
        require_own_chain(store, chain)
        require_own_chain(store, chain)
        assert store.chain_mark() == mark
        with pytest.raises(InvalidInput, match="its block 3 is 0x"):
            require_own_chain(store, elsewhere)
        moved = replace(here, contracts={**here.contracts, "Batches": here.address("Payments")})
        with pytest.raises(InvalidInput, match="and the store is about chain 31337 and 0x"):
            require_own_chain(store, Chain.connect(moved, bare.url))
        assert store.chain_mark() == mark
        store.close()
