"""How the tokens of an answer are chosen: all that the client signs of it, besides the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from trine.protocol.grammar import Grammar
from trine.protocol.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Decoding:
    """None of either: the model's likeliest token, whatever it is."""

    sampling: Sampling | None = None
    """How tokens are drawn; greedy without."""
    grammar: Grammar | None = None
    """What they must spell. Only tokens that it allows are candidates, in draws and in margins."""
