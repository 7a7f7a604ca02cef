"""Events of the last blocks, kept with their blocks' hashes, so that what a re-org takes away is known and taken back.

Each block is read once. A new head that stands on the last one that was read costs one question for events, or none
where the block's own filter of events excludes them; any other head has the kept hashes compared with the chain's.
Decides nothing: who reads is told what has come and what is gone, in the transaction that keeps both.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from sqlalchemy import BigInteger, String, Text, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.chain import Deployment, Event
from trine.chain.bloom import may_hold
from trine.chain.calls import topic_of
from trine.chain.follower import Head
from trine.errors import ChainUnreachable
from trine_operator.store import Store
from trine_operator.tables import Base

log = structlog.get_logger()

OVERLAP_BLOCKS = 12
"""So often events are asked for, whatever the filters say. And how far a head may lie behind the last one without
meaning that the chain has become shorter: one endpoint may be many servers."""
READ_AGAIN_BLOCKS = 64
"""Read again with every new block that is read: an endpoint may know a block before it knows its events, or give none
for a while, and a seat that is not seen is a vote that is not cast."""
HASHED_BLOCKS = 64
"""So many blocks have their hashes checked at least, however few of them the setting wants confirmed."""
KEPT_BLOCKS = 512
"""Hashes that are kept, at most."""
ROLLBACK_BLOCKS = 256
"""Read again when none of the kept blocks is on the chain; deeper, contracts know no hashes and nothing is drawn."""
STORED_EVERY_BLOCKS = 100
"""How far the store may lie behind when nothing was found: blocks read twice after a crash instead of writes."""
BLOCKS_AT_ONCE = 10_000
"""Of what was missed while nobody read, so many are in memory at a time."""
PARTS_AT_ONCE = 64
"""So many times as much is read before anything else gets its turn. A head may be made up, too."""

Kinds = tuple[tuple[str, str], ...]
"""Contract and name of each event."""


class BlockRow(Base):
    """A block that was read: no event below the newest one is missing. The hash is empty where none was shown."""

    __tablename__ = "chain_blocks"
    reader: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[str] = mapped_column(String(64))


class EventRow(Base):
    """An event in one of the last blocks."""

    __tablename__ = "chain_events"
    reader: Mapped[str] = mapped_column(String(32), primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    log_index: Mapped[int] = mapped_column(primary_key=True)
    block_hash: Mapped[str] = mapped_column(String(64))
    transaction: Mapped[str] = mapped_column(String(64))
    contract: Mapped[str] = mapped_column(String(42))
    name: Mapped[str] = mapped_column(String(64))
    args: Mapped[str] = mapped_column(Text)


class ReadableChain(Protocol):
    """What is read of a chain: see `trine.chain.Chain`."""

    @property
    def deployment(self) -> Deployment: ...
    @property
    def endpoint_changes(self) -> int: ...
    def head(self) -> Head: ...
    def confirmed_block(self) -> int: ...
    def block_hashes(self, blocks: Sequence[int]) -> list[bytes | None]: ...
    def events_of(
        self, kinds: Kinds, from_block: int, to_block: int, indexed: Sequence[str | None] = ()
    ) -> Iterable[Event]: ...


Place = tuple[int, int]
"""Of an event: its block, and its place among the block's events."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reading found."""

    read: tuple[Event, ...] = ()
    """All events of the blocks that were read last, those that were known too; oldest first."""
    added: tuple[Event, ...] = ()
    dropped: tuple[Event, ...] = ()
    """In blocks that are not on the chain any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of the chain: blocks by number, with their hashes, and the events of the last ones."""

    blocks: Mapping[int, bytes]
    events: Mapping[Place, Event]

    @property
    def position(self) -> int:
        """The newest block that was read."""
        return max(self.blocks)


