"""A file of named orders and their answers: who asks again after a crash sends the same order, and pays once.

One SQLite file for any number of accounts and deployments, which its owner alone can read: it holds questions, answers
and signed orders. An order is in it before it is sent, an answer as soon as it was checked.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine._answer import Answer, Tried
from trine._ordering import Draft
from trine.errors import InvalidInput, ProtocolError
from trine.protocol.grammar import Grammar
from trine.protocol.inputs import parse_input
from trine.protocol.messages import Domain, Request
from trine.protocol.sampling import Sampling
from trine.protocol.tools import tool_calls

if TYPE_CHECKING:
    from trine._repeats import Sent

MOST = 1 << 16
"""Orders of an account that are kept: those that were named last."""
WAIT_SECONDS = 10.0
"""For another process that is writing."""
TABLE = """
CREATE TABLE IF NOT EXISTS named_orders (
    account TEXT NOT NULL, name TEXT NOT NULL, question BLOB NOT NULL, kept TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (account, name)
)
"""
INDEX = "CREATE INDEX IF NOT EXISTS named_orders_by_time ON named_orders (account, at)"


class KeptOrders:
    """Thread-safe: each change is a connection of its own."""

    def __init__(self, path: Path, account: str, domain: Domain) -> None:
        """Of one account on one deployment. Raises InvalidInput where the file is none, or cannot be made."""
        self._path = path
        self._domain = domain
        self._account = f"{account} at {domain.verifying_contract} on {domain.chain_id}".lower()
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise InvalidInput(f"state: cannot keep orders in {path}: {error.strerror}") from None
        with self._open() as file:
            file.execute(TABLE)
            file.execute(INDEX)

    def find(self, name: str) -> tuple[bytes, Sent | Answer] | None:
        """What was asked under this name, and what came of it. Raises InvalidInput."""
        with self._open() as file:
            return self._found(file, name)

    def keep(
        self, name: str, question: bytes, what: Sent | Answer, instead_of: Sent | None = None
    ) -> tuple[bytes, Sent | Answer] | None:
        """An answer in any case, an order where there is nothing under this name, or `instead_of`. Else as `find`: of
        clients that ask at the same moment, one sends its order and the others that one. Raises InvalidInput."""
        from trine._repeats import is_same

        document = {"answer": _answered(what)} if isinstance(what, Answer) else _document(what)
        with self._open() as file:
            file.execute("BEGIN IMMEDIATE")
            known = None if isinstance(what, Answer) else self._found(file, name)
            if known is not None and not is_same(known[1], instead_of):
                return known
            file.execute(
                "INSERT OR REPLACE INTO named_orders VALUES (?, ?, ?, ?, ?)",
                (self._account, name, question, json.dumps(document), time.time()),
            )
            file.execute(
                "DELETE FROM named_orders WHERE account = ? AND name IN"
                " (SELECT name FROM named_orders WHERE account = ? ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (self._account, self._account, MOST),
            )
        return None

    def _found(self, file: sqlite3.Connection, name: str) -> tuple[bytes, Sent | Answer] | None:
        asked = "SELECT question, kept FROM named_orders WHERE account = ? AND name = ?"
        row = file.execute(asked, (self._account, name)).fetchone()
        if row is None:
            return None
        try:
            document = json.loads(row[1])
            return bytes(row[0]), _answer(document["answer"]) if "answer" in document else _sent(document, self._domain)
        except (ValueError, KeyError, TypeError, AttributeError, ProtocolError) as error:
            raise InvalidInput(
                f"state: {self._path} does not hold the order {name!r:.80} as this version keeps it "
                f"({error!r:.120}): it may have been paid for, so name another order to ask anew"
            ) from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises InvalidInput."""
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS)) as file, file:
                yield file
        except sqlite3.Error as error:
            raise InvalidInput(f"state: {self._path} cannot be used: {error}") from None


def _answered(answer: Answer) -> dict[str, Any]:
    return {
        "held": answer.held(),
        "text": answer.text,
        "finishReason": answer.finish_reason,
        "calls": [call.to_json() for call in answer.tool_calls],
        "beside": answer.beside_calls,
        "seconds": answer.seconds,
        "firstSeconds": answer.first_seconds,
        "tried": [each.to_json() for each in answer.tried],
        "sampling": answer.sampling.document() if answer.sampling else None,
        "grammar": answer.grammar.document() if answer.grammar else None,
    }


def _answer(document: dict[str, Any]) -> Answer:
    """As it was given, without its certificate."""
    answer = Answer.from_held(document["held"])
    answer.text, answer.finish_reason = str(document["text"]), str(document["finishReason"])
    answer.tool_calls, answer.beside_calls = tool_calls(document["calls"], "calls"), document["beside"]
    answer.seconds, answer.first_seconds = document["seconds"], document["firstSeconds"]
    answer.tried = tuple(
        Tried(each["node"], each["nodeUrl"], each["reason"], int(each["mayCostWei"])) for each in document["tried"]
    )
    drawn, constraint = document["sampling"], document["grammar"]
    answer.sampling = None if drawn is None else Sampling.from_document(drawn)
    answer.grammar = None if constraint is None else Grammar.from_document(constraint)
    return answer


def _document(sent: Sent) -> dict[str, Any]:
    order = sent.order
    return {
        "place": list(sent.place),
        "input": order.input.canonical().decode(),
        "request": order.request.to_json(),
        "body": order.body,
        "pricePerTokenWei": str(order.price_per_token_wei),
    }


def _sent(document: dict[str, Any], domain: Domain) -> Sent:
    from trine._repeats import Sent

    node, url = map(str, document["place"])
    request = Request.from_json(document["request"])
    draft = Draft(
        parse_input(document["input"].encode()),
        request,
        request.digest(domain),
        dict(document["body"]),
        None,
        int(document["pricePerTokenWei"]),
    )
    return Sent((node, url), draft)
