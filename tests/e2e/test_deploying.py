"""`trine deploy` on a chain of a network that lasts: killed half way, started again, its sources verified."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deploy_support import CHAIN_ID, lasting_chain
from rpc_proxy import proxied

from trine.chain import Chain, Deployment, create_keystore
from trine.chain.deployment import CONTRACTS
from trine_devnet.deploying.record import Record
from trine_devnet.toolchain import project_root

TRINE = [sys.executable, "-m", "trine"]
KILLED_AT = 7
"""Transactions sent when the process is killed, of 21."""
SECONDS = 300


@pytest.fixture
def journal():
    """Ignition's, under the checkout; gone afterwards."""
    name = f"test-{time.time_ns()}"
    yield name
    shutil.rmtree(project_root() / "deploy" / "ignition" / "deployments" / name, ignore_errors=True)


@dataclass
class Settings:
    """The command, its folder and its keys."""

    folder: Path
    journal: str
    addresses: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        (self.folder / "password").write_text("a password\n")
        for role in ("deployer", "governor", "guardian"):
            file = self.folder / f"{role}.json"
            self.addresses[role] = create_keystore(file, "a password", iterations=1 << 12)

    @property
    def home(self):
        return self.folder / "home"

    def command(self, url):
        named = self.addresses
        return [
            *TRINE, "deploy", "run", "--rpc", url, "--seeds", "randao", "--name", self.journal, "--home",
            str(self.home), "--governor", named["governor"], "--guardian", named["guardian"], "--keystore",
            str(self.folder / "deployer.json"), "--password-file", str(self.folder / "password"), "--yes",
        ]  # fmt: skip


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=project_root())


def test_a_deployment_that_is_killed_goes_on_and_its_file_is_one_that_clients_read(tmp_path, journal):
    settings = Settings(tmp_path, journal)
    with lasting_chain() as rpc, proxied(rpc.url) as proxy, sourcify() as explorer:
        rpc.call("anvil_setBalance", settings.addresses["deployer"], hex(10**18))
        rpc.call("evm_setIntervalMining", 1)
        _kill_half_way(settings, proxy)
        kept = Record(settings.home / "sent.jsonl")
        assert len(kept.all) == KILLED_AT

        done = run(settings.command(proxy.url))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "was sent just before the end" in done.stderr
        sent = Record(settings.home / "sent.jsonl").all
        assert [s.raw for s in sent[:KILLED_AT]] == [s.raw for s in kept.all]
        # The factory and each contract once: nothing was sent twice.
        assert sorted(s.contract for s in sent) == sorted(["Factory", *CONTRACTS])
        assert int(rpc.call("eth_getTransactionCount", settings.addresses["deployer"], "latest"), 16) == len(sent)

        deployment = Deployment.load(settings.home / "deployment.json")
        assert deployment.chain_id == CHAIN_ID
        first = rpc.call("eth_getTransactionReceipt", sent[0].hash)
        assert deployment.block == int(first["blockNumber"], 16)
        chain = Chain.connect(deployment, rpc.url)
        assert chain.token_balance(settings.addresses["governor"]) == 10**27
        assert chain.parameters().stake_per_leaf == 5 * 10**18

        verified = run([*TRINE, "deploy", "verify", "--rpc", proxy.url, "--home", str(settings.home),
                        "--api-url", explorer.url])  # fmt: skip
        assert verified.returncode == 0, verified.stdout + verified.stderr
        shown = {asked["contractIdentifier"].split(":")[1]: asked for asked in explorer.asked}
        assert set(shown) == {"Factory", "RandaoSeeds", *CONTRACTS} - {"Seeds"}
        assert {asked["address"] for asked in explorer.asked} >= set(deployment.contracts.values())
        # The sources that were sent give the code that stands there.
        compiled = _compile(shown["Factory"]["stdJsonInput"])
        assert compiled == rpc.call("eth_getCode", shown["Factory"]["address"], "latest")


def _kill_half_way(settings, proxy):
    """The process ends when a transaction has been handed over and nobody has noted it."""
    sent, over = [], threading.Event()

    def hold(method, _parameters, result):
        if method == "eth_sendRawTransaction":
            sent.append(result)
            if len(sent) == KILLED_AT:
                over.wait(SECONDS)
        return result

    proxy.edit = hold
    process = subprocess.Popen(
        settings.command(proxy.url), cwd=project_root(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + SECONDS
    while len(sent) < KILLED_AT:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.communicate()
    proxy.edit = lambda _method, _parameters, result: result
    over.set()


def _compile(standard_input):
    """By npm's solc. The code that stays, of the one contract that is asked for."""
    program = (
        "const solc=require('solc');let s='';process.stdin.on('data',d=>s+=d).on('end',()=>"
        "process.stdout.write(solc.compile(s)))"
    )
    wanted = {**standard_input, "settings": {**standard_input["settings"], "outputSelection": {
        "*": {"Factory": ["evm.deployedBytecode.object"]}}}}  # fmt: skip
    node = Path(sys.executable).with_name("node")
    done = subprocess.run(
        [node if node.exists() else "node", "-e", program], input=json.dumps(wanted), capture_output=True, text=True,
        cwd=project_root(), timeout=SECONDS, check=True,
    )  # fmt: skip
    (found,) = (c["Factory"] for c in json.loads(done.stdout)["contracts"].values() if "Factory" in c)
    return "0x" + found["evm"]["deployedBytecode"]["object"]


class sourcify:  # noqa: N801  (used like a function)
    """Sourcify's API as far as hardhat-verify uses it: keeps what it is asked, and says that all of it matches."""

    def __init__(self):
        self.asked = []
        explorer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                *_, address = self.path.split("/")
                if "/v2/contract/" in self.path:
                    self._answer(404, _match(address, None))
                else:
                    said = {"isJobCompleted": True, "verificationId": address, "jobStartTime": ""}
                    self._answer(200, {**said, "contract": _match(address, "match")})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                *_, chain_id, address = self.path.split("/")
                assert chain_id == str(CHAIN_ID)
                explorer.asked.append({**body, "address": address})
                self._answer(202, {"verificationId": address})

            def _answer(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _match(address, match):
    return {
        "match": match,
        "creationMatch": match,
        "runtimeMatch": match,
        "chainId": str(CHAIN_ID),
        "address": address,
    }
