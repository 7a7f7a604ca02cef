"""Events kept with their blocks' hashes: what a re-org takes away goes, and what comes again is there again."""

from __future__ import annotations

import contextlib

import pytest
from bare_chain import bare_chain
from eth_account import Account
from rpc_proxy import proxied
from test_node_support import RECORD

from trine.errors import ChainError
from trine_operator.events import HASHED_BLOCKS, KEPT_BLOCKS, OVERLAP_BLOCKS, PARTS_AT_ONCE, EventLog
from trine_verifier.seats import WATCHED, Seats
from trine_verifier.store import AppealSeat, VerifierStore

ACCOUNT = Account.create()
ME = ACCOUNT.address
OTHER = "0x" + "11" * 20
FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))


@pytest.fixture(scope="module")
def bare():
    with bare_chain() as chain:
        yield chain


@pytest.fixture
def store(tmp_path):
    opened = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def chain(bare):
    bare.mine(20)
    return bare.chain(signer=ACCOUNT)


@pytest.fixture
def seats(chain, store):
    return Seats(chain, store, RECORD.model_id)


def log_of(store, chain, reader="test"):
    return EventLog(store, chain, reader, WATCHED, since=chain.block_number, again_blocks=0)


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("growth", [0, 3, -1])
def test_a_seat_of_a_block_that_is_gone_is_no_duty_until_it_is_drawn_again(bare, seats, store, depth, growth):
    """Re-orgs to the same height, to a greater one, to a lower one."""
    seats.read()
    snapshot = bare.snapshot()
    bare.draw(FIRST, ME, OTHER)
    bare.mine(depth - 1)
    seats.read()
    assert (FIRST, 0) in store.duties()
    bare.back_to(snapshot)
    bare.mine(max(depth + growth, 1))
    seats.read()
    if depth + growth < 1:  # nothing but what was there before: as of a server that is behind
        bare.mine()
        seats.read()
    assert store.duties() == []
    assert not seats.is_drawn(FIRST, 0)
    bare.draw(FIRST, OTHER, ME)
    seats.read()
    assert store.duties() == [(FIRST, 0)]
    with store.writing() as session:
        store.end_seats(session, [(FIRST, 0)], [])


def test_a_re_org_that_brings_another_seat_at_once_keeps_the_right_one(bare, seats, store):
    seats.read()
    snapshot = bare.snapshot()
    bare.draw(FIRST, ME, OTHER)
    seats.read()
    bare.back_to(snapshot)
    bare.draw(SECOND, ME, OTHER)
    seats.read()
    assert store.duties() == [(SECOND, 0)]


def test_seats_on_appealed_leaves_go_and_come_with_their_blocks(bare, seats, store):
    seats.read()
    snapshot = bare.snapshot()
    drawn = {"batchId": FIRST, "leafIndex": 4, "level": 1, "round": 0, "seats": [(ME, 1)], "seed": bytes(32)}
    bare.emit("Appeals", "AppealDrawn", **drawn, commitDeadline=0)
    seats.read()
    seat = AppealSeat(FIRST, 4, 1, 0)
    assert store.appeal_duties() == [seat]
    assert seats.is_drawn_on_appeal(seat)
    bare.back_to(snapshot)
    bare.mine()
    seats.read()
    assert store.appeal_duties() == []
    bare.emit("Appeals", "AppealDrawn", **drawn, commitDeadline=0)
    seats.read()
    assert store.appeal_duties() == [seat]


def anchored(bare, batch_id, model_id=RECORD.model_id):
    bare.emit(
        "Batches", "BatchAnchored", batchId=batch_id, node=OTHER, modelId=model_id, root=bytes(32), canary=bytes(32),
        leafCount=1, challengeId=bytes(32), seedBlock=bare.number + 2, terms=1,
    )  # fmt: skip


def test_what_waits_for_a_committee_follows_re_orgs(bare, seats):
    seats.read()
    before = bare.snapshot()
    anchored(bare, FIRST)
    anchored(bare, SECOND, bytes(32))  # another model's
    seats.read()
    assert set(seats._undrawn) == {FIRST}
    waiting = bare.snapshot()
    bare.draw(FIRST, OTHER)
    seats.read()
    assert not seats._undrawn
    bare.back_to(waiting)
    bare.mine()
    seats.read()
    assert set(seats._undrawn) == {FIRST}  # its committee is gone
    bare.back_to(before)
    bare.mine(5)
    seats.read()
    assert not seats._undrawn


