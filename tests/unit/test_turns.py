"""The queue before a node's threads: nobody who has left it is in it."""

import gc
import random
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trine_node.service.generation import MAX_RETRY_SECONDS, retry_seconds
from trine_node.service.turns import Turns


class Order:
    """Something large."""


def test_attack_who_orders_and_leaves_again_and_again_fills_nothing():
    turns, going_on, begun = Turns(1, "test"), threading.Event(), threading.Event()

    def busy():
        begun.set()
        going_on.wait(20)

    turns.submit(busy)
    assert begun.wait(20)
    seen = []
    for _ in range(1_000):
        order = Order()
        seen.append(weakref.ref(order))
        future = turns.submit(lambda order=order: None)
        assert turns.cancel(future)
        assert not turns.cancel(future)
        del order, future
    gc.collect()
    assert [ref for ref in seen if ref() is not None] == []
    assert turns.queued <= 1
    last = turns.submit(lambda: None)
    assert not last.done()
    going_on.set()
    last.result(20)


def test_work_is_done_once_each_in_order_whoever_leaves_meanwhile():
    turns, gate, done, lot = Turns(3, "test"), threading.Event(), [], random.Random(5)
    for _ in range(3):
        turns.submit(lambda: gate.wait(20) and None)
    futures = [turns.submit(lambda number=number: done.append(number)) for number in range(200)]
    left = {number for number in range(200) if lot.random() < 0.5 and turns.cancel(futures[number])}
    more = [turns.submit(lambda number=number: done.append(number)) for number in range(200, 300)]
    gate.set()
    for future in (*[f for n, f in enumerate(futures) if n not in left], *more):
        future.result(20)
    assert sorted(done) == [number for number in range(300) if number not in left]
    assert len(left) > 50


def test_what_fails_takes_no_thread_along():
    turns = Turns(1, "test")

    def fails():
        raise ValueError("no")

    assert isinstance(turns.submit(fails).exception(20), ValueError)
    turns.submit(lambda: None).result(20)


@pytest.mark.parametrize(
    ("ends", "seconds"),
    [
        ((), 1),
        ((1000.0,), 1),  # nothing is known of one
        ((994.0, 996.0, 998.0), 40),  # one in two seconds, 40 places
        ((999.7, 999.8, 999.9), 2),
        ((900.0, 940.0, 980.0), MAX_RETRY_SECONDS),
        ((10.0, 20.0, 30.0), 1),  # long ago
    ],
)
def test_who_is_sent_away_comes_back_when_half_the_queue_is_over(ends, seconds):
    assert retry_seconds(ends, 40, 1000.0) == seconds


@given(st.lists(st.floats(0, 1e9)).map(sorted), st.integers(1, 10_000), st.floats(0, 1e9))
def test_when_to_come_back_is_bounded(ends, places, later):
    assert 1 <= retry_seconds(ends, places, max(ends, default=0.0) + later) <= MAX_RETRY_SECONDS
