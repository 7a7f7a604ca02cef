"""Three verifiers exchange statements over HTTP: what comes of it when all are honest, and when one is not."""

import dataclasses
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from fastapi.testclient import TestClient
from signing_support import (
    BATCH_ID,
    TERMS,
    VOTE,
    WINDOW,
    Seats,
    SeenChain,
    all_send_or_wait_signed,
    committee,
    everybody_votes,
    verifier,
)

from trine.chain import BatchState
from trine.errors import ChainError
from trine.protocol import bls
from trine.protocol.certificate import result_digest
from trine.protocol.signing import Do, OwnVote, Seating, Stage, Why, state
from trine.protocol.votes import Vote
from trine_operator.outbox.protection import promise, recorded, vote_guard
from trine_operator.service.frame import create_frame
from trine_verifier.metrics import create_metrics_router
from trine_verifier.signing import Signing
from trine_verifier.trust import FIRST_SECONDS, MOST_TIMES, NEVER, Debt, MistrustRow, mistrusted_until


@pytest.fixture
def seats(tmp_path):
    with Seats(tmp_path) as three:
        yield three


def url(member, round_=0, batch=BATCH_ID):
    return f"http://127.0.0.1:{member.port}/v1/seats/0x{batch.hex()}/{round_}"


def seating(seats, **changes):
    return dataclasses.replace(next(iter(seats.members[0].signing._rooms.values())).seating, **changes)


def test_three_honest_seats_sign_and_one_sends(seats):
    for member in seats.members:
        member.find()
    steps = seats.run_until(all_send_or_wait_signed(seats))
    first = seats.turns[0]
    steps = seats.run_until(lambda steps: steps[first.number].do is Do.SEND)
    assert {n for n, step in steps.items() if step.do is Do.SEND} == {first.number}
    made = [member.signing.settlement(BATCH_ID, 0) for member in seats.members]
    assert made[0] == made[1] == made[2]
    digest = result_digest(31_337, "0x" + "44" * 20, 3, BATCH_ID, 1, 0)
    keys = [made[0].keys[at : at + bls.KEY_BYTES] for at in range(0, 3 * bls.KEY_BYTES, bls.KEY_BYTES)]
    assert keys == [member.secret.public_key() for member in seats.members]
    assert bls.verify(keys, digest, made[0].signature)
    assert not any(member.signing.failed for member in seats.members)


def test_the_next_seat_sends_when_the_first_does_not(seats):
    for member in seats.members:
        member.find()
    seats.run_until(all_send_or_wait_signed(seats))
    seats.turns[0].stop()
    others = seats.turns[1:]
    assert all(member.step().do is Do.WAIT for member in others)
    seats.table.now += WINDOW // 16 + 1
    assert [member.step().do for member in others] == [Do.SEND, Do.WAIT]


def test_a_seat_that_finds_its_vote_late_is_waited_for(seats):
    first, second, third = seats.members
    for member in (first, second):
        member.find()
    for _ in range(10):
        assert {member.step().do for member in seats.members} <= {Do.SHOW, Do.WAIT}
        time.sleep(0.02)
    assert all(room.mine is None or room.mine.stage is Stage.COMMITTED for room in rooms(seats))
    third.find()
    seats.run_until(all_send_or_wait_signed(seats))


def rooms(seats):
    return [room for member in seats.members for room in member.signing._rooms.values()]


def test_the_promise_is_on_record_before_anything_is_said(seats):
    member = seats.members[0]
    member.find()
    member.step()
    guard = vote_guard(BATCH_ID, 0, b"")
    (room,) = member.signing._rooms.values()
    assert recorded(member.store, guard.kind, guard.subject) == room.mine.commitment.hex()


def test_nothing_is_said_against_the_record(seats):
    """Of another copy, or a store that is a backup: a seat never commits to two votes, off the chain neither."""
    member = seats.members[0]
    with member.store.writing() as session:
        promise(session, [vote_guard(BATCH_ID, 0, b"\x01" * 32)])
    member.find()
    with pytest.raises(Exception, match="signs nothing else"):
        member.step()
    assert rooms(seats)[0].mine is None


def test_a_process_that_lost_its_store_says_nothing(seats, tmp_path):
    member = seats.members[0]

    def fence(_session):
        raise ChainError("another process has taken this store over")

    signing = Signing(SeenChain(seats.table, member.account), member.store, member.secret, fence)
    member.find()
    with pytest.raises(ChainError):
        signing.advance(seats.table.batch, committee(seats.table), member.stored, TERMS)
    assert next(iter(signing._rooms.values())).mine is None


