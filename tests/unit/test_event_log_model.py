"""Whatever a chain does, what is kept of it is what it has: random re-orgs, servers that are behind, restarts.

The chain is a list of blocks, so that thousands of them can be tried; tests/unit/test_event_log.py has real ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from trine.chain import Deployment, Event
from trine.chain.follower import Head
from trine_operator.events import EventLog
from trine_operator.store import Store

KINDS = (("Batches", "CommitteeDrawn"),)
DEEPEST = 8
START = 1_000


@dataclass
class Chain:
    """Blocks with or without an event. `behind`: how many its server does not have yet. Its filters say nothing."""

    deployment: Deployment = field(default_factory=lambda: Deployment(1, START, Deployment.bundled(31337).contracts))
    blocks: list[tuple[bytes, bool]] = field(default_factory=list)
    behind: int = 0
    confirmations: int = 0
    endpoint_changes: int = 0
    names: itertools.count = field(default_factory=itertools.count)

    def mine(self, has_event: bool) -> None:
        self.blocks.append((next(self.names).to_bytes(32, "big"), has_event))

    @property
    def newest(self) -> int:
        return START + max(len(self.blocks) - 1 - self.behind, 0)

    def head(self) -> Head:
        number = self.newest
        return Head(number, number, self.hash(number) or b"", self.hash(number - 1) or bytes(32))

    def hash(self, number: int) -> bytes | None:
        return self.blocks[number - START][0] if START <= number <= self.newest else None

    def confirmed_block(self) -> int:
        return self.newest - self.confirmations

    def block_hashes(self, numbers):
        return [self.hash(number) for number in numbers]

    def events_of(self, _kinds, first, last):
        return [event for event in self.all_events() if first <= event.block <= min(last, self.newest)]

    def all_events(self) -> list[Event]:
        return [
            Event("0x", "CommitteeDrawn", {"of": block_hash}, START + place, 0, bytes(32), block_hash)
            for place, (block_hash, has_event) in enumerate(self.blocks)
            if has_event
        ]


steps = st.one_of(
    st.tuples(st.just("mine"), st.lists(st.booleans(), min_size=1, max_size=15)),
    st.tuples(st.just("reorg"), st.integers(1, DEEPEST), st.lists(st.booleans(), max_size=12)),
    st.tuples(st.just("behind"), st.integers(0, 5)),
    st.tuples(st.just("read")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("other endpoint")),
)


@settings(max_examples=60)
@example([("mine", [True, False, False]), ("read",), ("reorg", 3, []), ("restart",)], 0)
@given(st.lists(steps, max_size=30), st.integers(0, 20))
def test_what_is_kept_is_what_the_chain_has(acts, confirmations):
    chain = Chain(confirmations=confirmations)
    chain.mine(False)
    store = Store("sqlite://")
    told: dict[bytes, int] = {}  # how often each event was added, less how often it was dropped

    def note(_session, changes):
        for event in changes.dropped:
            told[event.block_hash] = told.get(event.block_hash, 0) - 1
        for event in changes.added:
            told[event.block_hash] = told.get(event.block_hash, 0) + 1

    def opened():
        return EventLog(store, chain, "test", KINDS, since=lambda: START, again_blocks=0)

    log = opened()
    for act, *with_ in acts:
        match act:
            case "mine":
                for has_event in with_[0]:
                    chain.mine(has_event)
            case "reorg":
                depth, instead = with_
                del chain.blocks[max(len(chain.blocks) - depth, 1) :]
                for has_event in instead:
                    chain.mine(has_event)
            case "behind":
                chain.behind = with_[0]
            case "read":
                log.read(note)
            case "restart":
                log = opened()
            case "other endpoint":
                chain.endpoint_changes += 1
    chain.behind = 0
    # Whatever was read before: longer than anything that was there.
    for _ in range(DEEPEST + 6):
        chain.mine(False)
        log.read(note)
    there = {event.block_hash for event in chain.all_events()}
    standing = {name for name, count in told.items() if count > 0}
    assert standing == there
    assert {event.block_hash for event in log.events} <= there
    store.close()
