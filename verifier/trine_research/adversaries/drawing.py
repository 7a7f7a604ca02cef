"""Cheats that run the right model and draw its tokens in another way than the client has signed.

Greedy orders leave them nothing to lie about: they are answered honestly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trine.protocol.decoding import Decoding
from trine.protocol.sampling import MAX_TEMPERATURE, MILLION, Sampling
from trine_node.engines.base import Engine
from trine_research.adversaries.base import AsksOtherwise


class DrawsOtherwise(AsksOtherwise):
    """Draws by what `change` makes of the client's wish."""

    def __init__(self, honest: Engine, change: Callable[[Sampling], Sampling | None]) -> None:
        super().__init__(honest)
        self.change = change

    def _changed(self, asked: Decoding) -> Decoding:
        return replace(asked, sampling=asked.sampling and self.change(asked.sampling))


def other_seed(asked: Sampling) -> Sampling:
    """One of the node's own: it may look for the answer that it likes best."""
    return replace(asked, seed=asked.seed ^ 1)


def higher_temperature(asked: Sampling) -> Sampling:
    """Three tenths above the temperature asked for."""
    warm = min(asked.temperature_millionths + 300_000, MAX_TEMPERATURE * MILLION)
    return replace(asked, temperature_millionths=warm)


def lower_temperature(asked: Sampling) -> Sampling:
    """Four fifths of the temperature asked for."""
    return replace(asked, temperature_millionths=max(asked.temperature_millionths * 4 // 5, 1))


def ignored_top_p(asked: Sampling) -> Sampling:
    """With top_p, top_k and min_p left out."""
    return Sampling(asked.temperature_millionths, asked.seed)


def greedy_instead(_asked: Sampling) -> None:
    """Not at all: the same answer for every seed, from a cache."""
