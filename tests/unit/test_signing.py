"""How seats sign: what a statement proves, and what a seat does whatever the others do."""

import dataclasses
import json

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from trine.errors import BadSignature, InvalidInput, VerificationFailed
from trine.protocol import bls
from trine.protocol.certificate import result_digest
from trine.protocol.messages import Domain
from trine.protocol.signing import (
    FALL_BACK_SHARE,
    GRACE_SHARE,
    MINED_SHARE,
    Do,
    OwnVote,
    Peer,
    Seating,
    Stage,
    Statement,
    View,
    Why,
    may_tell,
    next_step,
    state,
)
from trine.protocol.votes import Vote

ACCOUNTS = [Account.from_key(bytes([1]) * 31 + bytes([number])) for number in range(1, 4)]
SECRETS = [bls.SecretKey(0x51 + number) for number in range(3)]
ME, OTHER, THIRD = (account.address for account in ACCOUNTS)
SEATING = Seating(
    Domain(31_337, "0x" + "ba" * 20),
    bytes([7]) * 32,
    1,
    5,
    4,
    (ME, OTHER, THIRD),
    tuple(bls.key_hash(secret.public_key()) for secret in SECRETS),
)
VOTE = Vote(0b0111, 0b1000)
OWN = OwnVote(VOTE, 12, b"s" * 32)
WINDOW, CLOCK = 120, 10_000


def signed_by(seat):
    return lambda digest: bytes(ACCOUNTS[seat].unsafe_sign_hash(digest).signature)


def said(seat, stage, own=OWN, seating=SEATING):
    return state(seating, ACCOUNTS[seat].address, own, stage, signed_by(seat), SECRETS[seat])


# What a statement proves


@pytest.mark.parametrize("stage", list(Stage))
def test_a_statement_is_read_back_and_holds(stage):
    statement = said(0, stage)
    again = Statement.from_json(json.loads(json.dumps(statement.to_json())))
    assert again == statement
    again.verify(SEATING)
    assert len(json.dumps(again.to_json())) < 2_000


def test_what_is_signed_is_what_the_contract_checks():
    statement = said(0, Stage.SIGNED)
    digest = result_digest(31_337, "0x" + "ba" * 20, 5, SEATING.batch_id, VOTE.accepts, VOTE.rejects)
    assert bls.verify([SECRETS[0].public_key()], digest, statement.result_signature)


CHANGES = {
    "another batch": {"batch_id": bytes([8]) * 32},
    "another round": {"round": 2},
    "another chain": {"domain": Domain(1, "0x" + "ba" * 20)},
    "another contract": {"domain": Domain(31_337, "0x" + "bb" * 20)},
}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("change", CHANGES)
def test_a_statement_is_worthless_elsewhere(stage, change):
    with pytest.raises(BadSignature):
        said(0, stage).verify(dataclasses.replace(SEATING, **CHANGES[change]))


def test_a_signature_of_another_epoch_is_refused():
    """Whoever reads the certificate elsewhere looks its keys up in the epoch that it names."""
    with pytest.raises(VerificationFailed, match="has not signed"):
        said(0, Stage.SIGNED, seating=dataclasses.replace(SEATING, epoch=6)).verify(SEATING)


def test_nobody_speaks_for_another_and_no_stranger_speaks():
    forged = dataclasses.replace(said(0, Stage.COMMITTED), verifier=OTHER)
    with pytest.raises(BadSignature):
        forged.verify(SEATING)
    with pytest.raises(VerificationFailed, match="has no seat"):
        said(0, Stage.COMMITTED).verify(dataclasses.replace(SEATING, verifiers=(OTHER, THIRD, "0x" + "aa" * 20)))


def resigned(statement):
    """A seat's own lie: signed by its account all the same."""
    return dataclasses.replace(statement, signature=signed_by(0)(statement.digest(SEATING)))


