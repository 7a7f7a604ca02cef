"""Every deviation of the tournament, by name: it does not pay under the shipped parameters, or where it does."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.protocol.settlement import SEATS, Silence, Terms, conclude
from trine.protocol.votes import Vote
from trine_research.study import incentives
from trine_research.study.cli import app
from trine_research.study.incentives import (
    ABSTAIN,
    ALWAYS_ACCEPT,
    ALWAYS_REJECT,
    ALWAYS_UNAVAILABLE,
    COPY,
    ETHER,
    HONEST,
    SHIPPED,
    SILENT,
    Leaf,
    Strategy,
    gain,
    lazy,
    ring_gain,
)
from trine_research.study.tournament import bribes, coalitions, juries, matrix, nodes, others, seats
from trine_research.study.tournament.coalitions import Plot
from trine_research.study.tournament.juries import ACCEPTED, REJECTED, UNAVAILABLE
from trine_research.study.tournament.nodes import HONEST_NODE, Node, node_gain
from trine_research.study.tournament.world import (
    INCLUSION_BOND,
    MAX_BATCH_TOKENS,
    MAX_ROUNDS,
    MIN_VERIFIER_STAKE,
    UNBONDING_SECONDS,
    World,
)

ROOT = Path(__file__).parents[2]
WORLD = World()
SETTING = WORLD.setting
THIRD = Fraction(1, 3)
ALONE = Plot(THIRD, 1)
FULL = Plot(THIRD, 256)


def ahead(role: str, world: World = WORLD) -> Fraction:
    """Of a role's best deviation, wei."""
    (margin,) = (margin for margin in matrix.margins(matrix.plays(world)) if margin.role == role)
    return margin.value


# What it is reckoned with


def test_the_parameters_are_the_deployments() -> None:
    given = json.loads((ROOT / "deploy/trine_devnet/deployment.json").read_text())["parameters"]
    appeals = WORLD.appeals
    assert appeals.bond_per_seat == int(given["appealBondPerSeatWei"])
    assert appeals.fee_per_seat == int(given["appealFeePerSeatWei"])
    assert appeals.wrong_vote_penalty == int(given["wrongVotePenaltyWei"])
    assert appeals.no_reveal_penalty == int(given["noRevealPenaltyWei"])
    assert appeals.no_commit_penalty == int(given["noCommitPenaltyWei"])
    assert appeals.overturned_fine == int(given["overturnedFineWei"])
    assert given["maxBatchTokens"] == MAX_BATCH_TOKENS
    assert given["maxRounds"] == MAX_ROUNDS
    assert int(given["minVerifierStakeWei"]) == MIN_VERIFIER_STAKE
    assert given["unbondingSeconds"] == UNBONDING_SECONDS
    assert int(given["inclusionBondWei"]) == INCLUSION_BOND


def test_the_studys_numbers_are_the_settlements_of_the_shared_vectors() -> None:
    """Fees and fines that the study looks up, against the batches that contracts and Python agree on to the wei."""
    vectors = json.loads((ROOT / "tests/vectors/settlement.json").read_text())

    def column(name: str) -> list[int]:
        return [int(value, 16) for value in vectors[name]]

    terms = zip(*(column(name) for name in Terms.__dataclass_fields__), strict=True)
    leaves, tokens = column("leaves"), column("tokens")
    checked = 0
    for number, values in enumerate(terms):
        shared = Terms(*values)
        paid = incentives._fees(leaves[number], tokens[number], shared)
        everything = Vote((1 << leaves[number]) - 1, 0)
        batch = conclude([everything] * SEATS, leaves[number], shared, tokens=tokens[number])
        assert paid[-1] == batch.seats[0].paid
        assert sum(column("fee")[number : number + 1]) == batch.fee
        checked += 1
    assert checked == len(leaves) > 40
    leaf = WORLD.fee
    assert leaf * WORLD.leaves == conclude([Vote(1, 0)] * SEATS, WORLD.leaves, SHIPPED, tokens=MAX_BATCH_TOKENS).fee


# Verifiers


@pytest.mark.parametrize(
    "strategy",
    [
        ABSTAIN, ALWAYS_ACCEPT, ALWAYS_REJECT, ALWAYS_UNAVAILABLE, SILENT, COPY, lazy(Fraction(1, 2)),
        lazy(Fraction(99, 100)),
    ],
    ids=lambda strategy: strategy.name,
)  # fmt: skip
def test_a_seat_gains_most_by_checking(strategy: Strategy) -> None:
    assert gain(HONEST, SETTING) > max(gain(strategy, SETTING), Fraction(0))


