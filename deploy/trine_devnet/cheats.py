"""Names of the ways in which operators can cheat.

What each does is in `trine_research.adversaries` and `cheating_verifier`. Imports neither: the command line reads it.
"""

from __future__ import annotations

from trine.errors import InvalidInput

VERIFIER_CHEATS = (
    "honest",
    "always-accept",
    "colluding",
    "slandering",
    "never-reveal",
    "copying",
    "waiting",
    "says-nothing",
    "stops-committed",
    "stops-opened",
    "never-sends",
)


NODE_CHEATS = (
    "int8-weights", "int8-tensor-weights", "int8-group-weights", "int6-weights", "int4-weights", "perturbed-weights",
    "fine-tuned-model", "random-model", "pruned-layers", "early-exit", "swapped-token", "runner-up-token",
    "turned-ties", "inserted-token", "dropped-token", "truncated", "sampled", "other-prompt", "other-system-prompt",
    "copied-fingerprint", "cheap-tokens", "cheap-int8-tokens", "other-seed", "higher-temperature", "lower-temperature",
    "ignored-top-p", "greedy-instead", "ignored-grammar", "loosened-grammar", "off-grammar",
)  # fmt: skip
"""Keys of `trine_research.adversaries.ADVERSARIES`, whose import takes torch."""


def known_adversary(name: str) -> str:
    """The name, or `module:attribute`. Raises InvalidInput, naming those that there are, for another."""
    if name not in NODE_CHEATS and ":" not in name:
        raise InvalidInput(f"no adversary {name!r}: choose from {', '.join(NODE_CHEATS)} or give module:attribute")
    return name


def known_cheat(name: str) -> str:
    """The name. Raises InvalidInput, naming the cheats that there are, if no verifier cheats like that."""
    if name not in VERIFIER_CHEATS:
        raise InvalidInput(f"no cheating verifier {name!r}: choose from {', '.join(VERIFIER_CHEATS)}")
    return name
