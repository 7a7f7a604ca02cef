"""What all cheats share: an honest engine inside, its interface outside, and one lie in how answers are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trine.errors import InvalidInput
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.verdict import Recomputation
from trine_node.engines.base import Decodings, Engine, Step
from trine_node.engines.transformers_engine import TransformersEngine


class Adversary:
    """Passes everything to the honest engine; subclasses change `generate_batch`."""

    def __init__(self, honest: Engine) -> None:
        if not isinstance(honest, TransformersEngine):
            raise InvalidInput("adversaries need the transformers engine")
        self.honest = honest
        self.model_name = honest.model_name
        self.model_id = honest.model_id
        self.engine_class = honest.engine_class
        self.context_tokens = honest.context_tokens
        self.vocab_size = honest.vocab_size
        self.eos_ids = honest.eos_ids
        self.can_sample = honest.can_sample

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        return self.honest.encode_chat(messages, tools)

    def encode_text(self, text: str) -> list[int]:
        return self.honest.encode_text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.honest.decode(token_ids)

    def require_grammar(self, grammar: Grammar) -> None:
        self.honest.require_grammar(grammar)

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        """The answers that this cheat gives, one a prompt: what studies measure, many at once."""
        return self.honest.generate_batch(prompts, max_tokens, decodings=decodings)

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int,
        cancelled: Callable[[], bool] | None = None,
        decoding: Decoding | None = None,
    ) -> Iterator[Step]:
        yield from self.generate_batch([prompt_ids], max_tokens, [decoding])[0]

    def check(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], decoding: Decoding | None = None
    ) -> Recomputation:
        return self.honest.check(prompt_ids, output_ids, decoding)

    def check_batch(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], decodings: Decodings | None = None
    ) -> list[Recomputation]:
        return self.honest.check_batch(cases, decodings)

    def fingerprint(
        self, engine: TransformersEngine, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> list[list[Step]]:
        """The answers with the words that `engine` gives them in one pass."""
        cases = list(zip(prompts, answers, strict=True))
        checked = engine.check_batch(cases)
        return [
            [Step(token, word) for token, word in zip(answer, own.words, strict=True)]
            for answer, own in zip(answers, checked, strict=True)
        ]


class AsksOtherwise(Adversary):
    """Has the honest engine answer something else than what was signed of how tokens are chosen."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        changed = [each and self._changed(each) for each in decodings or ()]
        return self.honest.generate_batch(prompts, max_tokens, decodings=changed or None)

    def _changed(self, asked: Decoding) -> Decoding:
        raise NotImplementedError


def tokens_of(answer: Sequence[Step]) -> list[int]:
    """Token ids of an answer's steps."""
    return [step.token_id for step in answer]