@pytest.mark.parametrize(
    ("vote", "why"),
    [(Vote(0, 1), Why.DIFFER), (Vote(0, 0), Why.DIFFER), (Vote(0, 0, 1), Why.UNAVAILABLE)],
    ids=["rejects", "cannot tell", "was shown nothing"],
)
def test_dissent_is_voted_on_at_the_chain(seats, vote, why):
    for member in seats.members[:2]:
        member.find()
    seats.members[2].find(vote)
    steps = seats.run_until(everybody_votes)
    assert why in {step.why for step in steps.values()}
    assert all(room.mine is None or room.mine.stage < Stage.SIGNED for room in rooms(seats))


def test_a_ballot_on_the_chain_ends_it_for_everybody(seats):
    for member in seats.members:
        member.find()
    seats.table.batch = dataclasses.replace(seats.table.batch, ballots=1)
    assert {step.why for step in (member.step() for member in seats.members)} == {Why.BALLOT}
    seats.table.batch = dataclasses.replace(seats.table.batch, ballots=0)  # as a lagging endpoint may show it
    assert all(member.step().do is Do.VOTE for member in seats.members)


def test_a_calibration_is_voted_on(tmp_path):
    with Seats(tmp_path, is_calibration=True) as seats:
        seats.members[0].find()
        assert seats.members[0].step().why is Why.CALIBRATION


def test_without_a_key_everybody_votes_at_once(seats):
    silent = seats.members[2]
    seats.table.keys[silent.address] = None
    for member in seats.members:
        member.find()
    assert [member.step().why for member in seats.members] == [
        Why.PEER_WITHOUT_KEY,
        Why.PEER_WITHOUT_KEY,
        Why.NO_KEY,
    ]


def test_a_key_that_was_rotated_signs_nothing(seats):
    rotated = seats.members[0]
    seats.table.keys[rotated.address] = bytes([1]) * 32
    for member in seats.members:
        member.find()
    assert rotated.step().why is Why.NO_KEY
    steps = seats.run_until(everybody_votes)
    assert steps[1].why in (Why.REFUSED, Why.PEER_WITHOUT_KEY)


def test_a_seat_that_declines_tells_the_others_at_once(seats):
    for member in seats.members[:2]:
        member.find()
    seats.members[2].signing.decline(BATCH_ID, 0, Why.MISTRUSTED)
    seats.run_until(everybody_votes, seats.members[:2])
    assert all(room.declined is Why.REFUSED for room in rooms(seats)[:2])


@pytest.mark.parametrize("stage", [0, *Stage], ids=["nothing", "commitment", "vote", "signature"])
def test_a_seat_that_falls_silent_costs_no_deadline_and_a_crash_forgets_nothing(seats, stage):
    """Silent after its statement of `stage`; after a restart, in time, it goes on where it was."""
    first, second, third = seats.members
    for member in (first, second):
        member.find()
        member.step()
    if stage:
        third.find()
        third.step()
        others = seating(seats)
        for each in range(1, stage + 1):
            own = OwnVote(third.stored.vote, 0, third.stored.salt)
            said = state(others, third.address, own, Stage(each), third.signing.chain.sign, third.secret)
            # What the others let it know meanwhile, it has forgotten.
            for member in (first, second):
                httpx2.post(url(member), json=said.to_json())
    third.stop()
    for _ in range(5):
        assert all(member.step().do is not Do.VOTE for member in (first, second))
        time.sleep(0.05)
    third.start()
    third.find()
    seats.run_until(all_send_or_wait_signed(seats))
    third.stop()
    seats.table.now = seats.table.batch.clock - WINDOW * 3 // 8
    assert {step.why for step in (first.step(), second.step())} == {Why.NOT_MINED}


