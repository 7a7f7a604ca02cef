"""Prompts that look like clients': the operator's own corpus or, to begin with, everyday tasks drawn by lot."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput
from trine.protocol.inputs import Input, chat_input

MAX_CORPUS_BYTES = 256 << 20

TASKS = (
    "Write a polite email about {} to {}.",
    "Explain {} to {} in plain words.",
    "What should {1} know about {0}?",
    "Give three short tips on {} for {}.",
    "Summarise in two sentences why {} matters to {}.",
    "Write a short product description of a book on {} for {}.",
    "List five questions that {1} might ask about {0}.",
    "Make a plan for a workshop on {} for {}.",
    "Compare two ways of learning {} for {}.",
    "Write a headline and one paragraph on {}, for {}.",
    "Correct the grammar and make it friendlier: we has no time for {} this week, tell {}.",
    "Tell a short anecdote about {} and {}.",
)
TOPICS = (
    "tax returns", "bread baking", "bicycle repair", "spreadsheets", "Python decorators", "SQL joins", "sleep",
    "job interviews", "rental contracts", "photosynthesis", "compound interest", "garden soil", "electric cars",
    "public speaking", "time zones", "vaccination", "chess openings", "network security", "regular expressions",
    "house insulation", "first aid", "solar panels", "budgeting", "meditation", "the water cycle", "copyright",
    "running shoes", "coffee roasting", "statistics", "container ships", "the Roman calendar", "knitting",
)  # fmt: skip
READERS = (
    "a new colleague", "my landlord", "a ten-year-old", "the whole team", "an impatient manager", "my grandmother",
    "a first-year student", "our customers", "a sceptical neighbour", "the school board", "a nurse on night shift",
    "somebody who moved here last month", "a small business", "my brother in Lyon", "an evening class",
    "a retired engineer", "volunteers", "the local newspaper", "a shy teenager", "two busy parents",
)  # fmt: skip

Prompts = Callable[[], Input]
"""The next prompt."""


def everyday(lot: random.Random) -> Prompts:
    """Some 7,000 different ones."""

    def prompt() -> Input:
        text = lot.choice(TASKS).format(lot.choice(TOPICS), lot.choice(READERS))
        return chat_input([{"role": "user", "content": text}])

    return prompt


def corpus(file: Path, lot: random.Random) -> Prompts:
    """A line each: JSON, a string (a user's only message) or a list of messages.

    Raises InvalidInput naming the line that is none.
    """
    try:
        if file.stat().st_size > MAX_CORPUS_BYTES:
            raise InvalidInput(f"{file} is larger than {MAX_CORPUS_BYTES >> 20} MiB: take a part of it")
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"cannot read the prompts in {file}: {error}") from None
    inputs = [_parsed(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not inputs:
        raise InvalidInput(f"{file} has no prompts")
    return lambda: lot.choice(inputs)


def _parsed(line: str, where: str) -> Input:
    try:
        item: Any = json.loads(line)
        if isinstance(item, str):
            return chat_input([{"role": "user", "content": item}])
        if isinstance(item, list) and all(isinstance(message, dict) for message in item):
            return chat_input(item)
    except (ValueError, RecursionError, InvalidInput) as error:
        raise InvalidInput(f"{where}: {error}") from None
    raise InvalidInput(f"{where}: neither a string nor a list of messages")
