"""What an examiner must not forget: which prompts it planted, which batches hold them, which clients are known.

A file of JSON lines beside the store, each on disk before what it tells of happens. Without it, planted leaves are bad
answers like any others: nobody could open them, and the node is slashed. At every start the file is written anew
without what is over.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from trine.errors import InvalidInput

REMEMBERED = 1 << 16
"""Prompts that were planted, the newest. An order is answered and in a batch within the hour: at the most that settings
allow, two and a half a second, these are seven hours."""
MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Planted:
    """A batch with canaries: its root and canary word, and which leaves they are."""

    root: bytes
    canary: bytes
    leaves: tuple[int, ...]


class Record:
    """Of one examiner. Thread-safe."""

    def __init__(self, file: Path, remembered: int = REMEMBERED) -> None:
        """Reads what is there. Raises InvalidInput for a file that is no such record, or cannot be read or written."""
        self._file = file
        self._remembered = remembered
        self._lock = threading.Lock()
        self._inputs: dict[bytes, None] = {}  # the oldest first
        self._batches: dict[bytes, Planted] = {}  # by root
        self._known: dict[str, None] = {}
        try:
            if file.exists():
                with file.open("rb") as lines:
                    self._read(lines)
                self._compact()
        except OSError as error:
            raise InvalidInput(f"cannot read or write {file}: {error}") from None

    def _read(self, lines: BinaryIO) -> None:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b""), 1):
            if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                return  # a crash in the middle of the last line: what it tells of has not happened
            try:
                self._take(json.loads(line.decode("ascii")))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InvalidInput(
                    f"{self._file}, line {number} is damaged ({error}): without it canaries cannot be opened; "
                    "restore the file, or remove the line and lose the stake of what it told of"
                ) from None

    def _compact(self) -> None:
        """Puts a file without what is over in the place of this one: either of them is there whole, always."""
        new = self._file.with_name(self._file.name + ".new")
        with new.open("w", encoding="ascii") as file:
            os.chmod(file.fileno(), self._file.stat().st_mode & 0o777)
            file.writelines(json.dumps(entry) + "\n" for entry in self._entries())
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._file)
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _entries(self) -> Iterator[dict[str, Any]]:
        yield from ({"client": client} for client in self._known)
        yield from ({"input": input_hash.hex()} for input_hash in self._inputs)
        yield from (_entry(planted) for planted in self._batches.values())

    def plant(self, input_hash: bytes) -> None:
        """To be called before the prompt is asked."""
        self._append({"input": input_hash.hex()})

    def is_planted(self, input_hash: bytes) -> bool:
        with self._lock:
            return input_hash in self._inputs

    def commit(self, planted: Planted) -> None:
        """To be called before the batch is sealed."""
        self._append(_entry(planted))

    def open_batches(self) -> list[Planted]:
        """Those of which there is more to do."""
        with self._lock:
            return list(self._batches.values())

    def end(self, root: bytes) -> None:
        """Nothing more is to be done about the batch."""
        self._append({"end": root.hex()})

    def expose(self, client: str) -> None:
        """From now on everybody can know whose client this was."""
        if not self.is_known(client):
            self._append({"client": client})

    def is_known(self, client: str) -> bool:
        with self._lock:
            return client in self._known

    def _append(self, entry: dict[str, Any]) -> None:
        with self._lock:
            with self._file.open("a", encoding="ascii") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "input" in entry:
            self._inputs[bytes.fromhex(entry["input"])] = None
            while len(self._inputs) > self._remembered:
                del self._inputs[next(iter(self._inputs))]
        elif "batch" in entry:
            batch = entry["batch"]
            root = bytes.fromhex(batch["root"])
            self._batches[root] = Planted(root, bytes.fromhex(batch["canary"]), tuple(map(int, batch["leaves"])))
        elif "end" in entry:
            self._batches.pop(bytes.fromhex(entry["end"]), None)
        else:
            self._known[str(entry["client"])] = None


def _entry(planted: Planted) -> dict[str, Any]:
    return {
        "batch": {"root": planted.root.hex(), "canary": planted.canary.hex(), "leaves": list(planted.leaves)},
    }
