"""Which way to vote pays: the study, against the protocol's settlement of whole batches."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.protocol.settlement import conclude
from trine.protocol.votes import Vote
from trine_research.study.cli import app
from trine_research.study.incentives import (
    ABSTAIN,
    ALWAYS_ACCEPT,
    ETHER,
    HONEST,
    SHIPPED,
    SILENT,
    Setting,
    Strategy,
    best,
    gain,
    lazy,
    rarest_canaries,
)

ROOT = Path(__file__).parents[2]
COST = ETHER // 200
SMALL = Setting(cost=COST, leaves=4, tokens=100)
STRATEGIES = (HONEST, lazy(Fraction(1, 2)), ALWAYS_ACCEPT, ABSTAIN, SILENT)


def played(strategy: Strategy, setting: Setting, batches: int) -> float:
    """Mean gain a batch, vote by vote, concluded by the protocol's own settlement of whole batches."""
    rng = random.Random(7)
    total = 0
    kinds = [float(share) for share in setting.kinds().values()]
    for _ in range(batches):
        leaves = rng.choices(list(setting.kinds()), kinds, k=setting.leaves)
        words = [[0, 0], [0, 0], [0, 0]]
        cost = 0
        for i, leaf in enumerate(leaves):
            says = setting.checked(leaf)
            for seat in range(3):
                vote = rng.choices(list(says), [float(chance) for chance in says.values()])[0]
                if seat == 0 and rng.random() >= strategy.checks:
                    vote = strategy.unchecked
                elif seat == 0:
                    cost += setting.cost
                words[seat][0] |= vote.accepts << i
                words[seat][1] |= vote.rejects << i
        votes = [Vote(*word) for word in words]
        canaries = sum(1 << i for i, leaf in enumerate(leaves) if leaf.value == "canary")
        truth = sum(1 << i for i, leaf in enumerate(leaves) if leaf.value == "good")
        settled = conclude(votes, setting.leaves, setting.terms).settled
        accepted, rejected = settled.accepts, settled.rejects
        put_right = sum(1 << i for i in range(setting.leaves) if rng.random() < setting.appealed)
        right = (accepted & truth) | (rejected & ~truth)
        turned = put_right & ~right
        final = Vote(accepted & ~turned | turned & truth, rejected & ~turned | turned & ~truth)
        seat_ = conclude(votes, setting.leaves, setting.terms, final, tokens=setting.tokens, canaries=canaries).seats[0]
        total += seat_.paid - seat_.penalty - cost
    return total / batches / ETHER


@pytest.mark.parametrize("strategy", [HONEST, lazy(Fraction(1, 2)), ALWAYS_ACCEPT, ABSTAIN])
def test_expectations_are_what_playing_comes_to(strategy: Strategy) -> None:
    setting = replace(
        SMALL, cheats=Fraction(1, 4), canaries=Fraction(1, 4), false_accept=Fraction(1, 4), false_reject=Fraction(1, 4),
        appealed=Fraction(1, 2),
    )  # fmt: skip
    assert played(strategy, setting, 6_000) == pytest.approx(float(gain(strategy, setting) / ETHER), abs=0.75)


def test_an_honest_batch_without_errors_earns_a_third_of_the_fee_less_the_cost() -> None:
    none = Fraction(0)
    sure = replace(SMALL, false_accept=none, false_reject=none, doubt_of_bad=none, doubt_of_good=none)
    fee = 4 * SHIPPED.fee_per_leaf + 100 * SHIPPED.fee_per_token
    assert gain(HONEST, sure) == fee // 3 - 4 * COST
    assert gain(ALWAYS_ACCEPT, sure) == fee // 3
    assert gain(ABSTAIN, sure) == 0
    assert gain(SILENT, sure) == -SHIPPED.no_commit_penalty


def test_checking_is_the_only_best_where_canaries_are_common_enough_and_not_where_nothing_is_bad() -> None:
    full = Setting(cost=COST)
    assert best(STRATEGIES, replace(full, canaries=Fraction(1, 1000))) == HONEST
    assert best(STRATEGIES, full) == ALWAYS_ACCEPT
    assert gain(HONEST, full) > gain(ABSTAIN, full) == 0, "errors and all, an honest verifier has no reason to abstain"
    rarest = rarest_canaries(STRATEGIES, full)
    assert rarest
    assert best(STRATEGIES, replace(full, canaries=Fraction(1, rarest))) == HONEST
    assert best(STRATEGIES, replace(full, canaries=Fraction(1, rarest + 1))) != HONEST
    dearer = rarest_canaries(STRATEGIES, replace(full, cost=COST * 3 // 2))
    assert dearer is not None
    assert dearer < rarest


def test_where_checking_costs_more_than_the_fee_nothing_makes_it_the_best() -> None:
    assert rarest_canaries(STRATEGIES, replace(SMALL, cost=ETHER)) is None


def test_the_parameters_are_the_deployments() -> None:
    given = json.loads((ROOT / "deploy/trine_devnet/deployment.json").read_text())["parameters"]
    names = {
        "stake_per_leaf": "stakePerLeaf", "refund_per_leaf": "refundPerLeaf", "fee_per_leaf": "verifierFeePerLeaf",
        "fee_per_token": "verifierFeePerToken", "dissent_fine": "dissentFine", "overturned_fine": "overturnedFine",
        "wrong_vote_penalty": "wrongVotePenalty", "no_reveal_penalty": "noRevealPenalty",
        "no_commit_penalty": "noCommitPenalty", "canary_penalty": "canaryPenalty",
    }  # fmt: skip
    assert {name: getattr(SHIPPED, name) for name in names} == {
        name: int(given[value + "Wei"]) for name, value in names.items()
    }


@pytest.mark.parametrize(
    "values",
    [{"cheats": Fraction(2, 3), "canaries": Fraction(1, 2)}, {"appealed": Fraction(2)}, {"leaves": 257}, {"cost": -1}],
)
def test_nonsense_is_refused(values: dict[str, Fraction | int]) -> None:
    with pytest.raises(InvalidInput):
        replace(SMALL, **values)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        lazy(Fraction(1))


def test_the_command_prints_and_writes_a_table(tmp_path: Path) -> None:
    figures = tmp_path / "incentives.json"
    options = ["--cheats", "0", "--canaries", "0.01", "--lazy", "0.5", "--leaves", "16", "--tokens", "4096"]
    result = CliRunner().invoke(app, ["incentives", *options, "--json", str(figures)])
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    (row,) = report["rows"]
    assert row["best"] == "honest" in result.stdout
    assert set(row["gains"]) == {"honest", "lazy 0.5", "always accept", "abstain", "silent"}
    refused = CliRunner().invoke(app, ["incentives", "--cheats", "1.5"])
    assert refused.exit_code == 3
    assert refused.stderr.startswith("error: ")
