"""Checks one batch: binding, prompt, then the model. No chain access beyond what it is handed; nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from trine.errors import InvalidInput
from trine.protocol import fingerprint, merkle
from trine.protocol.calibration import MAX_OUTPUT_TOKENS
from trine.protocol.evidence import Anchor, Evidence, binding_fault, leaves_fault, missing, parsed_input
from trine.protocol.inputs import Input, first_stop, shown
from trine.protocol.messages import text_hash
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Outcome, Reason, Verdict, decide, structural_fault
from trine.protocol.votes import Vote
from trine_node.engines.base import Engine, EngineError, render
from trine_operator.logs import trace_of
from trine_verifier.evidence import Shown, ShownLeaf

log = structlog.get_logger()

MAX_DETAIL = 500
"""Characters that are kept of what is wrong: a node may have chosen them."""
TOGETHER = 16
TOKENS_TOGETHER = 2048
"""Answers that are checked at once, at most, and their tokens where it is more than one; between them a verifier can be
stopped, others' checks go first, and there may be no time for the next."""


InTime = Callable[[int, Callable[[], list[Verdict]]], list[Verdict] | None]
"""Runs a check of so many tokens, or gives None without."""


def check_shown_leaf(
    shown: ShownLeaf,
    index: int,
    anchor: Anchor,
    engine: Engine,
    policy: Policy,
    in_time: InTime = lambda tokens, check: check(),
) -> Verdict:
    """The verdict on one answer of a batch, for an appeal."""
    leaf = merkle.leaf_hash(index, shown.answer.receipt)
    if not merkle.verify(anchor.root, leaf, shown.proof):
        return withheld(1, "the answer shown is not the anchored leaf")[0]
    return check_leaf(shown.answer, index, leaf, anchor, engine, policy, in_time)


@dataclass(frozen=True, slots=True)
class Challenged:
    """A calibration: the prompts by leaf, and how many tokens the operator says that its answers have."""

    prompts: tuple[Input, ...]
    claimed_tokens: int


def check_batch(
    shown: Shown,
    anchor: Anchor,
    engine: Engine,
    policy: Policy,
    challenge: Challenged | None = None,
    between: Callable[[], None] = lambda: None,
    in_time: InTime = lambda tokens, check: check(),
) -> list[Verdict]:
    """A verdict per leaf, whatever was shown. `challenge` is what a calibration batch had to answer.

    `in_time` runs a part of the check, or gives None because there is no time for it: these answers are inconclusive.
    `between` is called between groups of answers: what is more urgent may go first there, or it raises to end the
    check. Nothing else is raised, and no more than a group of answers is in memory.
    """
    if fault := leaves_fault(shown.leaves, anchor):
        return withheld(anchor.leaf_count, fault)
    if challenge and (fault := claim_fault(shown, challenge.claimed_tokens)):
        return [Verdict(Outcome.REJECT, Reason.CLAIM, 0, detail=fault)] * anchor.leaf_count
    found: dict[int, Verdict] = {}
    for group in groups(enumerate(zip(shown.leaves, shown.answers, strict=True))):
        between()
        claims: dict[int, tuple[Evidence, Claim]] = {}
        for index, (leaf, evidence) in group:
            if isinstance(evidence, InvalidInput):
                found[index] = withheld(1, str(evidence)[:MAX_DETAIL])[0]
                continue
            prompt = challenge.prompts[index] if challenge else None
            first = examine(evidence, index, leaf, anchor, engine, prompt, is_good=shown.is_good)
            if isinstance(first, Verdict):
                found[index] = first
            else:
                claims[index] = (evidence, first)
        if claims:
            found |= zip(claims, judge_in_time(list(claims.values()), engine, policy, in_time), strict=True)
    return [found[index] for index in range(anchor.leaf_count)]


def check_leaf(
    evidence: Evidence,
    index: int,
    leaf: bytes,
    anchor: Anchor,
    engine: Engine,
    policy: Policy,
    in_time: InTime = lambda tokens, check: check(),
) -> Verdict:
    """The whole check of one answer, cheapest tests first."""
    first = examine(evidence, index, leaf, anchor, engine)
    return first if isinstance(first, Verdict) else judge_in_time([(evidence, first)], engine, policy, in_time)[0]


def examine(
    evidence: Evidence,
    index: int,
    leaf: bytes,
    anchor: Anchor,
    engine: Engine,
    challenge: Input | None = None,
    *,
    is_good: bool = False,
) -> Verdict | Claim:
    """Everything but the model: binding, prompt, structure, text. A claim if nothing is wrong so far.

    `is_good`: that it is the leaf was seen before; signatures take long.
    """
    tokens = len(evidence.output_ids)
    try:
        if not is_good and (fault := missing(evidence, index, leaf, anchor)):
            return withheld(1, fault)[0]
        if fault := binding_fault(evidence, anchor):
            return Verdict(Outcome.REJECT, Reason.BINDING, tokens, detail=fault)
        return _claimed(evidence, engine, challenge)
    except Exception as error:  # noqa: BLE001  (whatever one answer does to us, the others are judged)
        return _verdict_on(error, tokens)


