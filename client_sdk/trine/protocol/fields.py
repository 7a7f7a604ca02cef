"""Which fields of OpenAI's requests are served, and what they ask for. Pure: bodies are JSON that was read already.

What is served is what can be verified: greedy answers, sampled ones as `sampling` has it, and those that keep to a
grammar as `grammar` has it. A field that could change
the answer and would not, because nothing reads it, is refused by name, whether it was ever heard of or not: nobody
shall take an unconstrained text for a constrained one. docs/api.md has the lists.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from trine.errors import InvalidField, InvalidInput
from trine.protocol import grammar, sampling, tools
from trine.protocol.decoding import Decoding
from trine.protocol.forcing import forced
from trine.protocol.inputs import Input, chat_input, stop_strings, text_input

READ = frozenset(
    {
        *("max_completion_tokens", "max_tokens", "model", "stop", "stream", "stream_options", "trine"),
        *grammar.FIELDS,
        *sampling.FIELDS,
    }
)
"""Fields that are served as asked, besides `prompt` or those of a chat."""
READ_OF_CHAT = frozenset({"messages", *tools.FIELDS})

IGNORED = frozenset(
    {
        "cache_prompt",
        "cache_salt",
        "include_obfuscation",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "priority",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "request_id",
        "rid",
        "safety_identifier",
        "separate_reasoning",
        "service_tier",
        "store",
        "stream_reasoning",
        "user",
    }
)
"""Fields that change no answer: notes about who asks, how it is billed, kept or made faster, and, outside of a chat,
what tools may do that are not there."""

UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": ([],),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "early_stopping": (False,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "id_slot": (-1,),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "min_tokens": (0,),
    "mirostat": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "no_stop_trim": (False,),
    "presence_penalty": (0,),
    "prompt_logprobs": (False,),
    "reasoning_effort": ("none",),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "return_hidden_states": (False,),
    "return_progress": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "tfs_z": (1,),
    "timings_per_token": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
    "xtc_probability": (0,),
}
"""Fields that change the answer, with the values under which they do not; null is as good as left out."""

IGNORED_STREAM_OPTIONS = frozenset({"include_obfuscation"})
UNSUPPORTED_STREAM_OPTIONS: Mapping[str, tuple[Any, ...]] = {"continuous_usage_stats": (False,)}

REASONS = {
    "function_call": "function_call is deprecated and not served: send tools and tool_choice",
    "functions": "functions is deprecated and not served: send tools",
    "n": "a request has one answer: send n 1 or leave it out, and ask again, with another seed",
}
MAX_FIELDS = 128
"""Of a body: each is looked up, and one that is misspelt is compared with those that are known."""
MAX_FIELD_CHARACTERS = 64
"""Of a name that is repeated in a refusal."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for."""

    input: Input
    max_tokens: int
    stream: bool
    include_usage: bool


def read_wish(
    body: Mapping[str, Any], *, chat: bool, default_max_tokens: int, limit_tokens: int, own_seed: int | None = None
) -> Wish:
    """Whether `model` is served is not decided here. `own_seed`: see `sampling.requested`. Raises InvalidField."""
    require_servable(body, READ | (READ_OF_CHAT if chat else {"prompt"}))
    options = body.get("stream_options")
    if not isinstance(options, dict | None):
        raise InvalidField("stream_options must be an object", field="stream_options")
    return Wish(
        input=_input(body, chat, Decoding(sampling.requested(body, own_seed), grammar.requested(body))),
        max_tokens=_max_tokens(body, default_max_tokens, limit_tokens),
        stream=flag(body, "stream"),
        include_usage=_includes_usage(options or {}),
    )


def require_servable(
    body: Mapping[str, Any],
    read: Set[str],
    ignored: Set[str] = IGNORED,
    unsupported: Mapping[str, tuple[Any, ...]] = UNSUPPORTED,
) -> None:
    """Raises InvalidField naming a field that could change the answer and would not, because nothing reads it."""
    if len(body) > MAX_FIELDS:
        raise InvalidField(f"the body has {len(body)} fields, at most {MAX_FIELDS} are read", field="body")
    for field, value in body.items():
        if field in read or field in ignored or value is None:
            continue
        harmless = unsupported.get(field)
        if harmless is None:
            raise _unknown(field, read | ignored | unsupported.keys())
        if not any(_is_same(value, each) for each in harmless):
            raise InvalidField(REASONS.get(field, f"{field} is not supported"), field=field, code="unsupported_value")


def flag(body: Mapping[str, Any], field: str, where: str = "") -> bool:
    """True or false; false where it is null or missing. Raises InvalidField for anything else, 1 and 0 too."""
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise InvalidField(f"{where}{field} must be true or false", field=where + field)
    return value is True


def _input(body: Mapping[str, Any], chat: bool, decoding: Decoding) -> Input:
    offered = tools.offered(body) if chat else tools.NO_TOOLS
    if offered and decoding.grammar:
        said = "tools and a grammar in one request are not served: leave out one of them, or send tool_choice none"
        raise InvalidField(said, field="tools", code="unsupported_value")
    constraint = decoding.grammar or (forced(offered, body.get("tool_choice")) if chat else None)
    try:
        stop = stop_strings(body.get("stop"))
    except InvalidInput as error:
        raise InvalidField(str(error), field="stop") from None
    try:
        if not chat:
            return text_input(_prompt(body.get("prompt")), stop, decoding.sampling, decoding.grammar)
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
            raise InvalidInput("messages must be a list of objects with role and content")
        return chat_input(messages, stop, decoding.sampling, offered, constraint)
    except InvalidInput as error:
        raise InvalidField(str(error), field="messages" if chat else "prompt") from None


def _prompt(given: Any) -> Any:
    """A list of one text is that text: some clients always send a list. Raises InvalidInput."""
    if not isinstance(given, list):
        return given
    if len(given) == 1 and isinstance(given[0], str):
        return given[0]
    raise InvalidInput("prompt must be one text: a request has one answer, and no token ids are taken")


def _unknown(field: str, known: Set[str]) -> InvalidField:
    shown = field[:MAX_FIELD_CHARACTERS]
    meant = difflib.get_close_matches(shown, sorted(known), 1)
    hint = f"did you mean {meant[0]!r}?" if meant else "leave it out"
    said = f"{shown!r} is not served, and could change the answer: {hint}"
    return InvalidField(said, field=shown, code="unknown_parameter")


def _is_same(value: Any, other: Any) -> bool:
    """As JSON has it: true is not 1, and 1 is 1.0."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _includes_usage(options: Mapping[str, Any]) -> bool:
    for option, value in options.items():
        if option == "include_usage" or option in IGNORED_STREAM_OPTIONS or value is None:
            continue
        if not any(_is_same(value, each) for each in UNSUPPORTED_STREAM_OPTIONS.get(option, ())):
            shown = f"stream_options.{option[:MAX_FIELD_CHARACTERS]}"
            raise InvalidField(f"{shown} is not served: leave it out", field=shown, code="unsupported_value")
    return flag(options, "include_usage", "stream_options.")


def _max_tokens(body: Mapping[str, Any], default: int, limit: int) -> int:
    given = {}
    for field in ("max_completion_tokens", "max_tokens"):
        value = body.get(field)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            raise InvalidField(f"{field} must be a whole number from 1 to {limit}", field=field)
        given[field] = value
    if len(set(given.values())) > 1:
        raise InvalidField("max_tokens and max_completion_tokens differ: send one of them", field="max_tokens")
    return next(iter(given.values()), default)
