"""Chances of wrong verdicts: exact values against enumeration with the protocol's own rule, and against simulation."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from math import comb, fsum, prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.protocol.committee import Member, draw, seed
from trine.protocol.votes import Vote, settle
from trine_research.study.attack import Prices, price, share_for
from trine_research.study.cli import app
from trine_research.study.intervals import Proportion
from trine_research.study.majority import CHAIN, Ending, Model, Rates, Verdict, chain, committee
from trine_research.study.majority_simulation import simulate

ROOT = Path(__file__).parents[2]
SURE = Rates(0)
CLOSE = 1e-9

BALLOTS = {"wrong": Vote(1, 0), "right": Vote(0, 1), "inconclusive": Vote(0, 0), "silent": None}
"""A cheating answer's: to accept it is wrong."""

chances = st.floats(0, 1, allow_subnormal=False)


@st.composite
def rates(draw_: st.DrawFn, silent: st.SearchStrategy[float] = chances) -> Rates:
    wrong = draw_(chances)
    return Rates(wrong, draw_(st.floats(0, 1 - wrong)), draw_(silent))


@st.composite
def models(draw_: st.DrawFn, silent: st.SearchStrategy[float] = chances) -> Model:
    return Model(
        draw_(rates(silent)),
        draw_(chances),
        draw_(st.none() | st.integers(25, 60)),
        draw_(chances),
        draw_(st.integers(1, 3)),
        draw_(st.integers(1, 3)),
        draw_(st.booleans()),
    )


def enumerated(model: Model) -> Ending:
    """A committee of three by going through everything: which classes judge as one and how, who sits, who says what."""
    rates_ = model.rates
    says = {"wrong": rates_.wrong, "right": rates_.right, "inconclusive": rates_.inconclusive}
    alone = {word: (1 - rates_.silent) * chance for word, chance in says.items()} | {"silent": rates_.silent}
    together = {None: 1 - model.common} | {word: model.common * chance for word, chance in says.items()}
    assert model.verifiers
    everybody = [*(["colluder"] * model.colluders), *(["honest"] * (model.verifiers - model.colluders))]
    totals = dict.fromkeys(("wrong", "right", "neither", "void", "penalised"), 0.0)
    for classes in itertools.product(together, repeat=model.classes):
        once = dict.fromkeys(("wrong", "right", "neither", "unheard", "penalised"), 0.0)
        for seats in itertools.combinations(everybody, 3):
            colluders = seats.count("colluder")
            theirs = "right" if model.careful and colluders < 2 else "wrong"
            for kinds in itertools.product(range(model.classes), repeat=3 - colluders):
                chance = 1 / comb(len(everybody), 3) / model.classes ** len(kinds)
                options = [
                    alone if (common := classes[kind]) is None else {common: 1 - rates_.silent, "silent": rates_.silent}
                    for kind in kinds
                ]
                for words in itertools.product(*options):
                    said = [*words, *([theirs] * colluders)]
                    weight = chance * prod(option[word] for option, word in zip(options, words, strict=True))
                    decided = settle([BALLOTS[word] for word in said])
                    if said.count("silent") > 1:
                        once["unheard"] += weight
                    elif decided.accepts:
                        once["wrong"] += weight
                    elif decided.rejects:
                        once["right"] += weight
                        once["penalised"] += weight * (colluders if theirs == "wrong" else 0)
                    else:
                        once["neither"] += weight
        weight = prod(together[kind] for kind in classes)
        unheard = once.pop("unheard")
        for word, chance in once.items():
            totals[word] += weight * chance * fsum(unheard**i for i in range(model.rounds))
        totals["void"] += weight * unheard**model.rounds
    return Ending(**totals)


@hypothesis_settings(max_examples=25)
@given(
    rates_=rates(),
    verifiers=st.integers(3, 6),
    share=chances,
    common=chances,
    classes=st.integers(1, 2),
    rounds=st.integers(1, 3),
    careful=st.booleans(),
)
def test_a_committee_of_three_is_what_enumeration_with_the_protocols_rule_gives(
    rates_: Rates, verifiers: int, share: float, common: float, classes: int, rounds: int, careful: bool
) -> None:
    model = Model(rates_, share, verifiers, common, classes, rounds, careful)
    exact, expected = committee(model, 3), enumerated(model)
    for name in ("wrong", "right", "neither", "void", "penalised"):
        assert getattr(exact, name) == pytest.approx(getattr(expected, name), abs=CLOSE)


@hypothesis_settings(max_examples=30)
@given(model=models(), both=st.booleans())
def test_the_chances_of_all_verdicts_sum_to_one(model: Model, both: bool) -> None:
    endings = [*(committee(model, seats) for seats in CHAIN), chain(model, both_appeal=both)]
    for ending in endings:
        verdicts = (ending.wrong, ending.right, ending.neither, ending.void)
        assert all(-CLOSE <= chance <= 1 + CLOSE for chance in verdicts)
        assert fsum(verdicts) == pytest.approx(1, abs=CLOSE)
        assert 0 <= ending.overturned + ending.jurors <= ending.penalised + CLOSE <= 25 + CLOSE
        assert ending.overturned <= 3 + CLOSE


