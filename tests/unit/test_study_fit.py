"""Fitted bounds promise no more than honest leaves keep; intervals and areas are the textbook's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from trine.errors import InvalidInput
from trine.protocol import fingerprint
from trine.protocol.messages import FinishReason
from trine.protocol.verdict import Claim, Outcome, Recomputation
from trine_research.study.fit import (
    auc,
    clopper_pearson,
    false_reject_rate,
    fit_pairs,
    fit_policy,
    split,
    with_margins_of,
)
from trine_research.study.observations import append, read
from trine_research.study.observe import Leaf

TOKENS = 64
NOISE = 0.03


def leaf(
    random: np.random.Generator,
    scale: float,
    prompt: int = 0,
    honest: bool = True,
    tail: float = 0.0,
    prover: str = "p",
) -> Leaf:
    """A leaf whose states differ by `scale` times the verifier's own noise, with some margins near zero."""
    share = fingerprint.expected_share(NOISE * scale)
    flips = random.random((TOKENS, fingerprint.BITS)) < share
    words = tuple(bytes(row) for row in np.packbits(flips, axis=1))
    margins = np.where(random.random(TOKENS) < 0.02, random.exponential(0.03, TOKENS), 0.0)
    margins[0] += tail
    return Leaf(
        prover=prover,
        honest=honest,
        verifier="v",
        prompt=prompt,
        claim=Claim(tuple(range(10, 10 + TOKENS)), words, FinishReason.LENGTH, TOKENS, "p"),
        own=Recomputation((bytes(8),) * TOKENS, tuple(margins.tolist()), (NOISE,) * TOKENS),
        eos_ids=frozenset({2}),
    )


def honest_leaves(seed: int, count: int = 300, spread: float = 0.05) -> list[Leaf]:
    random = np.random.default_rng(seed)
    return [leaf(random, math.exp(random.normal(0, spread)), prompt) for prompt in range(count)]


def test_bounds_accept_honest_leaves_they_were_not_fitted_to_and_reject_twice_the_noise() -> None:
    policy = fit_policy(honest_leaves(1))
    assert all(leaf.judge(policy).outcome is Outcome.ACCEPT for leaf in honest_leaves(2))
    random = np.random.default_rng(3)
    assert all(leaf(random, 2.2).judge(policy).outcome is Outcome.REJECT for _ in range(200))


def test_the_fit_finds_the_noise_that_was_put_in() -> None:
    [fit] = fit_pairs(honest_leaves(4, spread=0.2))
    assert fit.bounds.deviation_typical == pytest.approx(1000, rel=0.1)
    assert 150 <= fit.bounds.deviation_floor <= 280
    assert fit.leaves == 300
    assert fit.worst_sigmas < 5


def test_outliers_widen_the_bounds() -> None:
    leaves = honest_leaves(5)
    random = np.random.default_rng(6)
    [plain] = fit_pairs(leaves)
    [wide] = fit_pairs(leaves + [leaf(random, 1.7, 900 + i) for i in range(4)])
    assert wide.widened > plain.widened
    assert wide.bounds.deviation_bound(TOKENS, 5) > plain.bounds.deviation_bound(TOKENS, 5)


def test_the_worst_honest_margin_is_accepted() -> None:
    random = np.random.default_rng(7)
    leaves = [*honest_leaves(8), leaf(random, 1.0, tail=0.4)]
    policy = fit_policy(leaves)
    assert all(leaf.judge(policy).outcome is Outcome.ACCEPT for leaf in leaves)
    assert leaf(random, 1.0, tail=5.0).judge(policy).outcome is Outcome.REJECT


def test_margins_that_few_answers_do_not_show_are_taken_from_another_model() -> None:
    few, many = honest_leaves(30, count=30), [*honest_leaves(31), leaf(np.random.default_rng(32), 1.0, tail=0.4)]
    narrow, wide = fit_policy(few), fit_policy(many)
    both = with_margins_of(narrow, wide)
    [(_, _, own)], [(_, _, known)], [(_, _, widened)] = narrow.pairs, wide.pairs, both.pairs
    assert own.margin_reject < known.margin_reject == widened.margin_reject
    assert widened.margin_accept == known.margin_accept
    assert widened.deviation_bound(TOKENS, 5) == own.deviation_bound(TOKENS, 5)
    assert with_margins_of(wide, narrow) == wide, "nothing becomes narrower"
    assert with_margins_of(narrow, replace(wide, pairs=())) == narrow, "a pair that the other does not have"


