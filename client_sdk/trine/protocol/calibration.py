"""Which prompts a calibration challenge asks: chain randomness over the model's registered prompt set."""

from __future__ import annotations

import json
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.inputs import Input, chat_input, text_input

MAX_OUTPUT_TOKENS = 32
"""Every calibration prompt is answered with at most this many tokens."""


def prompt_indices(seed: bytes, challenge_id: bytes, count: int, prompt_count: int) -> list[int]:
    """uint256(keccak256(abi.encode(seed, challengeId, i))) mod prompt_count, for i < count. Repeats are possible."""
    if prompt_count < 1:
        raise InvalidInput("the prompt set is empty")
    return [
        int.from_bytes(keccak(encode(["bytes32", "bytes32", "uint256"], [seed, challenge_id, i])), "big") % prompt_count
        for i in range(count)
    ]


def parse_prompt_set(document: bytes) -> list[Input]:
    """The registered set: a JSON list whose items are chat message lists or plain strings. Raises InvalidInput."""
    try:
        items = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"prompt set is not JSON: {error}") from None
    if not isinstance(items, list) or not items:
        raise InvalidInput("prompt set must be a non-empty JSON list")
    return [_prompt(item) for item in items]


def _prompt(item: Any) -> Input:
    if isinstance(item, str):
        return text_input(item)
    if not isinstance(item, list) or not all(isinstance(message, dict) for message in item):
        raise InvalidInput("a prompt is a string or a list of messages")
    return chat_input(item)