class EventLog:
    """The events of some kinds, for one reader. One thread reads."""

    def __init__(
        self,
        store: Store,
        chain: ReadableChain,
        reader: str,
        kinds: Kinds,
        *,
        since: Callable[[], int],
        again_blocks: int,
        indexed: Sequence[str | None] = (),
    ) -> None:
        """`reader` names what is kept for it in the store; `since` tells the first block to read when that is nothing.
        `indexed`: see `Calls.events_of`; who reads still sees for himself, as an endpoint may show anything.

        The last `again_blocks` blocks are read again at the beginning of a process, and when another endpoint takes
        over, which may show more.
        """
        self._store = store
        self._chain = chain
        self._reader = reader
        self._kinds = kinds
        self._indexed = tuple(indexed)
        self._since = since
        self._again_blocks = again_blocks
        self._kept: Kept | None = None
        self._stored = -1  # the newest block that was read, as it stands in the store
        self._seen: tuple[Head, int] | None = None  # at the last reading
        self._source = -1  # the endpoint that was read from
        self._filters = _Filters(chain.deployment, kinds, indexed)

    @property
    def events(self) -> tuple[Event, ...]:
        """Those that are kept, oldest first."""
        return tuple(event for _, event in sorted(self._kept.events.items())) if self._kept else ()

    def read(self, note: Callable[[Session, Changes], None]) -> Changes:
        """Reads what has come since the last time. `note` writes what follows from changes, together with them.

        Raises ChainUnreachable, ChainError or StoreError: then what was not noted is read another time.
        """
        head, source = self._chain.head(), self._chain.endpoint_changes
        if (head, source) == self._seen:
            return Changes()
        is_first, kept = self._kept is None or source != self._source, self._kept or self._load()
        trusted = min(self._chain.confirmed_block(), head.number - HASHED_BLOCKS)
        ancestor = self._ancestor(kept, head, trusted)
        gone: tuple[Event, ...] = ()
        if ancestor < kept.position:
            gone = tuple(event for (block, _), event in kept.events.items() if block > ancestor)
            log.warning("chain_rolled_back", was=kept.position, now=ancestor, events=len(gone))
            kept = _cut(kept, ancestor)
            self._keep(kept, Changes(dropped=gone), note)
        first = kept.position + 1 - READ_AGAIN_BLOCKS
        if is_first:
            first = min(first, head.number - self._again_blocks)
        first = max(first, self._chain.deployment.block)
        changes = Changes()
        for last in _steps(kept.position, head.number, trusted, is_first):
            kept, changes = self._take(kept, first, last, head if last == head.number else None, trusted)
            self._keep(kept, changes, note)
            first, gone = last + 1, gone + changes.dropped
        if kept.position >= head.number:
            self._seen = head, source
        if kept.position == head.number:  # all of it was read, and not only found to be behind
            self._source = source
        return replace(changes, dropped=gone)

    def _take(self, kept: Kept, first: int, last: int, head: Head | None, trusted: int) -> tuple[Kept, Changes]:
        """Reads some blocks, the last of which is `head` if it is the newest, and adds what they hold."""
        events: list[Event] = []
        if head is None or not self._filters.exclude(head, kept):
            only = (self._indexed,) if self._indexed else ()
            events = list(self._chain.events_of(self._kinds, first, last, *only))
        events = self._on_chain(kept, events, head, trusted)
        found, added, replaced = _with_events(kept.events, events)
        if head:
            self._filters.learn(head, added)
        blocks = dict(kept.blocks) | {last: head.hash if head else b""}
        if head and head.parent_hash and head.number - 1 > trusted:
            blocks[head.number - 1] = head.parent_hash
        changes = Changes(tuple(events), tuple(added), tuple(replaced))
        return _pruned(Kept(blocks, found), trusted), changes

    def _ancestor(self, kept: Kept, head: Head, trusted: int) -> int:
        """The newest block that was read and has not gone, as far as can be told. Raises ChainUnreachable."""
        position, lowest = kept.position, kept.position - OVERLAP_BLOCKS
        if not head.hash:  # nothing but numbers is shown
            return position if head.number >= lowest else head.number - ROLLBACK_BLOCKS
        hashed = sorted((n for n, block_hash in kept.blocks.items() if block_hash and n <= head.number), reverse=True)
        if not hashed:
            return position if head.number >= lowest else head.number - ROLLBACK_BLOCKS
        if self._newest_on_chain(kept, hashed[:1], head, trusted, must_know=True) is not None:
            return position if head.number >= lowest else hashed[0]
        match = self._newest_on_chain(kept, hashed[1:], head, trusted)
        if match is not None:
            return match
        log.error("reorg_deeper_than_kept", position=position, kept=len(hashed))
        return min(hashed[-1] - 1, head.number - ROLLBACK_BLOCKS)

    def _newest_on_chain(
        self, kept: Kept, numbers: Sequence[int], head: Head, trusted: int, *, must_know: bool = False
    ) -> int | None:
        """The first of the numbers, which fall, whose block is on the head's chain. Asks for what the head does not
        show, if that is anything. Raises ChainUnreachable."""
        shown: dict[int, bytes | None] = {head.number: head.hash}
        if head.parent_hash:
            shown[head.number - 1] = head.parent_hash
        first = next((n for n in numbers if n <= trusted or shown.get(n) == kept.blocks[n]), None)
        unknown = [n for n in numbers if n not in shown and (first is None or n > first)]
        shown |= zip(unknown, self._chain.block_hashes(unknown), strict=True) if unknown else ()
        if must_know and any(shown.get(n, b"") is None for n in unknown):
            raise ChainUnreachable(f"the RPC endpoint does not show block {unknown[0]}, which it should have")
        return next((n for n in numbers if n <= trusted or shown.get(n) == kept.blocks[n]), None)

    def _on_chain(self, kept: Kept, events: Sequence[Event], head: Head | None, trusted: int) -> list[Event]:
        """Without those of another fork: it may have changed between head and events. Asks for blocks with new ones."""
        known: dict[int, bytes | None] = {n: block_hash for n, block_hash in kept.blocks.items() if block_hash}
        if head and head.hash:
            known |= {head.number: head.hash, head.number - 1: head.parent_hash or None}
        new = {e.block for e in events if _is_new(kept.events, e)}
        unknown = sorted(n for n in new if n > trusted and n not in known)
        if head and head.hash and unknown:
            known |= zip(unknown, self._chain.block_hashes(unknown), strict=True)
        return [e for e in events if not e.block_hash or (known.get(e.block) or e.block_hash) == e.block_hash]

    # The store

    def _load(self) -> Kept:
        with self._store.reading() as session:
            blocks = {
                row.number: bytes.fromhex(row.hash)
                for row in session.scalars(select(BlockRow).where(BlockRow.reader == self._reader))
            }
            rows = session.scalars(select(EventRow).where(EventRow.reader == self._reader))
            events = {(row.block, row.log_index): _event(row) for row in rows}
        blocks = blocks or {self._since() - 1: b""}
        self._stored = max(blocks)
        return Kept(blocks, events)

    def _keep(self, kept: Kept, changes: Changes, note: Callable[[Session, Changes], None]) -> None:
        """Writes when something has changed, or the store lies too far behind."""
        if changes.added or changes.dropped or kept.position - self._stored >= STORED_EVERY_BLOCKS:
            with self._store.writing() as session:
                self._write(session, kept, changes)
                note(session, changes)
            self._stored = kept.position
        self._kept = kept

    def _write(self, session: Session, kept: Kept, changes: Changes) -> None:
        session.execute(delete(BlockRow).where(BlockRow.reader == self._reader))
        session.add_all(BlockRow(reader=self._reader, number=n, hash=h.hex()) for n, h in kept.blocks.items())
        oldest = min((block for block, _ in kept.events), default=kept.position)
        session.execute(delete(EventRow).where(EventRow.reader == self._reader, EventRow.block < oldest))
        for event in changes.dropped:
            session.execute(
                delete(EventRow).where(
                    EventRow.reader == self._reader,
                    EventRow.block == event.block,
                    EventRow.log_index == event.log_index,
                )
            )
        for event in changes.added:
            if (event.block, event.log_index) in kept.events:
                session.merge(_row(self._reader, event))


