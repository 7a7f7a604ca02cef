"""The verdict on one answer: a pure function of the claim, the verifier's recomputation and the model's policy.

Four outcomes. UNAVAILABLE: what the answer's receipt stands for was not shown, so there was nothing to judge. REJECT
means that the statistics, or the answer's own structure, are beyond what any honest engine of the claimed class
produces; INCONCLUSIVE that they fell between the honest and the cheating bound, or that the pair of classes was never
calibrated; ACCEPT everything else.

A margin says how far a claimed token lies below the verifier's best one. It is weighed by how much rounding moves the
state at that very position: at one position in ten thousand that is ten times as much as elsewhere, and an honest
machine of another precision may be off by whole logits there and nowhere else.

Engines whose class begins with `logprobs-` see probabilities of tokens and no hidden states, so they make no
fingerprint: claims of theirs have no words, recomputations of theirs neither words nor noise. Where either side has
none, margins decide alone: they tell whether the tokens are the model's, not which of two models that agree on them.
A verifier without hidden states does not know the noise, and takes margins as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from trine.errors import InvalidInput
from trine.protocol import fingerprint
from trine.protocol.messages import FinishReason
from trine.protocol.policy import MAX_ACCEPT, MAX_REJECT, Policy

LOGPROBS = "logprobs-"
"""How the name of a class without hidden states begins."""
NOISE_RANGE = (0.005, 0.5)
"""Least and most that a margin is divided by. Honest positions were found between 0.012 and 0.33; the upper end bounds
what a text that confuses the model could excuse."""


class Outcome(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"
    UNAVAILABLE = "unavailable"


class Reason(StrEnum):
    """Why. The string is what logs, stores and reports show."""

    HONEST = "honest"
    STRUCTURE = "structure"  # tokens, fingerprint and finish reason contradict each other
    MARGIN = "margin"  # a token that the model would not have chosen
    DEVIATION = "deviation"  # hidden states of another model
    BETWEEN = "between bounds"
    UNCALIBRATED = "uncalibrated pair"
    FAULT = "verifier's fault"  # the verifier could not recompute; nobody else is to blame
    BINDING = "binding"  # the receipt itself is not what the client asked, or not the node's (see `evidence`)
    PROMPT = "prompt"  # prompt tokens are not the rendering of the client's input
    TEXT = "text"  # the text that the client was given is not that of the tokens
    CLAIM = "claim"  # a calibration's answers have fewer tokens than the operator says
    WITHHELD = "withheld"  # the bytes that the root fixed were not shown in time
    LATE = "no time"  # the verifier had more to check than it could until its vote was due


@dataclass(frozen=True, slots=True)
class Recomputation:
    """A verifier's own pass over prompt and claimed answer; one entry a token.

    An engine that sees no hidden states has neither words nor noise.
    """

    words: tuple[bytes, ...]  # 8 bytes each
    margins: tuple[float, ...]  # best logit minus the claimed token's, >= 0
    noise: tuple[float, ...]  # how far rounding to bf16 moves the clipped, normalised state: see `fingerprint`

    def weighed_margins(self) -> tuple[float, ...]:
        """Margins divided by the noise of their positions, within NOISE_RANGE; as they are where there is none."""
        if not self.noise:
            return self.margins
        low, high = NOISE_RANGE
        return tuple(m / min(max(n, low), high) for m, n in zip(self.margins, self.noise, strict=True))


@dataclass(frozen=True, slots=True)
class Claim:
    """What the node says, already bound to the anchored root."""

    output_ids: tuple[int, ...]
    words: tuple[bytes, ...]
    finish_reason: int
    max_tokens: int
    engine_class: str
    stopped: bool = False  # the text has a stop string, and without the last token it has none


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome, reason and the statistics behind it (zero where nothing was recomputed)."""

    outcome: Outcome
    reason: Reason
    tokens: int
    deviation: float = 0.0  # relative: 1 is what rounding to bf16 causes. See `fingerprint`
    worst_margin: float = 0.0  # weighed, see `Recomputation.weighed_margins`
    total_margin: float = 0.0  # weighed, over all tokens
    detail: str = ""


