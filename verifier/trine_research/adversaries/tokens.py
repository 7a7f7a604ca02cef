"""Cheats that run the right model and change what it said: one token, the end, the way of choosing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trine_node.engines.base import Engine, Step
from trine_research.adversaries.base import Adversary, tokens_of


class SwappedToken(Adversary):
    """Replaces the token in the middle by the `rank`-th best and goes on from it, with that run's own fingerprint."""

    def __init__(self, honest: Engine, rank: int = 8) -> None:
        super().__init__(honest)
        self.rank = rank

    def generate_batch(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[Step]]:
        begun = []
        for prompt, answer in zip(prompts, self.honest.generate_batch(prompts, max_tokens), strict=True):
            kept = tokens_of(answer[: len(answer) // 2])
            begun.append([*kept, self._alternative([*prompt, *kept])])
        return _continued(self, prompts, begun, max_tokens)

    def _alternative(self, ids: Sequence[int]) -> int:
        ranked = self.honest.ranked(ids, self.rank + len(self.eos_ids) + 1)
        return [i for i in ranked if i not in self.eos_ids][self.rank - 1]


class InsertedToken(Adversary):
    """Puts a foreign token into the middle; the rest stays, fingerprinted by the right model as it then stands."""

    def generate_batch(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[Step]]:
        changed = []
        for prompt, answer in zip(prompts, self.honest.generate_batch(prompts, max_tokens), strict=True):
            ids = tokens_of(answer)
            middle = len(ids) // 2
            foreign = next(i for i in prompt if i not in self.eos_ids)
            changed.append([*ids[:middle], foreign, *ids[middle:]][:max_tokens])
        return self.fingerprint(self.honest, prompts, changed)


class DroppedToken(Adversary):
    """Leaves out the token in the middle; the rest stays, fingerprinted by the right model as it then stands."""

    def generate_batch(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[Step]]:
        changed = []
        for answer in self.honest.generate_batch(prompts, max_tokens + 1):
            ids = tokens_of(answer)
            middle = len(ids) // 2
            # An answer of repeated tokens is the same without one of them: there is nothing to drop then.
            changed.append(([*ids[:middle], *ids[middle + 1 :]] or ids)[:max_tokens])
        return self.fingerprint(self.honest, prompts, changed)


class Truncated(Adversary):
    """Stops half-way and claims that the model did."""

    def generate_batch(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[Step]]:
        answers = []
        for answer in self.honest.generate_batch(prompts, max_tokens):
            kept = answer[: max(1, len(answer) // 2)]
            answers.append([*kept[:-1], Step(min(self.eos_ids), kept[-1].word)])
        return answers


class Sampled(Adversary):
    """Samples at a low temperature and passes the answer off as greedy."""

    def __init__(self, honest: Engine, temperature: float = 0.3, seed: int = 0) -> None:
        super().__init__(honest)
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def generate_batch(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[Step]]:
        return self.honest.generate_batch(prompts, max_tokens, choose=self._sample)

    def _sample(self, logits: torch.Tensor) -> torch.Tensor:
        shares = (logits.float().cpu() / self.temperature).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0].to(logits.device)


def _continued(
    cheat: Adversary, prompts: Sequence[Sequence[int]], begun: Sequence[Sequence[int]], max_tokens: int
) -> list[list[Step]]:
    """Greedy answers that begin with the given tokens, with the honest words of the whole."""
    longer = [[*prompt, *begin] for prompt, begin in zip(prompts, begun, strict=True)]
    rest = cheat.honest.generate_batch(longer, max_tokens)
    whole = [[*begin, *tokens_of(tail)][:max_tokens] for begin, tail in zip(begun, rest, strict=True)]
    return cheat.fingerprint(cheat.honest, prompts, whole)
