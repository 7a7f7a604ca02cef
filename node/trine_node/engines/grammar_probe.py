"""The process that tries grammars out, which `probing` starts: `python -m trine_node.engines.grammar_probe`.

It holds one vocabulary and compiles nothing itself. For each grammar it forks; the child compiles it, makes its first
mask within bounds on processor time and memory, says what came of it and ends, so that all it took is given back. There
is one thread here, so forking is safe. Imports as little as it can.

Standard input is a socket. The vocabulary comes as a line of JSON, and a line goes back when it is read. From then on
each byte brings a socket that belongs to one grammar: a line of JSON comes and one goes back; an end without an answer
means that the child was ended. When standard input ends, so do this process and its children.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

from trine_node.engines.grammar_source import STACK_BYTES, compiled, first_line

PROMPT_SECONDS = 0.1
NICENESS = 5
"""Of what takes longer than that: it shall not slow down the answers that others have paid for."""
MAX_ASKED_BYTES = 1 << 20


class Vocabulary:
    """Of one model, as the library reads it, which takes it a second."""

    def __init__(self, described: dict[str, Any]) -> None:
        import llguidance

        size, ends = described["vocab_size"], described["eos_ids"]
        self.tokens = llguidance.LLTokenizer(described["tokenizer"], n_vocab=size, eos_token=ends)
        self._all = (1 << size) - 1
        self._ends = sum(1 << token for token in ends)

    def first_of(self, kind: str, text: str) -> dict[str, str]:
        """What keeps answers from a grammar: `refused`, the library's reason not to compile it, or `barren`, why no
        answer with a text keeps to it. Nothing where one may."""
        try:
            matcher = compiled(self.tokens, kind, text)
        except (ValueError, RecursionError) as error:
            return {"refused": first_line(str(error))}
        if matcher.is_error():
            return {"refused": first_line(matcher.get_error())}
        permitted = int.from_bytes(matcher.compute_bitmask(), "little") & self._all
        if matcher.is_error():
            return {"barren": f"no answer keeps to it: {first_line(matcher.get_error())}"}
        if not permitted:
            return {"barren": "no answer keeps to it"}
        return {} if permitted & ~self._ends else {"barren": "only an answer without any text keeps to it"}


def serve(control: socket.socket) -> None:
    """Until `control` ends."""
    with control.makefile("rb") as lines:
        vocabulary = Vocabulary(json.loads(lines.readline()))
    children: set[int] = set()
    ended = _told_of_ends()
    control.sendall(b"\n")
    try:
        while True:
            ready, _, _ = select.select([control.fileno(), ended], [], [])
            if ended in ready:
                os.read(ended, 4096)
                children -= {child for child in children if os.waitpid(child, os.WNOHANG)[0]}
            if control.fileno() in ready:
                said, given, _, _ = socket.recv_fds(control, 1, 1)
                if not said:
                    return
                with socket.socket(fileno=given[0]) as asking:
                    children |= _begun(asking, vocabulary)
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _told_of_ends() -> int:
    """A pipe that can be read when a child has ended."""
    ended, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return ended


def _begun(asking: socket.socket, vocabulary: Vocabulary) -> set[int]:
    """The child that answers."""
    try:
        child = os.fork()
    except OSError:  # no process, or no memory for one
        asking.sendall(b'{"busy":""}\n')
        return set()
    if not child:
        _answer(asking, vocabulary)
    return {child}


def _answer(asking: socket.socket, vocabulary: Vocabulary) -> NoReturn:
    """In the child: tries one grammar, and ends."""
    try:
        asked = json.loads(asking.makefile("rb").readline(MAX_ASKED_BYTES))
        _bound(asked["seconds"], asked["bytes"])
        found: list[dict[str, str]] = []
        threading.stack_size(STACK_BYTES)
        trying = threading.Thread(target=lambda: found.append(vocabulary.first_of(asked["kind"], asked["text"])))
        trying.start()
        trying.join(PROMPT_SECONDS)
        if trying.is_alive() and trying.native_id is not None:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, trying.native_id, NICENESS)
            trying.join()
        asking.sendall(json.dumps(found[0]).encode() + b"\n")
    finally:
        os._exit(0)


def _bound(seconds: float, size: int) -> None:
    """What this process may take from here on: seconds of processors, and bytes."""
    signal.set_wakeup_fd(-1)
    for each in (signal.SIGCHLD, signal.SIGPROF):
        signal.signal(each, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
    hard = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as pages:
        taken = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + STACK_BYTES + size, taken + STACK_BYTES + size))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as standard_input:
        serve(standard_input)
