"""What a cheating verifier is told: a small file that it reads again and again. Knows nothing of how one cheats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trine.chain.calls import checksum
from trine.errors import InvalidInput
from trine_devnet.cheats import known_cheat

MAX_ORDERS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Orders:
    """Which cheat, and for which nodes (addresses) if it favours some."""

    cheat: str = "honest"
    nodes: frozenset[str] = frozenset()

    @classmethod
    def read(cls, file: Path) -> Orders:
        """A cheat's name and addresses, separated by blanks. Raises InvalidInput for anything else."""
        with file.open("rb") as opened:
            words = opened.read(MAX_ORDERS_BYTES + 1)
        if len(words) > MAX_ORDERS_BYTES:
            raise InvalidInput(f"orders have at most {MAX_ORDERS_BYTES} bytes: name fewer nodes")
        name, *nodes = words.decode("ascii", "replace").split() or [""]
        return cls(known_cheat(name), frozenset(map(checksum, nodes)))

    def write(self, file: Path) -> None:
        """At once: whoever reads meanwhile finds the old orders or the new ones."""
        known_cheat(self.cheat)
        draft = file.with_suffix(".new")
        draft.write_text(" ".join([self.cheat, *sorted(self.nodes)]), "ascii")
        draft.replace(file)
