"""Named ways to cheat, as engines: what devnets, tests and studies run against the verifiers.

Each wraps an honest engine, keeps its interface and lies in one way. `make_adversary` also takes `module:attribute`,
so anybody can bring a cheat of their own: a callable that takes the honest engine and returns an engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from trine.errors import InvalidInput
from trine_node.engines.base import Engine
from trine_research.adversaries.base import Adversary
from trine_research.adversaries.claims import CheapTokens, CopiedFingerprint, OtherPrompt, OtherSystemPrompt
from trine_research.adversaries.constraining import IgnoredGrammar, TokenOffGrammar
from trine_research.adversaries.drawing import (
    DrawsOtherwise,
    greedy_instead,
    higher_temperature,
    ignored_top_p,
    lower_temperature,
    other_seed,
)
from trine_research.adversaries.tokens import DroppedToken, InsertedToken, Sampled, SwappedToken, Truncated, TurnedTies
from trine_research.adversaries.weights import (
    EarlyExit,
    FineTuned,
    PerturbedWeights,
    PrunedLayers,
    RandomModel,
    RoundedWeights,
)

__all__ = ["ADVERSARIES", "CONSTRAINING", "DRAWING", "Adversary", "PrunedLayers", "RoundedWeights", "make_adversary"]

DRAWING: dict[str, Callable[[Engine], Adversary]] = {
    "other-seed": lambda engine: DrawsOtherwise(engine, other_seed),
    "higher-temperature": lambda engine: DrawsOtherwise(engine, higher_temperature),
    "lower-temperature": lambda engine: DrawsOtherwise(engine, lower_temperature),
    "ignored-top-p": lambda engine: DrawsOtherwise(engine, ignored_top_p),
    "greedy-instead": lambda engine: DrawsOtherwise(engine, greedy_instead),
}
"""Those that lie about how tokens are drawn: they answer greedy orders honestly."""

CONSTRAINING: dict[str, Callable[[Engine], Adversary]] = {
    "ignored-grammar": IgnoredGrammar,
    "loosened-grammar": lambda engine: IgnoredGrammar(engine, loosened=True),
    "off-grammar": TokenOffGrammar,
}
"""Those that do not keep to a grammar: they answer orders without one honestly."""

ADVERSARIES: dict[str, Callable[[Engine], Adversary]] = {
    "int8-weights": lambda engine: RoundedWeights(engine, 8),
    "int8-tensor-weights": lambda engine: RoundedWeights(engine, 8, per_channel=False),
    "int8-group-weights": lambda engine: RoundedWeights(engine, 8, group=32),
    "int6-weights": lambda engine: RoundedWeights(engine, 6),
    "int4-weights": lambda engine: RoundedWeights(engine, 4),
    "perturbed-weights": PerturbedWeights,
    "fine-tuned-model": FineTuned,
    "random-model": RandomModel,
    "pruned-layers": PrunedLayers,
    "early-exit": EarlyExit,
    "swapped-token": SwappedToken,
    "runner-up-token": lambda engine: SwappedToken(engine, rank=2),
    "turned-ties": TurnedTies,
    "inserted-token": InsertedToken,
    "dropped-token": DroppedToken,
    "truncated": Truncated,
    "sampled": Sampled,
    "other-prompt": OtherPrompt,
    "other-system-prompt": OtherSystemPrompt,
    "copied-fingerprint": CopiedFingerprint,
    "cheap-tokens": CheapTokens,
    "cheap-int8-tokens": lambda engine: CheapTokens(engine, bits=8),
    **DRAWING,
    **CONSTRAINING,
}


def make_adversary(name: str, engine: Engine) -> Engine:
    """An adversary by name, or by `module:attribute`. Raises InvalidInput naming the known ones."""
    if name in ADVERSARIES:
        return ADVERSARIES[name](engine)
    module, separator, attribute = name.partition(":")
    if not separator:
        raise InvalidInput(f"no adversary {name!r}: choose from {', '.join(ADVERSARIES)} or give module:attribute")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"cannot load the adversary {name!r}: {error}") from None
    made: Engine = factory(engine)
    return made
