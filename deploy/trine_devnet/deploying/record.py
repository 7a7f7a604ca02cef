"""What was signed, kept before it is sent: after a crash the same bytes are handed over again."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from trine.errors import InvalidInput

MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Sent:
    """One signed transaction."""

    nonce: int
    contract: str
    asked: dict[str, Any]
    raw: bytes

    @property
    def hash(self) -> str:
        return "0x" + keccak(self.raw).hex()


class Record:
    """A file of lines, one a transaction. Thread-safe; a line that a crash has cut is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.all: list[Sent] = _read(path)

    def of(self, nonce: int) -> list[Sent]:
        """Those of a nonce, oldest first: several where fees were raised."""
        return [sent for sent in self.all if sent.nonce == nonce]

    def same(self, asked: dict[str, Any]) -> Sent | None:
        """The very transaction, if it was signed before."""
        return next((sent for sent in self.of(int(asked["nonce"])) if sent.asked == asked), None)

    def add(self, sent: Sent) -> None:
        """On disk when this returns."""
        with self._lock:
            line = json.dumps(
                {"nonce": sent.nonce, "contract": sent.contract, "asked": sent.asked, "raw": "0x" + sent.raw.hex()}
            )
            with self.path.open("a") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.all.append(sent)


def _read(path: Path) -> list[Sent]:
    if not path.exists():
        return []
    if path.stat().st_size > MAX_RECORD_BYTES:
        raise InvalidInput(f"{path} is too large")
    found = []
    text = path.read_text()
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            raw = bytes.fromhex(entry["raw"].removeprefix("0x"))
            found.append(Sent(int(entry["nonce"]), str(entry["contract"]), dict(entry["asked"]), raw))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    if text and not text.endswith("\n"):
        with path.open("a") as file:
            file.write("\n")  # the next line begins where the cut one ended
    return found