@pytest.mark.parametrize("has_future_logs", [True, False])
def test_a_head_that_is_made_up_costs_bounded_time_and_is_forgotten(bare, store, has_future_logs):
    """Whether the endpoint says that there are no events in its blocks, or that there are no such blocks."""
    with proxied(bare.url) as proxy:
        seats = Seats(bare.chain(proxy.url, signer=ACCOUNT), store, RECORD.model_id)
        seats.read()
        proxy.edit = lambda m, _p, r: {**r, "number": hex(2**62)} if m == "eth_getBlockByNumber" else r
        if has_future_logs:
            empty = (200, b'{"jsonrpc": "2.0", "id": 1, "result": []}')
            proxy.refuse = lambda method, _params: empty if method == "eth_getLogs" else None
        proxy.forget()
        with contextlib.suppress(ChainError):
            seats.read()
        assert len(proxy.calls) < 2 * PARTS_AT_ONCE
        proxy.edit, proxy.refuse = (lambda _method, _params, result: result), (lambda _method, _params: None)
        bare.draw(FIRST, ME)
        seats.read()
        assert store.duties() == [(FIRST, 0)]


def test_a_re_org_while_the_process_was_away_is_noticed(bare, chain, store):
    Seats(chain, store, RECORD.model_id).read()
    snapshot = bare.snapshot()
    bare.draw(FIRST, ME, OTHER)
    Seats(chain, store, RECORD.model_id).read()
    assert store.duties() == [(FIRST, 0)]
    bare.back_to(snapshot)
    bare.draw(SECOND, ME)
    bare.mine(5)
    Seats(chain, store, RECORD.model_id).read()
    assert store.duties() == [(SECOND, 0)]


def test_what_was_drawn_while_the_process_was_away_is_found_after_a_long_time(bare, chain, store):
    Seats(chain, store, RECORD.model_id).read()
    bare.draw(FIRST, ME)
    bare.mine(300)
    bare.draw(SECOND, ME)
    Seats(chain, store, RECORD.model_id).read()
    assert store.duties() == [(FIRST, 0), (SECOND, 0)]


def test_an_endpoint_that_is_a_few_blocks_behind_takes_nothing_back(bare, store):
    bare.mine(20)
    with proxied(bare.url) as proxy:
        chain = bare.chain(proxy.url, signer=ACCOUNT)
        seats = Seats(chain, store, RECORD.model_id)
        seats.read()
        bare.draw(FIRST, ME)
        bare.mine(2)
        seats.read()
        behind = hex(bare.number - 3)
        proxy.ask = lambda method, params: [behind, *params[1:]] if params[:1] == ["latest"] else params
        seats.read()
        assert store.duties() == [(FIRST, 0)]
        proxy.ask = lambda _method, params: params
        bare.draw(SECOND, ME)
        seats.read()
        assert store.duties() == [(FIRST, 0), (SECOND, 0)]


def test_events_that_an_endpoint_shows_late_are_found(bare, store):
    """It knows a block before it knows the events in it."""
    with proxied(bare.url) as proxy:
        seats = Seats(bare.chain(proxy.url, signer=ACCOUNT), store, RECORD.model_id)
        seats.read()
        proxy.edit = lambda method, _params, result: [] if method == "eth_getLogs" else result
        bare.draw(FIRST, ME)
        seats.read()
        assert store.duties() == []
        proxy.edit = lambda _method, _params, result: result
        bare.mine(3)
        seats.read()
        assert store.duties() == [(FIRST, 0)]


