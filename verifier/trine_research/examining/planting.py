"""The client's side of an examiner: it orders answers from its own node as any client does, and has some of them be
bad. The order says nothing of that: the engine was told beforehand, by the prompt's tokens, and nobody else asks them.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.inputs import Input
from trine.protocol.salts import SALT_BYTES
from trine.protocol.verdict import Recomputation
from trine_node.engines.base import Decodings, Engine, Step, render
from trine_research.adversaries import make_adversary
from trine_research.examining.prompts import Prompts
from trine_research.examining.record import Record

log = structlog.get_logger()

TRIES = 100
"""For a prompt that was not planted before."""

Make = Callable[[str, Engine], Engine]
Order = Callable[[Input, int], None]
"""Orders an answer of at most so many tokens, and waits for it. Raises TrineError."""


class PlantingEngine:
    """The honest engine, but for prompts that it was told to answer badly, once each. Thread-safe as the engine is."""

    def __init__(self, honest: Engine, make: Make = lambda kind, engine: make_adversary(kind, engine)) -> None:
        self.honest = honest
        self.model_name = honest.model_name
        self.model_id = honest.model_id
        self.engine_class = honest.engine_class
        self.context_tokens = honest.context_tokens
        self.vocab_size = honest.vocab_size
        self.eos_ids = honest.eos_ids
        self.can_sample = honest.can_sample
        self._make = make
        self._cheats: dict[str, Engine] = {}
        self._plans: dict[tuple[int, ...], str] = {}
        self._lock = threading.Lock()

    def plan(self, prompt_ids: Sequence[int], kind: str) -> None:
        """The next answer to this prompt is to be a cheat of this kind."""
        with self._lock:
            self._plans[tuple(prompt_ids)] = kind

    def forget(self, prompt_ids: Sequence[int]) -> None:
        with self._lock:
            self._plans.pop(tuple(prompt_ids), None)

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int,
        cancelled: Callable[[], bool] | None = None,
        decoding: Decoding | None = None,
    ) -> Iterator[Step]:
        with self._lock:
            kind = self._plans.pop(tuple(prompt_ids), None)
            # Made when it is needed first: some have the model's weights a second time.
            if kind is not None and kind not in self._cheats:
                self._cheats[kind] = self._make(kind, self.honest)
            engine = self._cheats[kind] if kind is not None else self.honest
        return engine.generate(prompt_ids, max_tokens, cancelled, decoding)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        return self.honest.encode_chat(messages, tools)

    def encode_text(self, text: str) -> list[int]:
        return self.honest.encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.honest.decode(token_ids)

    def require_grammar(self, grammar: Grammar) -> None:
        self.honest.require_grammar(grammar)

    def check(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], decoding: Decoding | None = None
    ) -> Recomputation:
        return self.honest.check(prompt_ids, output_ids, decoding)

    def check_batch(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], decodings: Decodings | None = None
    ) -> list[Recomputation]:
        return self.honest.check_batch(cases, decodings)


@dataclass(frozen=True, slots=True)
class Habits:
    """How an examiner orders. `order_seconds`: the mean time between two; times and lengths are drawn by lot."""

    order_seconds: float
    canary_rate: float
    answer_tokens: tuple[int, int]
    kinds: tuple[str, ...]


class Planting:
    """Orders one answer whenever it is time."""

    def __init__(
        self,
        engine: PlantingEngine,
        record: Record,
        prompts: Prompts,
        habits: Habits,
        order: Order,
        lot: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._record = record
        self._prompts = prompts
        self._habits = habits
        self._order = order
        self._lot = lot
        self._clock = clock
        self._next = clock() + self._pause()

    def step(self) -> None:
        """Raises TrineError when the order failed; the next comes when it is time for it."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + self._pause()
        prompt = self._fresh()
        if prompt is None:
            log.warning("prompts_used_up", hint="give the examiner a longer file of prompts")
            return
        max_tokens = self._lot.randint(*self._habits.answer_tokens)
        if self._lot.random() >= self._habits.canary_rate:
            self._order(prompt, max_tokens)
            return
        prompt_ids = render(self._engine, prompt)
        # As every client's: without a salt its node would know it.
        asked = prompt.salted(secrets.token_bytes(SALT_BYTES))
        self._record.plant(prompt.hash())
        self._record.plant(asked.hash())
        self._engine.plan(prompt_ids, self._lot.choice(self._habits.kinds))
        try:
            self._order(asked, max_tokens)
        finally:
            self._engine.forget(prompt_ids)

    def _fresh(self) -> Input | None:
        """Not one that was planted: an honest answer to it would be opened as a canary."""
        for _ in range(TRIES):
            prompt = self._prompts()
            if not self._record.is_planted(prompt.hash()):
                return prompt
        return None

    def _pause(self) -> float:
        return self._lot.expovariate(1 / self._habits.order_seconds)
