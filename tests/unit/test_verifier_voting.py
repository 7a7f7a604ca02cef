"""What a seat does next, as a table; and how a verifier's findings become a vote."""

import threading

import pytest
from test_node_support import PARAMETERS, RECORD, RecordingOutbox, ballots, chain_batch

from trine.chain import AppealCase, AppealLevel, AppealPhase, BatchState, Event, Seat
from trine.chain import Verdict as Verdict_
from trine.chain.follower import Head
from trine.errors import InvalidInput, NotReady
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_verifier.appeals import next_appeal_duty
from trine_verifier.checking import claim_fault, vote_of
from trine_verifier.duties import FINALIZE_GRACE_SECONDS, Duty
from trine_verifier.evidence import Shown
from trine_verifier.store import AppealSeat, VerifierStore
from trine_verifier.voting import Voting, next_duty

ME, OTHER, THIRD = ("0x" + digit * 40 for digit in "123")
SEATS = tuple(Seat(verifier, 1) for verifier in (OTHER, ME, THIRD))
CLOCK = 5_000
REVEAL, APPEAL = PARAMETERS.reveal_seconds, PARAMETERS.appeal_window_seconds
NOTHING, COMMITTED, ASSENT, DISSENT = range(4)


def duty(*, state=BatchState.DRAWN, seats=(0, 0, 0), now=CLOCK, voted=False, me=ME, round_=0, **changes):
    batch = chain_batch(state=state, clock=CLOCK, ballots=ballots(*seats), **changes)
    return next_duty(batch, SEATS, me, round_, PARAMETERS, voted=voted, now=now)


@pytest.mark.parametrize(
    ("seats", "after", "voted", "expected"),
    [
        ((NOTHING, NOTHING, NOTHING), 0, False, Duty.CHECK),
        ((NOTHING, NOTHING, NOTHING), 0, True, Duty.COMMIT),  # killed between storing and sending
        ((COMMITTED, NOTHING, COMMITTED), 0, True, Duty.COMMIT),
        ((COMMITTED, NOTHING, COMMITTED), 1, True, Duty.WAIT),  # too late; the others reveal
        ((COMMITTED, NOTHING, COMMITTED), REVEAL + 1, True, Duty.SETTLE),
        ((ASSENT, NOTHING, DISSENT), 1, True, Duty.SETTLE),
        ((NOTHING, COMMITTED, NOTHING), 0, True, Duty.WAIT),
        ((NOTHING, COMMITTED, NOTHING), 1, True, Duty.SETTLE),  # nobody could reveal
        ((COMMITTED, COMMITTED, NOTHING), 0, True, Duty.WAIT),  # a revealed vote could still be copied
        ((COMMITTED, COMMITTED, NOTHING), 1, True, Duty.REVEAL),
        ((COMMITTED, COMMITTED, COMMITTED), -9, True, Duty.REVEAL),
        ((COMMITTED, COMMITTED, COMMITTED), REVEAL, True, Duty.REVEAL),
        ((COMMITTED, COMMITTED, COMMITTED), REVEAL + 1, True, Duty.SETTLE),
        ((COMMITTED, ASSENT, COMMITTED), 1, True, Duty.WAIT),
        ((COMMITTED, DISSENT, COMMITTED), REVEAL + 1, True, Duty.SETTLE),
        ((NOTHING, ASSENT, ASSENT), 1, True, Duty.SETTLE),
    ],
)
def test_what_a_seat_does_next(seats, after, voted, expected):
    assert duty(seats=seats, now=CLOCK + after, voted=voted) is expected


@pytest.mark.parametrize("state", [BatchState.NONE, BatchState.FINAL, BatchState.VOID])
def test_a_seat_is_over_with_its_batch(state):
    assert duty(state=state) is Duty.OVER


def test_a_seat_is_over_with_its_round_and_nobody_elses_is_taken():
    assert duty(round_=1) is Duty.OVER
    assert duty(me="0x" + "4" * 40) is Duty.OVER


@pytest.mark.parametrize(("calibration", "window"), [(False, APPEAL), (True, 0)])
def test_verifiers_finalize_one_after_another_what_its_node_has_not(calibration, window):
    for index, seat in enumerate(SEATS):
        due = CLOCK + window + FINALIZE_GRACE_SECONDS * (1 + index)
        for now, expected in ((due, Duty.WAIT), (due + 1, Duty.FINALIZE)):
            found = duty(state=BatchState.SETTLED, now=now, me=seat.verifier, is_calibration=calibration)
            assert found is expected


def test_a_batch_under_appeal_is_not_finalized():
    """The transaction was refused again and again."""
    for open_, expected in ((True, Duty.WAIT), (False, Duty.FINALIZE)):
        batch = chain_batch(state=BatchState.SETTLED, clock=CLOCK)
        now = CLOCK + 10 * APPEAL
        assert next_duty(batch, SEATS, ME, 0, PARAMETERS, voted=True, now=now, under_appeal=open_) is expected


def appeal_duty(*, phase=AppealPhase.DRAWN, committed=0, revealed=0, after=0, voted=False, level=1, round_=0, held=1):
    """Of seat 1 of 7 at level `held`, when the case has got to `level`."""
    seats = tuple(Seat("0x" + f"{number:040x}", 1) for number in range(7))
    levels = tuple(
        AppealLevel(ME, Verdict_.REJECTED, Verdict_.NONE, round_, False, 1, committed, revealed, 0, 0, 0)
        for _ in range(2)
    )
    case = AppealCase(bytes(32), 3, phase, level, 1, CLOCK, Verdict_.ACCEPTED, levels)
    seat = AppealSeat(bytes(32), 3, held, 0)
    return next_appeal_duty(case, seats, seats[1].verifier, seat, PARAMETERS, voted=voted, now=CLOCK + after)


