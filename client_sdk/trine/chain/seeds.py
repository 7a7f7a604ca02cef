"""`Seeds`: the randomness that draws, and how it gets onto the chain.

What is drawn names a seed block and when that block was fixed. Whoever draws first shows the seed, in the same
transaction: the block's header where it is its RANDAO, a round's signature where it is a beacon's.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

from trine.chain.beacons import QUICKNET_URLS, fetch_signature
from trine.chain.committees import CommitteeCalls
from trine.chain.deployment import SOURCES
from trine.chain.transactions import Call
from trine.errors import ChainError, ChainUnreachable, NotReady, TransactionReverted
from trine.protocol.beacon import Beacon, evidence

if TYPE_CHECKING:
    from web3.types import TxReceipt


class SeedState(IntEnum):
    """See `ISeeds.State`."""

    AHEAD = 0
    RECORDABLE = 1
    RECORDED = 2
    GONE = 3


class SeedCalls(CommitteeCalls):
    """Reads and writes `Seeds`."""

    beacon_urls: Sequence[str] = QUICKNET_URLS
    """Where rounds are asked for, on a chain that draws by them."""

    def seed_state(self, seed_block: int, fixed_at: int) -> SeedState:
        """How far the seed is. `fixed_at`: when the seed block was fixed, seconds."""
        state, _ = self._read("Seeds", "stateOf", seed_block, fixed_at)
        try:
            return SeedState(state)
        except ValueError:
            raise ChainError(f"a seed's state is {state}, which this version does not know") from None

    def seed(self, seed_block: int, fixed_at: int) -> bytes:
        """The recorded seed, also when it is of no use for draws any more. Raises NotReady where none was recorded."""
        try:
            return bytes(self._read("Seeds", "seedOf", seed_block, fixed_at))
        except TransactionReverted:
            index = int(self._read("Seeds", "indexOf", seed_block, fixed_at))
            event = self.newest_event("Seeds", "SeedRecorded", index=index)
            if event is None:
                raise NotReady(f"nobody has recorded the seed of block {seed_block} on this chain") from None
            return bytes(event.args["seed"])

    def with_seed(self, call: Call, seed_block: int, fixed_at: int) -> Call | None:
        """The call as it can be sent: as it is where its seed is recorded, else with the seed before it.

        None while the seed is not there yet. The newest block's can be sent before contracts see it: it is mined in
        the next block at the earliest, so who draws loses no block. Raises NotReady when a beacon should have it and
        shows it nowhere, and ChainError when this chain's headers cannot be shown.
        """
        state = self.seed_state(seed_block, fixed_at)
        if state == SeedState.AHEAD:
            return self._in_the_next_block(call, seed_block, fixed_at)
        if self.beacon is not None and self.contracts_block_number() <= seed_block:
            return None  # a round may be there before the block; what draws waits for both
        if state == SeedState.RECORDABLE:
            return self._with_evidence(call, seed_block, fixed_at)
        return call  # the contract says what is wrong with a seed that is gone

    def _with_evidence(self, call: Call, seed_block: int, fixed_at: int) -> Call:
        encoded = self.encoded(call)
        shown = self._evidence(seed_block, fixed_at)
        return Call("Seeds", "recordAndCall", (shown, encoded.to, encoded.data))

    def _in_the_next_block(self, call: Call, seed_block: int, fixed_at: int) -> Call | None:
        """The call, if the endpoint says that it can be mined in the next block; not all have such a block to try."""
        if not self.has_account or self.beacon is not None or not self.has_own_numbers:
            return None
        if self.contracts_block_number() != seed_block:
            return None
        early = self._with_evidence(call, seed_block, fixed_at)
        try:
            self.gateway().estimate(self.encoded(early))
        except ChainUnreachable:
            raise
        except ChainError:
            return None
        return early

    def send_seeded(self, call: Call, seed_block: int, fixed_at: int) -> TxReceipt:
        """Sends a call that needs a seed. Raises NotReady while there is none."""
        ready = self.with_seed(call, seed_block, fixed_at)
        if ready is None:
            raise NotReady(f"the seed of block {seed_block} is not there yet")
        return self._write(ready.contract, ready.function, *ready.arguments)

    @cached_property
    def beacon(self) -> Beacon | None:
        """The beacon that draws on this chain; None where blocks' RANDAO does. Raises ChainError for another source."""
        source = bytes(self._read("Seeds", "source")).rstrip(b"\0").decode("ascii", "replace")
        if source not in SOURCES:
            raise ChainError(f"seeds come from {source!r} on this chain, which this version does not know")
        if source == "randao":
            return None
        genesis, period, margin = (
            int(self._read("DrandSeeds", name)) for name in ("GENESIS", "PERIOD", "MARGIN_SECONDS")
        )
        return Beacon(genesis, period, margin, bytes(self._read("DrandSeeds", "publicKey")))

    def require_seeds(self) -> None:
        """Raises ChainError where this version could not show the seeds that this chain draws by: to be found out
        before something waits for a draw."""
        if self.beacon is None:
            self._require_own_numbers()
            self.raw_header(self.block_number())

    def _evidence(self, seed_block: int, fixed_at: int) -> bytes:
        beacon = self.beacon
        if beacon is None:
            self._require_own_numbers()
            return self.raw_header(seed_block)
        round_ = beacon.round_after(fixed_at)
        return evidence(round_, fetch_signature(beacon, self.beacon_urls, round_))

    def _require_own_numbers(self) -> None:
        if not self.has_own_numbers:
            raise ChainError(
                "contracts see another chain's block numbers here, so no block can be shown to them: this chain needs "
                "DrandSeeds (docs/randomness.md)"
            )
