"""Which prompts a calibration challenge asks: made of the challenge's seed, so that no two challenges ask the same.

The seed is the hash of a block's randomness, a secret that the operator committed to before, and the challenge's id.
It picks prompts from the model's registered set and puts six words into each. A prompt as it was registered has one
answer, which anybody can keep; what a model tells about six words and a question is another text for other words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.errors import InvalidInput
from trine.protocol.inputs import Input, chat_input, text_input

MAX_OUTPUT_TOKENS = 32
"""Every calibration prompt is answered with at most this many tokens."""

_WORDS = """
amber anchor apple arrow autumn bakery bamboo basket beacon bridge bronze butter candle canyon carpet castle cellar
cherry cinema circus coffee copper cotton desert dragon engine falcon feather fiddle forest fossil fountain garden
ginger glacier granite guitar hammer harbor helmet honey island ivory jacket jungle kettle kitten ladder lantern lemon
library lobster magnet maple marble market meadow meteor mirror monkey morning mountain museum needle nutmeg ocean
olive onion orange orchid oyster paper parrot pebble pepper piano pigeon pillow pirate planet pocket potato puzzle
quarry rabbit radio rainbow raven ribbon river rocket saddle sailor salmon school shadow silver sister soldier spider
spring statue summer sunset swan teacher temple thunder ticket tiger timber tomato tower tunnel turtle valley velvet
village violin volcano wagon walnut water whistle window winter wizard zebra
"""
WORDS = tuple(_WORDS.split())
"""What a prompt's own words are taken from, by seven bits of its hash each."""
WORDS_PER_PROMPT = 6


def commitment(secret: bytes) -> bytes:
    """What an operator puts on the chain before it knows the seed block: keccak256(abi.encode(secret))."""
    return bytes(keccak(encode(["bytes32"], [secret])))


def seed(randomness: bytes, secret: bytes, challenge_id: bytes) -> bytes:
    """keccak256(abi.encode(the seed block's hash, secret, challengeId)), as `Calibration.seal` stores it."""
    return bytes(keccak(encode(["bytes32", "bytes32", "bytes32"], [randomness, secret, challenge_id])))


def prompt_indices(seed: bytes, challenge_id: bytes, count: int, prompt_count: int) -> list[int]:
    """uint256(keccak256(abi.encode(seed, challengeId, i))) mod prompt_count, for i < count. Repeats are possible."""
    if prompt_count < 1:
        raise InvalidInput("the prompt set is empty")
    return [int.from_bytes(_drawn(seed, challenge_id, i), "big") % prompt_count for i in range(count)]


def prompt_words(seed: bytes, challenge_id: bytes, leaf: int) -> tuple[str, ...]:
    """The leaf's own words: by the low seven bits of the first bytes of keccak256 of the hash that picks its prompt."""
    digest = keccak(_drawn(seed, challenge_id, leaf))
    return tuple(WORDS[byte % len(WORDS)] for byte in digest[:WORDS_PER_PROMPT])


def challenge_prompts(
    prompt_set: bytes, prompt_count: int, seed: bytes, challenge_id: bytes, count: int
) -> tuple[Input, ...]:
    """What a challenge of so many leaves asks, by leaf; set and count as they are registered. Raises InvalidInput."""
    prompts = parse_prompt_set(prompt_set)
    if len(prompts) < prompt_count:
        raise InvalidInput(f"the prompt set has {len(prompts)} prompts, not the {prompt_count} that are registered")
    indices = prompt_indices(seed, challenge_id, count, prompt_count)
    return tuple(
        with_words(prompts[index], prompt_words(seed, challenge_id, leaf)) for leaf, index in enumerate(indices)
    )


def with_words(prompt: Input, words: Sequence[str]) -> Input:
    """The prompt as the beginning of a story about its words, six of them. Raises InvalidInput.

    A story, because a question alone has one short answer whatever stands around it; and its words at the end, because
    what comes next depends on these most. `docs/statistics.md` has how far answers to one prompt then differ.
    """
    one, two, three, four, five, six = words
    if prompt.messages is None:
        text = f"{prompt.text}\n\nThe {one} {two} met a {three} {four}, a {five} and a {six}. Then the"
        return text_input(text, prompt.stop, prompt.sampling, prompt.grammar)
    *earlier, last = prompt.as_messages()
    task = (
        f"{last['content']}\n\nBefore that, write a story about {one}, {two} and {three} "
        f"that begins with: The {four} {five} {six}"
    )
    messages = [*earlier, {**last, "content": task}]
    return chat_input(messages, prompt.stop, prompt.sampling, prompt.tools, prompt.grammar)


def parse_prompt_set(document: bytes) -> list[Input]:
    """The registered set: a JSON list whose items are chat message lists or plain strings. Raises InvalidInput."""
    try:
        items = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"prompt set is not JSON: {error}") from None
    if not isinstance(items, list) or not items:
        raise InvalidInput("prompt set must be a non-empty JSON list")
    return [_prompt(item) for item in items]


def _drawn(seed: bytes, challenge_id: bytes, leaf: int) -> bytes:
    return bytes(keccak(encode(["bytes32", "bytes32", "uint256"], [seed, challenge_id, leaf])))


def _prompt(item: Any) -> Input:
    if isinstance(item, str):
        return text_input(item)
    if not isinstance(item, list) or not all(isinstance(message, dict) for message in item):
        raise InvalidInput("a prompt is a string or a list of messages")
    return chat_input(item)