def test_attack_a_copied_commitment_costs_what_a_silent_vote_does() -> None:
    assert gain(COPY, SETTING) == -SHIPPED.no_reveal_penalty


def test_attack_two_friends_in_a_committee_accept_all_unseen_and_canaries_are_appealed() -> None:
    for ring in (2, 3):
        assert ring_gain(ALWAYS_ACCEPT, SETTING, ring) < 0 < ring * gain(HONEST, SETTING)


def test_two_friends_who_accept_all_unseen_gain_where_nobody_appeals_canaries() -> None:
    setting = replace(SETTING, canary_appealed=Fraction(0))
    assert ring_gain(ALWAYS_ACCEPT, setting, 2) > 2 * gain(HONEST, setting)


def test_where_all_others_accept_unseen_only_appealed_canaries_make_checking_pay() -> None:
    herd = replace(SETTING, others=ALWAYS_ACCEPT)
    assert gain(HONEST, herd) > gain(ALWAYS_ACCEPT, herd)
    silent = replace(herd, canary_appealed=Fraction(0))
    assert gain(HONEST, silent) < gain(ALWAYS_ACCEPT, silent), "then all may as well stay lazy"


def test_a_ring_gains_by_checking_once_for_all_its_seats() -> None:
    for ring in (2, 3):
        saved = (ring - 1) * SETTING.cost * SETTING.leaves
        more = ring_gain(HONEST, SETTING, ring) - ring * gain(HONEST, SETTING)
        assert saved <= more < saved + SHIPPED.dissent_fine, "what it saves, and fines for dissent among its own"


def test_a_friends_leaves_are_accepted_unseen_for_what_checking_them_costs() -> None:
    assert coalitions.friend_gain(WORLD, 2) == 2 * SETTING.cost * SETTING.leaves


def test_a_seat_that_is_told_which_leaves_are_canaries_gains_by_not_checking() -> None:
    assert seats.told_of_canaries(WORLD) > SETTING.cost * SETTING.leaves * Fraction(9, 10)


def test_attack_a_verifier_in_more_batches_than_its_stake_can_answer_for() -> None:
    for batches in (1, 10, 100):
        figures = seats.crowded(WORLD, batches)
        assert figures["honest"] > figures["always accept"]


def test_a_verifier_in_two_hundred_open_batches_gains_by_accepting_all() -> None:
    figures = seats.crowded(WORLD, 200)
    assert figures["honest"] < figures["always accept"]


def test_long_answers_need_more_canaries_than_one_in_a_thousand_leaves() -> None:
    long = replace(WORLD, tokens=4096).setting
    assert gain(ALWAYS_ACCEPT, long) > gain(HONEST, long)
    assert gain(ALWAYS_ACCEPT, replace(long, canaries=Fraction(1, 200))) < gain(HONEST, replace(long, canaries=Fraction(1, 200)))  # noqa: E501  # fmt: skip


def played(strategy: Strategy, setting: incentives.Setting, ring: int, batches: int) -> float:
    """Mean gain of a ring, vote by vote, concluded by the protocol's own settlement of whole batches."""
    rng, total, none = random.Random(3), 0, Vote(0, 0)
    kinds = setting.kinds()
    for _ in range(batches):
        votes, truth, canaries, turned_to, cost = [none] * SEATS, 0, 0, {}, 0
        for i in range(setting.leaves):
            (leaf,) = rng.choices(list(kinds), [float(share) for share in kinds.values()])
            views = list(setting.views(leaf))
            ((_, says),) = rng.choices(views, [float(weight) for weight, _ in views])
            checks = rng.random() < strategy.checks
            cost += setting.cost * checks
            seats_say = [rng.choices(list(says), [float(chance) for chance in says.values()])[0] for _ in range(SEATS)]
            mine = seats_say[0] if checks else strategy.unchecked
            for seat in range(SEATS):
                vote = mine if seat < ring else seats_say[seat]
                votes[seat] = Vote(*(a | b << i for a, b in zip(
                    (votes[seat].accepts, votes[seat].rejects, votes[seat].unavailable),
                    (vote.accepts, vote.rejects, vote.unavailable), strict=True)))  # fmt: skip
            truth |= (leaf is Leaf.GOOD) << i
            canaries |= (leaf is Leaf.CANARY) << i
            turned_to[i] = rng.random() < setting.put_right(leaf)
        settled = conclude(votes, setting.leaves, setting.terms).settled
        word = sum(1 << i for i, turned in turned_to.items() if turned)
        everything = (1 << setting.leaves) - 1
        right = settled.accepts & truth | settled.rejects & ~truth
        word &= ~right
        final = Vote(
            settled.accepts & ~word | word & truth,
            settled.rejects & ~word | word & ~truth & everything,
            settled.unavailable & ~word,
        )
        result = conclude(votes, setting.leaves, setting.terms, final, tokens=setting.tokens, canaries=canaries)
        total += sum(seat.paid - seat.penalty for seat in result.seats[:ring]) - cost
    return total / batches / ETHER


