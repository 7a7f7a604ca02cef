"""Collects what accepted answers have earned, never more, from the clients' vouchers."""

from __future__ import annotations

import structlog

from trine.chain import Chain
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine.protocol.messages import Voucher
from trine_operator.outbox import Act, Submits
from trine_operator.store import Store

log = structlog.get_logger()


def collect_earned(store: Store, chain: Chain, outbox: Submits) -> None:
    """One transaction for each client of whom more was earned than collected. Waits for none: what the chain has
    collected is noted the next time."""
    in_flight = outbox.open_names()
    for payer, earned in store.to_collect():
        kept = store.voucher(payer)
        if kept is None:
            continue
        cumulative, signature = kept
        name = f"collect from {payer}"
        if name in in_flight:
            continue
        collected = chain.account(payer, chain.address).collected
        if collected < earned:
            voucher = Voucher(payer, chain.address, cumulative)
            try:
                outbox.submit(Act((name,), CALLS.collect(voucher, earned, signature)))
            except TransactionReverted as error:
                log.warning("collection_refused", payer=payer, reason=error.reason)
            continue
        log.info("collected", payer=payer, cumulative_wei=collected)
        # Corrected by an appeal, less may be earned than was collected: nothing is due until it is more again.
        store.note_collected(payer, earned)
