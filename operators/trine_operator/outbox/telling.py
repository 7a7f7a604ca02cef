"""Log lines about what lasts: each once a minute."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()

TELL_SECONDS = 60.0
"""The same is said again after so long."""


class Telling:
    """By events. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def warning(self, event: str, **what: Any) -> None:
        if self._is_time_for(event):
            log.warning(event, **what)

    def error(self, event: str, **what: Any) -> None:
        if self._is_time_for(event):
            log.error(event, **what)

    def _is_time_for(self, event: str) -> bool:
        now = self._clock()
        if now - self._told.get(event, -math.inf) < TELL_SECONDS:
            return False
        self._told[event] = now
        return True
