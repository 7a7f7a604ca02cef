"""Following the newest block: one question a poll for a whole process, and loops that step when a block has come."""

from __future__ import annotations

import collections
import json
import queue
import threading

import pytest
import websockets.sync.server as ws_server
from test_node_support import in_thread, wait_for

from trine.chain.follower import ChainClock, Follower, Head
from trine.chain.subscription import announced_heads
from trine.errors import ChainUnreachable
from trine_operator.loops import keep_doing

OFTEN = 0.01


class Blocks:
    """A chain whose newest block is set by the test."""

    def __init__(self):
        self.number, self.asked, self.error = 7, 0, None

    def __call__(self):
        self.asked += 1
        if self.error:
            raise self.error
        return Head(self.number, 1_000 + self.number)


@pytest.fixture
def chain():
    return Blocks()


@pytest.fixture
def follower(chain):
    opened = Follower(chain, OFTEN)
    opened.start()
    yield opened
    opened.stop()


def test_the_newest_block_is_known_from_the_start(follower):
    assert follower.latest() == Head(7, 1_007)


def test_many_who_ask_cost_one_question(chain):
    opened = Follower(chain, 600.0)
    opened.start()
    try:
        for _ in range(100):
            opened.latest()
        assert chain.asked == 1
    finally:
        opened.stop()


def test_all_who_wait_are_woken_by_one_block(chain, follower):
    seen = []
    threads = [in_thread(lambda: seen.append(follower.wait(7, 600))) for _ in range(5)]
    chain.number = 8
    for thread in threads:
        thread.join(20)
    assert seen == [8] * 5


def test_a_wait_ends_without_a_block_too(follower):
    assert follower.wait(7, OFTEN) == 7


def test_who_waits_is_woken_by_the_end(follower):
    ended = threading.Event()
    in_thread(lambda: (follower.wait(10**9, 600), ended.set()))
    follower.stop()
    assert ended.wait(20)


def test_nobody_acts_on_an_old_block_while_the_chain_is_away(chain, follower):
    chain.error = ChainUnreachable("no answer")
    wait_for(lambda: _fails(follower))
    chain.error, chain.number = None, 9
    wait_for(lambda: not _fails(follower))
    assert follower.latest().number == 9


def test_a_malformed_answer_is_an_error_until_the_next_good_one(chain, follower):
    chain.error = TypeError("int() argument must be a string")
    wait_for(lambda: _fails(follower))
    chain.error, chain.number = None, 12
    wait_for(lambda: not _fails(follower))
    assert follower.latest().number == 12


def test_a_loop_steps_once_a_block(chain, follower):
    steps, stop = [], threading.Event()
    loop = in_thread(
        lambda: keep_doing("test", lambda: steps.append(follower.latest().number), follower, stop, at_least_every=600)
    )
    for number in (8, 9, 10):
        wait_for(lambda number=number: steps and steps[-1] == number - 1)
        chain.number = number
    wait_for(lambda: steps[-1] == 10)
    stop.set()
    follower.stop()
    loop.join(20)
    assert not loop.is_alive()
    assert steps == [7, 8, 9, 10]


def test_a_loop_that_is_interrupted_ends(follower):
    def interrupted():
        raise InterruptedError

    loop = in_thread(lambda: keep_doing("test", interrupted, follower, threading.Event(), at_least_every=600))
    loop.join(20)
    assert not loop.is_alive()


def _fails(follower):
    try:
        follower.latest()
    except ChainUnreachable:
        return True
    return False


def test_blocks_that_are_announced_are_not_asked_for(chain):
    news = queue.Queue()
    opened = Follower(chain, 600.0, lambda: iter(news.get, None))
    opened.start()
    try:
        for number in (8, 9):
            news.put(Head(number, 1_000 + number))
            wait_for(lambda number=number: opened.latest().number == number)
        assert chain.asked == 1
    finally:
        news.put(Head(10, 0))
        opened.stop()


def test_a_block_before_anybody_listened_is_not_missed(chain):
    listening, ended = threading.Event(), threading.Event()

    def announced():
        listening.wait(20)
        yield None
        ended.wait(20)

    opened = Follower(chain, 600.0, announced)
    opened.start()
    chain.number = 8
    listening.set()
    try:
        assert opened.wait(7, 20) == 8
    finally:
        opened.stop()
        ended.set()


def test_where_announcements_end_blocks_are_asked_for(chain):
    def announced():
        yield Head(8, 1_008)
        raise ChainUnreachable("broken off")

    opened = Follower(chain, OFTEN, announced)
    opened.start()
    try:
        chain.number = 12
        wait_for(lambda: opened.latest().number == 12)
    finally:
        opened.stop()


def test_a_nudge_has_who_waits_look_again(follower):
    wanted, done = threading.Event(), []
    thread = in_thread(lambda: done.append(follower.wait(10**9, 600, wanted.is_set)))
    wanted.set()
    follower.nudge()
    thread.join(20)
    assert done == [7]


NAME = "0x7"
GOOD = {"jsonrpc": "2.0", "method": "eth_subscription"}


def told(**result):
    return json.dumps({**GOOD, "params": {"subscription": NAME, "result": result}})


@pytest.fixture
def announcing():
    """A WebSocket server that says what the test gives, after its answer to the subscription."""
    said = []

    def serve(socket):
        socket.recv(20)
        for each in said:
            socket.send(each)

    with ws_server.serve(serve, "127.0.0.1", 0) as server:
        thread = in_thread(server.serve_forever)
        yield said, f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
    thread.join(20)


SUBSCRIBED = json.dumps({"jsonrpc": "2.0", "id": 1, "result": NAME})


def test_announcements_are_heads_until_the_connection_ends(announcing):
    said, url = announcing
    foreign = json.dumps({**GOOD, "params": {"subscription": "0x8", "result": {}}})
    said += [SUBSCRIBED, told(number="0x10", timestamp="0x20"), foreign, told(number="0x11", timestamp="0x21")]
    heads, got = announced_heads(url), []
    with pytest.raises(ChainUnreachable, match="announces no blocks"):
        collections.deque(map(got.append, heads))
    assert got == [None, Head(16, 32), Head(17, 33)]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[]",
        "{",
        "[" * 9_000,
        "7",
        "x" * (1 << 19),
        b"\xff",
        told(number="ten", timestamp="0x1"),
        told(number=1),
        '{"params": 1}',
    ],
)
def test_a_malformed_announcement_ends_them(announcing, wrong):
    said, url = announcing
    said += [SUBSCRIBED, wrong]
    heads = announced_heads(url)
    assert next(heads) is None
    with pytest.raises(ChainUnreachable):
        next(heads)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://[", "ws://"])
def test_who_announces_nothing_says_so(url):
    with pytest.raises(ChainUnreachable):
        next(announced_heads(url))


def test_the_chains_time_goes_on_between_blocks_whatever_the_machines_clock_says():
    passed = [100.0]
    clock = ChainClock(lambda: passed[0])
    clock.note(Head(7, 5_000))
    passed[0] += 9.5
    clock.note(Head(7, 5_000))  # seen again: no news
    assert clock.now() == 5_009
    clock.note(Head(8, 5_012))
    assert clock.now() == 5_012
    passed[0] += 1
    clock.note(Head(6, 4_990))  # another branch
    assert clock.now() == 4_990
