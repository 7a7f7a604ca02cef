"""When a verifier appeals a verdict against its own vote: the arithmetic, and that nothing is put up twice."""

import dataclasses
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_node_support import PARAMETERS, RECORD, RecordingChain, chain_batch, result_of

from trine.chain import AppealPhase, BatchState, Event, Marks, Seat, Verdict
from trine.chain.staking import UNLIMITED
from trine.errors import NotReady
from trine.protocol.verdict import MAX_STRENGTH, Outcome, Reason
from trine.protocol.verdict import Verdict as Verdict_
from trine.protocol.votes import Vote
from trine_operator.staying import ENDING_BLOCKS
from trine_verifier.dissent import (
    ALLOW,
    TOKEN,
    WITHDRAW,
    Dissenting,
    Words,
    bond_wei,
    chance_of,
    dissents,
    owed_by,
    prize_wei,
    prospect,
)
from trine_verifier.seats import Seats
from trine_verifier.store import OwnAppeal, StoredVote, VerifierStore
from trine_verifier.voting import Voting
from trine_verifier.willing import Willing

BATCH = bytes([1]) * 32
# A devnet's.
TERMS = dataclasses.replace(
    PARAMETERS,
    stake_per_leaf=5 * TOKEN,
    refund_per_leaf=2 * TOKEN,
    overturned_fine=5 * TOKEN,
    dissent_fine=TOKEN // 10,
    wrong_vote_penalty=20 * TOKEN,
    appeal_bond_per_seat=4 * TOKEN,
    appeal_fee_per_seat=TOKEN // 2,
    appeal_window_seconds=600,
)
CAP = TERMS.wrong_vote_penalty
TWO = [CAP, CAP]
WINDOW = TERMS.appeal_window_seconds


def said(outcome=Outcome.REJECT, reason=Reason.PROMPT, strength=0.0):
    return {"outcome": outcome.value, "reason": reason.value, "strength": strength}


@pytest.mark.parametrize("reason", [Reason.STRUCTURE, Reason.PROMPT, Reason.TEXT, Reason.BINDING])
def test_what_everybody_can_see_is_certain(reason):
    assert chance_of(said(reason=reason)) == 1.0


@pytest.mark.parametrize(
    "verdict",
    [
        {},
        said(Outcome.INCONCLUSIVE, Reason.BETWEEN, 2.0),
        said(Outcome.UNAVAILABLE, Reason.WITHHELD),
        said(Outcome.REJECT, Reason.FAULT),
        said(Outcome.REJECT, Reason.DEVIATION),  # of a version that stored no strength
        said(Outcome.ACCEPT, Reason.PROMPT),
    ],
)
def test_what_says_nothing_has_no_chance(verdict):
    assert chance_of(verdict) == 0.0


@given(st.floats(0.01, MAX_STRENGTH), st.floats(0.01, MAX_STRENGTH))
def test_the_farther_beyond_the_bound_the_surer_and_never_certain(one, other):
    chances = [chance_of(said(reason=Reason.DEVIATION, strength=each)) for each in sorted((one, other))]
    assert 0 <= chances[0] <= chances[1] < 1


def test_at_the_bound_a_jury_is_a_coin_and_well_beyond_it_agrees():
    assert chance_of(said(reason=Reason.MARGIN, strength=1.0)) == pytest.approx(0.49)
    assert chance_of(said(reason=Reason.MARGIN, strength=1.3)) > 0.97


def test_the_prize_is_half_of_the_fines_and_of_the_nodes_rest_less_the_jurys_fees():
    assert prize_wei(Verdict.REJECTED, TERMS, TWO) == (5 * TOKEN) + TOKEN // 2 - 7 * TOKEN // 2
    assert prize_wei(Verdict.ACCEPTED, TERMS, TWO) == 5 * TOKEN - 7 * TOKEN // 2
    assert prize_wei(Verdict.REJECTED, TERMS, [0, 0]) == 0  # the jury shares what there is


def test_an_appeal_that_is_sure_pays_and_one_that_is_not_does_not():
    sure = prospect(3, Verdict.REJECTED, said(), TERMS, TWO)
    assert (sure.leaf, sure.chance, sure.gain_wei) == (3, 1.0, 2.1 * TOKEN)
    coin = prospect(3, Verdict.REJECTED, said(reason=Reason.MARGIN, strength=1.0), TERMS, TWO)
    assert coin.gain_wei == pytest.approx(0.49 * 2.1 * TOKEN - 0.51 * 28 * TOKEN)