LIES = {
    "another vote than committed": ({"vote": Vote(0b1111, 0)}, "another vote"),
    "another salt": ({"salt": b"t" * 32}, "another vote"),
    "another distance": ({"distance_ppm": 13}, "another vote"),
    "another's key": ({"key": SECRETS[1].public_key()}, "another BLS key"),
    "another's signature": ({"result_signature": SECRETS[1].sign(b"x")}, "has not signed"),
    "no point": ({"result_signature": b"\x01" * bls.SIGNATURE_BYTES}, "has not signed"),
    "the point at infinity": ({"result_signature": bytes(bls.SIGNATURE_BYTES)}, "has not signed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_although_its_seat_has_signed_it(lie):
    change, why = LIES[lie]
    with pytest.raises(VerificationFailed, match=why):
        resigned(dataclasses.replace(said(0, Stage.SIGNED), **change)).verify(SEATING)


def test_votes_beyond_the_batch_and_unavailable_leaves_are_not_signed():
    beyond = said(0, Stage.OPENED, OwnVote(Vote(1 << 4, 0), 0, b"s" * 32))
    with pytest.raises(VerificationFailed, match="leaves that the batch has not"):
        beyond.verify(SEATING)
    with pytest.raises(InvalidInput):
        said(0, Stage.SIGNED, OwnVote(Vote(1, 0, 2), 0, b"s" * 32))


def test_a_seat_that_commits_twice_is_found_and_stages_only_rise():
    other = said(0, Stage.COMMITTED, OwnVote(VOTE, 12, b"t" * 32))
    with pytest.raises(VerificationFailed, match="two votes"):
        other.after(said(0, Stage.OPENED))
    opened = said(0, Stage.OPENED)
    assert said(0, Stage.COMMITTED).after(opened) is opened


DOCUMENT = said(0, Stage.SIGNED).to_json()
MALFORMED = [
    None, [], "x", {}, {**DOCUMENT, "more": 1}, {k: v for k, v in DOCUMENT.items() if k != "salt"},
    {**DOCUMENT, "stage": 0}, {**DOCUMENT, "stage": True}, {**DOCUMENT, "stage": "3"}, {**DOCUMENT, "stage": 4},
    {**DOCUMENT, "distancePpm": -1}, {**DOCUMENT, "distancePpm": 1 << 32}, {**DOCUMENT, "distancePpm": 1.0},
    {**DOCUMENT, "accepts": "0x" + "f" * 65}, {**DOCUMENT, "accepts": 7}, {**DOCUMENT, "verifier": "0x12"},
    {**DOCUMENT, "key": "0x"}, {**DOCUMENT, "key": DOCUMENT["key"] + "00"}, {**DOCUMENT, "signature": "0x00"},
    {**DOCUMENT, "commitment": "0x" + "0" * 64}, {**DOCUMENT, "salt": None}, {**DOCUMENT, "stage": 1},
    {**DOCUMENT, "signature": DOCUMENT["signature"] + "\n"}, {**DOCUMENT, "stage": 2},
]  # fmt: skip


@pytest.mark.parametrize("document", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_statement_is_a_clear_error(document):
    with pytest.raises(InvalidInput):
        Statement.from_json(document)


def test_each_seat_has_one_turn_and_turns_go_round_with_the_batch():
    for number in range(6):
        seating = dataclasses.replace(SEATING, batch_id=number.to_bytes(32, "big"))
        assert sorted(seating.turn_of(each) for each in seating.verifiers) == [0, 1, 2]
    first = {dataclasses.replace(SEATING, batch_id=n.to_bytes(32, "big")).turn_of(ME) for n in range(3)}
    assert first == {0, 1, 2}


# What a seat does


def bare(stage, vote=VOTE):
    """A statement that nobody has signed: what decides does not look at signatures."""
    own = OwnVote(vote, 0, b"p" * 32)
    commitment = SEATING.commitment_of(OTHER, own.vote, 0, own.salt)
    key = (bytes(bls.KEY_BYTES), bytes(bls.SIGNATURE_BYTES)) if stage is Stage.SIGNED else (b"", b"")
    opened = (vote, 0, own.salt) if stage >= Stage.OPENED else (Vote(0, 0), 0, bytes(32))
    return Statement(OTHER, stage, commitment, *opened, *key)


def view(left=WINDOW, *, ballot=False, complete_since=None):
    return View(CLOCK - left, CLOCK, WINDOW, ballot, complete_since)


def peers(first, second, told=0, **changes):
    return [Peer(each and bare(each), told, **changes) for each in (first, second)]


DISSENT, UNSHOWN = Vote(0b1111, 0), Vote(0b0110, 0b1000, 0b0001)
C, O, S = Stage  # noqa: E741
LATE = round(WINDOW * FALL_BACK_SHARE)
DUE = round(WINDOW * MINED_SHARE)

TABLE = [
    ("nothing is known of the others", peers(None, None), view(), Do.SHOW, C),
    ("one has committed", peers(C, None), view(), Do.SHOW, C),
    ("all have committed", peers(C, C, 1), view(), Do.SHOW, O),
    ("one has opened", peers(O, C, 2), view(), Do.SHOW, O),
    ("all have opened", peers(O, O, 2), view(), Do.SHOW, S),
    ("one has signed", peers(S, O, 3), view(), Do.SHOW, S),
    ("a ballot is on the chain", peers(S, S, 3), view(ballot=True, complete_since=1), Do.VOTE, Why.BALLOT),
    ("there is still time", peers(C, C, 2), view(LATE + 1), Do.SHOW, O),
    ("no time is left", peers(C, C, 2), view(LATE), Do.VOTE, Why.OUT_OF_TIME),
    ("no time is left, one has signed", peers(S, O, 3), view(LATE), Do.VOTE, Why.OUT_OF_TIME),
    ("it is not mined yet", peers(S, S, 3), view(DUE + 1, complete_since=0), Do.SEND, S),
    ("it is not mined in time", peers(S, S, 3), view(DUE, complete_since=0), Do.VOTE, Why.NOT_MINED),
    ("another votes", [Peer(bare(C)), Peer(refuses=Why.REFUSED)], view(), Do.VOTE, Why.REFUSED),
    ("another contradicts itself", [Peer(bare(C)), Peer(refuses=Why.SPOILT)], view(), Do.VOTE, Why.SPOILT),
    ("another votes otherwise", [Peer(bare(O, DISSENT)), Peer(bare(C))], view(), Do.VOTE, Why.DIFFER),
    ("another was not shown a leaf", [Peer(bare(O, UNSHOWN)), Peer(bare(C))], view(), Do.VOTE, Why.UNAVAILABLE),
]  # fmt: skip


@pytest.mark.parametrize(("others", "seen", "do", "what"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_a_seat_does_next(others, seen, do, what):
    step = next_step(OWN, others, seen, turn=0)
    assert step.do is do
    assert (step.why if do is Do.VOTE else step.stage) is what


def test_seats_send_one_after_another():
    for turn in range(3):
        due = turn * GRACE_SHARE * WINDOW
        done = view(WINDOW - 30, complete_since=CLOCK - WINDOW + 30 - round(due))
        assert next_step(OWN, peers(S, S, 3), done, turn).do is Do.SEND
        if turn:
            early = dataclasses.replace(done, complete_since=done.complete_since + 1)
            assert next_step(OWN, peers(S, S, 3), early, turn).do is Do.WAIT


@pytest.mark.parametrize("hindrance", [Why.CALIBRATION, Why.NO_KEY, Why.PEER_WITHOUT_KEY, Why.MISTRUSTED])
def test_what_cannot_be_signed_is_voted_on_at_once(hindrance):
    step = next_step(OWN, peers(None, None), view(), 0, hindrance)
    assert (step.do, step.why) == (Do.VOTE, hindrance)
    assert (
        next_step(None, peers(None, None), view(), 0, hindrance).why is hindrance
    )  # others need not wait for the vote


def test_an_own_leaf_that_was_not_shown_is_not_signed():
    own = OwnVote(UNSHOWN, 0, b"s" * 32)
    assert next_step(own, peers(None, None), view(), 0).why is Why.UNAVAILABLE
    assert may_tell(own, [Peer(bare(O, UNSHOWN))] * 2) == Stage.OPENED


def test_without_a_vote_nothing_is_told():
    assert next_step(None, peers(S, S), view(), 0).stage == 0


votes = st.sampled_from([VOTE, VOTE, VOTE, DISSENT, UNSHOWN])
statements = st.none() | st.builds(bare, st.sampled_from(list(Stage)), votes)
anybody = st.builds(Peer, statements, st.integers(0, 3), st.sampled_from([None, None, None, Why.REFUSED, Why.SPOILT]))
anytime = st.builds(
    View,
    st.integers(CLOCK - 2 * WINDOW, CLOCK + WINDOW),
    st.just(CLOCK),
    st.just(WINDOW),
    st.booleans(),
    st.none() | st.integers(CLOCK - 2 * WINDOW, CLOCK),
)


@given(st.none() | st.builds(OwnVote, votes, st.just(0), st.just(b"s" * 32)), st.tuples(anybody, anybody), anytime)
@settings(max_examples=1_000, deadline=None)
def test_no_seat_tells_too_much_or_waits_too_long(own, others, seen):
    step = next_step(own, others, seen, turn=0)
    told = [each.statement for each in others if each.statement]
    if step.stage >= Stage.OPENED:
        assert own
        assert len(told) == 2  # commitments of all
    if step.stage == Stage.SIGNED:
        assert all(each.stage >= Stage.OPENED and each.vote == own.vote for each in told)
        assert not own.vote.unavailable
    if step.do is Do.SEND:
        assert all(each.stage is Stage.SIGNED for each in told)
        assert len(told) == 2
        assert not seen.has_ballot
    if own and (seen.now >= CLOCK - DUE or seen.has_ballot):
        assert step.do is Do.VOTE
    if step.do is Do.VOTE:
        assert step.why
        assert step.stage == 0


moves = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2]), st.integers(0, 9), st.booleans()), min_size=5, max_size=60
)


@given(moves, st.lists(votes, min_size=3, max_size=3), st.sets(st.integers(0, 2)))
@settings(max_examples=150, deadline=None)
def test_in_any_interleaving_no_seat_signs_a_copy_and_none_misses_its_deadline(schedule, found, silent):
    """Three seats that follow the rules; messages are lost, time passes, some fall silent for good."""
    now = CLOCK - WINDOW
    owns = [OwnVote(vote, 0, bytes([n]) * 32) for n, vote in enumerate(found)]
    stages, known = [0, 0, 0], [[Peer(), Peer()] for _ in range(3)]
    committed_on_chain, settled = [False] * 3, False

    def look(seat):
        nonlocal settled
        if settled or committed_on_chain[seat] or seat in silent:
            return
        complete = stages[seat] == Stage.SIGNED and all(each.stage == Stage.SIGNED for each in known[seat])
        seen = View(now, CLOCK, WINDOW, any(committed_on_chain), now if complete else None)
        step = next_step(owns[seat], known[seat], seen, turn=0)
        if step.do is Do.VOTE:
            committed_on_chain[seat] = True
        elif step.stage > stages[seat]:
            if step.stage >= Stage.OPENED:
                assert all(each.statement for each in known[seat])
            if step.stage == Stage.SIGNED:
                assert all(vote == found[seat] for vote in found)
            stages[seat] = step.stage
        if step.do is Do.SEND:
            assert len(set(found)) == 1
            settled = True

    for sender, receiver, seconds, arrives in schedule:
        now += seconds
        for seat in range(3):
            look(seat)
        if arrives and sender != receiver and stages[sender] and sender not in silent:
            place = [seat for seat in range(3) if seat != receiver].index(sender)
            known[receiver][place] = Peer(bare(Stage(stages[sender]), found[sender]), 3)
        for seat in range(3):
            look(seat)
    now = max(now, CLOCK - DUE)  # blocks go on
    for seat in range(3):
        look(seat)
    for seat in range(3):
        assert settled or committed_on_chain[seat] or seat in silent
