"""What voting does with signing: it sends the settlement in its turn, and loses no deadline to anything that fails."""

import threading
from types import SimpleNamespace

import pytest
from signing_support import BATCH_ID, TERMS, VOTE, WINDOW, SeenChain, Table, committee, verifier
from test_node_support import chain_batch

from trine.chain import BatchState, Event
from trine.chain.batches import BatchCalls
from trine.errors import ChainUnreachable, NotReady, TransactionReverted
from trine.protocol import bls
from trine.protocol.signing import Do, Step, Why
from trine_verifier.signing import Settlement, Signing
from trine_verifier.store import StoredVote, VerifierStore
from trine_verifier.voting import Voting

CLOCK = 10_000 + WINDOW
STORED = StoredVote(VOTE, 0, b"s" * 32, [])
BATCH = chain_batch(BATCH_ID, BatchState.DRAWN, clock=CLOCK, committee=77)


class Acts:
    """Takes acts, or refuses them."""

    def __init__(self):
        self.names, self.acts, self.refusal = frozenset(), [], None

    def submit(self, act):
        if self.refusal and act.call.function == "settleSigned":
            raise TransactionReverted(self.refusal, reason=self.refusal)
        self.acts.append(act)

    def open_names(self):
        return self.names


class Says:
    """A signing that says what it is told."""

    def __init__(self, what):
        self.what, self.declined = what, []

    def advance(self, *_):
        if isinstance(self.what, Exception):
            raise self.what
        return self.what

    def settlement(self, *_):
        return Settlement(3, VOTE, bytes(768), bytes(128))

    def decline(self, *said):
        self.declined.append(said)


@pytest.fixture
def voting(tmp_path):
    store = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    table = Table(BATCH)
    made = Voting(SeenChain(table, verifier(0)), store, Acts(), None, bytes(32), threading.Event())
    made.table = table
    yield made
    store.close()


def waits(voting, what, stored=STORED):
    voting.signing = Says(what)
    return voting.signs(BATCH, tuple(committee(voting.table)), stored, TERMS)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(Step(Do.SHOW, stage=1), True), (Step(Do.WAIT), True), (Step(Do.VOTE, Why.BALLOT), False)],
)
def test_a_commitment_waits_until_signing_gives_up(voting, step, expected):
    assert waits(voting, step) is expected
    assert not voting.outbox.acts


def test_the_settlement_is_sent_once_with_its_deadline(voting):
    assert waits(voting, Step(Do.SEND, stage=3))
    (act,) = voting.outbox.acts
    assert act.names == (f"settle-signed {BATCH_ID.hex()}/0",)
    assert act.call.function == "settleSigned"
    assert act.call.arguments[2:5] == (3, 1, 0)
    assert act.due.at == CLOCK - WINDOW * 3 // 8
    voting._in_flight = frozenset(act.names)
    assert waits(voting, Step(Do.SEND, stage=3))
    assert len(voting.outbox.acts) == 1


def test_a_settlement_that_the_contract_refuses_is_voted_on(voting):
    voting.outbox.refusal = "BatchesVotesExist"
    assert not waits(voting, Step(Do.SEND, stage=3))
    assert voting.signing.declined == [(BATCH_ID, 0, Why.NOT_TAKEN)]


@pytest.mark.parametrize("error", [ChainUnreachable("away"), NotReady("no seed event")])
def test_what_fails_is_tried_again_while_there_is_time_and_then_voted_on(voting, error):
    with pytest.raises(type(error)):
        waits(voting, error)
    voting.table.now = CLOCK - WINDOW // 2
    assert not waits(voting, error)


def test_a_fault_of_ours_is_voted_on_at_once(voting):
    assert not waits(voting, KeyError("a bug"))
    assert not waits(voting, ValueError("another"), stored=None)


def test_without_signing_every_seat_votes(voting):
    voting.signing = None
    assert not voting.signs(BATCH, tuple(committee(voting.table)), STORED, TERMS)


def test_a_verifier_without_a_key_declines_and_says_so(voting):
    signing = Signing(voting.chain, voting.store, None)
    assert signing.advance(BATCH, committee(voting.table), STORED, TERMS) == Step(Do.VOTE, Why.NO_KEY)


def test_a_chain_that_fails_while_a_room_is_opened_leaves_none(voting):
    signing = Signing(voting.chain, voting.store, bls.SecretKey(5))
    voting.table.fails = ChainUnreachable("away")
    for _ in range(2):
        with pytest.raises(ChainUnreachable):
            signing.advance(BATCH, committee(voting.table), STORED, TERMS)


class Seeds(BatchCalls):
    """The newest events of a batch that was anchored, and redrawn once."""

    def __init__(self):
        self.shown = {"BatchAnchored": {"seedBlock": 95}, "CommitteeRedrawn": {"seedBlock": 205, "round": 1}}

    def newest_event(self, _contract, name, **_filters):
        args = self.shown.get(name)
        return Event("Batches", name, args, 1, 0, b"") if args else None

    def epoch_blocks(self):
        return 100


@pytest.mark.parametrize(("round_", "epoch"), [(0, 0), (1, 2)])
def test_the_epoch_is_that_of_the_seed_block_of_this_round(round_, epoch):
    """Another one makes the certificate worthless abroad: nobody's key was eligible then."""
    assert Seeds().draw_epoch(chain_batch(BATCH_ID, BatchState.DRAWN, round=round_)) == epoch


def test_no_other_rounds_seed_block_is_taken():
    seeds = Seeds()
    for batch in (chain_batch(BATCH_ID, BatchState.DRAWN, round=2),):
        with pytest.raises(NotReady, match="no seed block of round 2"):
            seeds.draw_epoch(batch)
    seeds.shown.clear()
    with pytest.raises(NotReady):
        seeds.draw_epoch(SimpleNamespace(batch_id=BATCH_ID, round=0))
