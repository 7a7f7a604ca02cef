"""Both ways to deploy, on real chains: Ignition, for networks that last, and the devnet's round of transactions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trine.chain import Deployment
from trine.chain.deployment import CONTRACTS, FACTORY, bytecode
from trine.errors import ChainUnreachable
from trine_devnet.addresses import DEVNET_CHAIN_ID, DEVNET_DEPLOYER, factory_address
from trine_devnet.contracts import deploy
from trine_devnet.processes import free_port, start
from trine_devnet.reporting import Report
from trine_devnet.rpc import Rpc
from trine_devnet.specification import specification
from trine_devnet.toolchain import anvil, project_root
from trine_devnet.waiting import wait_until

PARAMETERS = {"appealWindowSeconds": 77, "promptsPerChallenge": 1, "guardian": "0x" + "12" * 20, "epochBlocks": 32}


@pytest.fixture
def chains(tmp_path):
    """Two empty ones."""
    opened = []
    for name in ("direct", "ignition"):
        port = free_port()
        command = [anvil(), "--port", str(port), "--chain-id", str(DEVNET_CHAIN_ID), "--hardfork", "prague"]
        child = start(name, command, tmp_path / f"{name}.log", cwd=tmp_path)
        rpc = Rpc(f"http://127.0.0.1:{port}")
        opened.append((child, rpc))
        wait_until(lambda rpc=rpc: _answers(rpc), "the chain", [child], Report(print))
    yield [rpc for _, rpc in opened]
    for child, rpc in opened:
        rpc.close()
        child.stop()


def test_both_ways_put_the_same_code_at_the_same_addresses(chains, tmp_path):
    direct, by_ignition = chains
    deployment = deploy(direct, PARAMETERS)

    assert deployment == Deployment.bundled(DEVNET_CHAIN_ID)
    assert _ignition(by_ignition.url, tmp_path) == deployment.contracts
    places = {**deployment.contracts, FACTORY: factory_address(bytecode(FACTORY).creation)}
    for name in (*CONTRACTS, FACTORY):
        # Immutables, which hold parameters and counterparts, are part of the code.
        one, other = (rpc.call("eth_getCode", places[name], "latest") for rpc in chains)
        assert one == other != "0x", name
    current = {"to": places["Parameters"], "data": "0x9fa6a6e3"}  # current()
    one, other = (rpc.call("eth_call", current, "latest") for rpc in chains)
    assert one == other
    assert f"{PARAMETERS['appealWindowSeconds']:064x}" in one


def _answers(rpc):
    try:
        return rpc.call("eth_chainId")
    except ChainUnreachable:
        return False


def _ignition(url, tmp_path):
    """Deploys with Hardhat Ignition, checks the deployment with the script, and returns the addresses."""
    root, name = project_root(), f"test-{os.getpid()}"
    folder = root / "deploy" / "ignition" / "deployments" / name
    file = tmp_path / "parameters.json"
    development = specification()["development"]
    assert development["governor"] == development["guardian"] == "deployer"
    named = {**development, "governor": DEVNET_DEPLOYER, **PARAMETERS}
    file.write_text(json.dumps({"Trine": named}))
    # Set-up puts a Node that is new enough beside Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TRINE_RPC_URL": url, "HARDHAT_IGNITION_CONFIRM_DEPLOYMENT": "true"}
    hardhat = [
        "node", "node_modules/hardhat/dist/src/cli.js", "ignition", "deploy", "deploy/ignition/modules/Trine.js",
        "--network", "rpc", "--deployment-id", name, "--reset", "--parameters", str(file), "--strategy", "create2",
    ]  # fmt: skip
    try:
        for command in (hardhat, ["node", "deploy/scripts/check-deployment.js", str(folder)]):
            run = subprocess.run(
                command,
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=600,
            )
            assert run.returncode == 0, run.stdout + run.stderr
        addresses = json.loads((folder / "deployed_addresses.json").read_text())
        return {contract: addresses[f"Trine#{contract}"] for contract in CONTRACTS}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