def test_what_appeals_have_turned_so_far_has_used_up_fines():
    batch = chain_batch(BATCH, BatchState.SETTLED, accepted=0b11111, leaf_count=5)
    votes = [Vote(0b11111, 0), Vote(0b11111, 0), Vote(0, 0b11111)]
    for turned in range(5):
        now = Words(accepted=0b11111 >> turned << turned, rejected=(1 << turned) - 1)
        left = owed_by(votes, 4, Verdict.REJECTED, batch, now, TERMS)
        assert left == [CAP - turned * TERMS.overturned_fine] * 2


def test_only_what_was_lost_against_the_opposite_is_a_dissent():
    batch = chain_batch(accepted=0b000011, rejected=0b001100, unavailable=0b010000, leaf_count=6)
    vote = Vote(0b110101, 0b001010)
    assert dissents(vote, batch) == {1: Verdict.REJECTED, 2: Verdict.ACCEPTED}


class Appealable(RecordingChain):
    """One settled batch, with who has judged it."""

    def vote(self, _batch, seat):
        return self.votes[seat]

    def appeal_case(self, batch_id, leaf):
        return self.cases.get(leaf) or super().appeal_case(batch_id, leaf)

    def appeal_credit_of(self, _account):
        return self.credit_of_appeals


@pytest.fixture
def chain():
    made = Appealable(tokens=10**21, allowed=UNLIMITED)
    made.cases, made.credit_of_appeals = {}, 0
    made.verifiers = tuple(f"0x{number:040x}" for number in range(1, 20))
    return made


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


class World:
    """Three cheats that the two others accepted."""

    def __init__(self, chain, store, willing=None):
        self.chain, self.store = chain, store
        self.dissenting = Dissenting(chain, store, chain.outbox, willing)
        self.seats = tuple(Seat(address, 1) for address in (chain.address, *chain.verifiers[:2]))
        chain.committee = tuple(seat.verifier for seat in self.seats)
        chain.votes = [Vote(0, 0b111), Vote(0b111, 0), Vote(0b111, 0)]
        self.verdicts = [said(), said(reason=Reason.MARGIN, strength=1.2), said(reason=Reason.MARGIN, strength=2.0)]
        self.batch = chain_batch(BATCH, BatchState.SETTLED, clock=chain.seconds, accepted=0b111, leaf_count=3)

    def consider(self):
        self.chain.batches[BATCH] = self.batch
        stored = StoredVote(self.chain.votes[0], 0, bytes(32), self.verdicts)
        self.dissenting.consider(self.batch, self.seats, stored, TERMS)

    def appealed(self):
        return [(arguments[2], arguments[3]) for name, *arguments in self.chain.sent if name == "appeal"]

    def mark(self, **words):
        self.batch = dataclasses.replace(self.batch, marked=True)
        self.chain.marked[BATCH] = dataclasses.replace(Marks(0, 0, 0, 0, 0, 0), **words)

    def case(self, leaf, phase, **changes):
        none = super(Appealable, self.chain).appeal_case(BATCH, leaf)
        mine = dataclasses.replace(none.levels[0], appellant=self.chain.address, claim=Verdict.REJECTED)
        changes = {"phase": phase, "level": 1, "fixed_at": self.chain.seconds, **changes}
        self.chain.cases[leaf] = dataclasses.replace(none, levels=(mine, none.levels[1]), **changes)


@pytest.fixture
def world(chain, store):
    return World(chain, store)


def test_the_surest_leaf_is_appealed_first_and_alone(world):
    world.consider()
    assert world.appealed() == [(0, int(Verdict.REJECTED))]
    (act,) = world.chain.outbox.acts
    assert act.due.at == world.batch.clock + WINDOW
    assert act.guards[0].subject == f"{BATCH.hex()}/0"
    assert world.dissenting.watches(BATCH)


def test_an_appeal_that_is_on_its_way_or_open_or_was_lost_is_not_made_again(world, store):
    """A crash between sending and seeing it must cost no second bond."""
    world.consider()
    world.chain.outbox.in_flight = frozenset(world.chain.outbox.acts[0].names)
    again = World(world.chain, store)
    again.dissenting.step()
    again.consider()
    world.chain.outbox.in_flight = frozenset()
    again.dissenting.step()
    for phase, concluded in ((AppealPhase.OPEN, 0), (AppealPhase.CONCLUDED, 1)):
        again.mark(appealed=1, concluded=concluded)
        again.case(0, phase)
        again.consider()
    assert world.appealed() == [(0, int(Verdict.REJECTED))]


