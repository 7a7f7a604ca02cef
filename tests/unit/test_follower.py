"""Following the newest block: one question a poll for a whole process, and loops that step when a block has come."""

from __future__ import annotations

import threading

import pytest
from test_node_support import in_thread, wait_for

from trine.chain.follower import Follower, Head
from trine.errors import ChainUnreachable
from trine_node.loops import keep_doing

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
