"""What a node's store costs at every request and every step, by how many answers it holds.

    python benchmarks/age.py                      # 1,000 and 100,000 answers
    python benchmarks/age.py --answers 1000000    # a million: two minutes, 2 GB of disk

Each path is timed alone, many times; the figure is the median. Nothing that a request or a poll does may grow with
history. The store is SQLite in a temporary folder, or any that --store-url names (it must be empty).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

from eth_account import Account
from eth_utils.crypto import keccak
from sqlalchemy import insert

from trine.protocol import fingerprint
from trine.protocol.evidence import Evidence
from trine.protocol.inputs import chat_input
from trine.protocol.messages import ZERO_HASH, Domain, Receipt, engine_class_bytes, text_hash
from trine.protocol.tokens import tokens_hash
from trine_operator.store import Store, sealed_batch
from trine_operator.tables import AnswerRow, BalanceRow, BatchRow

CLIENTS = 1_000
LEAVES = 256
MODEL = bytes([7]) * 32
NODE = Account.from_key(bytes([1]) * 32)
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
ROWS = 10_000
REPEATS = 200


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--answers", type=int, action="append", help="may be repeated; default 1000 and 100000")
    arguments.add_argument("--store-url", help="of an empty database; default SQLite")
    given = arguments.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    columns = {}
    for count in given.answers or [1_000, 100_000]:
        with tempfile.TemporaryDirectory(prefix="trine-age-") as folder:
            store = Store(given.store_url or f"sqlite:///{folder}/node.sqlite")
            started = time.monotonic()
            fill(store, count)
            print(f"{count:,} answers of {CLIENTS:,} clients, written in {time.monotonic() - started:.0f} s")
            columns[count] = {name: timed(path) for name, path in paths(store, count).items()}
            store.close()
    print(f"\n{'milliseconds, median':<44}" + "".join(f"{count:>14,}" for count in columns))
    for name in next(iter(columns.values())):
        print(f"{name:<44}" + "".join(f"{column[name] * 1e3:>14.2f}" for column in columns.values()))


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
    )
    return Evidence(receipt, bytes(65), asked.canonical(), (1, 2, 3), output, words)


def client(number: int) -> str:
    return "0x" + f"{number % CLIENTS:040x}"


def fill(store: Store, count: int) -> None:
    """Rows as the store writes them, in bulk: all but the last hundred in final batches."""
    document = json.dumps(evidence(1).to_json())
    with store.writing() as session:
        batches = [
            {
                "batch_id": f"{number:064x}", "model_id": MODEL.hex(), "root": "00" * 32, "canary": "00" * 32,
                "leaves": "[]", "challenge_id": None, "state": "final", "accepted": "1", "rejected": "0",
            }
            for number in range(count // LEAVES + 1)
        ]  # fmt: skip
        session.execute(insert(BatchRow), batches)
        session.execute(
            insert(BalanceRow),
            [
                {"client": client(n), "owed_wei": str(10**18), "earned_wei": str(10**18), "collected_wei": str(10**18)}
                for n in range(CLIENTS)
            ],
        )
    for start in range(0, count, ROWS):
        rows = []
        for number in range(start + 1, min(start + ROWS, count) + 1):
            is_waiting = number > count - 100
            rows.append(
                {
                    "digest": f"{number:064x}", "request_hash": f"{number:064x}", "model_id": MODEL.hex(),
                    "client": client(number), "fee_wei": str(10**15), "evidence": document,
                    "batch_id": None if is_waiting else f"{number // LEAVES:064x}",
                    "leaf": None if is_waiting else number % LEAVES, "result": None if is_waiting else "accept",
                }
            )  # fmt: skip
        with store.writing() as session:
            session.execute(insert(AnswerRow), rows)


def paths(store: Store, count: int) -> dict[str, Callable[[], object]]:
    fresh = iter(range(count + 1, 10**9))

    def write() -> None:
        number = next(fresh)
        store.add_answer(number.to_bytes(32, "big"), evidence(number))

    def settle() -> None:
        waiting = store.unbatched(1)
        batch = sealed_batch(DOMAIN, NODE.address, MODEL, [answer.evidence for answer in waiting])
        store.seal(batch, [answer.sequence for answer in waiting])
        store.mark_settled(batch.batch_id, 3, 0, ["accept"] * len(waiting))
        store.mark_final(batch.batch_id, 3, 0, ["accept"] * len(waiting))

    return {
        "request: what a client owes, its voucher": lambda: (store.owed(client(3)), store.voucher(client(3))),
        "request: answered before?": lambda: store.answer_to((count // 2).to_bytes(32, "big")),
        "request: a receipt by its digest": lambda: store.answer((count // 3).to_bytes(32, "big")),
        "answer: stored": write,
        "step: how many wait": lambda: store.waiting(LEAVES),
        "step: batches on their way": lambda: (store.open_batches(), store.settled_ids()),
        "step: from whom to collect": store.to_collect,
        "batch: sealed, settled, final": settle,
    }


def timed(path: Callable[[], object]) -> float:
    """Median seconds."""
    path()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        path()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