def test_events_that_an_endpoint_keeps_back_for_a_minute_are_found(bare, store):
    """As `eth_getLogs` of a busy node that answers with nothing: a seat was missed, and its verifier slashed."""
    with proxied(bare.url) as proxy:
        seats = Seats(bare.chain(proxy.url, signer=ACCOUNT), store, RECORD.model_id)
        seats.read()
        proxy.edit = lambda method, _params, result: [] if method == "eth_getLogs" else result
        bare.draw(FIRST, ME)
        for _ in range(10):
            bare.mine(4)
            seats.read()
        assert store.duties() == []
        proxy.edit = lambda _method, _params, result: result
        for _ in range(OVERLAP_BLOCKS):
            bare.mine()
            seats.read()
        assert store.duties() == [(FIRST, 0)]


def test_events_of_another_fork_than_the_head_are_not_taken(bare, store):
    """The chain changes between the question for the head and the one for events."""
    with proxied(bare.url) as proxy:
        seats = Seats(bare.chain(proxy.url, signer=ACCOUNT), store, RECORD.model_id)
        seats.read()

        def forged(method, _params, result):
            return [{**each, "blockHash": "0x" + "99" * 32} for each in result] if method == "eth_getLogs" else result

        proxy.edit = forged
        bare.draw(FIRST, ME)
        seats.read()
        assert store.duties() == []
        proxy.edit = lambda _method, _params, result: result
        bare.mine()
        seats.read()
        assert store.duties() == [(FIRST, 0)]


def test_a_chain_whose_blocks_do_not_announce_their_events_is_asked_for_all(bare, store):
    with proxied(bare.url) as proxy:
        chain = bare.chain(proxy.url, signer=ACCOUNT)
        seats = Seats(chain, store, RECORD.model_id)
        bare.emit("Staking", "EndpointChanged", operator=OTHER, endpoint="x")
        seats.read()  # a filter that is not empty

        def emptied(method, _params, result):
            return {**result, "logsBloom": "0x" + "00" * 256} if method == "eth_getBlockByNumber" else result

        proxy.edit = emptied
        bare.mine()
        seats.read()
        bare.draw(FIRST, ME)
        seats.read()
        for _ in range(13):
            bare.mine()
            seats.read()
        assert store.duties() == [(FIRST, 0)]  # found when the last blocks were read again
        bare.draw(SECOND, ME)
        seats.read()
        assert (SECOND, 0) in store.duties()  # at once: the filters are not believed any more


def test_a_chain_that_stands_still_is_asked_for_no_events(bare, store):
    with proxied(bare.url) as proxy:
        seats = Seats(bare.chain(proxy.url, signer=ACCOUNT), store, RECORD.model_id)
        seats.read()
        proxy.forget()
        for _ in range(50):
            seats.read()
        assert "eth_getLogs" not in proxy.calls


def test_what_is_kept_is_bounded(bare, chain, store):
    log = log_of(store, chain)
    log.read(lambda *_: None)
    for number in range(40):
        bare.draw(bytes([number]) * 32, OTHER)
        bare.mine(5)
        log.read(lambda *_: None)
    kept = log._kept
    assert min(block for block, _ in kept.events) > chain.block_number() - 2 * HASHED_BLOCKS
    assert len(kept.blocks) <= KEPT_BLOCKS
    assert log_of(store, chain)._load().position == kept.position  # as far as events were found, it is stored


def test_nothing_is_noted_when_the_store_does_not_take_it(bare, chain, store):
    log = log_of(store, chain)
    log.read(lambda *_: None)
    bare.draw(FIRST, ME)

    def fails(*_):
        raise RuntimeError("full")

    with pytest.raises(RuntimeError):
        log.read(fails)
    seen = []
    log.read(lambda _session, changes: seen.extend(changes.added))
    assert [bytes(event.args["batchId"]) for event in seen] == [FIRST]


def test_what_is_read_from_the_store_is_what_was_kept(bare, chain, store):
    log = log_of(store, chain)
    log.read(lambda *_: None)
    bare.draw(FIRST, ME, OTHER)
    log.read(lambda *_: None)
    (loaded,) = log_of(store, chain)._load().events.values()
    (kept,) = log.events
    assert (loaded.block_hash, loaded.args["batchId"], loaded.args["round"]) == (kept.block_hash, FIRST, 0)
    assert [seat["verifier"] for seat in loaded.args["seats"]] == [ME, OTHER.lower()] or [
        seat["verifier"].lower() for seat in loaded.args["seats"]
    ] == [ME.lower(), OTHER]
