"""Execution settings by measurement: what is fastest on this machine among what keeps the promise about bits.

What was found is kept by model and machine, so that the next search begins with what was best for the nearest known.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, create_engine, insert, select

from trine.errors import TrineError
from trine_node.engines.selftest import Loader, digest, prompts_of, together
from trine_node.engines.transformers_engine import BATCH_ROWS, DTYPES, PROMPT_TOKENS, TransformersEngine

RUNS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be chosen without changing the engine class."""

    arithmetic: str
    threads: int
    prompt_tokens: int = PROMPT_TOKENS
    rows: int = BATCH_ROWS


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice, whether it gave the same bits as the reference, and its speed in tokens a second."""

    choice: Choice
    same: bool
    one: float = 0.0  # a single stream
    many: float = 0.0  # all prompts at once

    @property
    def score(self) -> float:
        return math.sqrt(self.one * self.many)


@dataclass(frozen=True, slots=True)
class Features:
    """What makes a model on a machine like another one."""

    engine_class: str
    machine: str
    cores: int
    parameters: int
    layers: int
    hidden: int

    @classmethod
    def of(cls, engine: TransformersEngine) -> Features:
        config = engine.model.config
        return cls(
            engine.engine_class,
            f"{platform.machine()} {_processor()}",
            os.cpu_count() or 1,
            sum(parameter.numel() for parameter in engine.model.parameters()),
            int(config.num_hidden_layers),
            int(config.hidden_size),
        )

    def distance(self, other: Features) -> float:
        """Of logarithms of sizes; another class or processor counts as four doublings."""
        sizes = ("cores", "parameters", "layers", "hidden")
        apart = sum(math.log2(getattr(self, name) / getattr(other, name)) ** 2 for name in sizes)
        apart += 16 * (self.engine_class != other.engine_class) + 16 * (self.machine != other.machine)
        return math.sqrt(apart)


class Tunings:
    """What was found before, in the operator's database."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url)
        metadata = MetaData()
        self._table = Table(
            "tunings",
            metadata,
            Column("id", Integer, primary_key=True),
            Column("found_at", Integer, nullable=False),
            Column("features", JSON, nullable=False),
            Column("choice", JSON, nullable=False),
            Column("one", Float, nullable=False),
            Column("many", Float, nullable=False),
            Column("model", String, nullable=False),
        )
        metadata.create_all(self._engine)

    def add(self, model: str, features: Features, best: Trial) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                insert(self._table).values(
                    found_at=int(time.time()),
                    features=asdict(features),
                    choice=asdict(best.choice),
                    one=best.one,
                    many=best.many,
                    model=model,
                )
            )

    def nearest(self, features: Features) -> tuple[str, Choice, float] | None:
        """Model, choice and distance of what is most like this; the newest of equals."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(self._table).order_by(self._table.c.id.desc())).all()
        known = [(features.distance(Features(**row.features)), row) for row in rows]
        if not known:
            return None
        distance, row = min(known, key=lambda entry: entry[0])
        return str(row.model), Choice(**row.choice), distance

    def close(self) -> None:
        self._engine.dispose()


def tune(loader: Loader, start: Choice, tokens: int, progress: Callable[[str], None]) -> Iterator[Trial]:
    """Every trial; the best one has the highest `score` of those with the same bits.

    One setting after the other is varied, from the best choice so far.
    """
    expected = reference_of(loader, tokens)
    cores = os.cpu_count() or 1
    threads = sorted({1, cores, *(1 << n for n in range(10) if 1 << n < cores)})
    arithmetics = ["invariant" if loader.device == "cpu" else "triton", "sdpa", "eager"]
    ways: list[tuple[str, list[Any]]] = [
        ("threads", list(threads)),
        ("arithmetic", list(arithmetics)),
        ("prompt_tokens", [64, 256, 1024]),
        ("rows", [8, 32]),
    ]
    done: dict[Choice, Trial] = {}
    best = start
    for name, value in itertools.chain([("", None)], ((name, value) for name, values in ways for value in values)):
        choice = replace(best, **{name: value}) if name else start
        if choice in done:
            continue
        progress(", ".join(f"{key} {given}" for key, given in asdict(choice).items()))
        done[choice] = tried(loader, choice, expected, tokens)
        yield done[choice]
        sound = [trial for trial in done.values() if trial.same]
        best = max(sound, key=lambda trial: trial.score).choice if sound else start


def in_other_precisions(
    loader: Loader, choice: Choice, tokens: int, progress: Callable[[str], None]
) -> Iterator[tuple[str, Trial]]:
    """(dtype, trial) of a choice in the precisions that the loader does not load: each is a class of its own.

    `same` says whether it keeps its own class's promise: a precision rounds otherwise than another one.
    """
    for dtype in DTYPES:
        if dtype == loader.dtype:
            continue
        progress(f"in {dtype}")
        other = replace(loader, dtype=dtype)
        yield dtype, tried(other, choice, reference_of(other, tokens), tokens)


def reference_of(loader: Loader, tokens: int) -> str:
    """Digest of tokens, fingerprints, states and logits: on one thread, each prompt alone."""
    reference = loader(threads=1)
    return digest(reference, [list(reference.generate(prompt, tokens)) for prompt in prompts_of(reference)])


def tried(loader: Loader, choice: Choice, expected: str, tokens: int) -> Trial:
    """One trial, all prompts at once. A choice that fails, or gives other bits than `expected`, is not timed."""
    try:
        engine = loader(**asdict(choice))
        asked = prompts_of(engine)
        if digest(engine, together(engine, asked, tokens, range(len(asked)))) != expected:
            return Trial(choice, same=False)
    except TrineError:
        return Trial(choice, same=False)
    one, many = [], []
    for _ in range(RUNS):
        started = time.perf_counter()
        produced = sum(1 for _ in engine.generate(asked[0], tokens))
        one.append(produced / (time.perf_counter() - started))
        started = time.perf_counter()
        answers = together(engine, asked, tokens, range(len(asked)))
        many.append(sum(map(len, answers)) / (time.perf_counter() - started))
    return Trial(choice, True, statistics.median(one), statistics.median(many))


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
