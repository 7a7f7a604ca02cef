"""A model's answers to the questions in a CSV file, through a gateway; it may be killed and started again.

    python docs/examples/batch.py questions.csv answers.csv [--model NAME] [--column question] [--at-once 8]

Each row's answer is on disk before the next is counted. What was on its way when the script was killed is asked again
by the same Idempotency-Key: the gateway finishes an answer though its client has left, and gives the same one again
for nothing (for its `repeat_hours`). So no question is answered twice, and no answer is paid twice. Environment:
OPENAI_BASE_URL, OPENAI_API_KEY. Needs `openai` and `rich`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openai import APIConnectionError, AsyncOpenAI, OpenAIError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FIELDS = ("row", "question", "answer", "verdict", "fee_wei", "receipt")
NEEDED = ("OPENAI_BASE_URL", "OPENAI_API_KEY")


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
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise SystemExit(f"error: set {', '.join(missing)}: docs/gateway.md says where to get a key")
    try:
        questions = questions_of(given.questions, given.column)
        done = rows_done(given.answers, questions)
        asyncio.run(ask_all(questions, done, given))
    except* (OSError, OpenAIError) as failed:
        code, said = 1, f"error: {sentence(failed.exceptions[0])}"
    except* KeyboardInterrupt:
        code, said = 130, "stopped"
    else:
        return
    kept = f"; {given.answers} keeps what is answered: start it again to go on" if given.answers.exists() else ""
    print(f"{said}{kept}", file=sys.stderr)
    raise SystemExit(code)


async def ask_all(questions: list[str], done: set[int], given: argparse.Namespace) -> None:
    """Raises a group with what was wrong first; what was on its way then is given up here, and kept by the gateway."""
    todo = (row for row in range(len(questions)) if row not in done)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    async with AsyncOpenAI(max_retries=5) as client:
        with given.answers.open("a", newline="", encoding="utf-8") as file, Progress(*columns) as progress:
            writer = csv.DictWriter(file, FIELDS)
            if file.tell() == 0:
                writer.writeheader()
            bar = progress.add_task("answers", total=len(questions), completed=len(done))

            async def work() -> None:
                for row in todo:
                    writer.writerow(await answer(client, row, questions[row], given))
                    file.flush()
                    os.fsync(file.fileno())
                    progress.advance(bar)

            async with asyncio.TaskGroup() as group:
                for _ in range(given.at_once):
                    group.create_task(work())


async def answer(client: AsyncOpenAI, row: int, question: str, given: argparse.Namespace) -> dict[str, Any]:
    body = {
        "model": given.model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": given.max_tokens,
    }
    headers = {"Idempotency-Key": name_of(row, body)}
    if given.wait != "none":
        headers["x-trine-wait"] = given.wait
    found = await client.chat.completions.create(**body, extra_headers=headers)
    trine = (found.model_extra or {}).get("trine")
    if trine is None:
        raise OpenAIError(f"{client.base_url} is no gateway of Trine's: its answer came without a node's promise")
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


def sentence(error: BaseException) -> str:
    """The gateway's own words, where it has said any."""
    if isinstance(error, APIConnectionError):
        return f"{os.environ['OPENAI_BASE_URL']} does not answer: does `trine gateway run` run?"
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)


def questions_of(file: Path, column: str) -> list[str]:
    """Raises OSError, SystemExit for a file that is no such table."""
    with file.open(newline="", encoding="utf-8-sig") as opened:
        try:
            table = csv.DictReader(opened)
            rows, columns = list(table), table.fieldnames or ()
        except (csv.Error, UnicodeDecodeError) as error:
            raise SystemExit(f"error: {file} is no CSV file in UTF-8: {error}") from None
    if column not in columns:
        raise SystemExit(f"error: {file} has no column {column!r}: there are {', '.join(columns) or 'none'}")
    return [row[column] or "" for row in rows]


def rows_done(file: Path, questions: list[str]) -> set[int]:
    """Rows whose answers are there. Cuts off a last line that was being written when the script was killed."""
    if not file.exists():
        return set()
    whole, header = file.read_bytes(), ",".join(FIELDS).encode() + b"\r\n"
    if whole[: len(header)] != header[: len(whole)]:
        raise SystemExit(f"error: {file} is there, and was not written by this script: name another file for answers")
    kept = b"".join(lines_of(whole))
    if kept != whole:
        file.write_bytes(kept)
    found: set[int] = set()
    for line in csv.DictReader(io.StringIO(kept.decode("utf-8"), newline="")):
        row = int(line["row"])
        if not 0 <= row < len(questions) or line["question"] != questions[row]:
            raise SystemExit(f"error: {file} is about other questions, from row {row} on: name another file")
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
