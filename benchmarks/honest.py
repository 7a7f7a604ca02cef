"""How the shipped policy judges honest answers: `python benchmarks/honest.py [--prompts 230] [--tokens 40]`.

Every precision answers every prompt with the engine as it is shipped, every precision checks every answer. The prompts
are none of those that the policy was fitted to. Whatever is not accepted is shown. `--keep FILE` keeps the observations
for other policies to be tried on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from trine.protocol.verdict import Outcome
from trine_research.study import observations
from trine_research.study.fit import clopper_pearson
from trine_research.study.observe import Plan, observe_honest
from trine_research.study.subject import MAX_PROMPTS, Subject, Variant, render_all

FITTED = (112, 0)
"""Prompts and seed of the calibration that the shipped policy is from: docs/statistics.md."""
DTYPES = ("bf16", "fp32", "fp16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=230)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--skip", type=int, default=0, help="leaves out so many of the prompts in the seed's order")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    if given.keep and given.keep.exists():
        sys.exit(f"error: {given.keep} exists; name another file")
    subject = Subject.find(given.model, given.threads)
    if subject.policy is None:
        sys.exit(f"error: {given.model} has no policy: name a shipped record")
    engines = {dtype: subject.engine(dtype) for dtype in DTYPES}
    fitted = subject.prompts(*FITTED)
    others = [asked for asked in subject.prompts(MAX_PROMPTS, given.seed) if asked not in fitted]
    prompts = render_all(engines["fp32"], others[given.skip : given.skip + given.prompts])
    plan = Plan(subject, prompts, given.tokens, engines)
    leaves = []
    for found in observe_honest(
        plan, [Variant(d, d) for d in DTYPES], lambda message: print(f"… {message}", file=sys.stderr)
    ):
        leaves += found
        if given.keep:
            observations.append(given.keep, found)
    print(", ".join(f"{name} {value}" for name, value in vars(given).items()))
    for leaf in leaves:
        verdict = leaf.judge(subject.policy)
        if verdict.outcome is not Outcome.ACCEPT:
            print(f"prompt {leaf.prompt}, {leaf.prover} by {leaf.verifier}: {verdict.outcome}, {verdict.detail}")
    for dtype in (*DTYPES, None):
        own = [leaf for leaf in leaves if dtype is None or leaf.prover == dtype]
        found = Counter(str(leaf.judge(subject.policy).outcome) for leaf in own)
        worst = max(leaf.relative_deviation() for leaf in own)
        bound = clopper_pearson(found["reject"], len(own))[1]
        print(
            f"{dtype or 'all':<6}{len(own):>6} leaves, {sum(map(len, own)):>7} tokens: {found['accept']} accepted, "
            f"{found['inconclusive']} inconclusive, {found['reject']} rejected (at most {bound:.2%} with 95 %), "
            f"largest relative deviation {worst:.2f}"
        )


if __name__ == "__main__":
    main()
