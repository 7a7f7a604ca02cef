"""The verifier's own answers: n beams for each prompt, one being the greedy answer.

Uses nothing of an engine but its tokens: no states, no logits. Many prompts go through the model as one batch, padded
on the left, which moves the numbers by rounding only; fp32 decodes the same tokens (see the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.errors import InvalidInput
from trine_node.engines.base import Engine, validate
from trine_node.engines.transformers_engine import TransformersEngine
from trine_research.text.decision import MAX_BEAMS

MAX_PROMPTS = 1024
Answer = tuple[int, ...]


def regenerate(
    engine: TransformersEngine, prompts: Sequence[Sequence[int]], max_tokens: int, beams: int = 1
) -> list[list[Answer]]:
    """For each prompt its `beams` best answers, best first, of at most `max_tokens` tokens, each with its end token.

    Deterministic: greedy with one beam, beam search with more (transformers' own). Raises InvalidInput, and as
    `Engine.generate` does for prompts that do not fit.
    """
    if not 1 <= beams <= MAX_BEAMS:
        raise InvalidInput(f"{beams} beams: 1 to {MAX_BEAMS} are searched")
    found = decode(engine, prompts, max_tokens, num_beams=beams, num_return_sequences=beams, do_sample=False)
    return [found[i : i + beams] for i in range(0, len(found), beams)]


def decode(
    engine: TransformersEngine, prompts: Sequence[Sequence[int]], max_tokens: int, **options: Any
) -> list[Answer]:
    """One left-padded batch through transformers' `generate`, under its `options`. Rows as it returns them."""
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InvalidInput(f"{len(prompts)} prompts: 1 to {MAX_PROMPTS} are decoded together")
    for prompt in prompts:
        validate(engine, prompt, max_tokens)
    width = max(len(prompt) for prompt in prompts)
    padding = min(engine.eos_ids, default=0)  # masked on the left; on the right whatever follows an end is cut
    rows = [[padding] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    masks = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    output = engine.transformers_generate(rows, masks, max_new_tokens=max_tokens, pad_token_id=padding, **options)
    return [_until_end(row[width:], engine.eos_ids) for row in output]


def retokenised(engine: Engine, text: str) -> Answer:
    """Tokens of an answer of which only the text is known. Both sides of a comparison must come through here."""
    return tuple(engine.encode_text(text))


def _until_end(row: list[int], eos_ids: frozenset[int]) -> Answer:
    end = next((i + 1 for i, token in enumerate(row) if token in eos_ids), len(row))
    return tuple(row[:end])
