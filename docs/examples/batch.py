"""A model's answers to the questions in a CSV file, through a gateway; it may be killed and started again.

    python docs/examples/batch.py questions.csv answers.csv [--model NAME] [--column question] [--at-once 8]

Each row's answer is on disk before the next is counted. What was on its way when the script was killed is asked again
by the same Idempotency-Key: the gateway finishes an answer though its client has left, and gives the same one again
for nothing (for its `repeat_hours`). So no question is answered twice, and no answer is paid twice. Environment:
OPENAI_BASE_URL, OPENAI_API_KEY. Needs `openai` and `rich`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FIELDS = ("row", "question", "answer", "verdict", "fee_wei", "receipt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--column", default="question")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--wait", default="verdict", help="what to wait for: none, verdict, final or hard")
    given = parser.parse_args()
    with given.questions.open(newline="", encoding="utf-8") as file:
        questions = [row[given.column] for row in csv.DictReader(file)]
    done = rows_done(given.answers, questions)
    todo = [row for row in range(len(questions)) if row not in done]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        OpenAI(max_retries=5) as client,
        given.answers.open("a", newline="", encoding="utf-8") as file,
        Progress(*columns) as progress,
        ThreadPoolExecutor(given.at_once) as pool,
    ):
        writer = csv.DictWriter(file, FIELDS)
        if file.tell() == 0:
            writer.writeheader()
        bar = progress.add_task("answers", total=len(questions), completed=len(done))
        asked = [pool.submit(answer, client, row, questions[row], given) for row in todo]
        try:
            for finished in as_completed(asked):
                writer.writerow(finished.result())
                file.flush()
                os.fsync(file.fileno())
                progress.advance(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def answer(client: OpenAI, row: int, question: str, given: argparse.Namespace) -> dict[str, Any]:
    body = {
        "model": given.model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": given.max_tokens,
    }
    headers = {"Idempotency-Key": name_of(row, body)}
    if given.wait != "none":
        headers["x-trine-wait"] = given.wait
    found = client.chat.completions.create(**body, extra_headers=headers)
    trine = (found.model_extra or {})["trine"]
    return {
        "row": row,
        "question": question,
        "answer": found.choices[0].message.content,
        "verdict": trine["verdict"],
        "fee_wei": trine["feeWei"],
        "receipt": trine["receiptDigest"],
    }


def name_of(row: int, body: dict[str, Any]) -> str:
    """The same for the same row and request, in every run."""
    return hashlib.sha256(json.dumps([row, body], sort_keys=True).encode()).hexdigest()


def rows_done(file: Path, questions: list[str]) -> set[int]:
    """Rows whose answers are there. Cuts off a last line that was being written when the script was killed."""
    if not file.exists():
        return set()
    whole = file.read_bytes()
    kept = b"".join(lines_of(whole))
    if kept != whole:
        file.write_bytes(kept)
    found: set[int] = set()
    for line in csv.DictReader(io.StringIO(kept.decode("utf-8"), newline="")):
        row = int(line["row"])
        if not 0 <= row < len(questions) or line["question"] != questions[row]:
            raise SystemExit(f"{file} is about other questions, from row {row} on: name another file")
        found.add(row)
    return found


def lines_of(whole: bytes) -> Iterator[bytes]:
    """Rows that were written to their end; an answer may have line breaks in it."""
    row = b""
    for line in whole.splitlines(keepends=True):
        row += line
        if row.count(b'"') % 2 == 0 and row.endswith(b"\r\n"):
            yield row
            row = b""


if __name__ == "__main__":
    main()
