"""A chain of another id than a development chain's, with CreateX on it, and a plan for it."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from eth_account import Account

from trine.errors import ChainUnreachable
from trine_devnet.deploying.plan import Plan
from trine_devnet.processes import free_port
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil, project_root

CHAIN_ID = 424_242
CREATEX_DEPLOYER = "0xeD456e05CaAb11d66C4c797dD6c1D6f9A7F352b5"
BLOCKS = 32


@contextmanager
def lasting_chain(*options: str, hardfork: str = "prague", chain_id: int = CHAIN_ID) -> Iterator[Rpc]:
    """Its blocks are in the past, two seconds apart, the newest a moment ago; it mines what is sent, or is told to."""
    port = free_port()
    began = int(time.time()) - 2 * BLOCKS
    command = [
        anvil(), "--port", str(port), "--chain-id", str(chain_id), "--hardfork", hardfork, "--silent",
        "--timestamp", str(began), *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Rpc(f"http://127.0.0.1:{port}") as rpc:
            _wait_for(rpc)
            if hardfork == "prague":
                put_createx(rpc)
            for block in range(BLOCKS):
                rpc.call("evm_setNextBlockTimestamp", hex(began + 2 * (block + 2)))
                rpc.call("evm_mine")
            yield rpc
    finally:
        process.kill()
        process.wait()


def put_createx(rpc: Rpc) -> None:
    """By its authors' own transaction, which Ignition carries."""
    file = "node_modules/@nomicfoundation/ignition-core/dist/src/internal/execution/strategy/createx-artifact.js"
    (transaction,) = re.findall(r'presignedTx = "(0x[0-9a-f]+)"', (project_root() / file).read_text())
    rpc.call("anvil_setBalance", CREATEX_DEPLOYER, hex(10**18))
    rpc.call("eth_sendRawTransaction", transaction)


def plan(**changes: object) -> Plan:
    """With keys that nobody else has."""
    deployer, governor, guardian = (str(Account.create().address) for _ in range(3))
    fields = {
        "name": "test-plan", "chain_id": CHAIN_ID, "deployer": deployer, "governor": governor, "guardian": guardian,
        "holder": governor, "seeds": "randao", "parameters": {},
    }  # fmt: skip
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def _wait_for(rpc: Rpc) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            rpc.call("eth_chainId")
            return
        except ChainUnreachable:
            assert time.monotonic() < deadline
            time.sleep(0.05)
