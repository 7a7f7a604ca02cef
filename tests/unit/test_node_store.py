"""The store: what it keeps through a kill, and what it refuses."""

import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account as EthAccount
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_node_support import NAME, RecordingChain, answer, engine, model, sealed, signed_body

from trine.protocol import merkle
from trine.protocol.messages import Voucher
from trine_node.answering import Answering
from trine_node.orders import parse_order
from trine_operator.batcher import Batcher
from trine_operator.store import Due, Kept, Store, StoreError, leaves_of

SERVE = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    from eth_account import Account
    from test_node_support import RecordingChain, serving
    with serving(sys.argv[2], chain=RecordingChain(signer=Account.from_key(sys.argv[3])), allow_unsigned=False) as node:
        print(node.url, flush=True)
        time.sleep(300)
"""


@pytest.fixture
def url(database_url):
    return database_url


@pytest.fixture
def store(url):
    opened = Store(url)
    yield opened
    opened.close()


@pytest.fixture
def answering(store):
    return Answering(engine(), RecordingChain(), store, model(), allow_unsigned=True)


def test_a_node_killed_right_after_a_receipt_still_has_the_answer(url):
    import httpx2

    node_key, client = EthAccount.create(), EthAccount.create()
    chain = RecordingChain(signer=node_key)
    order = signed_body(chain, client)
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE), here, url, node_key.key.hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = child.stdout.readline().strip()
        promise = httpx2.post(f"{address}/v1/chat/completions", json=order, timeout=60).json()["trine"]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    store = Store(url)
    kept = store.answer(bytes.fromhex(promise["receiptDigest"][2:]))
    assert kept.evidence.receipt.to_json() == promise["receipt"]
    assert "0x" + kept.evidence.receipt_signature.hex() == promise["signature"]
    signed = parse_order(order, chat=True, model_name=NAME, default_max_tokens=4, limit_tokens=9).signed
    assert store.answer_to(signed.request.digest(chain.domain)).digest == kept.digest
    assert store.voucher(client.address).cumulative_wei == signed.voucher.cumulative_wei
    assert [waiting.digest for waiting in store.unbatched(9)] == [kept.digest]
    store.close()


def test_answers_come_back_as_they_were_stored(store, answering):
    finished = answer(answering)
    assert store.answer(finished.digest).evidence == finished.evidence
    assert store.answer(bytes(32)) is None


def test_a_request_is_answered_once(store, answering):
    order = signed_body(answering.chain, EthAccount.create())
    signed = parse_order(order, chat=True, model_name=NAME, default_max_tokens=4, limit_tokens=9).signed
    evidence = answer(answering, signed=signed, max_tokens=4).evidence
    with pytest.raises(StoreError):
        store.add_answer(bytes([1]) * 32, evidence)
    assert len(store.unbatched(9)) == 1


def seal(store, answers):
    batch = sealed(RecordingChain(), answers)
    store.seal(batch, [a.sequence for a in answers])
    return batch


def test_a_sealed_batch_keeps_its_order_and_no_answer_is_in_two(store, answering):
    for tokens in (1, 2, 3):
        answer(answering, max_tokens=tokens)
    reordered = list(reversed(store.unbatched(9)))
    batch = seal(store, reordered)
    kept = store.answers_of(batch.batch_id)
    assert [a.digest for a in kept] == [a.digest for a in reordered]
    assert merkle.root(leaves_of([a.evidence for a in kept])) == store.batch(batch.batch_id).root == batch.root
    assert store.unbatched(9) == []
    with pytest.raises(StoreError, match="in a batch already"):
        seal(store, reordered)
    assert [b.batch_id for b in store.open_batches()] == [batch.batch_id]


def test_a_batchs_life_is_kept(store, answering):
    answer(answering)
    batch = seal(store, store.unbatched(9))
    assert [b.state for b in store.open_batches()] == ["sealed"]
    store.mark_anchored(batch.batch_id)
    store.mark_unsent(batch.batch_id)
    store.mark_anchored(batch.batch_id)
    assert [b.state for b in store.open_batches()] == ["anchored"]
    store.mark_settled(batch.batch_id, 1, 0, ["accept"])
    assert store.open_batches() == []
    assert (store.batch(batch.batch_id).accepted, store.answers_of(batch.batch_id)[0].result) == (1, "accept")
    assert store.settled_ids() == [batch.batch_id]
    store.mark_final(batch.batch_id, 0, 1, ["reject"])
    assert store.settled_ids() == []
    assert (store.batch(batch.batch_id).state, store.answers_of(batch.batch_id)[0].result) == ("final", "reject")


def test_a_batchs_canary_is_kept_and_no_two_are_alike(store, answering):
    answer(answering)
    batch = seal(store, store.unbatched(9))
    assert store.batch(batch.batch_id).canary == batch.canary
    other = sealed(RecordingChain(), store.answers_of(batch.batch_id))
    assert (other.root, len(other.canary)) == (batch.root, 32)
    assert other.canary != batch.canary


def test_vouchers_never_go_down(store):
    """Neither the limit nor what is acknowledged: of vouchers that cross, both the best are kept."""
    payer = EthAccount.create().address
    for cumulative, earned in ((5, 0), (9, 0), (7, 3), (8, 2)):
        store.save_voucher(Voucher(payer, payer, cumulative, earned, 100 + earned), bytes([cumulative]) * 65)
        if cumulative == 5:
            assert store.acknowledgement(payer) is None
    assert store.voucher(payer) == Kept(9, bytes([9]) * 65, 0, 100)
    assert store.acknowledgement(payer) == Kept(7, bytes([7]) * 65, 3, 103)
    assert store.acknowledgement(payer).voucher(payer, payer) == Voucher(payer, payer, 7, 3, 103)


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=12))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_clients_owe_is_what_adding_up_their_answers_gives(answering, steps):
    """Running sums against the sum over all answers, through verdicts, appeals and voids in any order."""
    store = Store("sqlite://")
    evidence = answer(answering, max_tokens=1).evidence
    kept, sealed_ = [], []
    for number, (what, choice) in enumerate(steps):
        if what == 0:
            client = "0x" + f"{choice % 3:040x}"
            paid = replace(evidence, receipt=replace(evidence.receipt, client=client, fee_wei=10**20 + number))
            kept.append([client, paid.receipt.fee_wei, None])
            store.add_answer(number.to_bytes(32, "big"), paid)
        elif what == 1 and (waiting := store.unbatched(2)):
            batch = sealed(answering.chain, waiting)
            store.seal(batch, [a.sequence for a in waiting])
            sealed_.append((batch, [a.sequence - 1 for a in waiting]))
        elif what >= 2 and sealed_:
            batch, members = sealed_[choice % len(sealed_)]
            results = [("accept", "reject", "inconclusive")[(choice + leaf) % 3] for leaf in range(len(members))]
            if choice == 7:
                store.mark_void(batch.batch_id)
                results = ["void"] * len(members)
            else:
                (store.mark_settled if what == 2 else store.mark_final)(batch.batch_id, 0, 0, results)
            for member, result in zip(members, results, strict=True):
                kept[member][2] = result
    for client in {client for client, *_ in kept}:
        mine = [(fee, result) for who, fee, result in kept if who == client]
        assert store.owed(client.upper().replace("X", "x")) == sum(fee for fee, r in mine if r in (None, "accept"))
        assert store.earned(client) == sum(fee for fee, r in mine if r == "accept")
    store.close()


def test_who_has_paid_all_is_asked_no_more(store, answering):
    client = EthAccount.create().address
    evidence = answer(answering, max_tokens=1).evidence
    store.add_answer(bytes(32), replace(evidence, receipt=replace(evidence.receipt, client=client, fee_wei=7)))
    store.save_voucher(Voucher(client, client, 9), bytes(65), 5)
    assert store.to_collect() == []
    batch = seal(store, store.unbatched(9))
    store.mark_settled(batch.batch_id, 1, 0, ["accept"] * len(batch.leaves))
    assert store.to_collect() == [Due(client, 7, 0, 0, 5)]
    store.note_collected(client, 7)
    assert store.to_collect() == []


def test_amounts_beyond_64_bits_are_kept(store):
    payer = EthAccount.create().address
    store.save_voucher(Voucher(payer, payer, 2**256 - 1, 2**256 - 2), bytes(65))
    assert store.voucher(payer).cumulative_wei == 2**256 - 1
    assert store.acknowledgement(payer).earned_wei == 2**256 - 2


def test_what_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "text").write_text("this is no database, and long enough not to look like an empty one")
    for url in (f"sqlite:///{tmp_path}/missing/node.sqlite", f"sqlite:///{tmp_path}/text"):
        with pytest.raises(StoreError, match="cannot open the store"):
            Store(url)


def test_a_database_whose_driver_is_not_installed_is_named():
    with pytest.raises(StoreError, match=r"aiomysql is not installed.*./operators\[postgres\]"):
        Store("mysql+aiomysql://operator@127.0.0.1/trine")


def test_a_store_serves_one_account_only(store):
    one, other = RecordingChain(), RecordingChain()
    Batcher(store, one, one.outbox, bytes(32), max_leaves=1, max_wait_seconds=0)
    with pytest.raises(StoreError, match="use a store of its own"):
        Batcher(store, other, other.outbox, bytes(32), max_leaves=1, max_wait_seconds=0)
