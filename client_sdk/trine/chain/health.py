"""Which of several RPC endpoints to believe: pure, from what each of them shows at about the same moment.

What they show of heads decides first, then the block that all should have, then events in the blocks up to it.

Endpoints that disagree: the larger group is right; of groups that are as large, the one whose chain is longer; of those
that are as long, the one that has the endpoint that the setting names first. So two endpoints tell that one of them is
wrong, and three tell which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_LAG_BLOCKS = 2
MAX_LAG_SECONDS = 2
"""Of the chain's time: where blocks come several a second, a few of them are no lag."""
SETTLED_BLOCKS = 4
"""So far below the lowest head lies the block that all should have: two branches of a re-org end above it, mostly."""


class Fault(Enum):
    """Why an endpoint is left."""

    WRONG_CHAIN = "it serves another chain"
    LAGS = "it lags behind"
    FORKED = "it is on another fork than the rest"
    LACKS_BLOCK = "it does not show a block that all should have"
    LEAVES_OUT = "it leaves out events of transactions that it has"


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """An endpoint's chain, and its newest block: number and time, in seconds."""

    chain_id: int
    number: int
    timestamp: int


LogKey = tuple[str, str, int]
"""Hash of the block, hash of the transaction, place in the block: an event that happened."""


def faults_of_heads(heads: Sequence[HeadSeen | None], chain_id: int) -> list[Fault | None]:
    """By endpoint; None also for one that shows no head: what does not answer is asked another time."""
    ours = [head for head in heads if head and head.chain_id == chain_id]
    reference = _reference(ours)
    return [None if head is None else _fault_of_head(head, chain_id, reference) for head in heads]


def _reference(heads: Sequence[HeadSeen]) -> HeadSeen | None:
    """What nobody may lag behind. Of three and more, one that alone claims to be far ahead is not it."""
    best = sorted(heads, key=lambda head: head.number, reverse=True)
    return best[1 if len(best) > 2 else 0] if best else None


def _fault_of_head(head: HeadSeen, chain_id: int, reference: HeadSeen | None) -> Fault | None:
    if head.chain_id != chain_id:
        return Fault.WRONG_CHAIN
    if (
        reference
        and reference.number - head.number > MAX_LAG_BLOCKS
        and reference.timestamp - head.timestamp > MAX_LAG_SECONDS
    ):
        return Fault.LAGS
    return None


def common_block(heads: Sequence[HeadSeen | None], faults: Sequence[Fault | None]) -> int | None:
    """The block that all should have who show a head without a fault; None where they are fewer than two."""
    well = [head.number for head, fault in zip(heads, faults, strict=True) if head and fault is None]
    return max(min(well) - SETTLED_BLOCKS, 0) if len(well) > 1 else None


def faults_of_blocks(hashes: Mapping[int, str | None], heads: Mapping[int, int]) -> dict[int, Fault]:
    """By endpoint, in the order of the setting: from the hash that each shows for the common block, None for none."""
    groups: dict[str, list[int]] = {}
    for endpoint, block_hash in hashes.items():
        if block_hash is not None:
            groups.setdefault(block_hash, []).append(endpoint)
    faults = {endpoint: Fault.LACKS_BLOCK for endpoint, block_hash in hashes.items() if block_hash is None}
    if not groups:
        return {}  # nobody shows it: no reason to leave all of them

    def weight(members: list[int]) -> tuple[int, int, int]:
        return len(members), max(heads[endpoint] for endpoint in members), -min(members)

    right = max(groups.values(), key=weight)
    return faults | {e: Fault.FORKED for members in groups.values() if members is not right for e in members}


def missing_logs(shown: Mapping[int, frozenset[LogKey]]) -> dict[int, frozenset[LogKey]]:
    """By endpoint: the events that others show and it does not. Whose fault that is, a proof has to tell."""
    everything = frozenset().union(*shown.values())
    return {endpoint: everything - logs for endpoint, logs in shown.items() if everything - logs}
