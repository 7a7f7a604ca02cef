"""How the shipped policy judges honest answers, greedy and sampled, and cheats beside them:

    python benchmarks/honest.py [--prompts 230] [--tokens 40]
    python benchmarks/honest.py --temperature 0.7 1 --prompts 230 --tokens 32
    python benchmarks/honest.py --temperature 0 0.7 1 --prompts 32 --tokens 32 --cheats

Every precision answers every prompt with the engine as it is shipped, every precision checks every answer. The prompts
are none of those that the policy was fitted to. Whatever is not accepted is shown. With a temperature, a quarter of the
prompts each is asked without bounds, with top_p 0.9, with top_k 40 and with min_p 0.05, each with a seed of its own.
`--cheats` has cheats in the first precision answer instead, and counts the answers that are not the honest ones: how
many of them each verifier rejects. `--schema` holds honest answers to a JSON schema. `--keep FILE` keeps the
observations, those of a precision as soon as it is done; `--observed FILE…` judges what was kept, all of one
temperature, and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.policy import Policy
from trine.protocol.verdict import Outcome
from trine_research.study import observations
from trine_research.study.calibrate import parse_list
from trine_research.study.fit import clopper_pearson
from trine_research.study.observe import Leaf, Plan, observe_cheats, observe_honest
from trine_research.study.subject import MAX_PROMPTS, Subject, Variant, decodings_at, render_all

FITTED = (112, 0)
"""Prompts and seed of the calibration that the shipped policy is from: docs/statistics.md."""
DTYPES = ("bf16", "fp32", "fp16")
SCHEMA = Grammar(
    "json_schema",
    '{"type":"object","properties":{"title":{"type":"string","maxLength":60},"words":{"type":"array","items":{"type":'
    '"string"},"minItems":2},"sure":{"type":"boolean"}},"required":["title","words","sure"],"additionalProperties":false}',
)
CHEATS = (
    "other-seed,higher-temperature,lower-temperature,ignored-top-p,greedy-instead,sampled,turned-ties,runner-up-token,"
    "swapped-token,inserted-token,int8-weights,cheap-tokens,other-prompt"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=230)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--skip", type=int, default=0, help="leaves out so many of the prompts in the seed's order")
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.0], help="0 is greedy")
    parser.add_argument(
        "--cheats", nargs="?", const=CHEATS, help="names with commas between them; default: some of all"
    )
    parser.add_argument("--schema", action="store_true", help="honest answers that must be JSON")
    parser.add_argument("--dtypes", default=",".join(DTYPES), help="precisions, with commas between them")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--observed", type=Path, nargs="+")
    given = parser.parse_args()
    if given.keep and given.keep.exists():
        sys.exit(f"error: {given.keep} exists; name another file")
    if given.schema and given.cheats:
        sys.exit("error: what cheats at grammars is rejected by its tokens: tests/unit/test_adversaries.py")
    subject = Subject.find(given.model, given.threads)
    if subject.policy is None:
        sys.exit(f"error: {given.model} has no policy: name a shipped record")
    if given.observed:
        show_honest([leaf for file in given.observed for leaf in observations.read(file)], subject.policy)
        return
    dtypes = parse_list(given.dtypes, DTYPES)
    engines = {dtype: subject.engine(dtype) for dtype in dtypes}
    fitted = subject.prompts(*FITTED)
    others = [asked for asked in subject.prompts(MAX_PROMPTS, given.seed) if asked not in fitted]
    prompts = render_all(engines[dtypes[0]], others[given.skip : given.skip + given.prompts])
    print(", ".join(f"{name} {value}" for name, value in vars(given).items()))
    for temperature in given.temperature:
        ways = decodings_at(temperature, len(prompts), given.seed)
        if given.schema:
            ways = [replace(way or Decoding(), grammar=SCHEMA) for way in ways or [None] * len(prompts)]
        plan = Plan(subject, prompts, given.tokens, engines, ways)
        leaves: list[Leaf] = []
        variants = [Variant(d, d) for d in (dtypes[:1] if given.cheats else dtypes)]
        for found in observe_honest(plan, variants, say):
            leaves += found
            if given.keep:
                observations.append(given.keep, found)
        print(f"\n{f'temperature {temperature:g}' if temperature else 'greedy'}")
        if given.cheats:
            show_cheats(plan, leaves, parse_list(given.cheats), subject.policy)
        else:
            show_honest(leaves, subject.policy)


def show_honest(leaves: Sequence[Leaf], policy: Policy) -> None:
    for leaf in leaves:
        verdict = leaf.judge(policy)
        if verdict.outcome is not Outcome.ACCEPT:
            print(f"prompt {leaf.prompt}, {leaf.prover} by {leaf.verifier}: {verdict.outcome}, {verdict.detail}")
    for dtype in (*dict.fromkeys(leaf.prover for leaf in leaves), None):
        own = [leaf for leaf in leaves if dtype is None or leaf.prover == dtype]
        verdicts = [leaf.judge(policy) for leaf in own]
        found = Counter(str(verdict.outcome) for verdict in verdicts)
        worst = max(leaf.relative_deviation() for leaf in own)
        bound = clopper_pearson(found["reject"], len(own))[1]
        print(
            f"{dtype or 'all':<6}{len(own):>6} leaves, {sum(map(len, own)):>7} tokens: {found['accept']} accepted, "
            f"{found['inconclusive']} inconclusive, {found['reject']} rejected (at most {bound:.2%} with 95 %), "
            f"largest relative deviation {worst:.2f}"
        )
    for pair in sorted({(leaf.prover, leaf.verifier) for leaf in leaves}):
        own = [leaf for leaf in leaves if (leaf.prover, leaf.verifier) == pair]
        bounds = policy.bounds(own[0].claim.engine_class, pair[1])
        verdicts = [leaf.judge(policy) for leaf in own]
        margins = [margin for leaf in own for margin in leaf.own.margins]
        if bounds is None:
            continue
        nearest = max(
            verdict.total_margin
            / bounds.total_margin_bound(verdict.tokens, policy.reject_sigmas / 1e3, bounds.margin_reject)
            for verdict in verdicts
        )
        print(
            f"  {pair[0]} by {pair[1]}: {sum(m > 0 for m in margins) / len(margins):.2%} of tokens below the choice, "
            f"worst {max(margins):.3f} logits, weighed {max(v.worst_margin for v in verdicts):.1f} (rejected above "
            f"{bounds.margin_reject / 1e3:.1f}), sums at most {nearest:.0%} of what is rejected"
        )


def show_cheats(plan: Plan, honest: Sequence[Leaf], names: Sequence[str], policy: Policy) -> None:
    """Only answers that differ from the honest ones are cheats: a lie that changes nothing is none."""
    known = {leaf.prompt: (leaf.claim.output_ids, leaf.claim.words) for leaf in honest}
    for leaves in observe_cheats(plan, names, next(iter(plan.verifiers)), range(len(plan.prompts)), say):
        changed = [leaf for leaf in leaves if (leaf.claim.output_ids, leaf.claim.words) != known[leaf.prompt]]
        cells = []
        for verifier in plan.verifiers.values():
            own = [leaf.judge(policy).outcome for leaf in changed if leaf.verifier == verifier.engine_class]
            cells.append(f"{sum(o is Outcome.REJECT for o in own)} (and {sum(o is Outcome.INCONCLUSIVE for o in own)})")
        total = len(changed) // len(plan.verifiers)
        # As a machine of the cheat's own class sees it, to which an honest answer has none.
        off = [sum(m > 0 for m in leaf.own.margins) for leaf in changed if leaf.verifier == leaf.claim.engine_class]
        print(
            f"  {leaves[0].prover:<20} rejected (and in doubt) by {', '.join(plan.verifiers)}: {', '.join(cells)} of "
            f"{total}; {sum(off) / max(1, total):.1f} tokens each below the choice"
        )
        sys.stdout.flush()


def say(message: str) -> None:
    print(f"… {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