@pytest.mark.parametrize(("strategy", "ring"), [(HONEST, 2), (lazy(Fraction(1, 2)), 2), (ALWAYS_UNAVAILABLE, 1)])
def test_expectations_are_what_playing_comes_to(strategy: Strategy, ring: int) -> None:
    world = replace(WORLD, tokens=16_384, cheats=Fraction(1, 4), canaries=Fraction(1, 4), common=Fraction(1, 2))
    setting = replace(
        world.setting, false_accept=Fraction(1, 4), false_reject=Fraction(1, 4), appealed=Fraction(1, 2),
        canary_appealed=Fraction(1, 3),
    )  # fmt: skip
    expected = float(ring_gain(strategy, setting, ring) / ETHER)
    assert played(strategy, setting, ring, 4_000) == pytest.approx(expected, abs=2.0)


# Nodes


@pytest.mark.parametrize(
    "node",
    [node for node in nodes.NODES if node != HONEST_NODE],
    ids=lambda node: node.name,
)
def test_a_node_gains_most_by_honesty(node: Node) -> None:
    assert node_gain(WORLD, HONEST_NODE) > max(node_gain(WORLD, node), Fraction(0))


@pytest.mark.parametrize("tokens", [64, 256, 4096, 12_800])
def test_attack_cheating_only_on_long_answers(tokens: int) -> None:
    world = replace(WORLD, tokens=tokens)
    cheat = nodes.leaf_gain(world, HONEST_NODE, Leaf.CHEAT)
    assert nodes.leaf_gain(world, HONEST_NODE, Leaf.GOOD) > max(cheat, Fraction(0))


def test_an_answer_of_sixteen_tokens_must_cost_more_a_token_than_others() -> None:
    """Its verifiers have 0.01 whatever its length."""
    short = replace(WORLD, tokens=16)
    assert ahead("node", short) < 0
    assert ahead("node", replace(short, price_per_token=9 * 10**14)) > 0


def test_answers_of_more_than_28_000_tokens_cost_their_node_more_than_can_be_collected() -> None:
    for tokens, pays in ((27_500, True), (28_000, False)):
        world = replace(WORLD, tokens=tokens)
        assert world.price == SHIPPED.stake_per_leaf
        assert (nodes.leaf_gain(world, HONEST_NODE, Leaf.GOOD) > 0) is pays


def test_attack_withholding_from_one_or_two_seats_gains_nothing_since_evidence_is_passed_on() -> None:
    for withheld in (1, 2):
        for cheats in (Fraction(0), Fraction(1)):
            assert node_gain(WORLD, Node("", cheats, withheld)) == node_gain(WORLD, Node("", cheats))


def test_attack_withholding_costs_what_a_cheat_does_and_showing_the_jury_costs_its_fees() -> None:
    accepted, lost = nodes.fate(WORLD, Leaf.CHEAT, SEATS)
    assert accepted == 0
    assert lost == SHIPPED.stake_per_leaf
    shown = node_gain(WORLD, Node("", withheld=SEATS, shows_jury=True))
    assert node_gain(WORLD, Node("", withheld=SEATS)) < shown
    assert shown < node_gain(WORLD, HONEST_NODE) - 13 * ETHER
    leaf = WORLD.price - WORLD.compute - WORLD.fee
    assert shown == WORLD.leaves * leaf - WORLD.juries_paid * 7 * ETHER // 2, "four juries"


def test_attack_anchoring_only_what_is_honest_gains_nothing_even_if_no_client_claims() -> None:
    world = replace(WORLD, claimed=Fraction(0))
    selective = Node("", Fraction(1, 10), anchors_cheats=False)
    assert node_gain(world, selective) < node_gain(world, HONEST_NODE)
    assert node_gain(WORLD, selective) < node_gain(world, selective)


