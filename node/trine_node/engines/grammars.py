"""Token masks of grammars, by llguidance: which tokens may come next in an answer that a grammar constrains.

Everything that is known to grow is bounded by counts (`LIMITS`, `trine.protocol.grammar`) and not by time, so one
release of the library comes to the same end on every machine: a grammar that compiles at the node compiles at the
verifiers. What slips through is given up after COMPILING_SECONDS, which protects this process and says nothing about
the answer. Where it cannot be had here it is refused, which is nobody's fault but the asker's. Grammars are compiled
one after the other, in a thread of their own that has the room for what calls itself: see
`trine.protocol.grammar.MAX_LEVELS`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from trine.protocol.grammar import Grammar
from trine_node.engines.base import GrammarExhausted, GrammarRefused

log = structlog.get_logger()

LIBRARY = "llguidance"
STACK_BYTES = 64 << 20
"""Of the compiling thread; taken as it is used. The deepest schema that is let through needs some three megabytes."""
COMPILING_SECONDS = 30.0
"""For which a grammar waits for its turn, and for what is made of it."""
MAX_STUCK = 4
"""Threads that may be given up with what they compile, for the library cannot be told to stop."""
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "max_grammar_size": 100_000,
    "max_items_in_row": 1_000,
    "max_lexer_states": 20_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 25_000,
}
"""The library's own counters, at or below its defaults: milliseconds for a token at worst, and tens of megabytes for an
answer. Whoever changes them changes which answers can be checked: they belong to the engine's name as its release does.
"""
JSON_OPTIONS: dict[str, Any] = {"lenient": False, "coerce_one_of": False, "whitespace_pattern": r"[ \n\t]{0,20}"}
"""Nothing that a schema says is ignored, and a model that loves blanks comes to an end of them."""
MAX_REASON = 300


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
            raise GrammarExhausted(f"the grammar cannot be followed further: {_first_line(self._matcher.get_error())}")
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
        self._vocabulary: Any = None
        self._compiling = ThreadPoolExecutor(1, thread_name_prefix="grammars")
        self._started = False
        self._begun: Grammar | None = None  # what is being compiled
        self._stuck: set[Grammar] = set()
        self._lock = threading.Lock()

    def matcher(self, grammar: Grammar) -> Matcher:
        """At the beginning of an answer. Raises GrammarRefused."""
        if grammar in self._stuck:
            raise GrammarRefused("the grammar is refused: compiling it came to no end here")
        waiting = self._on_a_deep_stack(grammar)
        try:
            matcher = waiting.result(COMPILING_SECONDS)
        except (TimeoutError, CancelledError):
            if not waiting.cancelled():
                waiting.cancel()
                self._give_up()
            raise GrammarRefused("there is no time to compile the grammar now: ask again") from None
        if matcher.is_error():
            raise GrammarRefused(f"the grammar is refused: {_first_line(matcher.get_error())}")
        return Matcher(matcher, self._vocab_size)

    def require(self, grammar: Grammar) -> None:
        """Raises GrammarRefused for one that cannot be had here, or that no answer keeps to."""
        try:
            permitted = self.matcher(grammar).permitted()
        except GrammarExhausted as error:
            raise GrammarRefused(f"the grammar is refused, because no answer keeps to it: {error}") from None
        if not set(permitted.tolist()) - set(self._eos_ids):
            raise GrammarRefused("the grammar is refused, because only an answer without any text keeps to it")

    def _give_up(self) -> None:
        """Whatever is compiled now has held up others for too long: they get a thread of their own, and it is asked for
        no more."""
        with self._lock:
            stuck = self._begun
            if stuck is None or stuck in self._stuck or len(self._stuck) >= MAX_STUCK:
                return
            log.error("grammar_without_end", kind=stuck.kind, bytes=len(stuck.text))
            self._stuck.add(stuck)
            self._begun = None
            self._compiling.shutdown(wait=False, cancel_futures=True)
            self._compiling = ThreadPoolExecutor(1, thread_name_prefix="grammars")
            self._started = False

    def _on_a_deep_stack(self, grammar: Grammar) -> Future[Any]:
        with self._lock:
            if self._started:
                return self._compiling.submit(self._compiled, grammar)
            before = threading.stack_size(STACK_BYTES)  # what threads get that begin from now on
            try:
                return self._compiling.submit(self._compiled, grammar)
            finally:
                threading.stack_size(before)
                self._started = True

    def _compiled(self, grammar: Grammar) -> Any:
        self._begun = grammar
        try:
            return self._made(grammar)
        finally:
            if self._begun is grammar:
                self._begun = None

    def _made(self, grammar: Grammar) -> Any:
        import llguidance

        if fault := grammar.fault():
            raise GrammarRefused(f"the grammar is refused: {fault}")
        installed = f"{LIBRARY}-{metadata.version(LIBRARY)}"
        if installed != grammar.engine:
            raise GrammarRefused(f"the grammar is for {grammar.engine}, and {installed} is installed here")
        try:
            source = _source(grammar)
        except (ValueError, RecursionError) as error:
            raise GrammarRefused(f"the grammar is refused: {_first_line(str(error))}") from None
        limits = llguidance.LLParserLimits(verbose_errors=False, **LIMITS)
        return llguidance.LLMatcher(self._tokens(), source, log_level=0, limits=limits)

    def _tokens(self) -> Any:
        """The library's view of the vocabulary, which takes it a third of a second. Raises GrammarRefused."""
        from llguidance.hf import from_tokenizer

        if self._vocabulary is None:
            try:
                self._vocabulary = from_tokenizer(self._tokenizer, self._vocab_size, self._eos_ids)
            except Exception as error:  # noqa: BLE001  (whatever a model's tokenizer makes the library raise)
                said = _first_line(str(error))
                raise GrammarRefused(f"this model's tokenizer knows no grammars: {said}") from None
        return self._vocabulary


def _source(grammar: Grammar) -> str:
    """What the library compiles. Raises ValueError, RecursionError."""
    from llguidance import LLMatcher, grammar_from

    if grammar.kind == "json_schema":
        return str(LLMatcher.grammar_from_json_schema(grammar.text, overrides=cast("Any", JSON_OPTIONS)))
    if grammar.kind == "choice":
        choices = " | ".join(map(json.dumps, json.loads(grammar.text)))
        return str(LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {choices}"))  # one terminal, however many
    return str(grammar_from("grammar" if grammar.kind == "grammar" else "regex", grammar.text))


def _first_line(text: str) -> str:
    """Of an error of the library's, which shows grammar and state below."""
    return " ".join(text.split("<state>")[0].split())[:MAX_REASON]
