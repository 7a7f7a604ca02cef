"""`Committees`: who can be drawn, with what weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trine.chain.calls import Calls
from trine.chain.deployment import Deployment
from trine.protocol.committee import Member

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


POOL_PAGE = 256
KNOWN_BLOCKHASHES = 256


class CommitteeCalls(Calls):
    """Reads `Committees`."""

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
        super().__init__(deployment, rpc_url, signer)
        self._epoch_blocks: int | None = None

    def pool(self, model_id: bytes, calibrated: bool, epoch: int) -> list[Member]:
        """All members by position, those without weight too; see `trine.protocol.committee`."""
        members: list[Member] = []
        while True:
            page = self._read("Committees", "poolOf", model_id, calibrated, epoch, len(members), POOL_PAGE)
            members += [Member(*row) for row in page]
            if len(page) < POOL_PAGE:
                return members

    def eligible(self, model_id: bytes, calibrated: bool, epoch: int) -> int:
        """How many of the pool's members have weight in the epoch, which may be the next one."""
        return int(self._read("Committees", "eligible", model_id, calibrated, epoch))

    def epoch_blocks(self) -> int:
        """Blocks in an epoch."""
        if self._epoch_blocks is None:
            self._epoch_blocks = int(self._read("Committees", "epochBlocks"))
        return self._epoch_blocks

    def draw_window_blocks(self) -> int:
        """Blocks after its seed block within which a committee must be drawn."""
        return min(self.epoch_blocks(), KNOWN_BLOCKHASHES)
