"""What an agent remembers: each entry with where it came from, under a MAC by the owner's key.

The key and the count of entries lie in the owner's folder, which no action of the agent reaches. Who can write to the
memory's file, but has no key, can neither add, change, copy nor reorder entries; what is removed is noticed. Knows
nothing of models.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rfc8785

MAX_ENTRIES = 1_000
MAX_CHARACTERS = 2_000
MAX_FILE_BYTES = 8 << 20


class MemoryFull(Exception):
    """Forget something first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`origin`: who wrote it down, "owner" or "agent". `read`: what had been read by then that the owner has not
    written; what the agent writes after that may be somebody else's words."""

    number: int
    text: str
    origin: str
    read: tuple[str, ...]
    written_at: int

    @property
    def is_trusted(self) -> bool:
        return not self.read


class Memory:
    """One process at a time. `forged` and `missing` tell what is wrong with the file, as it was when it was read."""

    def __init__(self, file: Path, owner: Path) -> None:
        """`owner`: the owner's folder; a key is made in it where there is none."""
        self._file, self._count_file = file, owner / "memory.count"
        self._key = _key(owner / "memory.key")
        self.forged = 0
        self.entries = self._load()
        count = int(self._count_file.read_text()) if self._count_file.exists() else 0
        # An entry was written, and the count was not: whoever has the key was stopped in between.
        if count + 1 in self.entries:
            count += 1
        self.forged += len([number for number in self.entries if number > count])
        self.entries = {number: entry for number, entry in self.entries.items() if number <= count}
        self.missing = tuple(number for number in range(1, count + 1) if number not in self.entries)
        self._count = count

    @property
    def is_doubtful(self) -> bool:
        """Somebody has been at the file: what is left is genuine, but is not all that was remembered."""
        return bool(self.forged or self.missing)

    def write(self, text: str, *, origin: str, read: Collection[str] = ()) -> Entry:
        """Raises MemoryFull."""
        if self._count >= MAX_ENTRIES:
            raise MemoryFull(f"{MAX_ENTRIES} entries are remembered: begin a new memory")
        cut = " ".join(text.split())[:MAX_CHARACTERS]
        entry = Entry(self._count + 1, cut, origin, tuple(sorted(read)), int(time.time()))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**asdict(entry), "mac": self._mac(entry)}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._count += 1
        written = self._count_file.with_suffix(".new")
        written.write_text(str(self._count))
        written.replace(self._count_file)
        self.entries[entry.number] = entry
        return entry

    def _load(self) -> dict[int, Entry]:
        if not self._file.exists():
            return {}
        with self._file.open("rb") as file:
            lines = file.read(MAX_FILE_BYTES).splitlines()
        found: dict[int, Entry] = {}
        for line in lines:
            entry = self._genuine(line)
            if entry is None or entry.number in found:
                self.forged += 1
            else:
                found[entry.number] = entry
        return found

    def _genuine(self, line: bytes) -> Entry | None:
        try:
            fields: dict[str, Any] = json.loads(line)
            mac = fields.pop("mac")
            entry = Entry(**{**fields, "read": tuple(fields["read"])})
            return entry if hmac.compare_digest(self._mac(entry), mac) else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _mac(self, entry: Entry) -> str:
        """HMAC-SHA256 over the entry's canonical JSON (RFC 8785)."""
        return hmac.new(self._key, rfc8785.dumps(asdict(entry)), hashlib.sha256).hexdigest()


def _key(file: Path) -> bytes:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, secrets.token_bytes(32))
        os.close(descriptor)
    key = file.read_bytes()
    if len(key) != 32:
        raise ValueError(f"{file} has {len(key)} bytes, a key has 32: was it cut off?")
    return key
