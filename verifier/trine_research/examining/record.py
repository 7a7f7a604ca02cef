"""What an examiner must not forget: which prompts it planted, which batches hold them, which clients are known.

A file of JSON lines beside the store, each on disk before what it tells of happens. Without it, planted leaves are bad
answers like any others: nobody could open them, and the node is slashed.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trine.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Planted:
    """A batch with canaries: its root and canary word, and which leaves they are."""

    root: bytes
    canary: bytes
    leaves: tuple[int, ...]


class Record:
    """Of one examiner. Thread-safe."""

    def __init__(self, file: Path) -> None:
        """Reads what is there. Raises InvalidInput for a file that is no such record."""
        self._file = file
        self._lock = threading.Lock()
        self._inputs: set[bytes] = set()
        self._batches: dict[bytes, Planted] = {}  # by root
        self._known: set[str] = set()
        try:
            text = file.read_text("ascii") if file.exists() else ""
        except (OSError, UnicodeError) as error:
            raise InvalidInput(f"cannot read {file}: {error}") from None
        whole, _, torn = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InvalidInput(
                    f"{file}, line {number} is damaged ({error}): without it canaries cannot be opened; "
                    "restore the file, or remove the line and lose the stake of what it told of"
                ) from None
        if torn:  # a crash in the middle of a line: what it tells of has not happened
            os.truncate(file, len(whole) + bool(whole))

    def plant(self, input_hash: bytes) -> None:
        """To be called before the prompt is asked."""
        self._append({"input": input_hash.hex()})

    def is_planted(self, input_hash: bytes) -> bool:
        with self._lock:
            return input_hash in self._inputs

    def commit(self, planted: Planted) -> None:
        """To be called before the batch is sealed."""
        batch = {"root": planted.root.hex(), "canary": planted.canary.hex(), "leaves": list(planted.leaves)}
        self._append({"batch": batch})

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
            self._inputs.add(bytes.fromhex(entry["input"]))
        elif "batch" in entry:
            batch = entry["batch"]
            root = bytes.fromhex(batch["root"])
            self._batches[root] = Planted(root, bytes.fromhex(batch["canary"]), tuple(map(int, batch["leaves"])))
        elif "end" in entry:
            self._batches.pop(bytes.fromhex(entry["end"]), None)
        else:
            self._known.add(str(entry["client"]))