def test_once_the_batch_is_reopened_the_others_follow_while_they_pay(world):
    world.mark(appealed=1, concluded=1, rejected=1)
    world.case(0, AppealPhase.CONCLUDED)
    world.chain.results[BATCH] = dataclasses.replace(result_of(world.batch), accepted=0b110, rejected=0b001)
    world.batch = dataclasses.replace(world.batch, reopened=True, clock=world.chain.seconds)
    world.consider()
    assert [leaf for leaf, _ in world.appealed()] == [2, 1]


def test_no_more_appeals_are_opened_than_there_are_fines_to_pay_them(chain, store):
    """All at once each of them looks as good as the first."""
    world = World(chain, store, Willing(at_risk_wei=10**6 * TOKEN))
    world.verdicts = [said(reason=Reason.MARGIN, strength=2.0)] * 9
    world.chain.votes = [Vote(0, 0x1FF), Vote(0x1FF, 0), Vote(0x1FF, 0)]
    world.batch = dataclasses.replace(world.batch, accepted=0x1FF, leaf_count=9, reopened=True)
    world.mark(appealed=1, concluded=1, rejected=1)
    world.chain.results[BATCH] = dataclasses.replace(result_of(world.batch), accepted=0x1FE, rejected=1)
    world.consider()
    assert len(world.appealed()) == CAP // TERMS.overturned_fine - 1


def test_what_does_not_pay_is_not_appealed(world):
    world.verdicts = [said(reason=Reason.MARGIN, strength=1.01)] * 3
    world.consider()
    world.consider()
    assert world.chain.sent == []


def test_an_operator_who_wants_none_or_has_no_tokens_appeals_nothing(chain, store):
    for willing in (Willing(appeals=False), Willing(at_risk_wei=27 * TOKEN)):
        World(chain, store, willing).consider()
    chain.tokens = bond_wei(TERMS) - 1
    World(chain, store).consider()
    assert chain.sent == []


def test_bonds_at_risk_are_bounded_over_all_batches(chain, store):
    with store.writing() as session:
        store.note_own_appeals(session, [OwnAppeal(bytes([9]) * 32, 0, 1, 28 * TOKEN)], [])
    world = World(chain, store, Willing(at_risk_wei=2 * 28 * TOKEN))
    world.batch = dataclasses.replace(world.batch, reopened=True)
    world.dissenting.step()
    world.consider()
    assert len(world.appealed()) == 1


def test_it_may_take_the_bond_first(world):
    world.chain.allowed = 0
    world.consider()
    assert [act.names for act in world.chain.outbox.acts] == [(ALLOW,)]


def test_an_appeal_that_nobody_could_judge_is_not_made(world):
    world.chain.verifiers = world.chain.verifiers[:8]
    with pytest.raises(NotReady, match="could judge"):
        world.consider()
    assert world.chain.sent == []


def test_who_calls_good_what_was_rejected_must_be_able_to_show_it_to_the_jury(world, store):
    """What the jury is not shown costs whoever called it good the bond."""
    from test_evidence import make

    world.batch = dataclasses.replace(world.batch, accepted=0, rejected=0b111)
    world.chain.votes = [Vote(0b111, 0), Vote(0, 0b111), Vote(0, 0b111)]
    world.verdicts = [said(Outcome.ACCEPT, Reason.HONEST, 3.0)] * 3
    world.consider()
    assert world.appealed() == []
    store.kept.keep_leaf(BATCH, 1, make()[0], [bytes(32)] * 8)
    world.batch = dataclasses.replace(world.batch, clock=world.batch.clock + 1)
    world.consider()
    assert world.appealed() == [(1, int(Verdict.ACCEPTED))]


def test_a_verdict_is_not_kept_by_an_appeal_of_those_who_made_it_that_they_never_have_drawn(world, chain):
    """Each leaf can be appealed once, and whoever appealed need not draw."""
    world.mark(appealed=1)
    world.case(0, AppealPhase.OPEN, clock=chain.block)
    case = chain.cases[0]
    other = dataclasses.replace(case.levels[0], appellant=chain.verifiers[0])
    chain.cases[0] = dataclasses.replace(case, levels=(other, case.levels[1]))
    chain.votes[0], world.verdicts = Vote(0, 1), world.verdicts[:1]
    world.consider()
    assert chain.sent == []  # its appellant may still
    chain.block += chain.draw_window_blocks() // 2 + 1
    world.consider()
    assert chain.names_sent() == ["draw"]


def opened(chain, appellant, block=90):
    args = {"batchId": BATCH, "leafIndex": 0, "appellant": appellant, "level": 1, "bond": 28 * TOKEN}
    return Event("0x", "AppealOpened", args, block, 0, bytes([block]) * 32)


