"""`Batches` and `Finality`: anchoring, committees, votes, results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.chain.deployment import Deployment
from trine.chain.records import Anchoring, Batch, BatchState, Event, Marks, Result, Seat, Verdict
from trine.chain.seeds import SeedCalls
from trine.errors import NotReady, VerificationFailed
from trine.protocol import committee
from trine.protocol.header import Header, batch_id
from trine.protocol.votes import Vote

T = TypeVar("T")
LATE_LOG_SECONDS = (0.25, 0.5, 1.0)
"""How long logs are waited for that must be there: an endpoint, or the next one behind a balancer, may know a block's
state before it finds the block's logs."""

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


class BatchCalls(SeedCalls):
    """Reads and writes `Batches` and `Finality`."""

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
        super().__init__(deployment, rpc_url, signer)
        self._headers: dict[bytes, Header] = {}
        self._seats: dict[int, tuple[Seat, ...]] = {}  # by the committee's hash
        self._awaited: dict[bytes | int, bool] = {}  # headers and committees whose logs were waited for in vain

    def batch_id_of(self, header: Header) -> bytes:
        return batch_id(self.deployment.chain_id, self.deployment.address("Batches"), header)

    def batch(self, batch_id: bytes) -> Batch:
        """The batch with its header; of state NONE if the chain does not know it."""
        blank = {"batch_id": batch_id, "header": None}
        batch = self._record(Batch, "Batches", "batchOf", batch_id, also=blank)
        return batch if batch.state == BatchState.NONE else replace(batch, header=self._header(batch_id))

    def batch_state(self, batch_id: bytes) -> BatchState:
        """What `batch` says of it, without looking for its header."""
        blank = {"batch_id": batch_id, "header": None}
        return self._record(Batch, "Batches", "batchOf", batch_id, also=blank).state

    def fixed_at(self, batch_id: bytes) -> int:
        """When the seed block of a batch that waits for its committee was fixed, seconds."""
        return int(self._read("Batches", "fixedAt", batch_id))

    def anchoring(self, batch_id: bytes) -> Anchoring:
        """Where a batch was anchored, the last time. Raises NotReady for a batch that the chain does not know."""
        event = self.newest_event("Batches", "BatchAnchored", batchId=batch_id)
        if event is None:
            raise NotReady(f"batch 0x{batch_id.hex()} is not anchored on this chain")
        return Anchoring(event.block, event.log_index, bytes(event.args["challengeId"]), int(event.args["terms"]))

    def seats(self, batch: Batch) -> tuple[Seat, ...]:
        """The drawn committee in order of its seats; none while there is none.

        Raises VerificationFailed when the RPC endpoint shows no committee that hashes to the record.
        """
        if not batch.committee:
            return ()
        with self._cache_lock:
            cached = self._seats.get(batch.committee)
        if cached:
            return cached
        shown = self._looked_for(batch.committee, lambda: self._shown_seats(batch))
        if shown is None:
            raise VerificationFailed(f"the RPC endpoint has no committee of batch 0x{batch.batch_id.hex()}")
        self._remember(self._seats, batch.committee, shown)
        return shown

    def _shown_seats(self, batch: Batch) -> tuple[Seat, ...] | None:
        """None where the endpoint shows none that hashes to the record."""
        drawn = self.newest_event("Batches", "CommitteeDrawn", batchId=batch.batch_id)
        shown = tuple(Seat(seat["verifier"], seat["locked"]) for seat in drawn.args["seats"]) if drawn else ()
        return shown if committee_hash(shown) == batch.committee else None

    def draw_again(self, batch: Batch) -> tuple[str, ...]:
        """The committee that public data give for the batch's round. Raises TransactionReverted when the chain has
        forgotten the weights of that epoch."""
        event = self._seed_event(batch)
        seed_block, header = int(event.args["seedBlock"]), batch.known_header
        fixed_at = self.block_timestamp(event.block)
        epoch = committee.epoch_at(seed_block, self.epoch_blocks())
        calibrated, candidates = (self.pool(header.model_id, each, epoch) for each in (True, False))
        return committee.draw_from(
            committee.seed(self.seed(seed_block, fixed_at), batch.batch_id, batch.round),
            calibrated,
            candidates,
            [header.node],
            fixed_at=fixed_at,
            calibration=batch.is_calibration,
        )

    def draw_epoch(self, batch: Batch) -> int:
        """The epoch whose weights draw the committee of the batch's round: that of the round's seed block."""
        return committee.epoch_at(int(self._seed_event(batch).args["seedBlock"]), self.epoch_blocks())

    def _seed_event(self, batch: Batch) -> Event:
        """What has fixed the seed block of the batch's round. Raises NotReady."""
        name = "CommitteeRedrawn" if batch.round else "BatchAnchored"
        event = self.newest_event("Batches", name, batchId=batch.batch_id)
        if event is None or int(event.args.get("round", 0)) != batch.round:
            raise NotReady(f"the endpoint shows no seed block of round {batch.round} of batch 0x{batch.batch_id.hex()}")
        return event

    def vote(self, batch: Batch, seat: int) -> Vote | None:
        """A seat's vote, once it is revealed."""
        revealed, accepts, rejects = self._read("Batches", "voteOf", batch.batch_id, batch.round, seat)
        return Vote.from_words(accepts, rejects) if revealed else None

    def result(self, batch_id: bytes) -> Result:
        """The batch's words as decided so far."""
        return self._record(Result, "Finality", "resultOf", batch_id)

    def marks(self, batch: Batch) -> Marks:
        """Which leaves were appealed and what came of it. Asks only where there are any marks."""
        if not batch.marked:
            return Marks(0, 0, 0, 0, 0, 0)
        return self._record(Marks, "Finality", "marksOf", batch.batch_id)

    def verdict(self, batch_id: bytes, leaf: int) -> tuple[Verdict, bool]:
        """A leaf's verdict, and whether nothing can change it any more."""
        verdict, is_final = self._read("Finality", "verdictOf", batch_id, leaf)
        return Verdict(verdict), bool(is_final)

    def _header(self, batch_id: bytes) -> Header:
        """From the event; believed because it hashes to the id. Raises VerificationFailed."""
        with self._cache_lock:
            cached = self._headers.get(batch_id)
        if cached:
            return cached
        header = self._looked_for(batch_id, lambda: self._shown_header(batch_id))
        if header is None:
            raise VerificationFailed(f"the RPC endpoint has no header of batch 0x{batch_id.hex()}")
        self._remember(self._headers, batch_id, header)
        return header

    def _shown_header(self, batch_id: bytes) -> Header | None:
        """None where the endpoint shows none that hashes to the id."""
        event = self.newest_event("Batches", "BatchAnchored", batchId=batch_id)
        if event is None:
            return None
        args = event.args
        header = Header(args["node"], bytes(args["modelId"]), bytes(args["root"]), bytes(args["canary"]))
        return header if self.batch_id_of(header) == batch_id else None

    def _looked_for(self, name: bytes | int, look: Callable[[], T | None]) -> T | None:
        """What `look` finds, now or a little later; None if it finds nothing. Waits once a name: an endpoint that hides
        or has pruned its logs must not hold up everything else at every look."""
        with self._cache_lock:
            waits = () if name in self._awaited else LATE_LOG_SECONDS
        for pause in waits:
            found = look()
            if found is not None:
                return found
            time.sleep(pause)
        if waits:
            self._remember(self._awaited, name, True)
        return look()


def committee_hash(seats: Sequence[Seat]) -> int:
    """The upper 160 bits of keccak256 over the seats, two words each. `SeatsLib.hash` is its twin."""
    encoded = b"".join(encode(["address", "uint96"], seat.values()) for seat in seats)
    return int.from_bytes(keccak(encoded)[:20], "big")
