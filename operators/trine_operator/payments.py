"""Collects what accepted answers have earned, never more: what clients acknowledge, and what they do not by opening."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from trine.chain import Account, Chain
from trine.chain.writes import CALLS
from trine.errors import TransactionReverted
from trine.protocol import merkle
from trine_operator.outbox import Act, Submits
from trine_operator.store import Due, Order, Store, StoredBatch

log = structlog.get_logger()

OPENINGS_AT_ONCE = 32
"""`Payments` takes twice as many; each is a proof, a receipt and an order of some kilobytes."""
LOOK_SECONDS = 300.0
"""Between looks for clients that have become silent, or are leaving: notice of that is an hour at least."""
ACCOUNTS_AT_ONCE = 256


def collect_earned(store: Store, chain: Chain, outbox: Submits) -> None:
    """One transaction for each client that has acknowledged more than was collected. Waits for none: what the chain
    has collected is noted the next time."""
    in_flight = outbox.open_names()
    for due in store.to_collect():
        name = _name(due.payer)
        if name in in_flight or due.acknowledged_wei <= due.collected_wei:
            continue
        account, kept = chain.account(due.payer, chain.address), store.acknowledgement(due.payer)
        _note(store, due, account)
        if kept and kept.earned_wei > account.collected and account.balance > 0:
            voucher = kept.voucher(due.payer, chain.address)
            _submit(outbox, Act((name,), CALLS.collect(voucher, kept.signature)), due.payer)


class Collecting:
    """What one account is owed. Collects what clients acknowledge, and from those that are silent by opening their
    accepted answers. `step` is to be repeated."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        outbox: Submits,
        *,
        after_seconds: int,
        threshold_wei: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A client is silent that has sent no voucher for `after_seconds` of the chain's time, or has given notice that
        it takes its deposit out. Less than `threshold_wei` is left alone. `clock` measures the time between looks."""
        self._store = store
        self._chain = chain
        self._outbox = outbox
        self._after_seconds = after_seconds
        self._threshold_wei = max(threshold_wei, 1)
        self._clock = clock
        self._not_before = 0.0
        self._acknowledgements = 0
        self._turn = 0

    def step(self) -> None:
        """Raises TrineError when the chain or the store cannot be read."""
        acknowledgements, is_time = self._store.acknowledgements, self._clock() >= self._not_before
        if is_time or acknowledgements != self._acknowledgements:
            collect_earned(self._store, self._chain, self._outbox)
            self._acknowledgements = acknowledgements
        if not is_time:
            return
        self._not_before = self._clock() + LOOK_SECONDS
        owing = self._store.to_collect()
        if not owing:
            return
        chain, in_flight, now = self._chain, self._outbox.open_names(), self._chain.now()
        # Another part of them at every look, if they are many.
        self._turn = self._turn if self._turn < len(owing) else 0
        part = owing[self._turn : self._turn + ACCOUNTS_AT_ONCE]
        self._turn += ACCOUNTS_AT_ONCE
        with chain.reading_ahead([("Payments", "accountOf", (due.payer, chain.address)) for due in part]):
            accounts = [chain.account(due.payer, chain.address) for due in part]
        for due, account in zip(part, accounts, strict=True):
            _note(self._store, due, account)
            # Whoever takes its deposit out will not come back to acknowledge.
            is_leaving = account.leaving > 0 or due.seen_at + self._after_seconds <= now
            if is_leaving and _name(due.payer) not in in_flight:
                self._open(due.payer, account)

    def _open(self, payer: str, account: Account) -> None:
        store, chain = self._store, self._chain
        limit, kept = store.voucher(payer), store.acknowledgement(payer)
        if limit is None:
            return
        if kept and kept.earned_wei > account.collected:
            return  # `collect_earned` comes first: what is opened before would seem to be part of it
        since = max(account.as_of, kept.as_of if kept else 0)
        candidates = store.to_open(payer, since, OPENINGS_AT_ONCE)
        opened = {order.sequence for order in candidates if chain.is_opened(chain.address, order.receipt.request_hash)}
        if opened:
            store.note_opened(sorted(opened))
        candidates = [order for order in candidates if order.sequence not in opened]
        chosen = _affordable(candidates, account, limit.cumulative_wei)
        if not chosen or sum(fee for _, fee in chosen) < self._threshold_wei:
            return
        act = Act(
            (_name(payer),),
            CALLS.collect_opened(
                limit.voucher(payer, chain.address),
                limit.signature,
                [order.request for order, _ in chosen],
                self._openings([order for order, _ in chosen]),
            ),
        )
        log.info("opening_answers", payer=payer, answers=len(chosen), wei=sum(fee for _, fee in chosen))
        _submit(self._outbox, act, payer)

    def _openings(self, orders: Sequence[Order]) -> list[tuple[object, ...]]:
        batches: dict[bytes, StoredBatch] = {}
        openings = []
        for order in orders:
            if order.batch_id not in batches:
                found = self._store.batch(order.batch_id)
                if found is None:
                    raise AssertionError("an answer's batch is in the store")
                batches[order.batch_id] = found
            openings.append(opening_of(batches[order.batch_id], order.leaf, order.receipt.values()))
        return openings


def _affordable(orders: Sequence[Order], account: Account, limit_wei: int) -> list[tuple[Order, int]]:
    """The first of them that deposit and limit pay for, with their fees: one that is not paid whole fails all."""
    left = min(account.balance, limit_wei - account.collected)
    chosen = []
    for order in orders:
        fee = min(order.receipt.fee_wei, order.request.max_fee_wei)
        if fee > left:
            break
        left -= fee
        chosen.append((order, fee))
    return chosen


def opening_of(batch: StoredBatch, leaf: int, receipt: tuple[object, ...]) -> tuple[object, ...]:
    """`LeafLib.Opening`, as ABI encoders take it."""
    return batch.root, batch.canary, leaf, receipt, merkle.proof(list(batch.leaves), leaf)


def _note(store: Store, due: Due, account: Account) -> None:
    """What the chain has collected. Corrected by an appeal, less may be earned than that: then nothing is due until it
    is more again."""
    collected = min(account.collected, due.earned_wei)
    if collected != due.collected_wei:
        log.info("collected", payer=due.payer, cumulative_wei=account.collected)
        store.note_collected(due.payer, collected)


def _name(payer: str) -> str:
    return f"collect from {payer}"


def _submit(outbox: Submits, act: Act, payer: str) -> None:
    try:
        outbox.submit(act)
    except TransactionReverted as error:
        log.warning("collection_refused", payer=payer, reason=error.reason)