def decide(
    claim: Claim, recomputation: Recomputation, *, eos_ids: frozenset[int], verifier_class: str, policy: Policy
) -> Verdict:
    """Raises InvalidInput if the recomputation is not of this claim: a fault of the caller."""
    if fault := structural_fault(claim, eos_ids):
        return Verdict(Outcome.REJECT, Reason.STRUCTURE, len(claim.output_ids), detail=fault)
    tokens = len(claim.output_ids)
    own = recomputation
    if len(own.margins) != tokens or not len(own.words) == len(own.noise) in (0, tokens):
        raise InvalidInput("the recomputation has another number of tokens than the claim")
    if not all(math.isfinite(sum(values)) and min(values, default=0) >= 0 for values in (own.margins, own.noise)):
        return Verdict(Outcome.INCONCLUSIVE, Reason.FAULT, tokens, detail="the verifier's own numbers are no numbers")
    comparable = bool(claim.words and own.words)
    raw = fingerprint.deviation(claim.words, own.words) if comparable else 0.0
    deviation = raw / fingerprint.expected_deviation(own.noise) if comparable else 0.0
    weighed = own.weighed_margins()
    worst, total = max(weighed), math.fsum(weighed)

    def verdict(outcome: Outcome, reason: Reason, detail: str) -> Verdict:
        return Verdict(outcome, reason, tokens, deviation, worst, total, detail)

    bounds = policy.bounds(claim.engine_class, verifier_class)
    if bounds is None:
        pair = f"{claim.engine_class} against {verifier_class}"
        return verdict(Outcome.INCONCLUSIVE, Reason.UNCALIBRATED, f"the policy has no bounds for {pair}")
    accept, reject = (s / 1e3 for s in (policy.accept_sigmas, policy.reject_sigmas))
    if worst > bounds.margin_reject / 1e3:
        where = weighed.index(worst)
        plain = own.margins[where]
        limit = bounds.margin_reject / 1e3 * (plain / worst)  # in logits, at that position
        detail = f"token {where} lies {plain:.3f} logits below the model's choice, over {limit:.3f} there"
        return verdict(Outcome.REJECT, Reason.MARGIN, detail)
    if total > (limit := bounds.total_margin_bound(tokens, reject, bounds.margin_reject)):
        detail = f"the weighed margins of {tokens} tokens add up to {total:.3f}, over {limit:.3f}"
        return verdict(Outcome.REJECT, Reason.MARGIN, detail)
    if deviation > (limit := bounds.deviation_bound(tokens, reject)) or raw > MAX_REJECT:
        detail = f"relative deviation {deviation:.3f} is over {limit:.3f} for {tokens} tokens, or {raw:.3f} of the bits"
        return verdict(Outcome.REJECT, Reason.DEVIATION, detail)
    honest = bounds.deviation_bound(tokens, accept)
    if (
        worst > bounds.margin_accept / 1e3
        or total > bounds.total_margin_bound(tokens, accept, bounds.margin_accept)
        or deviation > honest
        or raw > MAX_ACCEPT
    ):
        detail = (
            f"weighed margins {worst:.3f} at worst, {total:.3f} in all, relative deviation {deviation:.3f}, "
            f"{raw:.3f} of bits"
        )
        return verdict(Outcome.INCONCLUSIVE, Reason.BETWEEN, detail)
    return verdict(Outcome.ACCEPT, Reason.HONEST, "")


def structural_fault(claim: Claim, eos_ids: frozenset[int]) -> str | None:
    """What in the claim contradicts itself, or None. Needs no model."""
    tokens = claim.output_ids
    if not tokens:
        return "the answer has no tokens"
    expected = 0 if claim.engine_class.startswith(LOGPROBS) else len(tokens)
    if len(claim.words) != expected:
        return f"{len(claim.words)} fingerprint words for {len(tokens)} tokens of {claim.engine_class}"
    if len(tokens) > claim.max_tokens:
        return f"{len(tokens)} tokens where at most {claim.max_tokens} were asked for"
    if any(token in eos_ids for token in tokens[:-1]):
        return "the answer goes on after an end-of-sequence token"
    ended = tokens[-1] in eos_ids
    if claim.finish_reason == FinishReason.STOP:
        return None if ended or claim.stopped else "finish reason is stop, but the last token does not end the sequence"
    if claim.finish_reason == FinishReason.LENGTH:
        if ended:
            return "finish reason is length, but the last token ends the sequence"
        if claim.stopped:
            return "finish reason is length, but the last token completes a stop string"
        short = len(tokens) != claim.max_tokens
        return f"finish reason is length after {len(tokens)} of {claim.max_tokens} tokens" if short else None
    return f"unknown finish reason {claim.finish_reason}"