ALL, MINE, QUORUM = 0b1111111, 0b10, 0b1111


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Duty.CHECK),
        ({"voted": True}, Duty.COMMIT),
        ({"committed": MINE}, Duty.WAIT),
        ({"committed": MINE, "after": 1}, Duty.SETTLE),  # too few to reveal
        ({"committed": QUORUM, "after": 1}, Duty.REVEAL),
        ({"committed": QUORUM, "after": REVEAL + 1}, Duty.SETTLE),
        ({"committed": ALL, "after": -5}, Duty.REVEAL),
        ({"committed": ALL, "revealed": MINE, "after": -5}, Duty.WAIT),
        ({"committed": ALL, "revealed": ALL, "after": -5}, Duty.SETTLE),
        ({"committed": ALL & ~MINE, "after": 1}, Duty.WAIT),  # too late; the others reveal
        ({"round_": 1}, Duty.OVER),  # redrawn without us
        ({"phase": AppealPhase.CONCLUDED}, Duty.OVER),
        ({"phase": AppealPhase.OPEN, "level": 2}, Duty.WAIT),  # appealed again: others judge, we are paid at the end
        ({"level": 2, "committed": 0}, Duty.WAIT),
    ],
)
def test_what_a_seat_on_an_appeal_does_next(given, expected):
    assert appeal_duty(**given) is expected


@pytest.mark.parametrize(("level", "window"), [(1, APPEAL), (2, 0)])
def test_seats_conclude_an_appeal_when_it_cannot_be_appealed_again(level, window):
    due = window + FINALIZE_GRACE_SECONDS
    given = {"phase": AppealPhase.RESOLVED, "level": level}
    assert appeal_duty(**given, after=due) is Duty.WAIT
    assert appeal_duty(**given, after=due + 1) is Duty.FINALIZE


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


class LateChain:
    """One batch with its seed in block 100, of a window of 20 blocks."""

    address = "0x" + "22" * 20

    class deployment:  # noqa: N801
        block = 0

        @staticmethod
        def address(_name):
            return "0x" + "44" * 20

    endpoint_changes = 0

    seed: bool | Exception = True
    """Whether there is one to draw by."""

    def __init__(self, block, state=BatchState.ANCHORED):
        self.block, self.state, self.drawn = block, state, []

    def head(self):
        return Head(self.block, 1_000)

    def confirmed_block(self):
        return self.block

    def contracts_block_number(self):
        return self.block

    def draw_window_blocks(self):
        return 20

    def events_of(self, _kinds, first, last):
        args = {"batchId": bytes([1]) * 32, "seedBlock": 100, "modelId": RECORD.model_id}
        return [Event("batches", "BatchAnchored", args, 99, 0, bytes(32))] if first <= 99 <= last else []

    def batch(self, batch_id):
        return chain_batch(batch_id, self.state, clock=100)

    def fixed_at(self, _batch_id):
        return 900

    def with_seed(self, call, seed_block, fixed_at):
        assert (seed_block, fixed_at) == (100, 900)
        if isinstance(self.seed, Exception):
            raise self.seed
        return call if self.seed else None

    def _send(self, name, *_arguments):
        assert name == "draw"
        self.drawn.append(name)


@pytest.mark.parametrize(
    ("block", "state", "draws"),
    [
        (110, BatchState.ANCHORED, 0),  # its node may still
        (111, BatchState.ANCHORED, 1),
        (120, BatchState.ANCHORED, 1),
        (121, BatchState.ANCHORED, 0),  # expired
        (111, BatchState.DRAWN, 0),
    ],
)
def test_verifiers_draw_what_a_node_lets_expire(store, block, state, draws):
    chain = LateChain(block, state)
    voting = Voting(chain, store, RecordingOutbox(chain), None, RECORD.model_id, threading.Event())
    voting.seats.read()
    voting.seats.draw_late(voting._draw)
    assert len(chain.drawn) == draws


@pytest.mark.parametrize("seed", [False, NotReady("no endpoint answers")])
def test_a_verifier_draws_later_what_has_no_seed_yet(store, seed):
    chain = LateChain(111)
    chain.seed = seed
    voting = Voting(chain, store, RecordingOutbox(chain), None, RECORD.model_id, threading.Event())
    voting.seats.read()
    voting.seats.draw_late(voting._draw)
    assert not chain.drawn
    chain.seed = True
    voting.seats.draw_late(voting._draw)
    assert chain.drawn == ["draw"]


def test_a_vote_says_what_was_found_on_each_leaf():
    outcomes = (Outcome.ACCEPT, Outcome.REJECT, Outcome.INCONCLUSIVE, Outcome.ACCEPT)
    assert vote_of([Verdict(outcome, Reason.HONEST, 1) for outcome in outcomes]) == Vote(0b1001, 0b0010)


def test_a_calibration_may_claim_no_more_tokens_than_its_answers_have(evidence_of):
    shown = Shown([bytes(32)] * 3, [evidence_of(5), InvalidInput("unreadable"), evidence_of(7)])
    assert claim_fault(shown, 12) is None
    assert claim_fault(shown, 3) is None
    assert "12 tokens, not 13" in claim_fault(shown, 13)


@pytest.fixture
def evidence_of():
    from test_evidence import make

    def with_tokens(count):
        import dataclasses

        evidence, _leaf, _anchor = make()
        return dataclasses.replace(evidence, output_ids=(1,) * count)

    return with_tokens
