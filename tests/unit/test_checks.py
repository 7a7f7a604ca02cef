"""Checks beside voting: who is due first goes first, one node's dawdling is its own, one failure nobody else's."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass

import pytest
from test_node_support import PARAMETERS, RECORD, RecordingChain, ballots, chain_batch, wait_for

from trine.chain import BatchState, Event
from trine.errors import ChainUnreachable, TransactionReverted
from trine.protocol.header import Header
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_operator.apart import Apart
from trine_operator.events import ROLLBACK_BLOCKS
from trine_operator.staying import ENDING_BLOCKS
from trine_verifier.checks import THREADS, THREADS_PER_NODE, Checks, Pace, Turns, check_in_time
from trine_verifier.duties import MAX_FETCH_SECONDS, MIN_FETCH_SECONDS, Listening, listening
from trine_verifier.store import VerifierStore
from trine_verifier.voting import Voting

NODE = "0x" + "11" * 20
FIRST, SECOND = bytes([1]) * 32, bytes([2]) * 32
NOTHING, COMMITTED = 0, 1
PATIENCE = 20


def test_the_lock_goes_to_who_is_due_first():
    turns, order = Turns(), []

    def work(deadline):
        with turns.turn(deadline):
            order.append(deadline)

    with turns.turn(0):
        threads = [threading.Thread(target=work, args=(deadline,)) for deadline in (30, 10, 20)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(turns._waiting) == 3)
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [10, 20, 30]


def test_a_long_check_lets_a_more_urgent_one_go_first_and_no_other():
    turns, order = Turns(), []

    def work(deadline):
        with turns.turn(deadline):
            order.append(deadline)

    with turns.turn(20) as let_others_go_first:
        threads = [threading.Thread(target=work, args=(deadline,)) for deadline in (10, 30)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(turns._waiting) == 2)
        let_others_go_first()
        order.append(20)
        let_others_go_first()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [10, 20, 30]


@pytest.fixture
def checks():
    opened = Checks()
    yield opened
    opened.close()


def test_a_node_that_dawdles_takes_no_more_than_its_threads(checks):
    going_on, done, crowds = threading.Event(), [], []
    for number in range(THREADS + 5):
        checks.want(number, "slow", lambda crowd: (crowds.append(crowd), going_on.wait(PATIENCE)))
    checks.want("quick", "other", lambda _crowd: done.append("quick"))
    wait_for(lambda: done and len(crowds) >= THREADS_PER_NODE)  # a thread that was started may not run yet
    assert len(crowds) == THREADS_PER_NODE
    going_on.set()
    wait_for(lambda: len(crowds) == THREADS + 5)
    assert crowds[THREADS_PER_NODE] >= THREADS  # so many had to share the node's time


def test_a_check_runs_once_at_a_time_and_again_when_it_is_over(checks):
    going_on, runs = threading.Event(), []
    for _ in range(3):
        checks.want("key", "node", lambda _crowd: (runs.append(1), going_on.wait(PATIENCE)))
    going_on.set()
    wait_for(lambda: not checks._wanted)
    assert len(runs) == 1
    checks.want("key", "node", lambda _crowd: runs.append(2))
    wait_for(lambda: runs == [1, 2])


def test_a_check_that_fails_pauses_and_others_go_on(checks):
    clock = [0.0]
    checks._clock = lambda: clock[0]
    tried, others = [], []

    def fail(_crowd):
        tried.append(1)
        raise ValueError("broken")

    for _ in range(3):
        checks.want("bad", "node", fail)
        wait_for(lambda: not checks._wanted)
    checks.want("good", "node", lambda _crowd: others.append(1))
    wait_for(lambda: others)
    assert len(tried) == 1
    clock[0] = 1.1
    checks.want("bad", "node", fail)
    wait_for(lambda: len(tried) == 2)


def test_all_batches_of_a_node_are_asked_for_before_they_count_as_withheld():
    @dataclass
    class Terms:
        commit_seconds: int = 120

        def check_seconds(self, tokens):
            return tokens // 10

    clock, tokens = 1_000, 1_000
    assert listening(clock, Terms(), tokens, 770, 1) == Listening(MAX_FETCH_SECONDS, 0.0)
    assert listening(clock, Terms(), tokens, 800, 1) == Listening(10.0, 0.0)
    assert listening(clock, Terms(), tokens, 800, 9) == Listening(MIN_FETCH_SECONDS, 0.0)
    for crowd in range(1, 30):
        seconds = listening(clock, Terms(), tokens, 780, crowd).node
        assert seconds == MIN_FETCH_SECONDS or seconds * crowd / THREADS_PER_NODE <= 30 + seconds
    late = listening(clock, Terms(), tokens, 990, 1)
    assert MIN_FETCH_SECONDS <= late.node == late.others <= 10  # one short try of each


def test_others_are_asked_from_the_middle_of_the_time_that_evidence_has_and_the_node_again():
    @dataclass
    class Terms:
        commit_seconds: int = 120

        def check_seconds(self, tokens):
            return tokens // 10

    clock, tokens = 1_000, 1_000
    asked = {now: listening(clock, Terms(), tokens, now, 1) for now in range(780, 840)}
    assert {now for now, patience in asked.items() if patience.others} == set(range(810, 840))
    for now, patience in asked.items():
        left = (810 if now < 810 else 840) - now
        assert patience.node + patience.others <= max(left, 2 * MIN_FETCH_SECONDS)


def test_the_pace_is_what_this_machine_has_managed():
    clock = [0.0]
    pace = Pace(lambda: clock[0])
    assert pace.seconds(1000, 100) == 10  # nothing known: what all must manage
    for seconds in (2.0, 2.0):
        with pace.measured(1000):
            clock[0] += seconds
    assert pace.seconds(1000, 100) == pytest.approx(2)
    for _ in range(20):
        with pace.measured(1000):
            clock[0] += 4
    assert pace.seconds(1000, 100) == pytest.approx(4, rel=0.02)


def test_short_answers_tell_nothing_of_the_pace():
    clock = [0.0]
    pace = Pace(lambda: clock[0])
    for _ in range(100):
        with pace.measured(10):
            clock[0] += 5
    assert pace.seconds(1000, 100) == 10


def test_a_machine_that_was_slow_once_comes_to_try_again():
    clock = [0.0]
    pace, chain = Pace(lambda: clock[0]), RecordingChain(seconds=0)
    with pace.measured(1000):
        clock[0] += 1000
    terms = dataclasses.replace(PARAMETERS, commit_seconds=40, check_tokens_per_second=100)
    tried = [check_in_time(chain, pace, 120, terms, 1000, list) for _ in range(20)]
    assert tried[0] is None
    assert tried[-1] == []


@pytest.mark.parametrize(("now", "runs"), [(0, True), (108, True), (109, False), (130, False)])
def test_what_cannot_be_checked_in_time_is_not_begun(now, runs):
    chain = RecordingChain(seconds=now)
    terms = dataclasses.replace(PARAMETERS, commit_seconds=40, check_tokens_per_second=100)
    # Of 120 seconds two are needed for the check, and ten to send the vote.
    checked = check_in_time(chain, Pace(), 120, terms, 200, list)
    assert checked == ([] if runs else None)


def test_parts_that_fail_wait_longer_and_longer_and_no_other_part_does():
    clock, done = [0.0], []
    apart = Apart(4.0, lambda: clock[0])

    def fail():
        done.append("bad")
        raise KeyError("x")

    for clock[0] in range(12):
        apart.run("bad", fail)
        apart.run("good", lambda: done.append("good"))
    assert done.count("good") == 12
    assert [index - done[:index].count("bad") for index, what in enumerate(done) if what == "bad"] == [0, 1, 3, 7, 11]


def test_a_chain_that_is_away_ends_the_step_and_another_batch_is_tried_first_then():
    apart, tried = Apart(8.0, lambda: 0.0), []

    def away(name):
        tried.append(name)
        raise ChainUnreachable("no answer")

    for name in ("a", "b"):
        if name == "a":
            apart.run(name, lambda: away("a"))
        else:
            with pytest.raises(ChainUnreachable):
                apart.run(name, lambda: away("b"))
    apart.run("a", lambda: away("a"))
    apart.run("c", lambda: tried.append("c"))
    assert tried == ["a", "b", "c"]


def test_the_end_of_the_process_is_no_failure():
    def stopped():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Apart(8.0).run("part", stopped)


class SeatedChain(RecordingChain):
    """With a seat of ours on every batch."""

    def events_of(self, *_):
        return []

    def batch(self, batch_id):
        found = self.batches[batch_id]
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def chain():
    seated = SeatedChain()
    seated.committee = (seated.address, "0x" + "22" * 20, "0x" + "33" * 20)
    return seated


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


def drawn(chain, batch_id, *seats):
    header = Header(NODE, RECORD.model_id, bytes(32), bytes(32))
    clock = chain.seconds + 60
    return chain_batch(batch_id, BatchState.DRAWN, clock=clock, ballots=ballots(*seats), header=header)


def seated(store, duties, appeals=()):
    with store.writing() as session:
        store.note_seats(session, duties, appeals)


def voted(store, batch_id):
    found = [Verdict(Outcome.ACCEPT, Reason.HONEST, 1)]
    store.save_vote(batch_id, 0, Vote(1, 0), bytes(32), found)


@pytest.mark.parametrize("error", [ValueError("all zero"), KeyError("x"), ChainUnreachable("once"), RecursionError()])
def test_a_seat_that_fails_keeps_no_other_from_its_vote(chain, store, error):
    chain.batches = {FIRST: error, SECOND: drawn(chain, SECOND, COMMITTED, COMMITTED, COMMITTED)}
    seated(store, [(FIRST, 0), (SECOND, 0)])
    voted(store, SECOND)
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voting.step()
    assert chain.names_sent() == ["reveal"]
    voting.close()


def test_a_refused_transaction_keeps_no_other_seat_from_its_vote(chain, store):
    ready = (COMMITTED, COMMITTED, COMMITTED)
    chain.batches = {FIRST: drawn(chain, FIRST, NOTHING), SECOND: drawn(chain, SECOND, *ready)}
    chain.failures["commit"] = TransactionReverted("commit: late", reason="late")
    seated(store, [(FIRST, 0), (SECOND, 0)])
    voted(store, FIRST)
    voted(store, SECOND)
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voting.step()
    assert chain.names_sent() == ["reveal"]
    voting.close()


def test_votes_are_sent_while_a_check_is_long(chain, store):
    chain.batches = {
        FIRST: drawn(chain, FIRST, NOTHING),
        SECOND: drawn(chain, SECOND, COMMITTED, COMMITTED, COMMITTED),
    }
    seated(store, [(FIRST, 0), (SECOND, 0)])
    voted(store, SECOND)
    started, going_on, woken = threading.Event(), threading.Event(), threading.Event()

    class Slow(Voting):
        def judge(self, batch, terms, crowd):
            started.set()
            going_on.wait(PATIENCE)
            return [Verdict(Outcome.ACCEPT, Reason.HONEST, 1)]

    voting = Slow(chain, store, chain.outbox, None, RECORD.model_id, threading.Event(), woken.set)
    voting.step()
    assert started.wait(PATIENCE)
    assert chain.names_sent() == ["reveal"]
    voting.step()
    assert chain.names_sent() == ["reveal", "reveal"]
    going_on.set()
    assert woken.wait(PATIENCE)
    voting.step()
    assert chain.names_sent()[2:] == ["commit", "reveal"]
    voting.close()


def test_a_chain_that_was_rolled_back_is_read_again(chain, store):
    """From deeper than it went back: what stood there is gone, or comes again in other blocks."""
    ranges = []

    def events_of(_kinds, first, last):
        ranges.append((first, last))
        return []

    chain.events_of, chain.block = events_of, 1_000
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voting.step()
    chain.block = 950
    voting.step()
    chain.block = 951
    voting.step()
    voting.close()
    (_, grown), (again, back), (_, on) = ranges
    assert (grown, back, on) == (1_000, 950, 951)
    assert again <= 950 - 256 + 1


def test_a_server_that_is_a_few_blocks_behind_is_no_rollback(chain, store):
    ranges = []
    chain.events_of = lambda _kinds, first, last: ranges.append((first, last)) or []
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    for chain.block in (1_000, 997, 1_001):
        voting.step()
    voting.close()
    assert [last for _, last in ranges] == [1_000, 1_001]
    assert ranges[1][0] > 1_000 - ROLLBACK_BLOCKS


def test_a_batch_that_looks_older_than_its_events_keeps_its_seat(chain, store):
    """Of a server that is behind; a seat was over for good then, and its verifier was slashed for silence."""
    args = {"batchId": FIRST, "round": 0, "seats": [{"verifier": chain.address}]}
    event = Event("0x", "CommitteeDrawn", args, 90, 0, bytes(32))
    chain.events_of = lambda _kinds, first, last: [event] if first <= 90 <= last else []
    chain.batches = {FIRST: chain_batch(FIRST, BatchState.NONE)}
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voting.step()
    assert store.duties() == [(FIRST, 0)]
    chain.batches = {FIRST: drawn(chain, FIRST, COMMITTED, COMMITTED, COMMITTED)}
    voted(store, FIRST)
    voting.step()
    assert chain.names_sent() == ["reveal"]
    chain.batches = {FIRST: chain_batch(FIRST, BatchState.FINAL)}
    voting.step()
    chain.block += ENDING_BLOCKS
    voting.step()
    assert store.duties() == []
    voting.close()


def test_a_reorg_that_takes_an_end_back_finds_its_verifier_watching(chain, store):
    """A seat was forgotten when its batch was final; the block with that went, and nobody finalized it again."""
    args = {"batchId": FIRST, "round": 0, "seats": [{"verifier": chain.address}]}
    event = Event("0x", "CommitteeDrawn", args, 90, 0, bytes(32))
    chain.events_of = lambda _kinds, first, last: [event] if first <= 90 <= last else []
    chain.batches = {FIRST: drawn(chain, FIRST, COMMITTED, COMMITTED, COMMITTED)}
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voted(store, FIRST)
    for state in (BatchState.SETTLED, BatchState.FINAL, BatchState.SETTLED):
        chain.batches = {FIRST: chain_batch(FIRST, state)}
        for _ in range(ENDING_BLOCKS - 1):
            voting.step()
            chain.block += 1
    chain.batches = {FIRST: drawn(chain, FIRST, COMMITTED, COMMITTED, COMMITTED)}
    voting.step()
    assert chain.names_sent()[-1] == "reveal"
    voting.close()


def test_what_cannot_be_read_of_the_chain_keeps_no_seat_from_its_vote(chain, store):
    """An endpoint that refuses logs may well give everything else."""

    def refuse(*_):
        raise ChainUnreachable("too many requests")

    chain.events_of = refuse
    chain.batches = {SECOND: drawn(chain, SECOND, COMMITTED, COMMITTED, COMMITTED)}
    seated(store, [(SECOND, 0)])
    voted(store, SECOND)
    voting = Voting(chain, store, chain.outbox, None, RECORD.model_id, threading.Event())
    voting.step()
    assert chain.names_sent() == ["reveal"]
    voting.close()
