"""Answers that another machine gave, as verifiers of this one see them: bounds between two kinds of hardware.

Each machine observes its own provers (`observe`); what it keeps holds every claim whole, so that the file can be
carried to the other kind of machine and judged there without the machine that answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from trine.errors import InvalidInput
from trine_research.study.observe import Leaf, Plan, Progress, recomputations


def claims_of(leaves: Sequence[Leaf]) -> list[Leaf]:
    """One leaf for every claim: each was seen by as many verifiers as looked at it."""
    found: dict[tuple[str, int, str], Leaf] = {}
    for leaf in leaves:
        first = found.setdefault((leaf.prover, leaf.prompt, leaf.claim.engine_class), leaf)
        if first.claim != leaf.claim:
            raise InvalidInput(
                f"{leaf.prover}: two different answers to prompt {leaf.prompt} of one class: give each machine's "
                "observations a file of their own"
            )
    return list(found.values())


def recheck(plan: Plan, observed: Sequence[Leaf], progress: Progress) -> Iterator[list[Leaf]]:
    """The claims among `observed` as every verifier of the plan sees them, one prover's leaves at a time.

    The plan's prompts must be those that were answered: the same model, prompt set, count and seed. Raises InvalidInput
    for claims that no answer to them can be.
    """
    if plan.decodings is not None:
        raise InvalidInput("only greedy answers can be checked again: observations do not keep how others were drawn")
    by_prover: dict[tuple[str, str], list[Leaf]] = defaultdict(list)
    for leaf in claims_of(observed):
        by_prover[leaf.prover, leaf.claim.engine_class].append(leaf)
    vocabulary = min(verifier.vocab_size for verifier in plan.verifiers.values())
    for (prover, engine_class), claims in by_prover.items():
        for leaf in claims:
            ids = leaf.claim.output_ids
            if not 0 <= leaf.prompt < len(plan.prompts):
                raise InvalidInput(f"{prover} answers prompt {leaf.prompt}; there are {len(plan.prompts)}")
            if not 1 <= len(ids) <= plan.tokens or min(ids) < 0 or max(ids) >= vocabulary:
                raise InvalidInput(f"{prover}, prompt {leaf.prompt}: no answer of at most {plan.tokens} of its tokens")
        cases = [(plan.prompts[leaf.prompt], leaf.claim.output_ids) for leaf in claims]
        found = []
        for verifier, checked in recomputations(plan.verifiers, cases):
            for leaf, own in zip(claims, checked, strict=True):
                seen = Leaf(prover, leaf.honest, verifier.engine_class, leaf.prompt, leaf.claim, own, verifier.eos_ids)
                found.append(seen)
        progress(f"{prover}, {engine_class}: {sum(len(leaf) for leaf in claims)} tokens")
        yield found
