"""Times and amounts of the chain's, for people."""

from __future__ import annotations

from datetime import UTC, datetime


def when(seconds: int) -> str:
    """A Unix time in words. Raises ValueError or OverflowError beyond the year 9999."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def amount(wei: int) -> str:
    """Of an 18-decimals token, to nine digits: small ones are no zero, unlike in tables."""
    return f"{wei / 10**18:.9g} tokens"
