"""One copy of an operator at a time: by its store, and by its registered endpoint."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi.responses import PlainTextResponse
from test_node_support import wait_for

from trine_operator.outbox import instances
from trine_operator.outbox.instances import AnotherCopy, Lease, refuse_copy_at
from trine_operator.outbox.queue import Queue
from trine_operator.service import create_frame
from trine_operator.store import Store

ME, OTHER = "0x" + "11" * 20, "0x" + "22" * 20


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/operator.sqlite"


@pytest.fixture
def opened(url):
    stores = []

    def lease(**clocks):
        store = Store(url)
        stores.append(store)
        return Lease(store, **clocks)

    yield lease
    for store in stores:
        store.close()


class Seconds:
    """A clock that a sleep moves; `meanwhile` happens then."""

    def __init__(self, meanwhile=lambda: None):
        self.now, self.meanwhile = 0.0, meanwhile

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.meanwhile()


def test_a_store_whose_holder_beats_is_refused_with_what_to_do(opened, monkeypatch):
    monkeypatch.setattr(instances, "_machine", lambda: "?")  # as on another machine
    first = opened()
    first.take()
    seconds = Seconds(first.beat)
    with pytest.raises(AnotherCopy, match=r"stop it first.*ignore_other_copies"):
        opened(clock=seconds.clock, sleep=seconds.sleep).take()
    assert first.beat()


def test_a_holder_of_another_machine_that_is_silent_is_replaced_and_signs_no_more(opened, monkeypatch):
    monkeypatch.setattr(instances, "_machine", lambda: "?")
    first, seconds = opened(), Seconds()
    first.take()
    second = opened(clock=seconds.clock, sleep=seconds.sleep)
    second.take()
    assert seconds.now >= instances.SILENT_SECONDS
    assert not first.beat()
    with pytest.raises(AnotherCopy, match="nothing is signed"), first._store.writing() as session:
        first.fence(session)
    with second._store.writing() as session:
        second.fence(session)


def test_of_two_that_wait_for_a_silent_holder_one_gets_the_store(opened, monkeypatch):
    monkeypatch.setattr(instances, "_machine", lambda: "?")
    opened().take()
    third, results = opened(), []

    def meanwhile():
        if len(results) == 0 and seconds.now >= instances.SILENT_SECONDS:
            results.append("third")
            third.take(by_force=True)

    seconds = Seconds(meanwhile)
    with pytest.raises(AnotherCopy):
        opened(clock=seconds.clock, sleep=seconds.sleep).take()


def test_an_orderly_end_lets_the_next_start_at_once(opened):
    first, seconds = opened(), Seconds()
    first.take()
    first.release()
    opened(clock=seconds.clock, sleep=seconds.sleep).take()
    assert seconds.now == 0


def test_the_override_takes_the_store_and_the_other_is_told(opened, monkeypatch):
    monkeypatch.setattr(instances, "BEAT_SECONDS", 0.05)
    first, lost = opened(), []
    first.take()
    first.keep(lost.append)
    opened().take(by_force=True)
    wait_for(lambda: lost)
    assert "taken this store over" in lost[0]


HOLDER = """
import sys, time
from trine_operator.outbox.instances import Lease
from trine_operator.store import Store
lease = Lease(Store(sys.argv[1]))
lease.take()
lease.keep(print)
print("holds", flush=True)
time.sleep(600)
"""


def test_a_real_process_holds_its_store_until_it_is_killed(opened, url):
    """`kill -9`, and the next start is not kept waiting: the machine knows that the process is gone."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(AnotherCopy, match=str(holder.pid)):
            opened().take()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    seconds = Seconds()
    opened(clock=seconds.clock, sleep=seconds.sleep).take()
    assert seconds.now == 0


def test_nothing_is_signed_in_a_store_that_was_taken_over(opened, url):
    from test_protection import CALL, act

    from trine.chain.gateway import Signed
    from trine.chain.transactions import Fees

    first = opened()
    first.take()
    queue = Queue(first._store, first.fence)
    number = queue.add(act("commit"), CALL)
    opened().take(by_force=True)
    with pytest.raises(AnotherCopy):
        queue.sign(number, Signed(bytes(32), b"raw", 0, 1, Fees(1, 1)))
    assert not queue.has(0)


@contextmanager
def served(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("reason", [None, "calibrating"])
def test_a_copy_on_another_machine_is_found_by_the_registered_endpoint(reason):
    app = create_frame("Trine", lambda: reason, {"operator": ME, "instance": "aa" * 16})
    with served(app) as endpoint:
        with pytest.raises(AnotherCopy, match=f"answers at its registered endpoint {endpoint}"):
            refuse_copy_at(endpoint, ME, "bb" * 16)
        refuse_copy_at(endpoint, ME, "aa" * 16)  # this process itself
        refuse_copy_at(endpoint, OTHER, "bb" * 16)  # another operator has the address now
    refuse_copy_at(endpoint, ME, "bb" * 16)  # nobody answers


@pytest.mark.parametrize("text", ["", "[]", "{", '{"instance": 7, "operator": 8}', '{"operator": null}', " " * 100_000])
def test_what_answers_anything_else_is_no_copy(text):
    app = create_frame("Trine", lambda: None)
    app.router.routes[:] = []
    app.get("/healthz")(lambda: PlainTextResponse(text))
    with served(app) as endpoint:
        refuse_copy_at(endpoint, ME, "bb" * 16)


@pytest.mark.parametrize("endpoint", ["", "ftp://x", "http://", "http://127.0.0.1:9"])
def test_an_endpoint_that_is_none_is_no_copy(endpoint):
    refuse_copy_at(endpoint, ME, "bb" * 16)
