"""Disks that fill, servers that restart, files that are locked or damaged: no promise is lost, and the rest waits."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from eth_account import Account as EthAccount
from sqlalchemy import update
from structlog.testing import capture_logs
from test_node_support import RecordingChain, answer, body, engine, model, sealed, serving, signed_body, wait_for

from trine_node.answering import Answering
from trine_operator import database
from trine_operator.outbox.protection import recorded
from trine_operator.outbox.queue import Queue
from trine_operator.store import Store, StoreError
from trine_operator.store import transactions as store_module
from trine_operator.store.transactions import PROBE_SECONDS
from trine_operator.tables import AnswerRow
from trine_verifier.store import VerifierStore

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('one')}/node.sqlite")
    given = answer(Answering(engine(), RecordingChain(), store, model(), allow_unsigned=True)).evidence
    store.close()
    return given


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes, which only root can have."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder):
        yield folder


@contextmanager
def mounted(folder):
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "trine-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip(f"a small disk needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Leaves no room on the disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def outcome(response):
    return response.status_code, response.json()["error"]["code"]


def kept_of(store, promises):
    """Which promised answers the store has."""
    return [store.answer(bytes.fromhex(each["receiptDigest"][2:])) is not None for each in promises]


def test_a_node_on_a_full_disk_refuses_orders_and_goes_on_when_there_is_room(small_disk):
    client, chain = EthAccount.create(), RecordingChain()
    url = f"sqlite:///{small_disk}/node.sqlite"
    with serving(url, chain=chain, allow_unsigned=True) as node:
        promises = [node.http.post(CHAT, json=signed_body(chain, client)).json()["trine"]]
        fill(small_disk)
        with capture_logs() as lines:
            wait_for(lambda: node.http.post(CHAT, json=body(4)).status_code == 503)
            response = node.http.post(CHAT, json=signed_body(chain, client))
            assert outcome(response) == (503, "store_unavailable")
            assert (response.headers["retry-after"], "trine" in response.json()) == ("5", False)
            assert str(small_disk) not in response.text
            refused = signed_body(chain, client)
            assert "store_unavailable" in node.http.post(CHAT, json={**refused, "stream": True}).text
        assert [line["error"] for line in lines if line["event"] == "store_takes_no_changes"] == [
            "the store did not take a change: database or disk is full: the disk is full: make room on it"
        ]
        assert node.store.why_not_ready() == "the store takes no changes: the log says why"
        (small_disk / "filler").unlink()
        time.sleep(PROBE_SECONDS)
        # The same signed request: it was not answered, so it may still be.
        promises.append(node.http.post(CHAT, json=refused).json()["trine"])
        assert (node.store.fault, node.store.why_not_ready()) == (None, None)
        assert kept_of(node.store, promises) == [True, True]
    store = Store(url)
    assert kept_of(store, promises) == [True, True]
    store.close()


def test_a_node_whose_disk_fills_does_not_compute_what_it_cannot_keep(small_disk):
    with serving(f"sqlite:///{small_disk}/node.sqlite") as node:
        fill(small_disk)
        wait_for(lambda: node.http.post(CHAT, json=body(4)).status_code == 503)
        asked = []
        node.answering.engine = Watched(node.answering.engine, asked)
        for _ in range(3):
            assert node.http.post(CHAT, json=body(4)).status_code == 503
        assert asked == []


class Watched:
    """The engine, noting what it is asked."""

    def __init__(self, real, asked):
        self._real = real
        self._asked = asked

    def __getattr__(self, name):
        self._asked.append(name)
        return getattr(self._real, name)


def test_a_store_that_cannot_be_written_says_so_and_can_still_be_read(small_disk, evidence):
    store = Store(f"sqlite:///{small_disk}/node.sqlite")
    store.add_answer(bytes(32), evidence)
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"cannot be (written|opened)"):
        Store(f"sqlite:///{small_disk}/node.sqlite")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    store = Store(f"sqlite:///{small_disk}/node.sqlite")
    assert store.answer(bytes(32)).evidence == evidence
    store.close()


def test_while_another_process_holds_the_file_orders_are_refused(tmp_path, monkeypatch):
    for module in (database, store_module):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_SECONDS", 1)
    chain, client = RecordingChain(), EthAccount.create()
    with serving(f"sqlite:///{tmp_path}/node.sqlite", chain=chain) as node:
        other = sqlite3.connect(tmp_path / "node.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        response = node.http.post(CHAT, json=signed_body(chain, client))
        assert outcome(response) == (503, "store_unavailable")
        assert "another process has kept it locked" in node.store.fault
        assert node.store.unbatched(9) == []
        other.execute("ROLLBACK")
        other.close()
        time.sleep(PROBE_SECONDS)
        promise = node.http.post(CHAT, json=signed_body(chain, client)).json()["trine"]
        assert kept_of(node.store, [promise]) == [True]


def test_whoever_only_asks_for_its_health_makes_a_node_well_again(small_disk):
    url = f"sqlite:///{small_disk}/node.sqlite"
    stores = []
    with serving(url, readiness=lambda: stores[0].why_not_ready()) as node:
        stores.append(node.store)
        fill(small_disk)
        wait_for(lambda: node.http.post(CHAT, json=body(4)).status_code == 503)
        sick = node.http.get("/healthz")
        assert (sick.status_code, sick.json()["reason"]) == (503, "the store takes no changes: the log says why")
        (small_disk / "filler").unlink()
        wait_for(lambda: node.http.get("/healthz").status_code == 200)


def test_looking_into_a_store_does_not_make_it_well(tmp_path):
    """Steps look into the outbox all the while; a node took orders again that it could not keep."""
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    queue = Queue(store)
    store._note_fault("the disk is full")
    queue.open_names(), queue.open_acts(), queue.accounted(), queue.is_new(), queue.knows(bytes(32))
    recorded(store, "vote", "seat")
    assert store.fault == "the disk is full"
    store.claim("somebody")
    assert store.fault is None
    store.close()


def test_a_change_that_waits_for_another_thread_gives_up_in_time(tmp_path, monkeypatch, evidence):
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_SECONDS", 0.1)
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    with store.writing(), pytest.raises(StoreError, match="busy with other changes"):
        store.add_answer(bytes(32), evidence)
    store.close()


@pytest.mark.parametrize("where", ["head", "middle"])
def test_a_damaged_file_is_refused_at_start_with_what_to_do(tmp_path, evidence, where):
    file = tmp_path / "node.sqlite"
    store = Store(f"sqlite:///{file}")
    for number in range(64):
        receipt = replace(evidence.receipt, request_hash=bytes([number + 1]) * 32)
        store.add_answer(bytes([number]) * 32, replace(evidence, receipt=receipt))
    store.close()
    with file.open("r+b") as raw:
        raw.seek(0 if where == "head" else file.stat().st_size // 2)
        raw.write(os.urandom(16_384))
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"damaged.*newest backup.*\.recover"):
        Store(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_errors_show_no_prompts(store_of_both, evidence):
    store_of_both.add_answer(bytes(32), evidence)
    with pytest.raises(StoreError) as caught:
        store_of_both.add_answer(bytes(32), evidence)
    assert evidence.input.decode() not in f"{caught.value} {caught.value.__cause__}"
    assert store_of_both.fault is None  # the change was at fault, not the store


@pytest.fixture
def store_of_both(database_url):
    opened = VerifierStore(database_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("at_once", [False, True], ids=["stopped", "crashed"])
def test_a_server_that_restarts_loses_nothing_that_was_acknowledged(postgres, evidence, at_once):
    url = postgres.create_database()
    store = VerifierStore(url)
    acknowledged, refused, over = [], [], threading.Event()

    def write(first):
        for number in range(first, 10**6, 4):
            if over.is_set():
                return
            digest = number.to_bytes(32, "big")
            receipt = replace(evidence.receipt, issued_at=number, fee_wei=1)
            try:
                store.add_answer(digest, replace(evidence, receipt=receipt))
                acknowledged.append(digest)
            except StoreError:
                refused.append(digest)
                time.sleep(0.05)

    writers = [threading.Thread(target=write, args=(first,)) for first in range(1, 5)]
    for writer in writers:
        writer.start()
    wait_for(lambda: len(acknowledged) > 20)
    postgres.stop(at_once=at_once)
    wait_for(lambda: refused)
    with pytest.raises(StoreError, match=r"cannot be read.*(server|connection)"):
        store.waiting(1)
    postgres.start()
    went_on = len(acknowledged) + 20
    wait_for(lambda: len(acknowledged) > went_on)
    over.set()
    for writer in writers:
        writer.join()
    kept = {each.digest for each in store.unbatched(10**6)}
    assert set(acknowledged) <= kept
    # A change whose acknowledgement was lost with the connection may have been made: all of it, or nothing.
    assert kept - set(acknowledged) <= set(refused)
    assert store.owed(evidence.receipt.client) == len(kept)
    store.close()
    postgres.drop_database(url)


def test_a_server_that_restarts_while_a_batch_is_sealed_leaves_it_whole_or_not_at_all(postgres, evidence):
    url = postgres.create_database()
    store = Store(url)
    for number in range(8):
        receipt = replace(evidence.receipt, request_hash=bytes([number + 1]) * 32)
        store.add_answer(bytes([number]) * 32, replace(evidence, receipt=receipt))
    answers = store.unbatched(8)
    batch = sealed(RecordingChain(), answers)

    def interrupted():
        with store.writing() as session:
            session.execute(update(AnswerRow).values(leaf=1))
            postgres.stop(at_once=True)
            session.execute(update(AnswerRow).values(leaf=2))

    with pytest.raises(StoreError, match="did not take a change"):
        interrupted()
    postgres.start()
    assert [each.leaf for each in store.unbatched(8)] == [None] * 8
    store.seal(batch, [each.sequence for each in answers])
    postgres.stop(at_once=True)
    postgres.start()
    assert [each.leaf for each in store.answers_of(batch.batch_id)] == list(range(8))
    assert [each.batch_id for each in store.open_batches()] == [batch.batch_id]
    store.close()
    postgres.drop_database(url)
