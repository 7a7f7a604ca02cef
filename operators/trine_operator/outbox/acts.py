"""What an operator has sent: each transaction named by what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trine.chain.transactions import Call


@dataclass(frozen=True, slots=True)
class Due:
    """Until when an act is of use: a time of the chain in seconds, or a block. Neither: it has time."""

    at: int | None = None
    block: int | None = None


NOT_DUE = Due()


@dataclass(frozen=True, slots=True)
class Guard:
    """What an act says for good: of this subject never another value is signed. See `protection`."""

    kind: str
    subject: str
    value: str


@dataclass(frozen=True, slots=True)
class Act:
    """A call to be sent, once. `names`: what it does, one for each thing that it does; the first stands for it in logs.

    While an act is open no other of one of its names is taken.
    """

    names: tuple[str, ...]
    call: Call
    due: Due = NOT_DUE
    guards: tuple[Guard, ...] = ()
    max_gas: int | None = None
    """What strangers' code takes may be bounded: an act that needs more is refused."""


class Submits(Protocol):
    """What duties know of the outbox."""

    def submit(self, act: Act) -> None:
        """Queues the act, or does nothing while it is open.

        Raises TransactionReverted when the last try of it was refused, once for each try; NotReady when nothing is
        signed any more; Contradiction.
        """
        ...

    def open_names(self) -> frozenset[str]:
        """Of all acts whose outcome is not certain yet. To be asked before the chain is: what was certain then, the
        chain shows."""
        ...


def batch_names(verb: str, batch_ids: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(f"{verb} {batch_id.hex()}" for batch_id in batch_ids)
