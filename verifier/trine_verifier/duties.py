"""What a seat may have to do, on a batch or on an appealed leaf, and how patient it is."""

from __future__ import annotations

from enum import Enum

EVIDENCE_SHARE = 0.5
"""Evidence that is not shown within this share of the commit window counts as withheld."""
FINALIZE_GRACE_SECONDS = 3
"""A node finalizes its batches, and its verifiers are paid then; they do it, one seat after another with so many
seconds between, when it has not: it may be about to lose stake."""


class Duty(Enum):
    """What a seat has to do next."""

    CHECK = "check"
    COMMIT = "commit"
    REVEAL = "reveal"
    SETTLE = "settle"
    FINALIZE = "finalize"
    OVER = "over"
    WAIT = "wait"
