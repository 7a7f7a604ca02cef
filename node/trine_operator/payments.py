"""Collects what accepted answers have earned, never more, from the clients' vouchers."""

from __future__ import annotations

import structlog

from trine.chain import Chain
from trine.errors import TransactionReverted
from trine.protocol.messages import Voucher
from trine_operator.store import Store

log = structlog.get_logger()


def collect_earned(store: Store, chain: Chain) -> None:
    """One transaction for each client of whom more was earned than collected."""
    for payer, earned in store.to_collect():
        kept = store.voucher(payer)
        if kept is None:
            continue
        cumulative, signature = kept
        collected = chain.account(payer, chain.address).collected
        if collected < earned:
            try:
                chain.collect(Voucher(payer, chain.address, cumulative), earned, signature)
            except TransactionReverted as error:
                log.warning("collection_refused", payer=payer, reason=error.reason)
                continue
            log.info("collected", payer=payer, cumulative_wei=earned)
        # Corrected by an appeal, less may be earned than was collected: nothing is due until it is more again.
        store.note_collected(payer, earned)
