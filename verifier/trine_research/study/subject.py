"""What a study is about: a model by name or source, its prompts, and engines that run it in one way or another."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.calibration import parse_prompt_set
from trine.protocol.decoding import Decoding
from trine.protocol.inputs import Input, chat_input
from trine.protocol.manifest import model_id
from trine.protocol.policy import Policy
from trine.protocol.sampling import MILLION, Sampling
from trine_node.engines.base import Decodings, Engine
from trine_node.engines.transformers_engine import DTYPES, TransformersEngine
from trine_node.models import describe, prepare

MAX_PROMPTS = 20_000
TASKS = (
    "Explain {} to a child.",
    "Write a short story about {}.",
    "List five facts about {} as a numbered list.",
    "Write a Python function that has something to do with {}.",
    "Make a table in Markdown that compares two kinds of {}.",
    "Escribe un párrafo sobre {}.",
    "Schreibe einen Brief, in dem es um {} geht.",
    "Give the history of {} in three sentences.",
    "Argue against {}, then for it.",
    "Write a poem of four lines on {}.",
    "What would happen to the world without {}?",
    'Answer as JSON with the keys "name" and "reason": what is best about {}?',
)
TOPICS = (
    "rivers", "bread", "bicycles", "the moon", "prime numbers", "bees", "glass", "chess", "trains", "salt", "volcanoes",
    "paper", "whales", "clocks", "bridges", "cotton", "magnets", "coffee", "lighthouses", "maps", "soap", "eclipses",
    "libraries", "potatoes", "steel", "penguins", "music", "deserts", "vaccines", "tea", "glaciers", "radio", "silk",
    "ants", "elections", "fermentation", "compilers", "olives", "hurricanes", "insurance", "stars", "chairs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """A prepared model. `policy` is None where none was ever registered."""

    name: str
    folder: Path
    model_id: bytes
    registered_prompts: tuple[Input, ...]
    policy: Policy | None
    threads: int | None = None  # of its engines; None is one a core

    @classmethod
    def find(cls, model: str, threads: int | None = None) -> Subject:
        """By a shipped record's name, or a source such as `file:…`. Raises InvalidInput or FetchFailed."""
        if ":" not in model:
            record = load_record(model)
            prompts = tuple(parse_prompt_set(record.prompts))
            policy = Policy.from_bytes(record.policy)
            return cls(record.name, prepare(record.source), record.model_id, prompts, policy, threads)
        folder = prepare(model)
        name = Path(model.partition(":")[2]).name or "model"
        return cls(name, folder, model_id(name, describe(folder).content_hash()), _default_prompts(), None, threads)

    def engine(
        self, dtype: str, arithmetic: str | None = None, device: str = "cpu", threads: int | None = None
    ) -> TransformersEngine:
        return TransformersEngine.load(
            self.folder,
            model_name=self.name,
            model_id=self.model_id,
            dtype=dtype,
            arithmetic=arithmetic,
            device=device,
            threads=threads or self.threads,
        )

    def prompts(self, count: int, seed: int, given: tuple[Input, ...] | None = None) -> list[Input]:
        """`given` or the registered prompts in a random order, then as many made of task and topic as are missing."""
        if not 1 <= count <= MAX_PROMPTS:
            raise InvalidInput(f"{count} prompts: choose 1 to {MAX_PROMPTS}")
        shuffled = random.Random(seed)  # noqa: S311 - reproducible, not secret
        chosen = list(self.registered_prompts if given is None else given)
        shuffled.shuffle(chosen)
        made = [task.format(topic) for task in TASKS for topic in TOPICS]
        made += [f"{task.format(a)} Then the same for {b}." for task in TASKS for a in TOPICS for b in TOPICS if a != b]
        tail = made[len(TASKS) * len(TOPICS) :]
        head = made[: len(TASKS) * len(TOPICS)]
        shuffled.shuffle(head)
        shuffled.shuffle(tail)
        missing = (head + tail)[: max(0, count - len(chosen))]
        return chosen[:count] + [chat_input([{"role": "user", "content": text}]) for text in missing]


BOUNDS = ((MILLION, 0, 0), (900_000, 0, 0), (MILLION, 40, 0), (MILLION, 0, 50_000))
"""top_p, top_k, min_p: a prompt is asked with one of these, in turn."""


def decodings_at(temperature: float, count: int, seed: int) -> Decodings | None:
    """The ways in which so many prompts are asked, each with a seed of its own; None for 0, which is greedy."""
    if not temperature:
        return None
    return [
        Decoding(Sampling(round(temperature * MILLION), (seed << 32) + number, *BOUNDS[number % len(BOUNDS)]))
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True)
class Variant:
    """One honest way to run a model: what an operator may choose without telling anybody but its class."""

    name: str
    dtype: str
    arithmetic: str | None = None  # the engine's own, or one that `passes` names
    rows: int = 32  # answers decoded together
    threads: int | None = None


def honest_variants(dtypes: tuple[str, ...]) -> list[Variant]:
    """Every precision in the engine's arithmetic; the first two also in torch's, of which one in small batches."""
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise InvalidInput(f"dtype {dtype!r}: expected some of {', '.join(DTYPES)}")
    variants = [Variant(dtype, dtype) for dtype in dtypes]
    variants += [Variant(f"{dtype}, torch, eager attention", dtype, arithmetic="eager") for dtype in dtypes[:2]]
    variants += [
        Variant(f"{dtype}, torch, 6 rows, one thread", dtype, arithmetic="sdpa", rows=6, threads=1)
        for dtype in dtypes[1:2]
    ]
    return variants


def render_all(engine: Engine, prompts: list[Input]) -> list[list[int]]:
    """Token ids of prompts; chats as plain text where the model knows no chat template."""
    rendered = []
    for asked in prompts:
        if asked.text is not None:
            rendered.append(engine.encode_text(asked.text))
        elif getattr(getattr(engine, "tokenizer", None), "chat_template", None):
            rendered.append(engine.encode_chat(asked.as_messages()))
        else:
            rendered.append(engine.encode_text("\n".join(m["content"] for m in asked.as_messages()) + "\n"))
    return rendered


def _default_prompts() -> tuple[Input, ...]:
    document = resources.files("trine").joinpath("data", "models", "smollm2-135m-instruct", "prompts.json")
    return tuple(parse_prompt_set(document.read_bytes()))
