"""What happens to a chain itself: its last blocks are replaced by others, or its process ends and comes back older.

Anvil's own shortcoming: after a restart, BLOCKHASH gives other hashes for the blocks before it than the chain shows,
the same ones every time. Committees of these seeds are drawn, and cannot be drawn again from public data.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from pathlib import Path

from trine.errors import NotReady
from trine_devnet.rpc import Rpc


@dataclass(frozen=True, slots=True)
class Reorganized:
    """How many transactions were in the blocks that were replaced, and how many of them were sent again."""

    dropped: int
    returned: int


def reorganize(rpc: Rpc, depth: int, returned_share: float, rng: random.Random) -> Reorganized:
    """Replaces the last `depth` blocks by empty ones; so many of their transactions wait for new blocks then.

    Raises ChainUnreachable or NotReady.
    """
    head = int(rpc.call("eth_blockNumber"), 16)
    depth = min(depth, head)
    blocks = rpc.batch("eth_getBlockByNumber", [(hex(head - back), False) for back in reversed(range(depth))])
    hashes = [name for block in blocks for name in block["transactions"]]
    raw = rpc.batch("debug_getRawTransaction", [(name,) for name in hashes]) if hashes else []
    rpc.call("anvil_reorg", depth, [])
    returned = 0
    for transaction in raw:
        if rng.random() >= returned_share:
            continue
        try:
            rpc.call("eth_sendRawTransaction", transaction)
            returned += 1
        except NotReady:
            continue  # one before it did not come back, or its sender was faster
    return Reorganized(len(raw), returned)


def keep_state(rpc: Rpc, file: Path) -> None:
    """What a chain can be started from again: blocks, events, accounts. Without states of older blocks."""
    state = bytes.fromhex(str(rpc.call("anvil_dumpState")).removeprefix("0x"))
    draft = file.with_suffix(".new")
    draft.write_bytes(gzip.decompress(state))
    draft.replace(file)
