"""What a store lets go of, when, and what remains of it: on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from eth_account import Account as EthAccount
from sqlalchemy import func, select
from structlog.testing import capture_logs
from test_checks import seated
from test_node_support import RecordingChain, answer, engine, model, sealed, serving, sign, signed_body

from trine.protocol import merkle
from trine.protocol.access import access_header, evidence_digest
from trine.protocol.appeals import LeafVote
from trine.protocol.messages import Receipt
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_node.answering import Answering
from trine_operator.pruning import BATCHES_AT_ONCE, DAY_SECONDS, IDLE_SECONDS, Pruning
from trine_operator.store import EvidencePruned
from trine_operator.store.pruning import ANSWERS_AT_ONCE
from trine_operator.tables import AnswerRow
from trine_verifier.store import ROWS_AT_ONCE, AppealSeat, VerifierStore, VoteRow

KEEP_DAYS = 30
SEAT = AppealSeat(bytes([9]) * 32, 3, 1, 0)
VERDICT = Verdict(Outcome.ACCEPT, Reason.HONEST, 4)


class Clock:
    """Of pauses."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def store(database_url):
    opened = VerifierStore(database_url)
    yield opened
    opened.close()


@pytest.fixture
def chain():
    return RecordingChain()


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    store = VerifierStore(f"sqlite:///{tmp_path_factory.mktemp('one')}/node.sqlite")
    given = answer(Answering(engine(), RecordingChain(), store, model(), allow_unsigned=True)).evidence
    store.close()
    return given


@pytest.fixture
def batch_of(store, chain, evidence):
    """Seals a batch of answers, one for each client and fee."""
    numbers = iter(range(10**6))

    def make(*owing):
        for client, fee in owing:
            number = next(numbers)
            receipt = replace(evidence.receipt, client=client, fee_wei=fee, issued_at=number)
            store.add_answer(receipt.digest(chain.domain), replace(evidence, receipt=receipt))
        answers = store.unbatched(len(owing))
        batch = sealed(chain, answers)
        store.seal(batch, [each.sequence for each in answers])
        return batch

    return make


def prune(store, chain, *, days=0.0, times=1, **settings):
    """So many steps, each after the pause that an idle one takes, once the chain is `days` older."""
    clock = Clock()
    pruning = Pruning(store, chain, keep_evidence_days=KEEP_DAYS, clock=clock, **settings)
    chain.seconds += round(days * DAY_SECONDS)
    for _ in range(times):
        pruning.step()
        clock.seconds += IDLE_SECONDS + 1


def left(store, batch):
    """Leaves whose evidence is still there."""
    return [each.leaf for each in store.answers_of(batch.batch_id) if each.kept is not None]


def finish(store, batch, result="accept"):
    results = [result] * len(batch.leaves)
    store.mark_settled(batch.batch_id, 1, 0, results)
    store.mark_final(batch.batch_id, 1, 0, results)


def test_evidence_goes_when_its_batch_has_been_final_for_long_and_a_certificates_parts_stay(
    store, chain, batch_of, evidence
):
    batch = batch_of((EthAccount.create().address, 0), (EthAccount.create().address, 0))
    finish(store, batch)
    prune(store, chain)  # sees that it is final
    prune(store, chain, days=KEEP_DAYS - 0.01)
    assert left(store, batch) == [0, 1]
    prune(store, chain, days=0.02)
    for leaf, kept in enumerate(store.answers_of(batch.batch_id)):
        assert kept.receipt_signature == evidence.receipt_signature
        assert merkle.leaf_hash(leaf, kept.receipt) == store.batch(batch.batch_id).leaves[leaf]
        with pytest.raises(EvidencePruned, match=f"batch has been over for long.*receipt 0x{kept.digest.hex()}"):
            kept.evidence  # noqa: B018
    with store.reading() as session:
        assert evidence.input.decode() not in " ".join(session.scalars(select(AnswerRow.evidence)))