def test_an_appeal_of_ours_is_known_from_the_chain_and_anothers_is_not_ours(chain, store):
    """Of the command line, too, and when the store is new: undrawn it would lose its bond."""
    events = [opened(chain, chain.address), opened(chain, chain.verifiers[0], 91)]
    chain.events_of = lambda _kinds, first, last: [e for e in events if first <= e.block <= last]
    Seats(chain, store, bytes(32)).read()
    assert store.own_appeals() == [OwnAppeal(BATCH, 0, 1, 28 * TOKEN)]


def test_a_vote_that_lost_is_appealed_by_the_voting_itself_and_its_batch_is_looked_at(chain, store):
    """Settled batches sleep until their time to appeal is over."""
    world = World(chain, store)
    world.chain.batches[BATCH] = world.batch
    chain.parameters = lambda _version=None: TERMS
    chain.events_of = lambda *_: []
    found = [Verdict_(Outcome.REJECT, Reason.PROMPT, 1)] * 3
    store.save_vote(BATCH, 0, Vote(0, 0b111), bytes(32), found)
    with store.writing() as session:
        store.note_seats(session, [(BATCH, 0)], [])
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    for _ in range(2):
        voting.step()
        chain.block += ENDING_BLOCKS
    assert world.appealed()[0] == (0, int(Verdict.REJECTED))
    assert (BATCH, 0) not in voting._asleep
    world.mark(appealed=1, concluded=1, rejected=1)
    world.case(0, AppealPhase.CONCLUDED)
    chain.results[BATCH] = dataclasses.replace(result_of(world.batch), accepted=0b110, rejected=0b001)
    chain.batches[BATCH] = dataclasses.replace(world.batch, reopened=True, clock=chain.seconds)
    voting.step()
    assert {leaf for leaf, _ in world.appealed()} == {0, 1, 2}
    voting.close()


def test_a_batch_that_was_reopened_meanwhile_is_finalized_by_verifiers_when_its_second_time_is_over(chain, store):
    """Its first time to appeal was over, so it was sent to be finalized, and refused, again and again."""
    world = World(chain, store)
    chain.parameters = lambda _version=None: TERMS
    chain.events_of = lambda *_: []
    store.save_vote(BATCH, 0, Vote(0b111, 0), bytes(32), [Verdict_(Outcome.ACCEPT, Reason.HONEST, 1)] * 3)
    with store.writing() as session:
        store.note_seats(session, [(BATCH, 0)], [])
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    chain.batches[BATCH] = world.batch
    for _ in range(2):
        voting.step()
        chain.block += ENDING_BLOCKS
    assert voting._asleep[BATCH, 0] == world.batch.clock + WINDOW
    world.mark(appealed=1)
    chain.batches[BATCH] = world.batch
    chain.seconds += WINDOW + 100
    voting.step()  # an appeal is open
    world.mark(appealed=1, concluded=1, rejected=1)
    chain.batches[BATCH] = dataclasses.replace(world.batch, reopened=True, clock=chain.seconds)
    for seconds in (1, WINDOW - 1):
        chain.seconds += seconds
        voting.step()
    assert "finalize" not in chain.names_sent()
    chain.seconds += 100
    voting.step()
    assert "finalize" in chain.names_sent()
    voting.close()


def test_too_late_nothing_is_put_up(world):
    world.chain.seconds += WINDOW
    world.consider()
    assert world.chain.sent == []
    assert not world.dissenting.watches(BATCH)


def test_whoever_appealed_has_the_committee_drawn_and_takes_out_what_it_won(world, chain, store):
    own = OwnAppeal(BATCH, 0, 1, 28 * TOKEN)
    with store.writing() as session:
        store.note_own_appeals(session, [own, own], [])
    world.consider()
    chain.sent.clear()
    world.case(0, AppealPhase.OPEN, clock=chain.block)
    world.dissenting.step()
    assert chain.sent == []  # its seed block is not over
    chain.block += 1
    chain.seed = False
    world.dissenting.step()
    assert chain.sent == []  # nor is its seed there
    chain.seed = True
    world.dissenting.step()
    assert chain.names_sent() == ["draw"]
    world.case(0, AppealPhase.CONCLUDED)
    chain.credit_of_appeals = 30 * TOKEN
    world.dissenting.step()
    assert store.own_appeals() == [own]
    chain.block += ENDING_BLOCKS
    world.dissenting.step()
    assert chain.outbox.acts[-1].names == (WITHDRAW,)
    assert store.own_appeals() == []
