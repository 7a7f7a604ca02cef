"""Cheats that run the right model and change what it said: one token, the end, the way of choosing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trine_node.engines.base import Decodings, Engine, Step
from trine_node.engines.choosing import Chooser
from trine_node.engines.sampling import Logits
from trine_research.adversaries.base import Adversary, tokens_of


class SwappedToken(Adversary):
    """Replaces the token in the middle by the `rank`-th best and goes on from it, with that run's own fingerprint."""

    def __init__(self, honest: Engine, rank: int = 8) -> None:
        super().__init__(honest)
        self.rank = rank

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        decodings = decodings or [None] * len(prompts)
        answers = self.honest.generate_batch(prompts, max_tokens, decodings=decodings)
        begun = []
        for prompt, answer, decoding in zip(prompts, answers, decodings, strict=True):
            kept = tokens_of(answer[: len(answer) // 2])
            begun.append([*kept, self._alternative([*prompt, *kept], self.honest.chooser(decoding, kept))])
        return _continued(self, prompts, begun, max_tokens, decodings)

    def _alternative(self, ids: Sequence[int], chooser: Chooser | None) -> int:
        """The best token where none has that rank: there is nothing to swap it for."""
        ranked = self.honest.ranked(ids, self.rank + len(self.eos_ids) + 1, chooser)
        others = [token for token in ranked if token not in self.eos_ids] or ranked  # or the end is all that is left
        return others[min(self.rank, len(others)) - 1]


class InsertedToken(Adversary):
    """Puts a foreign token into the middle; the rest stays, fingerprinted by the right model as it then stands."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        changed = []
        answers = self.honest.generate_batch(prompts, max_tokens, decodings=decodings)
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = tokens_of(answer)
            middle = len(ids) // 2
            foreign = next(i for i in prompt if i not in self.eos_ids)
            changed.append([*ids[:middle], foreign, *ids[middle:]][:max_tokens])
        return self.fingerprint(self.honest, prompts, changed)


class DroppedToken(Adversary):
    """Leaves out the token in the middle; the rest stays, fingerprinted by the right model as it then stands."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        changed = []
        for answer in self.honest.generate_batch(prompts, max_tokens + 1, decodings=decodings):
            ids = tokens_of(answer)
            middle = len(ids) // 2
            # An answer of repeated tokens is the same without one of them: there is nothing to drop then.
            changed.append(([*ids[:middle], *ids[middle + 1 :]] or ids)[:max_tokens])
        return self.fingerprint(self.honest, prompts, changed)


class Truncated(Adversary):
    """Stops half-way and claims that the model did."""

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        answers = []
        for answer in self.honest.generate_batch(prompts, max_tokens, decodings=decodings):
            kept = answer[: max(1, len(answer) // 2)]
            answers.append([*kept[:-1], Step(min(self.eos_ids), kept[-1].word)])
        return answers


class Sampled(Adversary):
    """Samples at a low temperature and passes the answer off as greedy."""

    def __init__(self, honest: Engine, temperature: float = 0.3, seed: int = 0) -> None:
        super().__init__(honest)
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        return self.honest.generate_batch(prompts, max_tokens, choose=self._sample)

    def _sample(self, logits: torch.Tensor, _choosers: Sequence[Chooser | None]) -> list[int]:
        shares = (logits.float().cpu() / self.temperature).softmax(dim=-1)
        return [int(token) for token in torch.multinomial(shares, 1, generator=self.generator)[:, 0]]


class TurnedTies(Adversary):
    """Takes the runner-up wherever it is at most `within` logits behind: what honest rounding could do, but every time.

    Whoever does it with a will chooses among texts. `turned` counts.
    """

    def __init__(self, honest: Engine, within: float = 0.1) -> None:
        super().__init__(honest)
        self.within = within
        self.turned = 0

    def generate_batch(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, decodings: Decodings | None = None
    ) -> list[list[Step]]:
        return self.honest.generate_batch(prompts, max_tokens, choose=self._turn, decodings=decodings)

    def _turn(self, logits: torch.Tensor, choosers: Sequence[Chooser | None]) -> list[int]:
        rows = logits.float().cpu().numpy()
        return [self._either(row, chooser) for row, chooser in zip(rows, choosers, strict=True)]

    def _either(self, logits: Logits, chooser: Chooser | None) -> int:
        if chooser:
            first, *others = chooser.ranked(logits, 2)
            near = [other for other in others if chooser.margin(logits, other) <= self.within]
        else:
            second, first = (int(token) for token in logits.argpartition(-2)[-2:])
            near = [second] if logits[first] - logits[second] <= self.within else []
        self.turned += len(near)
        return near[0] if near else first


def _continued(
    cheat: Adversary,
    prompts: Sequence[Sequence[int]],
    begun: Sequence[Sequence[int]],
    max_tokens: int,
    decodings: Decodings,
) -> list[list[Step]]:
    """Answers that begin with the given tokens and go on as they should, with the honest words of the whole."""
    short = [row for row, begin in enumerate(begun) if len(begin) < max_tokens]
    tails = cheat.honest.generate_batch(
        [prompts[row] for row in short],
        max_tokens,
        decodings=[decodings[row] for row in short],
        begun=[begun[row] for row in short],
    )
    rest = dict(zip(short, tails, strict=True))
    whole = [[*begin, *tokens_of(rest.get(row, []))] for row, begin in enumerate(begun)]
    return cheat.fingerprint(cheat.honest, prompts, whole)
