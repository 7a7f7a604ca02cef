"""Continuous batching: sequences join and leave between passes. What to compute next, not how.

A pass takes one token of every sequence that is being answered and, up to a limit, pieces of texts that are not yet
read. A sequence is admitted when there is room for what there is of it and a little more; its room grows as it does.
Where there is none left, the one that came last is put back among those that wait, with what it has said so far, which
is read again when its turn comes: that changes no bit, and who came first always ends.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from trine_node.engines.base import EngineError, NumericalFault, Step
from trine_node.engines.choosing import Chooser
from trine_node.engines.computing import compute_soon, on_compute_thread
from trine_node.engines.paging import BLOCK, BlockPool, Room
from trine_node.engines.passes import Segment

NO_ROOM = "the cache holds no whole context: engine_cache_tokens is less than one"
HEADROOM_TOKENS = 2 * BLOCK
"""Room that an answer is admitted with beyond what there is of it."""
Choose = Callable[[torch.Tensor, Sequence[Chooser | None]], Sequence[int]]
"""From logits [rows, vocabulary], and how each token is to be chosen, to tokens: for studies of who does otherwise."""


class Model(Protocol):
    """What a batch computes with."""

    eos_ids: frozenset[int]

    def states_of(self, segments: Sequence[Segment]) -> torch.Tensor:
        """Final hidden states of all rows of a pass."""

    def steps_of(
        self, states: torch.Tensor, choosers: Sequence[Chooser | None], choose: Choose | None = None
    ) -> Sequence[Step | EngineError]:
        """The token that each state [rows, hidden] predicts, with its word. `choosers` has an entry for each row."""


@dataclass(eq=False, slots=True)
class Answer:
    """A prompt and what follows it so far."""

    prompt: tuple[int, ...]
    max_tokens: int
    chooser: Chooser | None = None  # None: the likeliest tokens
    begun: tuple[int, ...] = ()  # tokens that the answer begins with, whatever the model says
    tokens: list[int] = field(default_factory=list)  # of prompt and answer
    computed: int = 0  # leading tokens whose keys and values are there
    room: Room | None = None
    done: bool = False  # it has left the batch for good

    def __post_init__(self) -> None:
        self.tokens = list(self.prompt)
        for token in self.begun:
            self.push(token)

    @property
    def answered(self) -> int:
        return len(self.tokens) - len(self.prompt)

    def push(self, token: int) -> None:
        """Goes on by a token. Raises GrammarExhausted."""
        if self.chooser:
            self.chooser.push(token)
        self.tokens.append(token)


class Batch:
    """The answers on their way. Not thread-safe."""

    def __init__(self, model: Model, pool: BlockPool, *, prompt_tokens: int, rows: int, reuse: bool = True) -> None:
        """`prompt_tokens`: tokens of prompts in a pass, at most; `rows`: answers at once; `reuse`: of beginnings."""
        self.model = model
        self.pool = pool
        self.prompt_tokens = prompt_tokens
        self.rows = rows
        self.reuse = reuse
        self.waiting: deque[Answer] = deque()
        self.running: list[Answer] = []  # in the order in which they came
        self.put_back = 0  # how often an answer has lost its room to others

    def add(self, answer: Answer) -> None:
        self.waiting.append(answer)

    def drop(self, answer: Answer) -> None:
        """Takes an answer out for good, wherever it is."""
        answer.done = True
        if answer in self.waiting:
            self.waiting.remove(answer)
        if answer in self.running:
            self.running.remove(answer)
        if answer.room is not None:
            self.pool.give_back(answer.room)
            answer.room = None

    @on_compute_thread
    def step(self, choose: Choose | None = None) -> list[tuple[Answer, Step | EngineError]]:
        """One pass: the answers that went on by a token. A finished one, or one that failed, has left the batch."""
        self._grow()
        self._admit()
        parts = self._parts()
        if not parts:
            return []
        segments = []
        for answer, count in parts:
            table = answer.room.table if answer.room else ()
            segments.append(Segment(answer.tokens[answer.computed : answer.computed + count], answer.computed, table))
        states = self.model.states_of(segments)
        ends: list[tuple[Answer, int]] = []
        row = 0
        for answer, count in parts:
            row += count
            answer.computed += count
            if answer.computed == len(answer.tokens):
                ends.append((answer, row - 1))
        if not ends:
            return []
        steps = self.model.steps_of(states[[row for _, row in ends]], [answer.chooser for answer, _ in ends], choose)
        stepped = [(answer, step) for (answer, _), step in zip(ends, steps, strict=True)]
        for answer, step in stepped:
            if isinstance(step, EngineError):
                if answer.room and isinstance(step, NumericalFault):
                    self.pool.forget(answer.room)  # a fault of the moment must not outlive it in the cache
                self.drop(answer)
                continue
            if self.reuse and answer.room:
                # Not before: a broken number in any of these blocks would have shown in what they predict.
                self.pool.note(answer.room, answer.tokens[: answer.computed])
            answer.push(step.token_id)
            if step.token_id in self.model.eos_ids or answer.answered == answer.max_tokens:
                self.drop(answer)
        return stepped

    def _grow(self) -> None:
        """Room for the next token of each, in the order in which they came; the last ones are put back for it."""
        for answer in list(self.running):
            while answer.room is not None and not self.pool.grow(answer.room, len(answer.tokens)):
                self._put_back(self.running[-1])

    def _put_back(self, answer: Answer) -> None:
        if answer.room is None or (len(self.running) == 1 and self.running[0] is answer):
            raise EngineError(NO_ROOM)
        self.running.remove(answer)
        self.pool.give_back(answer.room)
        answer.room, answer.computed = None, 0
        self.waiting.appendleft(answer)
        self.put_back += 1

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.rows:
            answer = self.waiting[0]
            longest = len(answer.prompt) + answer.max_tokens
            known = answer.tokens if self.reuse else answer.tokens[:1]
            # A block ahead for each that runs, so that who has just come in is not put back at once.
            room = self.pool.take(known, min(len(answer.tokens) + HEADROOM_TOKENS, longest), spare=len(self.running))
            if room is None and not self.running:
                raise EngineError(NO_ROOM)
            if room is None:
                return
            self.waiting.popleft()
            answer.room, answer.computed = room, room.known
            self.running.append(answer)

    def _parts(self) -> list[tuple[Answer, int]]:
        """Whose tokens come next, and how many of each."""
        left = self.prompt_tokens
        parts = []
        for answer in self.running:
            missing = len(answer.tokens) - answer.computed
            if answer.answered and missing == 1:
                parts.append((answer, missing))
            elif count := min(missing, left):
                left -= count
                parts.append((answer, count))
        return parts


class Ticket:
    """One answer of a `Server`, for the thread that asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.gone = threading.Event()
        self.steps: queue.SimpleQueue[Step | BaseException | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Step]:
        """Steps as they come. Raises what the pass raised."""
        while (step := self.steps.get()) is not None:
            if isinstance(step, BaseException):
                raise step
            yield step