@hypothesis_settings(max_examples=30)
@given(model=models(silent=st.just(0.0)), more=chances, both=st.booleans())
def test_more_collusion_never_helps_the_truth(model: Model, more: float, both: bool) -> None:
    less = replace(model, careful=False)
    worse = replace(less, share=max(more, model.share))
    for sizes in ((3,), (7,), (15,), CHAIN):
        before, after = chain(less, sizes, both_appeal=both), chain(worse, sizes, both_appeal=both)
        assert after.wrong >= before.wrong - CLOSE
        assert after.right <= before.right + CLOSE


@hypothesis_settings(max_examples=30)
@given(rates_=rates(), common=chances, classes=st.integers(1, 3), seats=st.sampled_from(CHAIN))
def test_right_and_wrong_are_the_same_game_without_colluders(
    rates_: Rates, common: float, classes: int, seats: int
) -> None:
    mirrored = Rates(rates_.right, rates_.inconclusive, rates_.silent)
    one, other = (committee(Model(each, 0, None, common, classes), seats) for each in (rates_, mirrored))
    assert one.wrong == pytest.approx(other.right, abs=CLOSE)
    assert one.right == pytest.approx(other.wrong, abs=CLOSE)


@pytest.mark.parametrize("seats", CHAIN)
def test_half_of_the_stake_decides_by_a_coin(seats: int) -> None:
    ending = committee(Model(SURE, 0.5), seats)
    assert ending.wrong == pytest.approx(0.5)
    assert ending.right == pytest.approx(0.5)


@given(rates_=rates(silent=st.just(0.0)), both=st.booleans())
def test_neither_a_majority_nor_an_appeal_averages_a_common_error_away(rates_: Rates, both: bool) -> None:
    model = Model(rates_, 0, None, common=1)
    for sizes in ((3,), (7,), (15,), CHAIN):
        assert chain(model, sizes, both_appeal=both).wrong == pytest.approx(rates_.wrong, abs=CLOSE)


def test_independent_errors_average_out() -> None:
    assert committee(Model(Rates(0.1), 0), 3).wrong == pytest.approx(3 * 0.1**2 * 0.9 + 0.1**3)
    wrong = [committee(Model(Rates(0.1), 0), seats).wrong for seats in CHAIN]
    assert wrong == sorted(wrong, reverse=True)


def captured(seats: int, colluders: int, verifiers: int) -> dict[int, float]:
    return {
        k: comb(colluders, k) * comb(verifiers - colluders, seats - k) / comb(verifiers, seats)
        for k in range(seats + 1)
        if k <= colluders and seats - k <= verifiers - colluders
    }


def test_appeals_draw_from_those_who_have_not_judged() -> None:
    verifiers, colluders = 30, 12
    survives = fsum(
        p * q * r
        for k, p in captured(3, colluders, verifiers).items()
        if k >= 2
        for j, q in captured(7, colluders - k, verifiers - 3).items()
        if j >= 4
        for i, r in captured(15, colluders - k - j, verifiers - 10).items()
        if i >= 8
    )
    assert chain(Model(SURE, 0.4, verifiers)).wrong == pytest.approx(survives, rel=1e-9)


@given(share=chances)
def test_among_many_verifiers_a_wrong_verdict_must_capture_every_committee(share: float) -> None:
    model = Model(SURE, share)
    alone = [committee(model, seats).wrong for seats in CHAIN]
    assert chain(model).wrong == pytest.approx(prod(alone), abs=CLOSE)
    # If everybody appeals everything, only the last committee counts.
    assert chain(model, both_appeal=True).wrong == pytest.approx(alone[-1], abs=CLOSE)


MODELS = [
    Model(Rates(0.05, 0.1, 0.1), 0.2, None, 0.5, 2),
    Model(Rates(0.2, 0.2, 0.4), 0.3, 40, 0.3, 3),
    Model(Rates(0.1, 0.0, 0.3), 0.4, 25, 0.0, 1, careful=True),
    Model(Rates(0.3, 0.3, 0.6), 0.1, None, 1.0, 2, rounds=2),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("sizes", "both"), [((3,), False), ((15,), False), (CHAIN, False), (CHAIN, True)])
def test_votes_drawn_one_by_one_agree(model: Model, sizes: tuple[int, ...], both: bool) -> None:
    trials = 20_000
    counts = simulate(model, sizes, trials, 11, both_appeal=both)
    exact = chain(model, sizes, both_appeal=both)
    assert sum(counts.values()) == trials
    for verdict in Verdict:
        assert getattr(exact, verdict.value) in Proportion.estimate(counts[verdict], trials, 1 - 1e-5)
    assert counts == simulate(model, sizes, trials, 11, both_appeal=both)


