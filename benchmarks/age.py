"""What an operator's store costs at every request and every step, by how many answers it holds.

    python benchmarks/age.py                                  # 1,000 and 100,000 answers, SQLite
    python benchmarks/age.py --postgres                       # the same on a PostgreSQL server that this starts
    python benchmarks/age.py --answers 1000 --answers 1000000 # a million: some minutes, 4 GB of disk

Each path is timed alone, many times; the figure is the median. Nothing that a request or a poll does may grow with
history. The store is SQLite in a temporary folder, PostgreSQL from its wheel, or any that --store-url names (it must be
empty). Answers have 64 tokens: 2 kB of evidence, so that a million fits; a longer one costs only who reads that one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eth_account import Account
from eth_utils.crypto import keccak
from sqlalchemy import insert, text

from trine.protocol import fingerprint
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import chat_input
from trine.protocol.messages import ZERO_HASH, Domain, Receipt, engine_class_bytes, text_hash
from trine.protocol.tokens import tokens_hash
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_operator.pruning import NOTED_AT_ONCE
from trine_operator.store import Store, sealed_batch
from trine_operator.tables import AnswerRow, BalanceRow, BatchRow, VoucherRow
from trine_verifier.store import DutyRow, VerifierStore, VoteRow

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy" / "scripts"))
from postgres_server import PostgresServer

CLIENTS = 1_000
LEAVES = 256
IN_FLIGHT = 100
MODEL = bytes([7]) * 32
NODE = Account.from_key(bytes([1]) * 32)
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
ROWS = 10_000
REPEATS = 200


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--answers", type=int, action="append", help="may be repeated; default 1000 and 100000")
    database = arguments.add_mutually_exclusive_group()
    database.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own; default SQLite")
    database.add_argument("--store-url", help="of an empty database")
    given = arguments.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    columns = {}
    for count in given.answers or [1_000, 100_000]:
        with store_url(given) as url:
            store, started = VerifierStore(url), time.monotonic()
            fill(store, count)
            seconds = time.monotonic() - started
            print(f"{count:,} answers of {CLIENTS:,} clients, written in {seconds:.0f} s on {database_of(store)}")
            column = {name: timed(path, REPEATS) for name, path in paths(store, count).items()}
            column["pruning: a batch of 256 answers"] = timed(pruning(store), max(1, min(20, count // LEAVES - 2)))
            store.close()
            column["start: open and check the file"] = timed(lambda url=url: VerifierStore(url).close(), 1)
            columns[count] = column
    print(f"\n{'milliseconds, median':<48}" + "".join(f"{count:>14,}" for count in columns))
    for name in next(iter(columns.values())):
        print(f"{name:<48}" + "".join(f"{column[name] * 1e3:>14.2f}" for column in columns.values()))


@contextmanager
def store_url(given: argparse.Namespace) -> Iterator[str]:
    if given.store_url:
        yield given.store_url
    elif given.postgres:
        with PostgresServer("max_wal_size=4GB") as server:
            yield server.create_database()
    else:
        with tempfile.TemporaryDirectory(prefix="trine-age-") as folder:
            yield f"sqlite:///{folder}/node.sqlite"


def database_of(store: Store) -> str:
    with store.reading() as session:
        engine = session.get_bind()
        version = "sqlite_version()" if engine.dialect.name == "sqlite" else "current_setting('server_version')"
        size = "pg_database_size(current_database())"
        if engine.dialect.name == "sqlite":
            size = "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
        found, size_bytes = session.execute(text(f"SELECT {version}, {size}")).one()
    return f"{engine.dialect.name} {found}, {size_bytes / 1e6:,.0f} MB"


def evidence(number: int) -> Evidence:
    """An answer of 64 tokens. Its signature is none: the store does not look."""
    asked = chat_input([{"role": "user", "content": f"Question {number}?"}])
    output, words = tuple(range(64)), fingerprint.encode([number.to_bytes(8, "big", signed=False) or b"\1"] * 64)
    receipt = Receipt(
        request_hash=number.to_bytes(32, "big") if number else ZERO_HASH,
        client=client(number),
        node=NODE.address,
        model_id=MODEL,
        input_hash=asked.hash(),
        prompt_hash=tokens_hash((1, 2, 3)),
        output_hash=tokens_hash(output),
        text_hash=text_hash("text"),
        fingerprint_hash=bytes(keccak(words)),
        prompt_tokens=3,
        output_tokens=64,
        max_tokens=64,
        finish_reason=0,
        engine_class=engine_class_bytes("cpu-fp32"),
        fee_wei=10**15,
        issued_at=1_700_000_000,
        anchor_by=1_700_003_600,
    )
    return Evidence(receipt, bytes(65), asked.canonical(), (1, 2, 3), output, words)


def client(number: int) -> str:
    return "0x" + f"{number % CLIENTS:040x}"


def fill(store: Store, count: int) -> None:
    """Rows as the store writes them, in bulk: all but the last hundred in final batches, a hundred settled, and a
    verifier's vote on as many batches, a hundred of them still a duty."""
    document = json.dumps(evidence(1).to_json())
    names = [f"{number:064x}" for number in range(count // LEAVES + 1)]
    settled = [f"{number:064x}" for number in range(10**9, 10**9 + IN_FLIGHT)]
    leaves = json.dumps(["00" * 32] * LEAVES)
    with store.writing() as session:
        batches = [
            {
                "batch_id": name, "model_id": MODEL.hex(), "root": "00" * 32, "canary": "00" * 32,
                "leaves": leaves, "challenge_id": None, "state": state, "accepted": "1", "rejected": "0",
                "ended_at": at,
            }
            for state, at, some in (("final", 1, names), ("settled", None, settled))
            for name in some
        ]  # fmt: skip
        session.execute(insert(BatchRow), batches)
        rich = {"owed_wei": str(10**18), "earned_wei": str(10**18), "collected_wei": str(10**18)}
        session.execute(insert(BalanceRow), [{"client": client(n), **rich} for n in range(CLIENTS)])
        session.execute(
            insert(VoucherRow),
            [
                {"payer": client(n), "client": client(n), "cumulative_wei": str(10**18), "signature": "00" * 65}
                for n in range(CLIENTS)
            ],
        )
        vote = {"round": 0, "accepts": "f" * 64, "rejects": "0", "distance_ppm": 0, "salt": "00" * 32}
        verdicts = json.dumps([{"outcome": "accept", "reason": "honest", "detail": "x" * 60}] * LEAVES)
        session.execute(
            insert(VoteRow),
            [
                {"batch_id": name, **vote, "verdicts": verdicts, "ended_at": at}
                for at, some in ((1, names), (None, settled))
                for name in some
            ],
        )
        session.execute(insert(DutyRow), [{"batch_id": name, "round": 0} for name in settled])
    for start in range(0, count, ROWS):
        rows = []
        for number in range(start + 1, min(start + ROWS, count) + 1):
            is_waiting = number > count - IN_FLIGHT
            rows.append(
                {
                    "digest": f"{number:064x}", "request_hash": f"{number:064x}", "model_id": MODEL.hex(),
                    "client": client(number), "fee_wei": str(10**15), "evidence": document,
                    "batch_id": None if is_waiting else names[number // LEAVES],
                    "leaf": None if is_waiting else number % LEAVES, "result": None if is_waiting else "accept",
                }
            )  # fmt: skip
        with store.writing() as session:
            session.execute(insert(AnswerRow), rows)
    with store.writing() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("ANALYZE"))  # it does that by itself, a minute later


def pruning(store: Store) -> Callable[[], object]:
    old = iter(store.prunable(2, None, 64)[1:])  # the first has no leaf 0
    return lambda: store.prune(next(old)[1])


def paths(store: VerifierStore, count: int) -> dict[str, Callable[[], object]]:
    fresh = iter(range(count + 1, 10**9))
    verdict = Verdict(Outcome.ACCEPT, Reason.HONEST, 64, 0.1)

    def write() -> None:
        number = next(fresh)
        store.add_answer(number.to_bytes(32, "big"), evidence(number))

    def settle() -> None:
        waiting = store.unbatched(1)
        batch = sealed_batch(DOMAIN, NODE.address, MODEL, [answer.evidence for answer in waiting])
        store.seal(batch, [answer.sequence for answer in waiting])
        store.mark_settled(batch.batch_id, 3, 0, ["accept"] * len(waiting))
        store.mark_final(batch.batch_id, 3, 0, ["accept"] * len(waiting))

    def vote() -> None:
        batch_id = next(fresh).to_bytes(32, "big")
        with store.writing() as session:
            store.note_seats(session, [(batch_id, 0)], [])
        store.save_vote(batch_id, 0, Vote(1, 0), bytes(32), [verdict] * LEAVES)
        store.vote(batch_id, 0)
        store.end_duty(batch_id, 0)

    return {
        "request: what a client owes, its voucher": lambda: (store.owed(client(3)), store.voucher(client(3))),
        "request: answered before?": lambda: store.answer_to((count // 2).to_bytes(32, "big")),
        "request: a receipt by its digest": lambda: store.answer((count // 3).to_bytes(32, "big")),
        "answer: stored": write,
        "step: how many wait": lambda: store.waiting(LEAVES),
        "request: a batch's evidence": lambda: store.answers_of((1).to_bytes(32, "big")),
        "step: batches on their way": lambda: (store.open_batches(), store.settled_ids()),
        "step: from whom to collect": store.to_collect,
        "batch: sealed, settled, final": settle,
        "start: the batch of a challenge": lambda: store.batch_of_challenge(bytes(32)),
        "verifier's step: duties": lambda: (store.duties(), store.appeal_duties(), store.cursor(0)),
        "verifier's seat: drawn, voted, over": vote,
        "pruning: a look": lambda: (
            store.note_ended(2, NOTED_AT_ONCE),
            store.prunable(0, None, 4),
            store.prune_votes(2, 10),
        ),
    }


def timed(path: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    path()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        path()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
