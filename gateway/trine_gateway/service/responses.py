"""What a request of OpenAI's Responses API asks for, without state: texts and functions. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trine.errors import InvalidField
from trine.protocol.fields import Wish, flag, read_wish, require_servable
from trine.protocol.tools import FIELDS as OF_TOOLS
from trine_gateway.service.response_items import messages_of
from trine_operator.refusal import Refusal

READ = frozenset(
    {
        *("input", "instructions", "max_output_tokens", "model", "stream", "stream_options", "temperature", "text"),
        *("top_p", *OF_TOOLS),
    }
)
IGNORED = frozenset(
    {
        "access_programs",
        "max_tool_calls",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "user",
    }
)
"""Fields that change no answer: what is called here are functions of whoever asks."""
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "include": ([], ["reasoning.encrypted_content"]),  # there is none
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({}, {"effort": "none"}, {"effort": None}, {"effort": None, "summary": None}),
    "store": (False,),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""Fields that change the answer, or want something kept, with the values under which they do not."""
STATELESS = "nothing is kept here: send the whole conversation as input, and store false or nothing"
TEXT = ("format", "verbosity")
NAMES = {"messages": "input", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
"""What the Responses API calls the fields of a chat."""


def read_response_wish(
    body: Mapping[str, Any], *, default_max_tokens: int, limit_tokens: int, own_seed: int | None = None
) -> Wish:
    """Raises InvalidField."""
    for field in ("store", "previous_response_id", "conversation"):
        if body.get(field) not in (None, False):
            raise InvalidField(STATELESS, field=field, code="unsupported_value")
    require_servable(body, READ, IGNORED, UNSUPPORTED)
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or options.keys() - {"include_obfuscation"}):
        raise InvalidField("stream_options may hold include_obfuscation", field="stream_options")
    asked = {
        "messages": messages_of(body.get("instructions"), body.get("input")),
        "max_tokens": body.get("max_output_tokens"),
        "stream": flag(body, "stream"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "response_format": _response_format(body.get("text")),
        "tools": _tools(body.get("tools")),
        "tool_choice": _tool_choice(body.get("tool_choice")),
        "parallel_tool_calls": body.get("parallel_tool_calls"),
    }
    limits = {"default_max_tokens": default_max_tokens, "limit_tokens": limit_tokens}
    return read_wish(asked, chat=True, own_seed=own_seed, **limits)


def in_its_words(refusal: Refusal) -> Refusal:
    """A refusal of what was read as a chat, with the fields of the Responses API."""
    if refusal.code == "unknown_parameter":  # as it was sent
        return refusal
    param, said = refusal.param, re.sub(r"\bmax_(completion_)?tokens\b", "max_output_tokens", str(refusal))
    if param is not None and param.startswith("response_format"):
        said = re.sub(r"\bresponse_format(\.json_schema)?\b", "text.format", said)
        param = "text.format"
    elif param in OF_TOOLS:
        said = said.replace("].function.", "].")
    param = NAMES.get(param or "", param)
    return Refusal(said, status=refusal.status, code=refusal.code, param=param, headers=refusal.headers)


def _tools(given: Any) -> Any:
    """As a chat has them: the Responses API has a function's name beside its type."""
    if not isinstance(given, list):
        return given
    return [_tool(tool, f"tools[{number}]") for number, tool in enumerate(given)]


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        kind = tool.get("type") if isinstance(tool, dict) else tool
        said = f"{where} is of the type {kind!r:.64}: only functions are served, which whoever asks runs"
        raise InvalidField(said, field="tools", code="unsupported_value")
    if "function" in tool:
        said = f"{where}.function is of chat completions: here name, description and parameters stand beside type"
        raise InvalidField(said, field="tools")
    return {"type": "function", "function": {field: value for field, value in tool.items() if field != "type"}}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        if choice.keys() != {"type", "name"}:
            said = 'tool_choice that names a function is {"type": "function", "name": …}'
            raise InvalidField(said, field="tool_choice")
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def _response_format(text: Any) -> Any:
    """What chat completions call `text.format`."""
    if not isinstance(text, dict | None) or (text and text.get("verbosity") not in (None, "medium")):
        raise InvalidField("text must be an object; of verbosity, medium is served", field="text")
    if unknown := [member for member, value in (text or {}).items() if member not in TEXT and value is not None]:
        said = f"text.{unknown[0]:.64} is not served: leave it out"
        raise InvalidField(said, field="text", code="unsupported_value")
    form = (text or {}).get("format")
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        return form
    return {"type": "json_schema", "json_schema": {key: value for key, value in form.items() if key != "type"}}