def _claimed(evidence: Evidence, engine: Engine, challenge: Input | None) -> Verdict | Claim:
    """Of evidence that is bound to its leaf. Raises EngineError, or InvalidInput where no honest engine would."""
    tokens = len(evidence.output_ids)
    asked = parsed_input(evidence)
    if challenge is not None and (asked != challenge or evidence.receipt.max_tokens != MAX_OUTPUT_TOKENS):
        return Verdict(Outcome.REJECT, Reason.PROMPT, tokens, detail="not the challenge's prompt")
    if tuple(render(engine, asked)) != evidence.prompt_ids:
        return Verdict(Outcome.REJECT, Reason.PROMPT, tokens, detail="prompt tokens are not the rendering of the input")
    text = engine.decode(evidence.output_ids)
    if first_stop(engine.decode(evidence.output_ids[:-1]), asked.stop) is not None:
        return Verdict(Outcome.REJECT, Reason.STRUCTURE, tokens, detail="the answer goes on after a stop string")
    claim = Claim(
        output_ids=evidence.output_ids,
        words=tuple(fingerprint.decode(evidence.fingerprint)),
        finish_reason=evidence.receipt.finish_reason,
        max_tokens=evidence.receipt.max_tokens,
        engine_class=evidence.receipt.engine_class_name,
        stopped=first_stop(text, asked.stop) is not None,
    )
    if fault := structural_fault(claim, engine.eos_ids):
        return Verdict(Outcome.REJECT, Reason.STRUCTURE, tokens, detail=fault)
    if text_hash(shown(text, asked.stop), asked.salt) != evidence.receipt.text_hash:
        return Verdict(Outcome.REJECT, Reason.TEXT, tokens, detail="the text given is not that of the tokens")
    return claim


def judge_in_time(
    claims: Sequence[tuple[Evidence, Claim]], engine: Engine, policy: Policy, in_time: InTime
) -> list[Verdict]:
    """The model's say, if there is time for it. Who votes in doubt loses nothing and redraws nothing."""
    tokens = sum(len(evidence.prompt_ids) + len(evidence.output_ids) for evidence, _ in claims)
    judged = in_time(tokens, lambda: judge(claims, engine, policy))
    if judged is not None:
        return judged
    return [
        Verdict(Outcome.INCONCLUSIVE, Reason.LATE, len(evidence.output_ids), detail="no time left to check")
        for evidence, _ in claims
    ]


def judge(claims: Sequence[tuple[Evidence, Claim]], engine: Engine, policy: Policy) -> list[Verdict]:
    """The model's say on answers that are in order otherwise. One that cannot be computed spoils no other."""
    try:
        own = engine.check_batch(
            [(evidence.prompt_ids, evidence.output_ids) for evidence, _ in claims],
            [parsed_input(evidence).decoding for evidence, _ in claims],
        )
        return [
            decide(claim, mine, eos_ids=engine.eos_ids, verifier_class=engine.engine_class, policy=policy)
            for (_, claim), mine in zip(claims, own, strict=True)
        ]
    except Exception as error:  # noqa: BLE001  (as in `examine`)
        if len(claims) == 1:
            return [_verdict_on(error, len(claims[0][1].output_ids))]
        return [judge([claim], engine, policy)[0] for claim in claims]


def _verdict_on(error: Exception, tokens: int) -> Verdict:
    """Only what no honest engine produces is rejected; an error that nobody foresaw is nobody's guilt."""
    if isinstance(error, InvalidInput):
        # Token ids outside the vocabulary, more tokens than the context, messages that the template refuses.
        return Verdict(Outcome.REJECT, Reason.STRUCTURE, tokens, detail=str(error)[:MAX_DETAIL])
    if not isinstance(error, EngineError):
        log.error("check_failed", error=str(error)[:MAX_DETAIL], trace=trace_of(error))
    return Verdict(Outcome.INCONCLUSIVE, Reason.FAULT, tokens, detail=(str(error) or type(error).__name__)[:MAX_DETAIL])


Numbered = tuple[int, tuple[bytes, Evidence | InvalidInput]]
"""An answer's leaf index, its leaf's hash, and the answer or what is wrong with it."""


def groups(answers: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Consecutive answers that are checked together. Reads on only when the last group is done with."""
    group: list[Numbered] = []
    tokens = 0
    for numbered in answers:
        _, (_, evidence) = numbered
        more = 0 if isinstance(evidence, InvalidInput) else len(evidence.prompt_ids) + len(evidence.output_ids)
        if group and (len(group) == TOGETHER or tokens + more > TOKENS_TOGETHER):
            yield group
            group, tokens = [], 0
        group.append(numbered)
        tokens += more
    if group:
        yield group


def claim_fault(shown: Shown, claimed_tokens: int) -> str | None:
    """What is wrong with the operator's count, from which its speed is reckoned; None if nothing. Less is its loss.

    What is not shown may have all the tokens that its leaf counts: it may be shown to others.
    """
    tokens = sum(
        len(answer.output_ids) if isinstance(answer, Evidence) else merkle.tokens_of(leaf)
        for leaf, answer in zip(shown.leaves, shown.answers, strict=True)
    )
    return f"the answers have {tokens} tokens, not {claimed_tokens}" if tokens < claimed_tokens else None


def withheld(leaf_count: int, detail: str) -> list[Verdict]:
    """What can be said of answers that are not shown: nothing of them, and not who is to blame."""
    return [Verdict(Outcome.UNAVAILABLE, Reason.WITHHELD, 0, detail=detail)] * leaf_count


def vote_of(verdicts: Sequence[Verdict]) -> Vote:
    """What a batch's verdicts say together."""

    def word(outcome: Outcome) -> int:
        return sum(1 << i for i, verdict in enumerate(verdicts) if verdict.outcome is outcome)

    return Vote(word(Outcome.ACCEPT), word(Outcome.REJECT), word(Outcome.UNAVAILABLE))
