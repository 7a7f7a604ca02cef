"""Transactions of the account that this store does not know: by its owner's hand, or by another copy of the operator.

What only an operator's process sends (votes, anchors, challenges) tells a copy from a hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import structlog
from eth_utils.abi import function_abi_to_4byte_selector

from trine.chain.deployment import Deployment, abi
from trine.chain.gateway import Gateway, Seen
from trine.errors import ChainError
from trine_operator.outbox.queue import Kept, Queue

log = structlog.get_logger()

DUTIES = (
    ("Batches", "anchor"),
    ("Batches", "anchorCalibration"),
    ("Batches", "commit"),
    ("Batches", "reveal"),
    ("Batches", "settleSigned"),
    ("Appeals", "commit"),
    ("Appeals", "reveal"),
    ("Calibration", "request"),
    ("Payments", "collect"),
)
"""What no person sends by hand."""
MAX_LOOKED_AT = 32
"""Unknown transactions that are looked at in one go; of more, the newest."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A transaction of the account that is not ours. `duty`: which of an operator's, if it is one."""

    transaction: Seen
    duty: str | None


class Account:
    """Keeps count of the account's transactions."""

    def __init__(self, gateway: Gateway, queue: Queue, deployment: Deployment) -> None:
        self._gateway = gateway
        self._queue = queue
        self._deployment = deployment
        self._met: set[bytes] = set()

    def strangers(self, latest: int, block: int, unmined: list[Kept]) -> list[Stranger]:
        """New ones, oldest first, when the account has `latest` transactions in the chain, whose newest block is
        `block`. `unmined`: acts of which it is not certain whether it is they that are in the chain."""
        accounted = self._queue.accounted()
        if accounted is None:
            self._queue.account_for(latest, block)
            return []
        nonce, since = accounted
        if latest <= nonce:
            if latest < nonce:  # blocks were taken back
                self._queue.account_for(latest, block)
            return []
        ours = {act.nonce for act in unmined}
        unclear = min((n for n in ours if n is not None and nonce <= n < latest), default=latest)
        unknown = [n for n in range(nonce, unclear) if not self._queue.has(n)]
        found = []
        for each in unknown[-MAX_LOOKED_AT:]:
            seen = self._transaction(each, since, block)
            if seen and seen.hash not in self._met and not self._queue.knows(seen.hash):
                self._met.add(seen.hash)
                found.append(Stranger(seen, self._duty(seen)))
        if unclear > nonce:
            self._queue.account_for(unclear, block)
        return found

    def _transaction(self, nonce: int, after: int, until: int) -> Seen | None:
        """The account's transaction with this nonce; None where the endpoint does not show it any more."""
        low, high = after, until
        try:
            while low < high:
                middle = (low + high) // 2
                if self._gateway.nonce(middle) > nonce:
                    high = middle
                else:
                    low = middle + 1
            return next((each for each in self._gateway.transactions_in(low) if each.nonce == nonce), None)
        except ChainError as error:  # states of old blocks are forgotten
            log.warning("unknown_transaction", nonce=nonce, error=str(error))
            return None

    def _duty(self, seen: Seen) -> str | None:
        return self._duties.get((seen.to.lower(), bytes(seen.data[:4])))

    @cached_property
    def _duties(self) -> dict[tuple[str, bytes], str]:
        found = {}
        for contract, function in DUTIES:
            for item in abi(contract):
                if item["type"] == "function" and item["name"] == function:
                    selector = function_abi_to_4byte_selector(item)  # type: ignore[arg-type]
                    found[self._deployment.address(contract).lower(), bytes(selector)] = f"{contract}.{function}"
        return found