@pytest.mark.parametrize("state", ["sealed", "anchored", "settled"])
def test_what_is_not_final_stays_however_old_it_is(store, chain, batch_of, state):
    batch = batch_of((EthAccount.create().address, 0))
    if state != "sealed":
        store.mark_anchored(batch.batch_id)
    if state == "settled":
        store.mark_settled(batch.batch_id, 1, 0, ["accept"])
    for _ in range(3):
        prune(store, chain, days=10 * KEEP_DAYS)
    assert store.prune(batch.batch_id) == 0
    assert left(store, batch) == [0]


def test_evidence_of_what_a_client_has_not_paid_stays_until_it_has(store, chain, batch_of):
    owing, paid = EthAccount.create().address, EthAccount.create().address
    batch = batch_of((owing, 7), (paid, 7), (owing, 0))
    finish(store, batch)
    store.note_collected(paid, 7)
    prune(store, chain)
    prune(store, chain, days=KEEP_DAYS + 1)
    assert left(store, batch) == [0]
    store.note_collected(owing, 7)
    prune(store, chain)
    assert left(store, batch) == []


def test_what_was_rejected_is_not_waited_for(store, chain, batch_of):
    client = EthAccount.create().address
    first, second = batch_of((client, 7)), batch_of((client, 7))
    finish(store, first, "reject")
    finish(store, second)
    prune(store, chain)
    prune(store, chain, days=KEEP_DAYS + 1)
    assert (left(store, first), left(store, second)) == ([], [0])


def test_a_step_is_small_and_debtors_hold_up_nobody_else(store, chain, batch_of):
    owing = EthAccount.create().address
    held = [batch_of((owing, 1)) for _ in range(BATCHES_AT_ONCE + 1)]
    free = [batch_of((EthAccount.create().address, 0)) for _ in range(BATCHES_AT_ONCE + 1)]
    for batch in held + free:
        finish(store, batch)
    prune(store, chain)
    prune(store, chain, days=KEEP_DAYS + 1)
    assert sum(not left(store, batch) for batch in held + free) <= BATCHES_AT_ONCE
    prune(store, chain, times=3)
    assert [left(store, batch) for batch in held + free] == [[0]] * len(held) + [[]] * len(free)


def test_a_batch_that_takes_several_transactions_is_pruned_whole(store, chain, batch_of):
    batch = batch_of(*[(EthAccount.create().address, 0)] * (ANSWERS_AT_ONCE + 1))
    finish(store, batch)
    assert store.prune(batch.batch_id) == ANSWERS_AT_ONCE + 1
    assert left(store, batch) == []
    assert store.prune(batch.batch_id) == 0


def test_an_idle_step_writes_nothing_and_pauses(store, chain):
    clock = Clock()
    pruning = Pruning(store, chain, keep_evidence_days=1, clock=clock)
    asked = []
    pruning._parts = (lambda now: bool(asked.append(now)),)
    for seconds in (0, IDLE_SECONDS - 1, IDLE_SECONDS + 1):
        clock.seconds = seconds
        pruning.step()
    assert asked == [chain.seconds] * 2


