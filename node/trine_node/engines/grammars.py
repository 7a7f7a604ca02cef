"""Token masks of grammars, by llguidance: which tokens may come next in an answer that a grammar constrains.

Everything that is known to grow is bounded by counts (`grammar_source.LIMITS`, `trine.protocol.grammar`) and not by
time, so one release of the library comes to the same end on every machine: a grammar that compiles at the node compiles
at the verifiers. What slips through meets its end in another process (`probing`), where each is tried before it is
compiled here. That costs this process neither a thread nor memory, and says nothing about an answer: where a grammar
cannot be had it is refused, which is nobody's fault but the asker's.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Future
from copy import copy
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trine.protocol.grammar import Grammar
from trine_node.engines.base import GrammarExhausted, GrammarRefused
from trine_node.engines.grammar_source import STACK_BYTES, WRITTEN, compiled, first_line
from trine_node.engines.probing import MEMORY_BYTES, Probe, Tried

LIBRARY = "llguidance"
SERVED_SECONDS = 1.0
"""Of a processor: for what is compiled for an order. Everyday grammars take milliseconds, the slowest of those that the
counters let through and that are known 0.2 s."""
CHECKED_SECONDS = 10.0
"""The same for an answer that is checked: what one machine serves, another that is much slower can check."""


class Matcher:
    """Where an answer stands in its grammar. Not thread-safe."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def permitted(self) -> NDArray[np.int64]:
        """The tokens that may come next, rising; those that end the answer among them where it may end.

        Raises GrammarExhausted.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise GrammarExhausted(f"the grammar cannot be followed further: {first_line(self._matcher.get_error())}")
        tokens = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: self._vocab_size])
        if not len(tokens):
            raise GrammarExhausted("the grammar allows no token of this model here")
        return tokens

    def push(self, token: int) -> None:
        """Goes on by a token. One that is not permitted shows in the next `permitted`."""
        self._matcher.consume_token(token)


class Grammars:
    """Compiles grammars for one model's vocabulary. Thread-safe."""

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Collection[int]) -> None:
        """`tokenizer`: of transformers."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = sorted(eos_ids)
        self._probe: Probe | None = None
        self._vocabulary: Any = None
        self._lock = threading.Lock()

    def matcher(self, grammar: Grammar) -> Matcher:
        """At the beginning of an answer. Raises GrammarRefused."""
        self._tried(grammar, CHECKED_SECONDS)
        matcher = _on_a_deep_stack(self._tokens(), grammar)
        if matcher.is_error():
            raise GrammarRefused(f"the grammar is refused: {first_line(matcher.get_error())}")
        return Matcher(matcher, self._vocab_size)

    def require(self, grammar: Grammar) -> None:
        """Raises GrammarRefused for one that cannot be had here, or that no answer keeps to."""
        if barren := self._tried(grammar, SERVED_SECONDS).barren:
            raise GrammarRefused(f"the grammar is refused, because {barren}")

    def _tried(self, grammar: Grammar, seconds: float) -> Tried:
        if fault := grammar.fault():
            raise GrammarRefused(f"the grammar is refused: {fault}")
        installed = f"{LIBRARY}-{metadata.version(LIBRARY)}+{WRITTEN}"
        if installed != grammar.engine:
            raise GrammarRefused(f"the grammar is for {grammar.engine}, and {installed} is installed here")
        tried = self._probing().tried(grammar, seconds)
        if tried.ended_after is not None:
            raise GrammarRefused(
                f"the grammar is refused: compiling it takes more than {tried.ended_after:g} s of a processor, or "
                f"{MEMORY_BYTES >> 20} MiB: make it smaller"
            )
        if tried.refused is not None:
            raise GrammarRefused(f"the grammar is refused: {tried.refused}")
        return tried

    def _probing(self) -> Probe:
        """Raises GrammarRefused."""
        with self._lock:
            if self._probe is None:
                self._probe = Probe(self._spelled(), self._vocab_size, self._eos_ids)
            return self._probe

    def _tokens(self) -> Any:
        """The library's view of the vocabulary, which takes it a second. Raises GrammarRefused."""
        from llguidance import LLTokenizer

        with self._lock:
            if self._vocabulary is None:
                try:
                    self._vocabulary = LLTokenizer(self._spelled(), n_vocab=self._vocab_size, eos_token=self._eos_ids)
                except Exception as error:  # noqa: BLE001  (whatever a model's tokenizer makes the library raise)
                    said = first_line(str(error))
                    raise GrammarRefused(f"this model's tokenizer knows no grammars: {said}") from None
            return self._vocabulary

    def _spelled(self) -> str:
        """The tokenizer as `tokenizer.json` has it, with tokens that were added to it. Raises GrammarRefused."""
        if getattr(self._tokenizer, "backend_tokenizer", None) is None:
            raise GrammarRefused("this model's tokenizer knows no grammars: it is not one of the library tokenizers")
        tokenizer = copy(self._tokenizer.backend_tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return str(tokenizer.to_str())


_STARTING = threading.Lock()


def _on_a_deep_stack(vocabulary: Any, grammar: Grammar) -> Any:
    """`compiled`, in a thread that has the room for what calls itself: see `trine.protocol.grammar.MAX_LEVELS`."""
    made: Future[Any] = Future()

    def compile_it() -> None:
        try:
            made.set_result(compiled(vocabulary, grammar.kind, grammar.text))
        except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
            made.set_exception(error)

    with _STARTING:
        before = threading.stack_size(STACK_BYTES)  # what threads get that begin from now on
        try:
            threading.Thread(target=compile_it, name="grammar").start()
        finally:
            threading.stack_size(before)
    return made.result()
