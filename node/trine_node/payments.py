"""Collects what accepted answers have earned, never more, from the clients' vouchers."""

from __future__ import annotations

import structlog

from trine.chain import Chain
from trine.errors import TransactionReverted
from trine.protocol.messages import Voucher
from trine_node.store import Store

log = structlog.get_logger()


def earned(store: Store, client: str) -> int:
    """Fees of the client's answers that a committee accepted, wei."""
    return store.fees(client, ["accept"])


def collect_earned(store: Store, chain: Chain) -> None:
    """One transaction for each client who owes more than was collected."""
    for payer in store.payers():
        kept = store.voucher(payer)
        due = earned(store, payer)
        if kept is None or due <= chain.account(payer, chain.address).collected:
            continue
        cumulative, signature = kept
        try:
            chain.collect(Voucher(payer, chain.address, cumulative), due, signature)
            log.info("collected", payer=payer, cumulative_wei=due)
        except TransactionReverted as error:
            log.warning("collection_refused", payer=payer, reason=error.reason)
