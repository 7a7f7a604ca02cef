"""Times of the chain's, for people."""

from __future__ import annotations

from datetime import UTC, datetime


def when(seconds: int) -> str:
    """A Unix time in words. Raises ValueError or OverflowError beyond the year 9999."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
