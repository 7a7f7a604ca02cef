"""Turns a devnet's epochs when somebody waits for it: weights of verifiers count from the next epoch on.

On a public chain an epoch passes by itself. Here it would take a minute of nothing, several times while a network
starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from trine.chain import BatchState, Chain
from trine.errors import TrineError
from trine_devnet.rpc import Rpc

POLL_SECONDS = 0.5
MARGIN_BLOCKS = 8
"""Not so early in an epoch that a batch which is anchored meanwhile could not be drawn any more."""


class Epochs:
    """Mines on to the next epoch, without moving the chain's clock, as soon as more verifiers count in it.

    A thread does, while operators are starting; a network in which nobody starts costs nothing.
    """

    def __init__(self, chain: Chain, rpc: Rpc, model_id: bytes, are_starting: Callable[[], bool]) -> None:
        self._chain = chain
        self._rpc = rpc
        self._model_id = model_id
        self._are_starting = are_starting
        self._seen = -1
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Operators were started: turns epochs for them until they count."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="epochs", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread:
            thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                awaited = self.step()
            except TrineError:
                continue  # the chain is busy, or ending
            with self._lock:
                if not awaited and not self._are_starting():
                    self._thread = None
                    return

    def step(self) -> bool:
        """Whether somebody waits for the next epoch. Raises TrineError."""
        chain = self._chain
        blocks, block = chain.epoch_blocks(), chain.block_number()
        if block == self._seen:
            return True
        self._seen = block
        awaited = self._is_awaited(block // blocks)
        if awaited and block % blocks >= MARGIN_BLOCKS and not self._is_drawing(block):
            self._rpc.call("anvil_mine", hex(blocks - block % blocks), "0x0")
        return awaited

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
