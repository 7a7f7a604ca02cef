"""`npm pack` of contracts/ gives what a Solidity developer installs: a fresh Hardhat project compiles an heir of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = REPOSITORY / "node_modules"
CONFIG = """
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";
const path = fileURLToPath(import.meta.resolve("solc/soljson.js"));
export default defineConfig({ solidity: { version: "0.8.37", path } });
"""
BORROWED = ("hardhat", "solc", "@openzeppelin/contracts")
"""What the project would install besides, from what is here: the test asks no registry."""


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    run("npm", "pack", str(REPOSITORY / "contracts"), "--pack-destination", str(folder), cwd=folder)
    (packed,) = folder.glob("*.tgz")
    return packed


def run(*command, cwd):
    """Fails with what the command said."""
    quiet = {
        **os.environ,
        "npm_config_offline": "true",
        "npm_config_update_notifier": "false",
        "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
    }
    done = subprocess.run(command, cwd=cwd, env=quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_package_holds_sources_and_nothing_else(tarball):
    with tarfile.open(tarball) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    assert {"package.json", "README.md", "LICENSE"} <= names
    assert {"consumers/TrineConsumer.sol", "consumers/TrineInput.sol", "interfaces/IRequests.sol"} <= names
    assert all(name.endswith(".sol") for name in names - {"package.json", "README.md", "LICENSE"})
    assert (REPOSITORY / "contracts/LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    versions = {
        json.loads((REPOSITORY / name).read_text())["version"] for name in ("package.json", "contracts/package.json")
    }
    assert len(versions) == 1


def test_a_fresh_project_compiles_the_readmes_contract(tarball, tmp_path):
    """As a developer has it: the tarball installed by npm, the contract of the package's own README."""
    (tmp_path / "package.json").write_text(json.dumps({"name": "fresh", "private": True, "type": "module"}))
    run("npm", "install", "--offline", "--no-audit", "--no-fund", "--legacy-peer-deps", str(tarball), cwd=tmp_path)
    for name in BORROWED:
        link = tmp_path / "node_modules" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(MODULES / name)
    (source,) = re.findall(r"```solidity\n(.*?)```", (REPOSITORY / "contracts/README.md").read_text(), re.DOTALL)
    (tmp_path / "contracts").mkdir()
    heading = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.27;\n\n"
    (tmp_path / "contracts/Judge.sol").write_text(heading + source)
    (tmp_path / "hardhat.config.js").write_text(CONFIG)
    run("node", str(MODULES / "hardhat/dist/src/cli.js"), "build", "--quiet", cwd=tmp_path)
    built = json.loads((tmp_path / "artifacts/contracts/Judge.sol/Judge.json").read_text())
    assert len(built["bytecode"]) > 1_000
    functions = {entry["name"] for entry in built["abi"] if entry["type"] == "function"}
    assert {"ask", "verdict", "onTrineAnswer", "refundQuestion", "retryAnswer", "progressOf"} <= functions