class _Filters:
    """When a head's own filter says enough of its events that nobody need ask for them.

    Some chains leave all filters empty: they are believed once one was not, and never again after one was wrong.
    """

    def __init__(self, deployment: Deployment, kinds: Kinds, indexed: Sequence[str | None]) -> None:
        self._indexed = [bytes.fromhex(topic.removeprefix("0x")) for topic in indexed if topic]
        self._items = [
            (bytes.fromhex(deployment.address(contract)[2:]), bytes.fromhex(topic_of(contract, name)[2:]))
            for contract, name in kinds
        ]
        self._hold: bool | None = None
        self._again_until = -1  # a filter has announced events that were not shown yet
        self._asked = -1
        self._excluded: deque[int] = deque(maxlen=2 * OVERLAP_BLOCKS)

    def exclude(self, head: Head, kept: Kept) -> bool:
        """Whether the head is the only block that is to be read, and has no events of ours for certain."""
        if self._hold is None and any(head.bloom):
            self._hold = True
        follows = kept.blocks.get(head.number - 1) == head.parent_hash != b"" and kept.position == head.number - 1
        if follows and self._may_hold(head):
            self._again_until = head.number + OVERLAP_BLOCKS
        is_due = head.number <= self._again_until or head.number - self._asked >= OVERLAP_BLOCKS
        if follows and self._hold and not is_due:
            self._excluded.append(head.number)
            return True
        self._asked = head.number
        return False

    def learn(self, head: Head, found: Sequence[Event]) -> None:
        """From the events that were new."""
        if any(event.block == head.number for event in found):
            self._again_until = -1
        if self._hold and any(event.block in self._excluded for event in found):
            self._hold = False
            log.warning(
                "event_filters_wrong", hint="this chain's blocks do not announce their events: all are asked for"
            )

    def _may_hold(self, head: Head) -> bool:
        bloom = head.bloom
        if not bloom:
            return True
        kinds = any(may_hold(bloom, address) and may_hold(bloom, topic) for address, topic in self._items)
        return kinds and all(may_hold(bloom, topic) for topic in self._indexed)


