"""What verifiers see of provers, honest and not: the raw material of every study of thresholds.

Nothing is judged here. An observation keeps what a verdict needs, so that any policy can be tried on it later.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from trine.protocol import fingerprint
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Recomputation, Verdict, decide
from trine_node.engines.base import Decodings, Engine, Step
from trine_node.engines.transformers_engine import TransformersEngine, packed
from trine_research.adversaries import Adversary, make_adversary
from trine_research.study.subject import Subject, Variant

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One claimed answer and one verifier's own pass over it."""

    prover: str
    honest: bool
    verifier: str  # its engine class
    prompt: int
    claim: Claim
    own: Recomputation
    eos_ids: frozenset[int]

    def __len__(self) -> int:
        return len(self.claim.output_ids)

    def windows(self, tokens: int) -> Iterator[Leaf]:
        """Every whole window of so many tokens, one after the other, each as if it were an answer.

        What comes before a window is its prompt: a verifier of that leaf would compute the same states.
        """
        for start in range(0, len(self) - tokens + 1, tokens):
            part = slice(start, start + tokens)
            ids = self.claim.output_ids[part]
            ended = ids[-1] in self.eos_ids
            yield replace(
                self,
                claim=replace(
                    self.claim,
                    output_ids=ids,
                    words=self.claim.words[part],
                    finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
                    max_tokens=tokens,
                ),
                own=Recomputation(self.own.words[part], self.own.margins[part], self.own.noise[part]),
            )

    def relative_deviation(self) -> float:
        raw = fingerprint.deviation(self.claim.words, self.own.words)
        return raw / fingerprint.expected_deviation(self.own.noise)

    def judge(self, policy: Policy) -> Verdict:
        return decide(self.claim, self.own, eos_ids=self.eos_ids, verifier_class=self.verifier, policy=policy)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: prompts as token ids, how long answers get, and who judges."""

    subject: Subject
    prompts: list[list[int]]
    tokens: int
    verifiers: dict[str, TransformersEngine]  # by dtype
    decodings: Decodings | None = None  # how the answer to each prompt is drawn; greedily without
    device: str = "cpu"  # where honest variants run that are no verifier's engine


@dataclass(frozen=True, slots=True)
class Answered:
    """What one prover claims: an answer to each of some prompts, which nobody has checked yet."""

    prover: str
    honest: bool
    prompts: list[list[int]]
    decodings: Decodings | None
    claims: list[Claim]

    def __len__(self) -> int:
        """Tokens."""
        return sum(len(claim.output_ids) for claim in self.claims)


def observe_honest(plan: Plan, variants: Sequence[Variant], progress: Progress) -> Iterator[list[Leaf]]:
    """Every variant answers every prompt, every verifier checks every answer. One variant's leaves at a time."""
    for answered in answer_honestly(plan, variants):
        yield check(plan, answered)
        progress(f"{answered.prover}: {len(answered)} tokens")


def observe_cheats(
    plan: Plan, names: Sequence[str], dtype: str, prompts: Sequence[int], progress: Progress
) -> Iterator[list[Leaf]]:
    """Every cheat answers the prompts of these numbers, in the arithmetic and the name of `dtype`. One at a time."""
    for answered in answer_by_cheats(plan, names, dtype, prompts):
        yield check(plan, answered)
        progress(f"{answered.prover}: {len(answered)} tokens")


def answer_honestly(plan: Plan, variants: Sequence[Variant]) -> Iterator[Answered]:
    """One variant's answers to every prompt at a time."""
    for variant in variants:
        shared = None if variant.arithmetic else plan.verifiers.get(variant.dtype)
        engine = shared or plan.subject.engine(variant.dtype, variant.arithmetic, plan.device, variant.threads)
        answers = engine.generate_batch(plan.prompts, plan.tokens, rows=variant.rows, decodings=plan.decodings)
        yield Answered(variant.name, True, plan.prompts, plan.decodings, _claims(plan, engine, answers))
        del engine, shared
        gc.collect()


def answer_by_cheats(plan: Plan, names: Sequence[str], dtype: str, prompts: Sequence[int]) -> Iterator[Answered]:
    """One cheat's answers to the prompts of these numbers at a time."""
    chosen = [plan.prompts[i] for i in prompts]
    decodings = [plan.decodings[i] for i in prompts] if plan.decodings else None
    for name in names:
        cheat = make_adversary(name, plan.verifiers[dtype])
        if isinstance(cheat, Adversary):
            answers = cheat.generate_batch(chosen, plan.tokens, decodings or [None] * len(chosen))
        else:
            answers = [
                list(cheat.generate(prompt, plan.tokens, None, way))
                for prompt, way in zip(chosen, decodings or [None] * len(chosen), strict=True)
            ]
        yield Answered(name, False, chosen, decodings, _claims(plan, cheat, answers))
        del cheat
        gc.collect()


def _claims(plan: Plan, engine: Engine, answers: list[list[Step]]) -> list[Claim]:
    claims = []
    for answer in answers:
        ids = tuple(step.token_id for step in answer)
        ended = ids[-1] in engine.eos_ids
        claims.append(
            Claim(
                output_ids=ids,
                words=tuple(step.word for step in answer),
                finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
                max_tokens=plan.tokens if ended else len(ids),
                engine_class=engine.engine_class,
            )
        )
    return claims


def check(plan: Plan, answered: Answered) -> list[Leaf]:
    """The answers as every verifier of the plan sees them."""
    cases = [(prompt, claim.output_ids) for prompt, claim in zip(answered.prompts, answered.claims, strict=True)]
    return [
        Leaf(answered.prover, answered.honest, verifier.engine_class, number, claim, own, verifier.eos_ids)
        for verifier, checked in recomputations(plan.verifiers, cases, answered.decodings)
        for number, (claim, own) in enumerate(zip(answered.claims, checked, strict=True))
    ]


def recomputations(
    verifiers: dict[str, TransformersEngine],
    cases: list[tuple[list[int], tuple[int, ...]]],
    decodings: Decodings | None = None,
) -> Iterator[tuple[TransformersEngine, list[Recomputation]]]:
    """What every verifier's `check_batch` gives. Verifiers in fp32 and bf16 are each other's companions, which saves
    half of the passes."""
    if not {"fp32", "bf16"} <= set(verifiers):
        for verifier in verifiers.values():
            yield verifier, verifier.check_batch(cases, decodings)
        return
    found: dict[str, dict[int, Recomputation]] = {dtype: {} for dtype in verifiers}
    for rows in packed([len(prompt) + len(output) for prompt, output in cases]):
        states = {dtype: verifier.output_states([cases[row] for row in rows]) for dtype, verifier in verifiers.items()}
        for dtype, verifier in verifiers.items():
            others = states["fp32" if dtype == "bf16" else "bf16"]
            for row, own, other in zip(rows, states[dtype], others, strict=True):
                chooser = verifier.chooser(decodings[row] if decodings else None)
                found[dtype][row] = verifier.recompute(own, other, cases[row][1], chooser)
    for dtype, verifier in verifiers.items():
        yield verifier, [found[dtype][row] for row in range(len(cases))]