@pytest.mark.parametrize("stage", [0, 1, 2], ids=["nothing", "commitment", "vote"])
def test_the_others_vote_in_time_when_it_stays_silent(seats, stage):
    first, second, third = seats.members
    for member in (first, second):
        member.find()
        member.step()
    own = OwnVote(VOTE, 0, b"3" * 32)
    for each in range(1, stage + 1):
        said = state(seating(seats), third.address, own, Stage(each), third.signing.chain.sign, third.secret)
        for member in (first, second):
            httpx2.post(url(member), json=said.to_json())
    third.stop()
    seats.table.now = seats.table.batch.clock - WINDOW // 2 - 1
    assert all(member.step().do is not Do.VOTE for member in (first, second))
    seats.table.now += 1
    assert {member.step().why for member in (first, second)} == {Why.OUT_OF_TIME}


def test_a_second_committee_after_a_re_org_hears_nothing_of_the_first(seats):
    for member in seats.members:
        member.find()
    seats.run_until(all_send_or_wait_signed(seats))
    seats.table.batch = dataclasses.replace(seats.table.batch, committee=78)
    member = seats.members[0]
    member.step()
    (room,) = member.signing._rooms.values()
    assert room.committee == 78


# Who is not honest


def lazy(seats):
    """Seat 2 as somebody who looks before it votes. It commits to anything, and says so to the others."""
    third = seats.members[2]
    third.exchange.stop()
    own = OwnVote(Vote(0, 0), 0, b"?" * 32)
    for member in seats.members[:2]:
        member.find()
        member.step()
    return own, state(seating(seats), third.address, own, Stage.COMMITTED, third.signing.chain.sign)


def peek(seats, said):
    """Posts its commitment until it is shown an honest vote."""
    shown = []

    def looks(_steps):
        for member in seats.members[:2]:
            answer = httpx2.post(url(member), json=said.to_json())
            if answer.status_code == 200 and answer.json()["stage"] == Stage.OPENED:
                shown.append(answer.json())
        return bool(shown)

    seats.run_until(looks, seats.members[:2])
    return Vote.from_words(int(shown[0]["accepts"], 16), int(shown[0]["rejects"], 16))


def test_a_seat_that_looks_and_copies_has_one_free_ride_and_then_votes_blind(seats, tmp_path):
    """It commits to garbage off the chain, is shown a vote for it, and commits a copy of that on the chain."""
    first, second, third = seats.members
    _garbage, said = lazy(seats)
    copied = peek(seats, said)
    assert copied == VOTE  # the ride
    own = OwnVote(copied, 0, b"c" * 32)
    with_copy = state(seating(seats), third.address, own, Stage.SIGNED, third.signing.chain.sign, third.secret)
    answer = httpx2.post(url(first), json=with_copy.to_json())
    assert answer.json()["error"]["code"] == "bad_statement"  # nobody signs with a copy
    assert "two votes" in answer.json()["error"]["message"]
    seats.run_until(everybody_votes, [first])
    commitment = seating(seats).commitment_of(third.address, copied, 0, own.salt)
    seats.table.committed.append((third.address, commitment))
    settled = dataclasses.replace(seats.table.batch, state=BatchState.SETTLED)
    shown_by = [member for member in (first, second) if third.address in owed_to(member)]
    for member in shown_by:
        member.signing.conclude(settled, 0)
        assert member.signing._trust.mistrusts([third.address], seats.table.now) == [third.address]
    # The next batch, and with a restart in between: nothing is shown to it any more.
    again = shown_by[0]
    again.stop()
    again.start()
    seats.table.batch = dataclasses.replace(seats.table.batch, batch_id=bytes([0xBB]) * 32)
    assert again.step().why is Why.MISTRUSTED
    # For a day.
    seats.table.now += FIRST_SECONDS
    seats.table.batch = dataclasses.replace(
        seats.table.batch, batch_id=bytes([0xBC]) * 32, clock=seats.table.now + WINDOW
    )
    assert again.step().do is not Do.VOTE


def test_who_has_lost_the_seat_by_a_reorg_owes_no_vote(seats):
    """Another committee was drawn for the same round: it has nothing to commit, and is trusted as before."""
    first, _second, third = seats.members
    _garbage, said = lazy(seats)
    peek(seats, said)
    if third.address not in owed_to(first):
        seats.run_until(lambda _: third.address in owed_to(first), seats.members[:2])
    seats.table.drawn = [first.address, "0x" + "a1" * 20, "0x" + "a2" * 20]
    first.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED), 0)
    assert not first.signing._trust.mistrusts([third.address], seats.table.now)


def owed_to(member):
    return member.signing._trust.shown_to(BATCH_ID, 0)


