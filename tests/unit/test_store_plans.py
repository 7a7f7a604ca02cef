"""Every statement that a store sends finds its rows by an index, whatever the database and however old the store."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event
from test_node_support import RecordingChain, answer, engine, model, sealed

from trine.protocol.appeals import LeafVote
from trine.protocol.messages import Voucher
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_node.answering import Answering
from trine_verifier.store import AppealSeat, VerifierStore

GROWING = ("answers", "appeal_votes", "balances", "batches", "votes", "vouchers")
"""Tables that grow with history or with clients; the others hold what is going on."""
FROM_END_TO_END = (
    r"SCAN {table}\b",  # SQLite, by an index or not
    r"Seq Scan on {table}\b",
    r"Index (Only )?Scan (Backward )?using \w+ on {table}\b[^/]*(/ +(?! |Index Cond)|$)",  # for its order alone
)
SEAT = AppealSeat(bytes(32), 0, 1, 0)
VERDICT = Verdict(Outcome.ACCEPT, Reason.HONEST, 1)


@pytest.fixture
def store(database_url):
    opened = VerifierStore(database_url)
    yield opened
    opened.close()


def use(store):
    """Everything that requests and steps ask of a store."""
    chain = RecordingChain()
    given = answer(Answering(engine(), chain, store, model(), allow_unsigned=True))
    payer = given.evidence.receipt.client
    store.claim("somebody")
    store.answer(given.digest)
    store.answer_to(bytes(32))
    store.waiting(9)
    waiting = store.unbatched(9, given.evidence.receipt.model_id)
    batch = sealed(chain, waiting)
    store.seal(batch, [each.sequence for each in waiting])
    store.open_batches()
    store.mark_anchored(batch.batch_id)
    store.batch(batch.batch_id)
    store.batch_of_challenge(bytes(32))
    store.answers_of(batch.batch_id)
    store.answer_at(batch.batch_id, 0)
    store.save_voucher(Voucher(payer, payer, 9), bytes(65))
    store.voucher(payer)
    store.acknowledgement(payer)
    store.owed_before(payer, 9)
    store.unacknowledged(payer, 0, 9)
    store.resolved_until(payer, 9)
    store.to_acknowledge(payer, 0, 9)
    store.to_open(payer, 9, 9)
    store.note_opened([1])
    store.mark_settled(batch.batch_id, 1, 0, ["accept"])
    store.settled_ids()
    store.owed(payer)
    store.to_collect()
    store.note_collected(payer, 0)
    store.mark_final(batch.batch_id, 1, 0, ["accept"])
    with store.writing() as session:
        store.note_seats(session, [(bytes(32), 0)], [SEAT])
        store.end_seats(session, [(bytes(32), 0)], [SEAT])
        store.note_seats(session, [(bytes(32), 0)], [SEAT])
    store.cursor(0)
    store.save_vote(bytes(32), 0, Vote(1, 0), bytes(32), [VERDICT])
    store.save_appeal_vote(SEAT, LeafVote.ACCEPTED, bytes(32), VERDICT)
    store.vote(bytes(32), 0)
    store.appeal_vote(SEAT)
    store.duties()
    store.appeal_duties()
    store.end_duty(bytes(32), 0)
    store.end_appeal_duty(SEAT)
    store.note_ended(1, 9)
    store.prunable(2, None, 9)
    store.prunable(2, (0, bytes(32)), 9)
    store.prune(batch.batch_id)
    store.prune_votes(1, 0)
    store.prune_votes(2, 0)


def test_no_statement_reads_a_table_that_grows_from_end_to_end(store):
    sent = []
    with store.reading() as session:
        database = session.get_bind()
    event.listen(database, "before_cursor_execute", lambda _c, _cursor, sql, given, *_: sent.append((sql, given)))
    use(store)
    statements = dict(each for each in sent if re.match(r"(SELECT|UPDATE|DELETE)\b", each[0]))
    assert len(statements) > 40
    scans = {}
    with store.reading() as session:
        connection = session.connection()
        if database.dialect.name == "postgresql":
            for way in ("seqscan", "sort", "hashjoin", "mergejoin"):  # what it does to small tables if it may
                connection.exec_driver_sql(f"SET enable_{way} = off")
        for sql, given in statements.items():
            once = given[0] if isinstance(given, list) else given
            how = "EXPLAIN QUERY PLAN " if database.dialect.name == "sqlite" else "EXPLAIN "
            plan = " / ".join(str(row[-1]) for row in connection.exec_driver_sql(how + sql, once))
            if any(re.search(pattern.format(table=table), plan) for pattern in FROM_END_TO_END for table in GROWING):
                scans[sql] = plan
    assert scans == {}