def _steps(position: int, newest: int, trusted: int, is_first: bool) -> Iterator[int]:
    """The last blocks of the parts that what is to be read is read in, as far as it is read at once."""
    for _ in range(PARTS_AT_ONCE):
        if trusted - position <= BLOCKS_AT_ONCE:
            break
        position += BLOCKS_AT_ONCE
        yield position
    else:
        return
    if newest > position or (newest == position and is_first):
        yield newest


def _cut(kept: Kept, ancestor: int) -> Kept:
    """Without all above the ancestor."""
    blocks = {n: block_hash for n, block_hash in kept.blocks.items() if n <= ancestor}
    events = {place: event for place, event in kept.events.items() if place[0] <= ancestor}
    return Kept({ancestor: b""} | blocks, events)


def _is_new(known: Mapping[Place, Event], event: Event) -> bool:
    old = known.get((event.block, event.log_index))
    return old is None or old.block_hash != event.block_hash


def _with_events(
    known: Mapping[Place, Event], events: Iterable[Event]
) -> tuple[dict[Place, Event], list[Event], list[Event]]:
    """All of them, those that are new, and those in whose block's place another has come."""
    found, added, replaced = dict(known), [], []
    for event in events:
        if not _is_new(found, event):
            continue
        stale = [p for p, e in found.items() if p[0] == event.block and e.block_hash != event.block_hash]
        replaced += [found.pop(place) for place in stale]
        found[event.block, event.log_index] = event
        added.append(event)
    return found, added, replaced


def _pruned(kept: Kept, trusted: int) -> Kept:
    """Without what no re-org reaches and nobody reads again."""
    horizon = min(trusted, kept.position - 2 * READ_AGAIN_BLOCKS)
    below = max((n for n in kept.blocks if n <= horizon), default=horizon)
    numbers = sorted(n for n in kept.blocks if n >= below)[-KEPT_BLOCKS:]
    events = {place: event for place, event in kept.events.items() if place[0] > horizon}
    return Kept({n: kept.blocks[n] for n in numbers}, events)


def _row(reader: str, event: Event) -> EventRow:
    return EventRow(
        reader=reader,
        block=event.block,
        log_index=event.log_index,
        block_hash=event.block_hash.hex(),
        transaction=event.transaction.hex(),
        contract=event.contract,
        name=event.name,
        args=json.dumps(_to_json(event.args)),
    )


def _event(row: EventRow) -> Event:
    return Event(
        contract=row.contract,
        name=row.name,
        args=_from_json(json.loads(row.args)),
        block=row.block,
        log_index=row.log_index,
        transaction=bytes.fromhex(row.transaction),
        block_hash=bytes.fromhex(row.block_hash),
    )


def _to_json(value: Any) -> Any:
    """Bytes as `{"bytes": …}`: what an event has is never an object with that name."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {name: _to_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(each) for each in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            bytes.fromhex(value["bytes"]) if set(value) == {"bytes"} else {n: _from_json(e) for n, e in value.items()}
        )
    return [_from_json(each) for each in value] if isinstance(value, list) else value
