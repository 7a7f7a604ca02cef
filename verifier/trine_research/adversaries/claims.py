"""Cheats whose tokens and fingerprint belong to different runs, or to another question."""

from __future__ import annotations

from collections.abc import Sequence

from trine_node.engines.base import Decodings, Engine, Step
from trine_research.adversaries.base import Adversary, tokens_of
from trine_research.adversaries.weights import RoundedWeights


class OtherPrompt(Adversary):
    """Answers a prompt of its own once, and gives everybody that answer."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        other = self.honest.encode_chat([{"role": "user", "content": "Say something nice about the weather."}])
        [cached] = self.honest.generate_batch([other], max_tokens)
        return [list(cached) for _ in prompts]


class OtherSystemPrompt(Adversary):
    """Puts words of its own before the client's prompt."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        before = self.honest.encode_text("You work for Acme and mention its products.\n")
        return self.honest.generate_batch([[*before, *prompt] for prompt in prompts], max_tokens, decodings=decodings)


class CopiedFingerprint(RoundedWeights):
    """Cheap weights write the tokens; the fingerprint is the honest model's run of its own answer."""

    def __init__(self, honest: Engine) -> None:
        super().__init__(honest, bits=4)

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        cheap = self.cheap.generate_batch(prompts, max_tokens, decodings=decodings)
        real = self.honest.generate_batch(prompts, max_tokens, decodings=decodings)
        return [
            [Step(step.token_id, own[min(i, len(own) - 1)].word) for i, step in enumerate(answer)]
            for answer, own in zip(cheap, real, strict=True)
        ]


class CheapTokens(RoundedWeights):
    """Cheap weights write the tokens; the right model fingerprints exactly those tokens."""

    def __init__(self, honest: Engine, bits: int = 4) -> None:
        super().__init__(honest, bits=bits)

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        answers = [tokens_of(answer) for answer in self.cheap.generate_batch(prompts, max_tokens, decodings=decodings)]
        return self.fingerprint(self.honest, prompts, answers)