def test_attack_anchoring_only_what_is_claimed_brings_no_bond() -> None:
    assert ahead("node that is claimed against") > 0
    for claimed in (Fraction(0), Fraction(1, 2), Fraction(99, 100)):
        late = node_gain(replace(WORLD, claimed=claimed), nodes.LATE)
        assert late < node_gain(WORLD, HONEST_NODE)


def test_attack_letting_a_draw_expire_costs_the_fee_and_a_leafs_stake() -> None:
    waits = node_gain(WORLD, Node("", expired=1))
    assert node_gain(WORLD, HONEST_NODE) - waits == WORLD.leaves * WORLD.fee + SHIPPED.stake_per_leaf


# Appeals


def test_an_appellant_gains_by_being_right_only() -> None:
    assert juries.appellant_gain(WORLD, Leaf.CHEAT, ACCEPTED, REJECTED) > 0
    assert juries.appellant_gain(WORLD, Leaf.GOOD, REJECTED, ACCEPTED) > 0
    for leaf, settled, claim in ((Leaf.GOOD, ACCEPTED, REJECTED), (Leaf.CHEAT, REJECTED, ACCEPTED)):
        assert juries.appellant_gain(WORLD, leaf, settled, claim) < -27 * ETHER


def test_attack_calling_good_what_stays_hidden_loses_the_bond() -> None:
    (play,) = [play for play in juries.appellant_plays(WORLD) if play.strategy == "calls good what stays hidden"]
    assert play.gain == -WORLD.appeals.bond(0)
    end = juries.case(WORLD, UNAVAILABLE, ACCEPTED, (ACCEPTED,) * 7)
    assert end.returned == (WORLD.appeals.bond(0) - 7 * WORLD.appeals.fee_per_seat,)


def test_appealing_whatever_one_check_finds_bad_loses_where_bad_verdicts_are_rarer_than_false_alarms() -> None:
    setting = WORLD.setting
    limit = juries.alarm_limit(WORLD, Fraction(1, 1000))
    assert limit < setting.false_reject
    belief = juries.needed_belief(WORLD)
    assert Fraction(8, 10) < belief < Fraction(9, 10)
    right = juries.appellant_gain(WORLD, Leaf.CHEAT, ACCEPTED, REJECTED)
    wrong = juries.appellant_gain(WORLD, Leaf.GOOD, ACCEPTED, REJECTED)
    assert belief * right + (1 - belief) * wrong == 0
    assert Fraction(1, 1000) * right + Fraction(999, 1000) * limit * wrong == 0


def test_an_outvoted_seat_must_be_surer_than_a_client_and_one_that_was_shown_nothing_surer_still() -> None:
    """Two seats' fines pay the jury and leave 2 tokens; a hidden leaf leaves half a token, for a bond of 28."""
    client, seat = juries.needed_belief(WORLD), juries.needed_belief(WORLD, juries.OUTVOTED)
    blind = juries.needed_belief_of_hidden(WORLD)
    assert client < seat < blind
    assert Fraction(92, 100) < seat < Fraction(93, 100)
    assert blind > Fraction(98, 100)


def test_a_juror_gains_most_by_checking_while_appeals_are_of_both_kinds() -> None:
    for share in (Fraction(1, 10), Fraction(1, 2), Fraction(99, 100)):
        assert ahead("juror", replace(WORLD, right_appeals=share)) > 0


def test_a_juror_gains_by_saying_what_all_appeals_say_where_all_are_right_or_none_is() -> None:
    for share in (Fraction(0), Fraction(1)):
        assert ahead("juror", replace(WORLD, right_appeals=share)) < 0


def test_a_juror_had_better_abstain_from_a_leaf_whose_check_costs_more_than_the_flat_fee() -> None:
    assert ahead("juror", replace(WORLD, tokens=16_384)) > 0
    assert ahead("juror", replace(WORLD, tokens=65_536)) < 0


# Delegators, clients, examiners


def test_attack_passing_through_an_income() -> None:
    assert ahead("delegator") > 0
    hour = others.income_of_stay(Fraction(168), 1, 0, 3600)
    assert hour == 1, "an hour of seven days"


def test_attack_a_false_claim_costs_its_bond() -> None:
    pays, claims, silent = others.client_plays(WORLD)
    assert pays.gain - claims.gain == INCLUSION_BOND
    assert silent.gain == pays.gain, "the deposit pays all the same"


def test_attack_planting_canaries_for_the_reward() -> None:
    assert ahead("examiner") > 0
    everything = others.examiner_plays(WORLD)[2]
    assert everything.strategy == "plants only canaries"
    assert everything.gain < 0, "the budget is for the rate"