def test_a_seat_that_opens_garbage_and_commits_a_copy_on_the_chain_is_found_too(seats):
    first, _second, third = seats.members
    garbage, said = lazy(seats)
    copied = peek(seats, said)
    if third.address not in owed_to(first):
        seats.run_until(lambda _: third.address in owed_to(first), seats.members[:2])
    opened = state(seating(seats), third.address, garbage, Stage.OPENED, third.signing.chain.sign)
    httpx2.post(url(first), json=opened.to_json())
    seats.run_until(everybody_votes, [first])
    assert owed_to(first)[third.address].is_opened
    commitment = seating(seats).commitment_of(third.address, copied, 0, b"c" * 32)
    seats.table.committed.append((third.address, commitment))
    first.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED), 0)
    assert first.signing._trust.mistrusts([third.address], seats.table.now)


@pytest.mark.parametrize(
    ("on_chain", "opened", "broken"),
    [
        (b"c", False, False),  # what it had said, it can only reveal
        (b"c", True, False),
        (b"x", False, True),
        (b"x", True, True),
        (None, True, False),  # it pays on the chain for saying nothing there
        (None, False, True),
    ],
)
def test_what_a_seat_owes_that_was_shown_a_vote(on_chain, opened, broken):
    assert Debt(b"c", opened).is_broken(on_chain) is broken


@pytest.mark.parametrize("how", ["opens late", "commits the same on the chain"])
def test_whoever_opens_what_it_had_committed_to_is_forgiven(seats, how):
    first, _second, third = seats.members
    garbage, said = lazy(seats)
    peek(seats, said)
    seats.table.now = seats.table.batch.clock - 1
    seats.run_until(everybody_votes, [first])
    if how == "opens late":
        opened = state(seating(seats), third.address, garbage, Stage.OPENED, third.signing.chain.sign)
        assert httpx2.post(url(first), json=opened.to_json()).status_code == 403  # heard, though it votes already
    else:
        seats.table.committed.append((third.address, said.commitment))
    first.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED), 0)
    assert not first.signing._trust.mistrusts([third.address], seats.table.now)


def test_who_keeps_its_vote_back_waits_twice_as_long_each_time():
    days = [mistrusted_until(times, 100) - 100 for times in range(1, MOST_TIMES + 1)]
    assert days == [FIRST_SECONDS << number for number in range(MOST_TIMES)]
    assert mistrusted_until(MOST_TIMES + 1, 100) == NEVER


def test_mistrust_grows_in_the_store(seats):
    trust, other = seats.members[0].signing._trust, seats.members[1].address
    for number in range(1, 4):
        trust.note_shown(bytes([number]) * 32, 0, {other: (b"c" * 32, False)})
        trust.conclude(bytes([number]) * 32, 0, [other], 1_000)
        trust.conclude(bytes([number]) * 32, 0, [other], 1_000)  # once a seat, however often it is looked at
    with seats.members[0].store.reading() as session:
        row = session.get(MistrustRow, other)
        assert (row.times, row.until) == (3, 1_000 + 4 * FIRST_SECONDS)


def test_after_a_restart_another_commitment_than_the_one_that_was_shown_a_vote_is_refused(seats):
    first, _second, third = seats.members
    _garbage, said = lazy(seats)
    peek(seats, said)
    if third.address not in owed_to(first):
        seats.run_until(lambda _: third.address in owed_to(first), seats.members[:2])
    first.stop()
    first.start()
    first.step()
    own = OwnVote(VOTE, 0, b"c" * 32)
    copy = state(seating(seats), third.address, own, Stage.COMMITTED, third.signing.chain.sign)
    answer = httpx2.post(url(first), json=copy.to_json())
    assert answer.status_code == 403
    assert "two votes" in answer.json()["error"]["message"]
    assert first.step().why is Why.SPOILT


def spoiling(seats, **changes):
    """A statement of seat 2 that its account has signed and that does not hold."""
    third = seats.members[2]
    own = OwnVote(VOTE, 0, b"3" * 32)
    said = state(seating(seats), third.address, own, Stage.SIGNED, third.signing.chain.sign, third.secret)
    said = dataclasses.replace(said, **changes)
    return dataclasses.replace(said, signature=third.signing.chain.sign(said.digest(seating(seats))))


