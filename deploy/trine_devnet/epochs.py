"""Turns a devnet's epochs when somebody waits for it: weights of verifiers count from the next epoch on.

On a public chain an epoch passes by itself. Here it would take a minute of nothing, several times while a network
starts.
"""

from __future__ import annotations

import threading

from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

from trine.chain import BatchState, Chain
from trine.errors import TrineError

POLL_SECONDS = 0.3
MARGIN_BLOCKS = 8
"""Not so early in an epoch that a batch which is anchored meanwhile could not be drawn any more."""


class Epochs:
    """Mines on to the next epoch, without moving the chain's clock, as soon as more verifiers count in it."""

    def __init__(self, chain: Chain, rpc_url: str, model_id: bytes) -> None:
        self._chain = chain
        self._web3 = Web3(HTTPProvider(rpc_url))
        self._model_id = model_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="epochs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.step()
            except TrineError:
                continue  # the chain is busy, or ending

    def step(self) -> None:
        chain = self._chain
        blocks, block = chain.epoch_blocks(), chain.block_number()
        if block % blocks < MARGIN_BLOCKS or not self._is_awaited(block // blocks) or self._is_drawing(block):
            return
        self._web3.provider.make_request(RPCEndpoint("hardhat_mine"), [hex(blocks - block % blocks), "0x0"])

    def _is_awaited(self, epoch: int) -> bool:
        eligible = self._chain.eligible
        return any(
            eligible(self._model_id, calibrated, epoch + 1) > eligible(self._model_id, calibrated, epoch)
            for calibrated in (False, True)
        )

    def _is_drawing(self, block: int) -> bool:
        """Whether a committee is about to be drawn, which must happen within as many blocks as an epoch has."""
        chain = self._chain
        start = max(block - 4 * chain.epoch_blocks(), 0)
        return any(
            chain.batch(bytes(event.args["batchId"])).state == BatchState.ANCHORED
            for event in chain.events("Batches", "BatchAnchored", from_block=start, to_block=block)
        )