# Coalitions


@pytest.mark.parametrize("share", [Fraction(1, 10), Fraction(1, 5), THIRD])
def test_a_coalition_up_to_a_third_of_the_stake_loses_by_cheating_for_the_compute(share: Fraction) -> None:
    for cheated in (1, 4, 256):
        assert coalitions.gain(WORLD, Plot(share, cheated)) < 0


def test_a_coalition_gains_where_a_cheat_is_worth_more_than_fifteen_tokens_and_it_hides_it() -> None:
    """A third of the stake has two of three seats in 7 of 27 draws: 5.08 lost in 20 of these, for v - 5.08 ..."""
    safe = coalitions.safe_value(WORLD, ALONE)
    assert safe is not None
    assert 14 * ETHER < safe < 15 * ETHER
    assert coalitions.gain(WORLD, replace(ALONE, value=safe)) <= 0
    assert coalitions.gain(WORLD, replace(ALONE, value=safe * 101 // 100)) > 0


def test_redraws_by_silence_lower_what_a_whole_batch_of_cheats_that_is_seen_must_be_worth() -> None:
    plot = replace(FULL, hides=False)
    redrawn, once = (coalitions.safe_value(WORLD, replace(plot, redraws=redraws)) for redraws in (True, False))
    assert redrawn
    assert once
    assert 103 * ETHER < redrawn < 104 * ETHER < 127 * ETHER < once < 128 * ETHER
    for cheated in (1, 256):
        hidden = Plot(THIRD, cheated, value=14 * ETHER)
        assert coalitions.gain(WORLD, hidden) == coalitions.gain(WORLD, replace(hidden, redraws=False)) < 0


def test_attack_a_coalitions_own_appeals_gain_nothing() -> None:
    for share in (Fraction(1, 10), THIRD):
        for value in (0, 10 * ETHER):
            plot = Plot(share, 4, value)
            assert coalitions.gain(WORLD, plot) == coalitions.gain(WORLD, replace(plot, appeals=False)) < 0


def test_a_cheat_that_an_honest_seat_sees_must_be_worth_nine_times_as_much() -> None:
    seen = coalitions.safe_value(WORLD, replace(ALONE, hides=False))
    hidden = coalitions.safe_value(WORLD, ALONE)
    assert seen
    assert hidden
    assert seen > 9 * hidden


def test_a_cheat_that_is_appealed_once_must_be_worth_half_as_much_as_one_that_is_appealed_twice() -> None:
    once = replace(WORLD, again=Fraction(0))
    seen = replace(ALONE, hides=False)
    first, twice = coalitions.safe_value(once, seen), coalitions.safe_value(WORLD, seen)
    assert first is not None
    assert twice is not None
    assert 70 * ETHER < first < 71 * ETHER < twice - 60 * ETHER


def test_a_coalitions_expectation_is_the_formula_where_nobody_appeals() -> None:
    world = replace(WORLD, dissents=Fraction(0), appealed=Fraction(0))
    p = Fraction(7, 27)
    plot = replace(ALONE, value=10 * ETHER, redraws=False, appeals=False)
    lost = SHIPPED.stake_per_leaf + world.price - world.saved
    assert coalitions.gain(world, plot) == p * (world.saved + plot.value) - (1 - p) * lost


def test_coalitions_are_drawn_as_often_as_simulated_draws_say() -> None:
    world = replace(WORLD, pool=30)
    rng, tries = random.Random(5), 20_000
    found = [0] * 4
    for _ in range(tries):
        found[sum(seat < 10 for seat in rng.sample(range(30), 3))] += 1
    for k, chance in enumerate(world.seated(THIRD, 3)):
        assert found[k] / tries == pytest.approx(float(chance), abs=0.012)
    assert sum(world.seated(THIRD, 7, 3, 2)) == 1


def test_attack_letting_draws_expire_until_one_is_won_gains_nothing_while_seats_have_draws_made() -> None:
    assert coalitions.waiting_gain(WORLD, FULL, Fraction(1)) < 0


def test_letting_draws_expire_lowers_what_a_cheat_may_be_worth_where_no_seat_has_draws_made() -> None:
    waits = coalitions.safe_value(WORLD, FULL, coalitions.undrawn_gain)
    assert waits is not None
    assert waits < ETHER, "12.8 a draw for 256 leaves"


def test_hiding_good_leaves_gains_the_bonds_of_seats_that_appeal_what_they_were_not_shown() -> None:
    assert coalitions.bait_gain(WORLD, THIRD) == 0
    eager = replace(WORLD, blind=Fraction(1, 10))
    assert coalitions.bait_gain(eager, THIRD) == Fraction(6, 27) / 10 * (28 * ETHER - 7 * ETHER // 2)


@pytest.mark.parametrize("share", matrix.SHARES)
def test_attack_denying_that_a_whole_batch_was_shown_costs_more_than_its_juries_pay(share: Fraction) -> None:
    assert coalitions.denial_gain(WORLD, share, WORLD.leaves) < 0
    unlimited = replace(WORLD, appeals=replace(WORLD.appeals, overturned_fine=0))
    assert coalitions.denial_gain(unlimited, share, WORLD.leaves) > 0, "were all juries paid by the node"
    assert coalitions.denial_cost(unlimited, WORLD.leaves) == 896 * ETHER


def test_denying_that_four_leaves_were_shown_gains_a_part_of_their_juries_fees() -> None:
    gain_ = coalitions.denial_gain(WORLD, THIRD, WORLD.juries_paid)
    assert ETHER < gain_ < 6 * ETHER // 5
    assert coalitions.denial_cost(WORLD, WORLD.leaves) == 14 * ETHER
    assert coalitions.denial_gain(WORLD, Fraction(1, 10), WORLD.juries_paid) < ETHER // 25


# Bribes


def test_a_bribe_pays_what_a_seat_loses_and_the_juries_cost_most() -> None:
    batch, first, second = bribes.stages(WORLD)
    fee = conclude([Vote(0, 1)] * 3, 1, SHIPPED, tokens=256).seats[0].paid
    assert (batch.seats, batch.each) == (2, SHIPPED.overturned_fine + fee)
    assert (first.seats, first.each) == (4, SHIPPED.wrong_vote_penalty + ETHER // 2)
    assert (second.seats, second.direct) == (8, 8 * (second.each + 1))
    assert first.escrow == 7 * (first.each + 1)
    assert sum(stage.direct for stage in (batch, first, second)) > 250 * ETHER


def test_a_bribe_of_two_seats_for_a_whole_batch_costs_no_more_than_the_cap_where_only_clients_appeal() -> None:
    assert bribes.committee(WORLD, 256).each < SHIPPED.wrong_vote_penalty + 3 * ETHER
    assert bribes.unappealed(WORLD, 1) == 2 * SHIPPED.overturned_fine / Fraction(100)


# The whole


def test_the_matrix_says_where_honesty_is_not_the_best() -> None:
    losing = {margin.role for margin in matrix.margins(matrix.plays(WORLD)) if margin.value < 0}
    assert losing == {
        "ring of 2", "ring of 3", "examiner with a seat", "friends of a node, 33%", "denial, 33%",
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [{"tokens": 0}, {"appealed": Fraction(2)}, {"pool": 10}, {"price_per_token": -1}],
)
def test_nonsense_is_refused(values: dict[str, int | Fraction]) -> None:
    with pytest.raises(InvalidInput):
        replace(WORLD, **values)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        Plot(Fraction(1, 2), 1)
    with pytest.raises(InvalidInput):
        matrix.Study(WORLD, sweeps={"weather": [1]})
    with pytest.raises(InvalidInput):
        nodes.fate(WORLD, Leaf.GOOD, 4)
    with pytest.raises(InvalidInput):
        ring_gain(HONEST, SETTING, 4)


def test_silence_costs_what_the_settlement_says() -> None:
    assert WORLD.silence(Silence.NO_COMMIT) == SHIPPED.no_commit_penalty
    assert WORLD.silence(Silence.NO_REVEAL) == SHIPPED.no_reveal_penalty


def test_the_command_prints_and_writes_a_report(tmp_path: Path) -> None:
    figures, picture = tmp_path / "t.json", tmp_path / "t.png"
    options = ["--tokens", "16384", "--no-sweeps", "--share", "0.2", "--json", str(figures), "--plot", str(picture)]
    result = CliRunner().invoke(app, ["tournament", *options])
    assert result.exit_code == 0, result.output
    report = json.loads(figures.read_text())
    assert report["leaves"] == 4
    assert {play["role"] for play in report["plays"]} >= {"verifier", "node", "juror", "delegator", "client"}
    assert "ring of 2" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = CliRunner().invoke(app, ["tournament", "--canaries", "1.5"])
    assert refused.exit_code == 3
    assert refused.stderr.startswith("error: ")