class Server:
    """Runs a batch for many threads, in the computing thread, for as long as there is something to do."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._lock = threading.Lock()
        self._fresh: list[Ticket] = []
        self._tickets: dict[Answer, Ticket] = {}
        self._alive = False

    def submit(self, answer: Answer) -> Ticket:
        ticket = Ticket(answer)
        with self._lock:
            self._fresh.append(ticket)
            if not self._alive:
                self._alive = True
                compute_soon(self._turn)
        return ticket

    def _turn(self) -> None:
        """One pass. Others who wait to compute have theirs before the next one."""
        if not self._take_in():
            return
        try:
            stepped = self._batch.step()
        except BaseException as error:  # noqa: BLE001 - handed to everybody who waits
            self._fail(error)
        else:
            for answer, step in stepped:
                ticket = self._tickets[answer]
                ticket.steps.put(step)
                if answer.done:
                    ticket.steps.put(None)
                    del self._tickets[answer]
        compute_soon(self._turn)

    def _take_in(self) -> bool:
        """Takes in who came, lets out who went. False when nobody is left."""
        with self._lock:
            for ticket in self._fresh:
                self._tickets[ticket.answer] = ticket
                self._batch.add(ticket.answer)
            self._fresh.clear()
            for answer in [answer for answer, ticket in self._tickets.items() if ticket.gone.is_set()]:
                self._batch.drop(answer)
                self._tickets.pop(answer).steps.put(None)
            self._alive = bool(self._tickets)
            return self._alive

    def _fail(self, error: BaseException) -> None:
        """A pass that failed takes all of its answers with it: nothing computed in it can be trusted."""
        for answer, ticket in self._tickets.items():
            self._batch.drop(answer)
            ticket.steps.put(error)
        self._tickets.clear()


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK)
