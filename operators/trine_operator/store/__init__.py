"""What must survive a crash: answers before their receipts leave, batches before they are anchored, vouchers.

SQLite (WAL) by default, any SQLAlchemy URL otherwise. The chain stays the truth; this is a cache of it plus what the
chain does not hold. Decides nothing.

- `transactions`   one view or one change at a time: all others stand on it
- `records`, `rows`  what is given and taken; how that lies in tables
- `answers`, `batches`, `balances`, `pruning`  a room for each
"""

from __future__ import annotations

from trine_operator.database import StoreError
from trine_operator.store.answers import Answers
from trine_operator.store.balances import Balances
from trine_operator.store.batches import Batches, Noting
from trine_operator.store.pruning import Prunable
from trine_operator.store.records import (
    Commit,
    Due,
    EvidencePruned,
    Kept,
    Order,
    StoredAnswer,
    StoredBatch,
    leaves_of,
    sealed_batch,
)

__all__ = [
    "Commit",
    "Due",
    "EvidencePruned",
    "Kept",
    "Noting",
    "Order",
    "Store",
    "StoreError",
    "StoredAnswer",
    "StoredBatch",
    "leaves_of",
    "sealed_batch",
]


class Store(Answers, Balances, Batches, Prunable):
    """One connection pool; methods are transactions."""