def test_pruned_evidence_is_gone_by_http_and_its_receipt_is_not(database_url):
    client, judge = EthAccount.create(), EthAccount.create()
    chain = RecordingChain(committee=(judge.address,))
    order = signed_body(chain, client)
    with serving(database_url, chain=chain) as node:
        promise = node.http.post("/v1/chat/completions", json=order).json()["trine"]
        answers = node.store.unbatched(9)
        batch = sealed(chain, answers)
        node.store.seal(batch, [each.sequence for each in answers])
        finish(node.store, batch)
        node.store.note_collected(client.address, node.store.earned(client.address))
        assert node.store.prune(batch.batch_id) == 1

        def asked(path, who):
            digest = evidence_digest(chain.domain, batch.batch_id, chain.now())
            headers = {"authorization": access_header(chain.now(), sign(who, digest))}
            response = node.http.get(f"/v1/batches/0x{batch.batch_id.hex()}/{path}", headers=headers)
            return response.status_code, response.json()["error"]["code"]

        assert asked("evidence", judge) == (410, "evidence_pruned")
        assert asked("evidence/0", client) == (410, "evidence_pruned")
        assert asked("evidence/0", EthAccount.create()) == (403, "no_seat")
        again = node.http.post("/v1/chat/completions", json=order)
        assert (again.status_code, again.json()["error"]["code"]) == (410, "evidence_pruned")
        assert "receipt 0x" in again.json()["error"]["message"]
        shown = node.http.get(f"/v1/receipts/{promise['receiptDigest']}").json()
        assert (shown["receipt"], shown["signature"]) == (promise["receipt"], promise["signature"])
        leaf = merkle.leaf_hash(0, Receipt.from_json(shown["receipt"]))
        assert merkle.verify(batch.root, leaf, [bytes.fromhex(each[2:]) for each in shown["batch"]["proof"]])


def vote(store, number):
    batch_id = number.to_bytes(32, "big")
    seated(store, [(batch_id, 0)])
    store.save_vote(batch_id, 0, Vote(1, 0), bytes(32), [VERDICT])
    return batch_id


def prune_votes(store, now, keep_seconds=100):
    return store.prune_votes(now, keep_seconds)


def test_votes_go_when_their_seats_have_been_over_for_long(store):
    live, over = vote(store, 1), vote(store, 2)
    seated(store, [], [SEAT])
    store.save_appeal_vote(SEAT, LeafVote.ACCEPTED, bytes(32), VERDICT)
    store.end_duty(over, 0)
    prune_votes(store, 1_000)  # sees that it is over
    store.end_appeal_duty(SEAT)
    prune_votes(store, 1_050)
    prune_votes(store, 1_099)
    assert (store.vote(over, 0) is None, store.appeal_vote(SEAT) is None) == (False, False)
    prune_votes(store, 1_100)
    assert (store.vote(over, 0) is None, store.appeal_vote(SEAT) is None) == (True, False)
    prune_votes(store, 1_150)
    assert store.appeal_vote(SEAT) is None
    prune_votes(store, 10**9)
    assert store.vote(live, 0).salt == bytes(32)


def test_votes_go_a_few_at_a_time(store):
    count = ROWS_AT_ONCE + 5
    with store.writing() as session:
        session.add_all(
            VoteRow(batch_id=f"{n:064x}", round=0, accepts="1", rejects="0", distance_ppm=0, salt="0", verdicts="[]")
            for n in range(count)
        )

    def kept():
        with store.reading() as session:
            return session.scalar(select(func.count()).select_from(VoteRow))

    assert prune_votes(store, 1_000)  # as many as are noted at once, so there may be more
    assert not prune_votes(store, 1_000)
    assert kept() == count
    assert prune_votes(store, 2_000)
    assert kept() == 5
    prune_votes(store, 2_000)
    assert kept() == 0


def test_a_sqlite_file_shrinks_when_evidence_goes(tmp_path, chain, evidence):
    file = tmp_path / "node.sqlite"
    store = VerifierStore(f"sqlite:///{file}")
    big = replace(evidence, fingerprint=os.urandom(200_000))
    for number in range(20):
        store.add_answer(number.to_bytes(32, "big"), big)
    answers = store.unbatched(20)
    batch = sealed(chain, answers)
    store.seal(batch, [each.sequence for each in answers])
    finish(store, batch)
    store.close()
    before = file.stat().st_size
    store = VerifierStore(f"sqlite:///{file}")
    with capture_logs() as lines:
        prune(store, chain)
        prune(store, chain, days=KEEP_DAYS + 1, times=3)
    assert [(line["event"], line["answers"]) for line in lines] == [("evidence_pruned", 20)]
    store.close()
    assert file.stat().st_size < before / 10
