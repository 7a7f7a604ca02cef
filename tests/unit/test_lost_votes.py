"""A verifier whose store was lost, or is older than its votes: it says so, and never votes against itself."""

import threading

import pytest
import structlog
from test_checks import NODE, SeatedChain, drawn, seated, voted
from test_node_support import ballots, chain_batch

from trine.chain import AppealCase, AppealLevel, AppealPhase, BatchState, Seat
from trine.chain import Verdict as ChainVerdict
from trine.errors import TransactionReverted
from trine.protocol.appeals import VOTES
from trine.protocol.header import Header
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine_operator.outbox.protection import Owner, merge, vote_guard
from trine_verifier.lost import committed_as, committed_on_appeal, is_lost
from trine_verifier.store import AppealSeat, VerifierStore
from trine_verifier.voting import Voting

BATCH = bytes([1]) * 32
NOTHING, COMMITTED, ASSENT = range(3)
MODEL = chain_batch().header.model_id


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


@pytest.fixture
def voting(chain, store):
    judged = []

    class Watched(Voting):
        def judge(self, batch, terms, crowd):
            judged.append(batch.batch_id)
            return [Verdict(Outcome.ACCEPT, Reason.HONEST, 1)]

    seated(store, [(BATCH, 0)])
    made = Watched(chain, store, chain.outbox, None, MODEL, threading.Event())
    made.judged = judged
    yield made
    made.close()


def said(voting, times=3):
    with structlog.testing.capture_logs() as logs:
        for _ in range(times):
            voting.step()
    return [each for each in logs if each["event"] == "vote_lost"]


def record(chain, store, commitment):
    owner = Owner(31337, "0x" + "44" * 20, chain.address)
    guard = vote_guard(BATCH, 0, commitment)
    entry = {"kind": guard.kind, "subject": guard.subject, "value": guard.value}
    document = {"format": "trine-protection", "version": 1, "chainId": 31337, "batches": owner.batches}
    assert merge(store, owner, document | {"account": owner.account, "signed": [entry]}) == 1


@pytest.mark.parametrize(
    ("on_chain", "on_record", "stored", "lost"),
    [
        (False, None, None, False),
        (False, None, b"a", False),
        (True, None, b"a", False),
        (True, None, None, True),  # the store is lost, or older than the vote
        (True, b"a", b"a", False),
        (False, b"a", b"a", False),
        (False, b"a", None, True),  # committed, and not mined yet
        (False, b"a", b"b", True),
        (True, b"a", b"b", True),
    ],
)
def test_when_a_vote_is_lost(on_chain, on_record, stored, lost):
    assert is_lost(on_chain=on_chain, on_record=on_record, stored=stored) is lost


@pytest.mark.parametrize("others", [(NOTHING, NOTHING), (COMMITTED, COMMITTED)])
def test_a_commitment_whose_salt_is_gone_is_named_once_with_what_it_costs(chain, voting, others):
    chain.batches = {BATCH: drawn(chain, BATCH, COMMITTED, *others)}
    (loss,) = said(voting)
    assert (loss["log_level"], loss["batch"], loss["round"]) == ("error", BATCH.hex(), 0)
    assert loss["costs_tokens"] == 0  # by the parameters of this chain
    assert chain.sent == []
    assert voting.judged == []


def test_a_seat_that_the_record_knows_is_not_judged_or_committed_again(chain, store, voting):
    chain.batches = {BATCH: drawn(chain, BATCH, NOTHING, NOTHING, NOTHING)}
    record(chain, store, bytes([9]) * 32)
    assert len(said(voting)) == 1
    voted(store, BATCH)  # by an older version, say
    assert said(voting) == []
    assert chain.sent == []
    assert voting.judged == []


def test_a_vote_that_is_stored_and_on_record_goes_its_way(chain, store, voting):
    batch = drawn(chain, BATCH, NOTHING, NOTHING, NOTHING)
    chain.batches = {BATCH: batch}
    voted(store, BATCH)
    record(chain, store, committed_as(chain, batch, store.vote(BATCH, 0)))
    assert said(voting, 1) == []
    (act,) = chain.outbox.acts
    assert act.names == (f"commit {BATCH.hex()}/0",)
    assert act.due.at == batch.clock
    assert act.guards[0].value == committed_as(chain, batch, store.vote(BATCH, 0)).hex()


def test_a_vote_in_flight_is_not_submitted_again_and_the_next_duty_is(chain, store, voting):
    batch = drawn(chain, BATCH, NOTHING, NOTHING, NOTHING)
    chain.batches = {BATCH: batch}
    voted(store, BATCH)
    voting.step()
    chain.outbox.in_flight = frozenset(chain.outbox.acts[0].names)
    voting.step()
    assert chain.names_sent() == ["commit"]
    chain.batches = {BATCH: drawn(chain, BATCH, COMMITTED, COMMITTED, COMMITTED)}  # mined, not yet taken to stay
    voting.step()
    assert chain.names_sent() == ["commit", "reveal"]
    assert chain.outbox.acts[1].due.at == batch.clock + chain.parameters().reveal_seconds


def test_a_revealed_vote_is_not_lost(chain, store, voting):
    chain.batches = {BATCH: drawn(chain, BATCH, ASSENT, COMMITTED, COMMITTED)}
    record(chain, store, bytes([9]) * 32)
    assert said(voting) == []


def test_a_reveal_that_the_chain_does_not_recognize_is_said(chain, store, voting):
    chain.batches = {BATCH: drawn(chain, BATCH, COMMITTED, COMMITTED, COMMITTED)}
    voted(store, BATCH)
    reason = "BatchesCommitmentMismatch(0x01, 0x02)"
    chain.failures["reveal"] = TransactionReverted(f"reveal: {reason}", reason=reason)
    assert len(said(voting)) == 1


def test_the_same_on_an_appeal(chain, store):
    seat = AppealSeat(BATCH, 3, 1, 0)
    seated(store, [], [seat])
    header = Header(NODE, MODEL, bytes(32), bytes(32))
    chain.batches = {BATCH: chain_batch(BATCH, BatchState.SETTLED, header=header, ballots=ballots(2, 2, 2))}
    level = AppealLevel(NODE, ChainVerdict.REJECTED, ChainVerdict.NONE, 0, False, 1, 0b1, 0, 0, 0, 0)
    case = AppealCase(BATCH, 3, AppealPhase.DRAWN, 1, 1, chain.seconds + 60, ChainVerdict.ACCEPTED, (level, level))
    chain.appeal_case = lambda *_: case
    chain.appeal_seats = lambda *_: (Seat(chain.address, 1), *(Seat(f"0x{n:040x}", 1) for n in range(6)))
    voting = Voting(chain, store, chain.outbox, None, MODEL, threading.Event())
    (loss,) = said(voting)
    assert (loss["batch"], loss["leaf"], loss["level"]) == (BATCH.hex(), 3, 1)
    assert chain.sent == []
    store.save_appeal_vote(seat, VOTES[Outcome.REJECT], bytes(32), Verdict(Outcome.REJECT, Reason.HONEST, 1))
    assert said(voting) == []
    voting.close()
    assert committed_on_appeal(chain, seat, VOTES[Outcome.REJECT], bytes(32))