def test_machines_that_agree_exactly_do_not_hide_cheats_behind_those_that_do_not() -> None:
    """Bounds from both together once accepted everything: their spread reached from nothing to the noise."""
    random = np.random.default_rng(21)
    noisy = honest_leaves(20)
    same = [leaf(random, 0.0, prompt, prover="same kernels") for prompt in range(300)]
    alone, together = fit_policy(noisy), fit_policy(noisy + same)
    [fit] = fit_pairs(noisy + same)
    assert fit.variant == "p"
    assert together.pairs[0][2].deviation_bound(TOKENS, 5) == alone.pairs[0][2].deviation_bound(TOKENS, 5)
    assert together.pairs[0][2].margin_mean >= alone.pairs[0][2].margin_mean
    assert all(leaf(random, 2.2).judge(together).outcome is Outcome.REJECT for _ in range(100))
    assert all(each.judge(together).outcome is Outcome.ACCEPT for each in noisy + same)


def test_too_few_leaves_of_one_variant_are_too_few() -> None:
    random = np.random.default_rng(22)
    with pytest.raises(InvalidInput, match="5 honest leaves of 'rare', at least 20"):
        fit_pairs(honest_leaves(23) + [leaf(random, 1.0, prompt, prover="rare") for prompt in range(5)])


def test_a_prover_is_in_the_file_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "observations.jsonl.gz"
    first, second = honest_leaves(31, count=3), honest_leaves(32, count=4)
    append(file, first)

    def cut_off() -> Iterator[Leaf]:
        yield from second[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(file, cut_off())
    assert list(read(file)) == first
    append(file, second)
    assert list(read(file)) == first + second


def test_observations_come_back_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "observations.jsonl.gz"
    first, second = honest_leaves(24, count=3), honest_leaves(25, count=2)
    append(file, first)
    append(file, second)
    assert list(read(file)) == first + second
    whole = file.read_bytes()
    for broken in (whole[:-9], b"text", b"\x1f\x8b" + whole[5:]):
        file.write_bytes(broken)
        with pytest.raises(InvalidInput, match="no observations"):
            list(read(file))


def test_cheats_are_never_fitted_to() -> None:
    random = np.random.default_rng(9)
    leaves = honest_leaves(10)
    cheats = [leaf(random, 3.0, honest=False) for _ in range(100)]
    assert fit_policy(leaves) == fit_policy(leaves + cheats)


def test_too_little_to_fit_is_said() -> None:
    with pytest.raises(InvalidInput, match="no honest leaves"):
        fit_pairs([])
    with pytest.raises(InvalidInput, match="at least 20"):
        fit_pairs(honest_leaves(11, count=5))


def test_windows_are_leaves_of_their_own() -> None:
    [whole] = honest_leaves(12, count=1)
    parts = list(whole.windows(24))
    assert [len(part) for part in parts] == [24, 24]
    assert parts[1].claim.output_ids == whole.claim.output_ids[24:48]
    assert parts[1].own.noise == whole.own.noise[24:48]
    policy = fit_policy(honest_leaves(13))
    assert all(part.judge(policy).outcome is Outcome.ACCEPT for part in parts)


def test_an_exact_interval_is_the_one_of_the_tables() -> None:
    low, high = clopper_pearson(0, 100)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert clopper_pearson(7, 20) == pytest.approx((0.1539, 0.5922), abs=1e-4)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(14)
    honest, cheats = random.integers(0, 9, 40).tolist(), random.integers(3, 12, 30).tolist()
    pairs = [1.0 if c > h else 0.5 if c == h else 0.0 for c, h in product(cheats, honest)]
    assert auc(honest, cheats) == pytest.approx(sum(pairs) / len(pairs))
    assert auc([0.0, 1.0], [2.0]) == 1.0


def test_the_rate_of_a_policy_is_its_normal_tail() -> None:
    assert false_reject_rate(fit_policy(honest_leaves(15))) == pytest.approx(2.87e-7, rel=0.01)


def test_a_split_keeps_prompts_apart() -> None:
    leaves = honest_leaves(16, count=40)
    fitted, tested = split(leaves, lambda prompt: prompt % 2 == 0)
    assert len(fitted) == len(tested) == 20
    assert not {leaf.prompt for leaf in fitted} & {leaf.prompt for leaf in tested}