SPOILS = {
    "a signature over something else": {"result_signature": bls.SecretKey(5).sign(b"else")},
    "no point of the curve": {"result_signature": b"\x01" * bls.SIGNATURE_BYTES},
    "another key": {"key": bls.SecretKey(5).public_key()},
    "another vote": {"vote": Vote(0, 1)},
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_partial_signature_is_checked_before_it_is_added_and_who_spoils_is_named(seats, spoil, capsys):
    first = seats.members[0]
    first.find()
    first.step()
    answer = httpx2.post(url(first), json=spoiling(seats, **SPOILS[spoil]).to_json())
    assert answer.json()["error"]["code"] == "bad_statement"
    step = first.step()
    assert (step.do, step.why) == (Do.VOTE, Why.SPOILT)
    said = capsys.readouterr().out
    assert "seat_refuses" in said
    assert seats.members[2].address in said


def test_a_stranger_who_speaks_for_a_seat_harms_nobody(seats):
    first = seats.members[0]
    for member in seats.members:
        member.find()
        member.step()
    forged = dataclasses.replace(spoiling(seats), signature=bytes(64) + b"\x1b")
    assert httpx2.post(url(first), json=forged.to_json()).status_code == 401
    other = state(
        seating(seats), verifier(7).address, OwnVote(VOTE, 0, b"7" * 32), Stage.COMMITTED,
        SeenChain(seats.table, verifier(7)).sign,
    )  # fmt: skip
    assert httpx2.post(url(first), json=other.to_json()).status_code == 403
    for body in (b"", b"[" * 4000, b"{}", b'"x"', b"\xff", b"x" * 5000, json.dumps({"stage": 1}).encode()):
        assert 400 <= httpx2.post(url(first), content=body).status_code < 500
    assert httpx2.post(url(first, round_=1), json=forged.to_json()).json()["error"]["code"] == "no_such_seat"
    assert httpx2.post(url(first, batch=bytes(32)), json=forged.to_json()).status_code == 404
    assert httpx2.post(f"http://127.0.0.1:{first.port}/v1/seats/xyz/0", json={}).status_code == 404
    seats.run_until(all_send_or_wait_signed(seats))


def test_a_statement_of_another_batch_is_worthless(seats):
    first, _second, third = seats.members
    first.find()
    first.step()
    own = OwnVote(VOTE, 0, b"3" * 32)
    elsewhere = seating(seats, batch_id=bytes([0xCC]) * 32)
    said = state(elsewhere, third.address, own, Stage.COMMITTED, third.signing.chain.sign)
    assert httpx2.post(url(first), json=said.to_json()).status_code == 401
    assert first.step().do is not Do.VOTE


@contextmanager
def hostile(answer):
    """An endpoint that answers as it likes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            with suppress(OSError):  # whoever asked may have had enough
                answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def reply(handler, body, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def drips(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1 << 16):
        handler.wfile.write(b" " * 4096)


HOSTILE = {
    "drips": (drips, "unreachable"),
    "sends without end": (endless, "malformed"),
    "sends no JSON": (lambda h: reply(h, b"<html>"), "malformed"),
    "sends another type": (lambda h: reply(h, b"[1]"), "bad_statement"),
    "sends deep JSON": (lambda h: reply(h, b"[" * 4000), "malformed"),
    "redirects": (lambda h: reply(h, b"", 307, location="http://127.0.0.1:1/"), "refused"),
    "compresses": (lambda h: reply(h, b"{}", content_encoding="gzip"), "malformed"),
    "fails": (lambda h: reply(h, b"oops", 500), "refused"),
    "hangs up": (lambda h: h.connection.shutdown(socket.SHUT_RDWR), "unreachable"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_endpoint_costs_its_own_turns_and_no_deadline(seats, how):
    first, second, third = seats.members
    act, reason = HOSTILE[how]
    with hostile(act) as endpoint:
        seats.table.endpoints[third.address] = endpoint
        third.stop()
        for member in (first, second):
            member.find()
        seats.run_until(lambda _: first.signing.failed[reason] > 0 and stage_at(first, second) > 0, [first, second])
        assert first.step().do is not Do.VOTE
        assert stage_at(first, second) == Stage.COMMITTED  # the other is heard all the same
        seats.table.now = seats.table.batch.clock - WINDOW // 2
        assert first.step().why is Why.OUT_OF_TIME


@pytest.mark.parametrize(
    "endpoint", ["", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:1", "http://[", "http://x y/"]
)
def test_an_endpoint_that_cannot_be_asked_is_an_unreachable_seat(seats, endpoint):
    first, _second, third = seats.members
    seats.table.endpoints[third.address] = endpoint
    first.find()
    seats.run_until(lambda _: first.signing.failed["unreachable"] > 0, [first])
    seats.table.now = seats.table.batch.clock - WINDOW // 2
    assert first.step().why is Why.OUT_OF_TIME


def test_an_endpoint_that_answers_for_another_seat_is_not_heard(seats):
    first, second, third = seats.members
    second.find()
    second.step()
    own = OwnVote(VOTE, 0, second.stored.salt)
    said = state(seating_of(second), second.address, own, Stage.COMMITTED, second.signing.chain.sign)
    with hostile(lambda h: reply(h, json.dumps(said.to_json()).encode())) as endpoint:
        seats.table.endpoints[third.address] = endpoint
        first.find()
        seats.run_until(lambda _: first.signing.failed["bad_statement"] > 0, [first])
        assert next(iter(first.signing._rooms.values())).peers[third.address].statement is None


def stage_at(member, other) -> int:
    """What a member has heard of another."""
    return next(iter(member.signing._rooms.values())).peers[other.address].stage


def seating_of(member) -> Seating:
    return next(iter(member.signing._rooms.values())).seating


def test_many_batches_with_a_dripping_seat_keep_no_other_waiting(seats):
    """One exchange a seat at a time: the others' batches are signed meanwhile."""
    first, second, third = seats.members
    with hostile(drips) as endpoint:
        outsider = verifier(8).address
        seats.table.keys[outsider] = bytes([5]) * 32
        seats.table.endpoints[outsider] = endpoint
        first.find()
        stuck = [dataclasses.replace(seats.table.batch, batch_id=bytes([n]) * 32, committee=n) for n in range(1, 9)]
        from trine.chain import Seat

        for batch in stuck:
            drawn = [Seat(first.address, 1), Seat(second.address, 1), Seat(outsider, 1)]
            first.signing.advance(batch, drawn, first.stored, TERMS)
        for member in (second, third):
            member.find()
        seats.run_until(all_send_or_wait_signed(seats))
        assert first.signing.failed["unreachable"] < len(stuck)  # most of them wait for their turn still


def test_what_was_settled_how_is_counted_and_said(seats, capsys):
    for member in seats.members:
        member.find()
    seats.run_until(all_send_or_wait_signed(seats))
    first, second, _third = seats.members
    seating_seen = seating(seats)
    first.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED, signed=True), 0)
    first.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED, signed=True), 0)
    second.signing.decline(BATCH_ID, 0, Why.OUT_OF_TIME)
    second.signing.conclude(dataclasses.replace(seats.table.batch, state=BatchState.SETTLED), 0)
    assert dict(first.signing.settled) == {"signed": 1}
    assert dict(second.signing.settled) == {"votes": 1}
    assert dict(second.signing.voted) == {"out_of_time": 1}
    said = capsys.readouterr().out
    assert said.count("batch_settled") == 2
    # The rooms are gone, and nobody is answered any more.
    statement = state(
        seating_seen, first.address, OwnVote(VOTE, 0, b"s" * 32), Stage.COMMITTED, first.signing.chain.sign
    )
    assert httpx2.post(url(second), json=statement.to_json()).json()["error"]["code"] == "no_such_seat"
    app = create_frame("test", lambda: None)
    app.include_router(create_metrics_router(second.signing))
    shown = TestClient(app).get("/metrics").text
    assert 'trine_batches_settled_total{by="votes"} 1.0' in shown
    assert 'trine_seats_voted_total{why="out_of_time"} 1.0' in shown


def test_an_exchange_that_is_nudged_while_it_is_stopped_ends(tmp_path):
    """Its thread went on for ever: a cancellation was lost where the wait was over at the same moment."""
    with Seats(tmp_path) as seats:
        first, *others = seats.members
        for other in others:
            other.server.stop()
        first.find()
        seats.run_until(lambda _: first.signing.failed["unreachable"] >= len(others), [first])
        exchange = first.exchange

        def nudge_and_stop():
            for nudge in exchange._nudges.values():
                nudge.set()
            exchange._loop.stop()

        exchange._loop.call_soon_threadsafe(nudge_and_stop)
        exchange._thread.join(20)
        assert not exchange._thread.is_alive()
