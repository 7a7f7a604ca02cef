"""What a person sees while a network starts and works: lines for what has happened, a table of what is going on.

On a terminal the table is drawn in place; into a file or a pipe go lines only, one every few seconds while parts get
further.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

CHANGES_SECONDS = 10.0
"""Changes of so many seconds make one line."""
SILENCE_SECONDS = 30.0
"""A log that says nothing for so long looks dead: what is waited for is said again."""


class Report:
    """Plain lines. Thread-safe; a context manager like `TerminalReport`, which needs to put the terminal back."""

    def __init__(self, write: Callable[[str], None], started: float | None = None) -> None:
        self._write = write
        self._started = time.monotonic() if started is None else started
        self._shown: dict[str, str] = {}
        self._last = self._last_change = time.monotonic()
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end_progress()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, message: str) -> None:
        """Something has happened."""
        with self._lock:
            self._last = time.monotonic()
            self._write(f"{self.seconds:6.1f} s  {message}")

    def progress(self, what: str, rows: Mapping[str, str]) -> None:
        """What is waited for and how far each part of it is. To be called as often as one likes."""
        with self._lock:
            now = time.monotonic()
            changed = rows != self._shown and now - self._last_change > CHANGES_SECONDS
            if rows and (changed or now - self._last > SILENCE_SECONDS):
                self._shown, self._last_change = dict(rows), now
                self.say(f"waiting for {what}: {_in_short(rows)}")

    def end_progress(self) -> None:
        """Nothing is waited for any more."""
        with self._lock:
            self._shown.clear()


def _in_short(rows: Mapping[str, str]) -> str:
    """Who is in the same state together: `a, b: starting; c: ready`."""
    names: dict[str, list[str]] = {}
    for name, state in rows.items():
        names.setdefault(state, []).append(name)
    return "; ".join(f"{', '.join(who)}: {state}" for state, who in names.items())


class TerminalReport(Report):
    """The table is drawn in place, under the lines."""

    def __init__(self, console: Console, started: float | None = None) -> None:
        super().__init__(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), started)
        self._console = console
        self._live: Live | None = None

    def progress(self, what: str, rows: Mapping[str, str]) -> None:
        with self._lock:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(self._table(what, rows), refresh=True)

    def end_progress(self) -> None:
        with self._lock:
            if self._live:
                self._live.stop()
                self._live = None

    def _table(self, what: str, rows: Mapping[str, str]) -> Table:
        """Lines are cut, not wrapped: the table must not jump."""
        table = Table.grid(padding=(0, 2))
        names = max((len(name) + 2 for name in rows), default=0)
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=min(names, self._console.width // 2))
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        table.add_row(Text(f"{self.seconds:6.1f} s"), Text(f"waiting for {what}"))
        for name, state in rows.items():
            table.add_row(Text(f"  {name}", style="cyan"), Text(state))
        return table


def report_to(console: Console, started: float | None = None) -> Report:
    """The report that suits where the console writes to."""
    if console.is_terminal:
        return TerminalReport(console, started)
    return Report(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), started)
