"""A real chain without Trine's contracts: where they would stand, code that logs whatever events a test wants.

It starts in a second, mines only when it is told to, and can be re-organised.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from eth_abi import encode
from eth_utils.abi import collapse_if_tuple

from trine.chain import Chain, Deployment
from trine.chain.calls import topic_of
from trine.chain.deployment import abi
from trine.errors import ChainUnreachable
from trine_devnet.network import DEVNET_CHAIN_ID
from trine_devnet.processes import free_port
from trine_devnet.rpc import Rpc
from trine_devnet.toolchain import anvil

SENDER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
"""Anvil's first account, which it signs for."""
EPOCH_BLOCKS = 128
BLOCK_SECONDS = 12


class BareChain:
    def __init__(self, url: str, rpc: Rpc) -> None:
        self.url = url
        self.rpc = rpc
        self.deployment = Deployment(DEVNET_CHAIN_ID, 1, Deployment.bundled(DEVNET_CHAIN_ID).contracts)

    @property
    def number(self) -> int:
        return int(self.rpc.call("eth_blockNumber"), 16)

    def chain(self, url: str | list[str] | None = None, **options: Any) -> Chain:
        self.mine()
        here = replace(self.deployment, block=self.number)  # nothing before concerns this one
        chain = Chain.connect(here, url or self.url, **options)
        chain._epoch_blocks = EPOCH_BLOCKS  # there is no contract to ask
        return chain

    def mine(self, blocks: int = 1) -> None:
        self.rpc.call("anvil_mine", hex(blocks), hex(BLOCK_SECONDS))

    def emit(self, contract: str, name: str, **arguments: Any) -> int:
        """In a block of its own; returns its number."""
        (event,) = (item for item in abi(contract) if item["type"] == "event" and item["name"] == name)
        indexed = [each for each in event["inputs"] if each["indexed"]]
        rest = [each for each in event["inputs"] if not each["indexed"]]
        topics = [topic_of(contract, name)[2:]] + [encode([e["type"]], [arguments[e["name"]]]).hex() for e in indexed]
        data = encode([collapse_if_tuple(each) for each in rest], [arguments[each["name"]] for each in rest])
        address = self.deployment.address(contract)
        self.rpc.call("anvil_setCode", address, "0x" + _logging(len(topics)).hex())
        sent = {"from": SENDER, "to": address, "data": "0x" + "".join(topics) + data.hex(), "gas": hex(10**6)}
        transaction = self.rpc.call("eth_sendTransaction", sent)
        self.mine()
        return int(self.rpc.call("eth_getTransactionReceipt", transaction)["blockNumber"], 16)

    def draw(self, batch_id: bytes, *verifiers: str, round_: int = 0) -> int:
        seats = [(verifier, 1) for verifier in verifiers]
        return self.emit(
            "Batches", "CommitteeDrawn", batchId=batch_id, round=round_, seats=seats, seed=bytes(32), commitDeadline=0
        )

    def snapshot(self) -> str:
        return str(self.rpc.call("evm_snapshot"))

    def back_to(self, snapshot: str) -> None:
        """Whatever is mined next has other hashes than what was there."""
        before = int(self.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        assert self.rpc.call("evm_revert", snapshot)
        self.rpc.call("evm_setNextBlockTimestamp", hex(before + 1_000))


def _logging(topics: int) -> bytes:
    """Code that logs its input: so many topics, then data."""
    start = 32 * topics
    size = f"60{start:02x}3603"
    pushed = "".join(f"60{32 * place:02x}35" for place in reversed(range(topics)))
    return bytes.fromhex(f"{size}60{start:02x}600037{pushed}{size}6000{0xA0 + topics:02x}00")


@contextmanager
def bare_chain(*options: str) -> Iterator[BareChain]:
    port = free_port()
    command = [
        anvil(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--chain-id",
        str(DEVNET_CHAIN_ID),
        "--silent",
        "--no-mining",
    ]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        with Rpc(url) as rpc:
            _wait_for(rpc)
            bare = BareChain(url, rpc)
            bare.mine()
            yield bare
    finally:
        process.kill()
        process.wait()


def _wait_for(rpc: Rpc) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            rpc.call("eth_chainId")
            return
        except ChainUnreachable:
            assert time.monotonic() < deadline
            time.sleep(0.02)
