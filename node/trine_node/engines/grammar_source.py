"""What llguidance compiles of a grammar, and within which limits: in an engine's process as in the one that tries
grammars out (`grammar_probe`). Knows no model, and nothing of the protocol but kinds of grammars.
"""

from __future__ import annotations

import json
from typing import Any, cast

STACK_BYTES = 64 << 20
"""Of a thread that compiles; taken as it is used. The deepest schema that is let through needs some three megabytes."""
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
WRITTEN = "compact"
"""How JSON is written, as the engine's name says it."""
JSON_OPTIONS: dict[str, Any] = {"lenient": False, "coerce_one_of": False, "whitespace_flexible": False}
"""Nothing that a schema says is ignored, and there are no blanks between the parts of JSON: who pays by the token gets
no tokens of blanks, and no model goes on with them. They belong to the engine's name."""
MAX_REASON = 300
OURS = {
    "oneOf constraints": "oneOf: a value may be two of the alternatives at once: say anyOf, or give each of them a "
    "required property with a const of its own",
    "min/maxProperties only": "minProperties and maxProperties go with properties only where all of these are "
    "required: leave them out, or say what is required",
    "NoExtensionBias": "no text can be the whole of it",
}
"""What the library says in words for those who call it, in words for those who sent the grammar."""


def compiled(vocabulary: Any, kind: str, text: str) -> Any:
    """The library's matcher at the beginning of an answer; it may be in error, and says so. Raises ValueError,
    RecursionError for a text that cannot be read."""
    import llguidance

    limits = llguidance.LLParserLimits(verbose_errors=False, **LIMITS)
    return llguidance.LLMatcher(vocabulary, source(kind, text), log_level=0, limits=limits)


def source(kind: str, text: str) -> str:
    """In the library's own notation. Raises ValueError, RecursionError."""
    from llguidance import LLMatcher, grammar_from

    if kind == "json_schema":
        return str(LLMatcher.grammar_from_json_schema(text, overrides=cast("Any", JSON_OPTIONS)))
    if kind == "choice":
        choices = " | ".join(map(json.dumps, json.loads(text)))
        return str(LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {choices}"))  # one terminal, however many
    if kind == "grammar" and "::=" not in text:  # the library takes what begins with `?start:` for GBNF
        return str(LLMatcher.grammar_from_lark(text))
    return str(grammar_from("grammar" if kind == "grammar" else "regex", text))


def first_line(text: str) -> str:
    """Of an error of the library's, which shows grammar and state below."""
    said = " ".join(text.split("<state>")[0].split())[:MAX_REASON]
    return next((ours for theirs, ours in OURS.items() if theirs in said), said)
