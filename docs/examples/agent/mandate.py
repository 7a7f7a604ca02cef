"""What the owner allows in one task, and the decision on a payment. Knows no model and no text that a model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum

TOKEN = 10**18


@dataclass(frozen=True, slots=True)
class Payment:
    payee: str  # a name on the owner's list, never an address
    wei: int


@dataclass(frozen=True, slots=True)
class Mandate:
    """Made by the owner for one task, outside of the context. `named`: payments that the owner has named herself, each
    for once; they need nobody's word. Amounts in wei, `valid_until` in seconds since 1970."""

    payees: Mapping[str, str] = field(default_factory=dict)  # name -> address
    payment_limit_wei: int = 0
    task_limit_wei: int = 0
    valid_until: int = 0
    named: tuple[Payment, ...] = ()


class Decision(Enum):
    ALLOW = "allowed"
    ASK = "the owner must confirm it"
    UNKNOWN = "the payee is not on the owner's list"
    AMOUNT = "the amount is not more than nothing"
    PAYMENT_LIMIT = "it is more than the owner's limit for one payment"
    TASK_LIMIT = "with it, the task would cost more than the owner's limit"
    EXPIRED = "the owner's mandate has ended"


def decide(mandate: Mandate, paid: Sequence[Payment], wanted: Payment, *, is_tainted: bool, now: float) -> Decision:
    """On a payment that the model wants, after those that were made in this task.

    `is_tainted`: something that the owner did not write is in the context, so the model may have been talked into it:
    then only what she has named herself is paid without asking her. Asking lifts no limit.
    """
    if now >= mandate.valid_until:
        return Decision.EXPIRED
    if wanted.payee not in mandate.payees:
        return Decision.UNKNOWN
    if wanted.wei <= 0:
        return Decision.AMOUNT
    if wanted.wei > mandate.payment_limit_wei:
        return Decision.PAYMENT_LIMIT
    if sum(payment.wei for payment in paid) + wanted.wei > mandate.task_limit_wei:
        return Decision.TASK_LIMIT
    left = Counter(mandate.named) - Counter(paid)
    if is_tainted and not left[wanted]:
        return Decision.ASK
    return Decision.ALLOW


def amount_of(text: str) -> int | None:
    """Wei of an amount in whole tokens as people write it; None for anything else."""
    if len(text) > 40 or not all(character in "0123456789." for character in text):
        return None
    try:
        wei = Decimal(text) * TOKEN
    except InvalidOperation:
        return None
    return int(wei) if wei == wei.to_integral_value() else None
