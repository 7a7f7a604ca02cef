"""Follows the chain's newest block: one question a process and poll, however many loops wait for blocks."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from trine.errors import ChainUnreachable, TrineError

BLOOM_BYTES = 256
RECENT_HEADS = 256
LARGEST = 2**63 - 1
"""No chain gets so far, and stores hold no larger number."""


@dataclass(frozen=True, slots=True)
class Head:
    """A block, mostly the newest: its number, and its time in seconds; the rest as far as it was shown."""

    number: int
    timestamp: int
    hash: bytes = b""
    parent_hash: bytes = b""
    contracts_number: int | None = None
    """What contracts see as `block.number`, where the chain's blocks say that it is another: on Arbitrum."""
    bloom: bytes = field(default=b"", repr=False, compare=False)
    """The filter of the addresses and topics of its events."""


def head_of(block: Any) -> Head:
    """Of a block as JSON-RPC has it. Raises LookupError, TypeError or ValueError."""
    number, timestamp = int(block["number"], 16), int(block["timestamp"], 16)
    if not (0 <= number <= LARGEST and 0 <= timestamp <= LARGEST):
        raise ValueError("a block's number or time is out of range")
    theirs = block.get("l1BlockNumber")
    return Head(
        number,
        timestamp,
        _bytes(block.get("hash"), 32),
        _bytes(block.get("parentHash"), 32),
        None if theirs is None else int(theirs, 16),
        _bytes(block.get("logsBloom"), BLOOM_BYTES),
    )


def _bytes(text: Any, length: int) -> bytes:
    """Nothing for what is not shown."""
    if text is None:
        return b""
    found = bytes.fromhex(text.removeprefix("0x"))
    if len(found) != length:
        raise ValueError(f"{len(found)} bytes, not {length}")
    return found


LISTEN_AGAIN_SECONDS = 60.0
"""An endpoint that announces no blocks is asked for them, and after so long whether it does now."""


class ChainClock:
    """The chain's time between blocks: that of the newest known one, and what has passed since it was first seen.

    The machine's clock may be wrong by hours, and decides nothing; how long a second is, it knows. Thread-safe.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._timestamp = 0
        self._seen = -math.inf

    @property
    def age_seconds(self) -> float:
        """Since a block was seen that was new."""
        return self._monotonic() - self._seen

    def note(self, head: Head) -> None:
        with self._lock:
            if head.timestamp != self._timestamp or self._seen == -math.inf:
                self._timestamp, self._seen = head.timestamp, self._monotonic()

    def now(self) -> int:
        """Seconds. To be called once a block is known."""
        with self._lock:
            return self._timestamp + int(self._monotonic() - self._seen)


class Follower:
    """Is told of new blocks, or asks for the newest every `poll_seconds`, and wakes who waits for one.

    In a thread of its own.
    """

    def __init__(
        self, ask: Callable[[], Head], poll_seconds: float, announced: Callable[[], Iterable[Head | None]] = tuple
    ) -> None:
        """`ask` raises TrineError when the chain cannot be reached, `announced` when it tells no more of blocks.

        `announced` gives None where it begins to listen: what came before was not told.
        """
        self._ask = ask
        self._announced = announced
        self._poll_seconds = poll_seconds
        self._news = threading.Condition()
        self._asking = threading.Lock()  # answers are kept in the order of the questions
        self._stop = threading.Event()
        self._head: Head | None = None
        self._recent: deque[bytes] = deque(maxlen=RECENT_HEADS)  # hashes of blocks that are known, and of their parents
        self._error: TrineError | None = None
        self._thread = threading.Thread(target=self._run, name="blocks", daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    @property
    def ended(self) -> threading.Event:
        """Set by `stop`."""
        return self._stop

    def stop(self) -> None:
        """Wakes who waits, too."""
        self._stop.set()
        with self._news:
            self._news.notify_all()

    def latest(self) -> Head:
        """The newest block known. Raises the last question's error, so that nobody acts on an old block."""
        with self._news:
            if self._error:
                raise self._error
            if self._head is None:
                raise ChainUnreachable("the newest block is not known yet")
            return self._head

    def refresh(self) -> None:
        """Asks at once: a transaction of ours was just mined."""
        self._look()

    def wait(self, seen: int, seconds: float, or_until: Callable[[], bool] = lambda: False) -> int:
        """Waits for a block beyond number `seen`, or another in its place, at most so many seconds.

        Returns the newest number known. `or_until` ends the wait, too; who changes what it says calls `nudge`.
        """
        with self._news:
            known = self._head
            self._news.wait_for(
                lambda: self._stop.is_set() or self._number > seen or self._head is not known or or_until(), seconds
            )
            return self._number

    def nudge(self) -> None:
        """Has everybody who waits look again."""
        with self._news:
            self._news.notify_all()

    @property
    def _number(self) -> int:
        return self._head.number if self._head else -1

    def _run(self) -> None:
        while not self._stop.is_set():
            self._listen()
            asked_since = time.monotonic()
            while time.monotonic() - asked_since < LISTEN_AGAIN_SECONDS:
                if self._stop.wait(self._poll_seconds):
                    return
                self._look()

    def _listen(self) -> None:
        """For as long as blocks are announced."""
        try:
            for head in self._announced():
                if self._stop.is_set():
                    return
                if head is None:
                    self._look()
                    continue
                with self._asking:
                    if not self._is_late(head):
                        self._note(head, None)
        except TrineError:
            return

    def _look(self) -> None:
        with self._asking:
            head: Head | None = None
            error: TrineError | None = None
            try:
                head = self._ask()
            except TrineError as failed:
                error = failed
            except Exception as failed:  # noqa: BLE001  (an endpoint may answer anything; who follows goes on)
                error = ChainUnreachable(f"the RPC endpoint shows no newest block ({type(failed).__name__})")
            self._note(head, error)

    def _is_late(self, head: Head) -> bool:
        """Whether it is announced after a block that came later: the same block, or one that another stands on."""
        return head.number <= self._number and bool(head.hash) and head.hash in self._recent

    def _note(self, head: Head | None, error: TrineError | None) -> None:
        with self._news:
            self._error = error
            if head and head != self._head:
                self._head = head
                self._recent += [each for each in (head.hash, head.parent_hash) if each]
                self._news.notify_all()