@pytest.mark.parametrize("one_class", [True, False])
def test_the_protocols_draw_seats_colluders_as_assumed(one_class: bool) -> None:
    classes = [b"c" * 32 if one_class else bytes([i]) * 32 for i in range(12)]
    pool = [Member(f"{i:#042x}", 7, each) for i, each in enumerate(classes)]
    colluders = {member.address for member in pool[:4]}
    draws = 1_500
    counts = [0] * 4
    for number in range(draws):
        counts[len(colluders & set(draw(seed(bytes(32), number.to_bytes(32, "big"), 0), pool, fixed_at=0)))] += 1
    for k, chance in captured(3, 4, 12).items():
        assert chance in Proportion.estimate(counts[k], draws, 1 - 1e-4)


def test_an_interval_is_clopper_and_pearsons() -> None:
    none, some = Proportion.estimate(0, 100), Proportion.estimate(5, 100)
    assert (none.low, none.high) == (0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert (some.low, some.high) == (pytest.approx(0.0164, abs=1e-4), pytest.approx(0.1128, abs=1e-4))
    assert (Proportion.estimate(0, 0).low, Proportion.estimate(0, 0).high) == (0, 1)


@given(chance=st.floats(1e-6, 1 - 1e-6))
def test_the_share_that_captures_is_the_polynomials_root(chance: float) -> None:
    share = share_for(chance)
    assert 3 * share**2 - 2 * share**3 == pytest.approx(chance)


def test_a_cheat_pays_where_its_value_makes_up_for_the_node_s_stake() -> None:
    for chance in (0.01, 0.1, 0.5):
        line = price(Model(SURE, 0), Prices(), chance)
        once, reckless, appealed = line["without_appeals"], line["reckless"], line["with_appeals"]
        assert once["batches"] == pytest.approx(1 / chance)
        assert once["break_even_value"] == pytest.approx(5 * (1 - chance) / chance)
        # Colluders who vote wrong in a minority are fined, too: seat by seat.
        share = line["share"]
        assert reckless["slashed_a_batch"] == pytest.approx(5 * (1 - chance) + 0.1 * 3 * share * (1 - share) ** 2)
        assert appealed["chance"] < once["chance"]
        assert appealed["break_even_value"] > reckless["break_even_value"] > once["break_even_value"]
        bought = line["stake_to_buy"] * 0.25
        assert bought / (bought + 20_000) == pytest.approx(share)


def test_a_capture_takes_two_verifiers_however_small_the_pool() -> None:
    assert Prices(honest_stake=10).to_buy(0.1) == 400


def test_prices_are_the_deployments() -> None:
    given = json.loads((ROOT / "deploy/trine_devnet/deployment.json").read_text())["parameters"]
    values = {name.removesuffix("Wei"): int(value) / 10**18 for name, value in given.items() if name.endswith("Wei")}
    prices = Prices()
    assert prices.stake_per_leaf == values["stakePerLeaf"]
    assert prices.dissent_fine == values["dissentFine"]
    assert prices.overturned_fine == values["overturnedFine"]
    assert prices.wrong_vote_penalty == values["wrongVotePenalty"]
    assert prices.min_verifier_stake == values["minVerifierStake"]
    assert prices.appeal_bond_per_seat == values["appealBondPerSeat"]
    bps = re.search(r"NEWCOMER_BPS = (\d+)", (ROOT / "contracts/Committees.sol").read_text())
    assert bps
    assert prices.newcomer_factor == int(bps[1]) / 10_000


def test_nonsense_is_refused() -> None:
    for wrong, inconclusive in ((1.1, 0), (0.6, 0.6), (-0.1, 0), (float("nan"), 0)):
        with pytest.raises(InvalidInput):
            Rates(wrong, inconclusive)
    with pytest.raises(InvalidInput, match="25 verifiers, not 24"):
        chain(Model(SURE, 0.1, 24))
    with pytest.raises(InvalidInput, match="3, 7, 15"):
        committee(Model(SURE, 0.1), 5)
    with pytest.raises(InvalidInput, match="trials"):
        simulate(Model(SURE, 0.1), (3,), 0, 0)
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        share_for(1)


@pytest.mark.parametrize("arguments", [["--share", "1.5"], ["--common", "2"], ["--false-accept", "0.99"]])
def test_the_command_refuses_nonsense_in_a_sentence(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["majority", *arguments])
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")


def test_the_command_reports_small_pools_and_draws_them(tmp_path: Path) -> None:
    figures, picture = tmp_path / "majority.json", tmp_path / "majority.png"
    arguments = ["majority", "--share", "0.25", "--verifiers", "12", "--trials", "2000", "--capture", "0.1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(figures), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    # Twelve verifiers fill committees of 3 and 7, not one of 15 or all three.
    assert [row["court"] for row in report["rows"]] == ["3 seats", "7 seats"] * 2
    assert report["rows"][0]["exact"]["wrong"] == pytest.approx(
        fsum(p if k >= 2 else 0.004 * p for k, p in captured(3, 3, 12).items())
    )
    assert f"{report['outside']} of 4" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
