"""Tries grammars out in a process of their own before this one compiles them (`grammar_probe` is that process).

What the library compiles cannot be handed from one process to another. What is handed back is that it compiles within
bounds, and as the library does the same here, it does so here too. Whatever goes wrong there, a compilation without an
end, too much memory or a crash, costs this process a wait that has an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

import structlog

from trine.protocol.grammar import Grammar
from trine_node.engines.base import GrammarBusy, GrammarRefused

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "trine_node.engines.grammar_probe")
START_SECONDS = 60.0
"""For the process to begin and to read the vocabulary."""
PATIENCE_SECONDS = 20.0
"""How long a grammar waits for its turn and for a processor, besides the time that it may take of one."""
AT_ONCE = 4
"""Grammars that are tried at the same time: one that takes long keeps the others from nothing."""
MEMORY_BYTES = 256 << 20
"""Of one that is tried; everyday ones take less than 10, the largest that are known 25."""
REMEMBERED = 4096
"""Grammars whose end is known: a hash and a sentence each."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a grammar."""

    refused: str | None = None  # why it does not compile
    barren: str | None = None  # why no answer with a text keeps to it
    ended_after: float | None = None  # seconds of a processor that were not enough, or something else was too much


class Probe:
    """Of one model's vocabulary. Begins with the first grammar and ends with this object. Thread-safe."""

    def __init__(self, tokenizer: str, vocab_size: int, eos_ids: list[int]) -> None:
        """`tokenizer`: as `tokenizer.json` has it."""
        self._described = {"tokenizer": tokenizer, "vocab_size": vocab_size, "eos_ids": eos_ids}
        self._known: OrderedDict[bytes, Tried] = OrderedDict()
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def tried(self, grammar: Grammar, seconds: float) -> Tried:
        """What comes of it within so many seconds of a processor; remembered, so that it is tried once.

        Raises GrammarBusy where nothing is known in time, GrammarRefused for a vocabulary that cannot be read.
        """
        name = sha256(f"{grammar.kind} {grammar.text}".encode()).digest()
        known = self._known.get(name)
        if known is None or (known.ended_after is not None and known.ended_after < seconds):
            known = self._tried(grammar, seconds)
            with self._lock:
                self._known[name] = known
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        return known

    def _tried(self, grammar: Grammar, seconds: float) -> Tried:
        until = time.monotonic() + PATIENCE_SECONDS + seconds
        if not self._turns.acquire(timeout=PATIENCE_SECONDS):
            raise GrammarBusy("too many grammars are being compiled: try again")
        try:
            said = self._running().ask(grammar, seconds, until)
        finally:
            self._turns.release()
        if said is None:
            log.warning("grammar_ended", kind=grammar.kind, bytes=len(grammar.text), seconds=seconds)
            return Tried(ended_after=seconds)
        return Tried(said.get("refused"), said.get("barren"))

    def _running(self) -> _Process:
        with self._lock:
            if self._process is None or not self._process.is_alive:
                self._process = _Process(self._described)
                weakref.finalize(self, self._process.end)
            return self._process


class _Process:
    """One that runs."""

    def __init__(self, described: dict[str, object]) -> None:
        """Raises GrammarBusy, GrammarRefused."""
        self._of = os.getpid()
        self._control, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  (this package's own)
                    COMMAND,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is not for it
                )
            except OSError as error:
                self._control.close()
                raise GrammarBusy(f"no grammar can be compiled now, for want of a process: {error.strerror}") from None
        self._control.settimeout(START_SECONDS)
        try:
            self._control.sendall(json.dumps(described).encode() + b"\n")
            is_ready = self._control.recv(1) == b"\n"
        except TimeoutError:
            self.end()
            raise GrammarBusy("no grammar can be compiled now, because the machine is too busy: try again") from None
        except OSError:
            is_ready = False
        if not is_ready:
            self.end()
            raise GrammarRefused("this model's tokenizer knows no grammars")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, grammar: Grammar, seconds: float, until: float) -> dict[str, str] | None:
        """None when the one that tried it was ended; waited for until then. Raises GrammarBusy."""
        ours, theirs = socket.socketpair()
        ours.settimeout(max(0.1, until - time.monotonic()))
        asked = {"kind": grammar.kind, "text": grammar.text, "seconds": seconds, "bytes": MEMORY_BYTES}
        busy = GrammarBusy("there is no time to compile the grammar now: try again")
        with ours, ours.makefile("rb") as answers:
            try:
                with theirs:
                    socket.send_fds(self._control, [b"g"], [theirs.fileno()])
                ours.sendall(json.dumps(asked).encode() + b"\n")
                line = answers.readline()
            except TimeoutError:
                raise busy from None
            except OSError:
                line = b""
        if not line:
            if not self.is_alive:  # it, and not only its child
                raise busy
            return None
        said: dict[str, str] = json.loads(line)
        if "busy" in said:
            raise busy
        return said

    def end(self) -> None:
        """With all that it has begun."""
        self._control.close()
        if os.getpid() == self._of and self.is_alive:  # not in what was forked since
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
