"""So many generations at once, each in a thread of its own, and a bounded queue before them.

A generation depends on no request's task: a client that goes away makes it stop, and place, turn and promised fee are
given back without waiting for anything. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future

from trine_node.answering import Answering
from trine_node.generating import Accepted, Finished
from trine_node.service.turns import Turns
from trine_operator.refusal import Refusal

REMEMBERED_ENDS = 16
REMEMBERED_SECONDS = 120.0
MAX_RETRY_SECONDS = 60


class Generations:
    """The threads that wait for the engine and the places for whoever waits for one of them."""

    def __init__(self, answering: Answering, *, max_running: int, max_waiting: int, timeout_seconds: float) -> None:
        self._answering = answering
        self._closing = threading.Event()
        self._timeout_seconds = timeout_seconds
        self._places = threading.BoundedSemaphore(max_running + max_waiting)
        self._turns = Turns(max_running, "answer")
        self._all_places = max_running + max_waiting
        self._ends: deque[float] = deque(maxlen=REMEMBERED_ENDS)

    def take_place(self) -> None:
        """Raises Refusal (429) when as many as allowed are waiting. A place is given back, or `start` takes it over."""
        if not self._places.acquire(blocking=False):
            raise Refusal(
                "too many requests are waiting already: try again",
                status=429,
                code="queue_full",
                headers={"retry-after": str(retry_seconds(tuple(self._ends), self._all_places, time.monotonic()))},
            )

    def give_place_back(self) -> None:
        self._places.release()

    def close(self) -> None:
        """Those that go on for nobody end, too."""
        self._closing.set()

    def start(self, accepted: Accepted) -> Generation:
        """Queues the order. The generation owns the caller's place from here."""
        place = _Place(self._places)
        generation = Generation(
            self._answering, accepted, self._timeout_seconds, place, self._closing, self._turns.cancel
        )
        future = self._turns.submit(generation.work)
        future.add_done_callback(lambda _: self._ended(place))
        generation.future = future
        return generation

    def _ended(self, place: _Place) -> None:
        place.give_back()
        self._ends.append(time.monotonic())


def retry_seconds(ends: Sequence[float], places: int, now: float) -> int:
    """When whoever finds all places taken should come back: in half the time in which as many answers end, by the ends
    so far, oldest first. From 1 to MAX_RETRY_SECONDS.

    Half, since others come, too, and a node whose queue runs empty stands still. A fixed second would have hundreds ask
    dozens of times for each place that becomes free.
    """
    recent = [end for end in ends if now - end <= REMEMBERED_SECONDS]
    if len(recent) < 2:
        return 1
    seconds_each = (now - recent[0]) / len(recent)
    return min(max(math.ceil(places * seconds_each / 2), 1), MAX_RETRY_SECONDS)


class _Place:
    """One of the places for whoever waits, given back once however often it is said."""

    def __init__(self, places: threading.BoundedSemaphore) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._taken = True

    def give_back(self) -> None:
        with self._lock:
            taken, self._taken = self._taken, False
        if taken:
            self._places.release()


class Generation:
    """One answer on its way. Whoever reads `pieces` calls `abandon` at the end, however it ends."""

    future: Future[None]

    def __init__(
        self,
        answering: Answering,
        accepted: Accepted,
        timeout_seconds: float,
        place: _Place,
        closing: threading.Event,
        leave: Callable[[Future[None]], bool],
    ) -> None:
        """`leave` takes what waits for a thread out of the queue; whether it did."""
        self._answering = answering
        self._leave = leave
        self._closing = closing
        self._place = place
        self._accepted = accepted
        self._deadline = time.monotonic() + timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | Finished | Exception | None] = asyncio.Queue()
        self._given_up = threading.Event()
        self._is_left = False  # for nobody, but paid

    def work(self) -> None:
        """Runs in a thread of its own."""
        try:
            if self._is_over():
                self._answering.release(self._accepted)
            else:
                for piece in self._answering.answer(self._accepted, self._is_over):
                    if isinstance(piece, Finished):
                        # Before the client can know: its next request must find the place free.
                        self._place.give_back()
                    self._put(piece)
            self._put(None)
        except Exception as error:  # noqa: BLE001  (handed to the reader, which raises it)
            self._put(error)

    async def pieces(self) -> AsyncIterator[str | Finished]:
        """Text as it comes, last the signed answer. Raises Refusal (503) when it is late, or what the engine raised."""
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                    piece = await self._queue.get()
            except TimeoutError:
                piece = None
            if piece is None:
                raise Refusal("the answer took too long and was given up", status=503, code="timeout")
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if isinstance(piece, Finished):
                return

    def abandon(self) -> None:
        """Stops the engine after its current token, or leaves the queue. Does nothing to a finished generation.

        One that is paid by x402 and has begun goes on: its payer may have read most of it, and comes back for the rest
        with the same payment, or pays for what it has left.
        """
        if self._given_up.is_set():
            return
        is_waiting = self._leave(self.future)
        if self._accepted.payment and not is_waiting:
            self._is_left = True
            return
        self._given_up.set()
        if is_waiting:
            self._loop.run_in_executor(None, self._answering.release, self._accepted)

    def _is_over(self) -> bool:
        if self._given_up.is_set() or time.monotonic() > self._deadline:
            return True
        return self._is_left and self._closing.is_set()

    def _put(self, piece: str | Finished | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)
        except RuntimeError:
            self._given_up.set()  # the event loop is closed: nobody reads any more
