"""Cheats that run the right model and do not keep to the grammar that the client has signed.

Orders without a grammar leave them nothing to lie about: they are answered honestly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trine.protocol.decoding import Decoding
from trine.protocol.grammar import ANY_OBJECT, Grammar
from trine_node.engines.base import Decodings, Engine, Step
from trine_research.adversaries.base import Adversary, AsksOtherwise, tokens_of

LOOSE = {"json_schema": Grammar("json_schema", ANY_OBJECT), "choice": None, "regex": None, "grammar": None}
"""What a node may take a grammar for that wants it to be easy."""


class IgnoredGrammar(AsksOtherwise):
    """Lets the model write what it likes; or, `loosened`, any JSON object where a schema was signed."""

    def __init__(self, honest: Engine, *, loosened: bool = False) -> None:
        super().__init__(honest)
        self.loosened = loosened

    def _changed(self, asked: Decoding) -> Decoding:
        loose = LOOSE[asked.grammar.kind] if asked.grammar and self.loosened else None
        return replace(asked, grammar=loose)


class TokenOffGrammar(Adversary):
    """Puts the likeliest token that the grammar forbids into the middle and goes on without the grammar, with that
    text's own fingerprint."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        decodings = decodings or [None] * len(prompts)
        answers = self.honest.generate_batch(prompts, max_tokens, decodings=decodings)
        return [
            self._spoilt(prompt, answer, max_tokens, decoding) if decoding and decoding.grammar else answer
            for prompt, answer, decoding in zip(prompts, answers, decodings, strict=True)
        ]

    def _spoilt(self, prompt: Sequence[int], answer: Sequence[Step], max_tokens: int, decoding: Decoding) -> list[Step]:
        kept = tokens_of(answer[: len(answer) // 2])
        chooser = self.honest.chooser(decoding, kept)
        among = chooser.permitted() if chooser else None
        permitted = set() if among is None else set(among.tolist())
        ranked = self.honest.ranked([*prompt, *kept], self.vocab_size)
        foreign = next((token for token in ranked if token not in permitted | self.eos_ids), ranked[0])
        begun = [*kept, foreign]
        if len(begun) < max_tokens:
            free = replace(decoding, grammar=None)
            [rest] = self.honest.generate_batch([prompt], max_tokens, decodings=[free], begun=[begun])
            begun += tokens_of(rest)
        return self.fingerprint(self.honest, [prompt], [begun])[0]
