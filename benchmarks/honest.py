"""How the shipped policy judges honest answers: `python benchmarks/honest.py [--prompts 230] [--tokens 40]`.

Every precision answers every prompt with the engine as it is shipped, every precision checks every answer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

from trine_verifier.study.fit import clopper_pearson
from trine_verifier.study.observe import Plan, observe_honest
from trine_verifier.study.subject import Subject, Variant, render_all

DTYPES = ("fp32", "bf16", "fp16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=230)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    subject = Subject.find(given.model, given.threads)
    if subject.policy is None:
        sys.exit(f"error: {given.model} has no policy: name a shipped record")
    engines = {dtype: subject.engine(dtype) for dtype in DTYPES}
    prompts = render_all(engines["fp32"], subject.prompts(given.prompts, given.seed))
    plan = Plan(subject, prompts, given.tokens, engines)
    observed = observe_honest(
        plan, [Variant(d, d) for d in DTYPES], lambda message: print(f"… {message}", file=sys.stderr)
    )
    leaves = [leaf for found in observed for leaf in found]
    print(", ".join(f"{name} {value}" for name, value in vars(given).items()))
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
