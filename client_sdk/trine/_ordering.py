"""What a client orders: the input as it is signed, the request, and the body that a node is sent. Salts, seeds and
nonces are drawn here; the rest is pure."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from trine.chain.records import ModelEntry
from trine.errors import InvalidInput
from trine.protocol.forcing import choice_of, forced
from trine.protocol.grammar import requested as constrained
from trine.protocol.inputs import Input, chat_input, stop_strings
from trine.protocol.messages import Request, Voucher
from trine.protocol.salts import SALT_BYTES
from trine.protocol.sampling import DRAWN_SEEDS, requested
from trine.protocol.tools import offered

TEMPLATE_ALLOWANCE_TOKENS = 256
"""Tokens that a chat template may add; the rest of a prompt has at most one token a byte."""
TOOLS_ALLOWANCE_TOKENS = 1_024
"""Tokens that it may add about tools: how they are called, in each model's own words."""
REQUEST_LIFETIME_SECONDS = 900
Messages = str | Sequence[Mapping[str, Any]] | Input
"""A text is one user message; an `Input` may also be a plain prompt, which is completed as it is."""


class Drawing(TypedDict, total=False):
    """How an answer is made: the fields of OpenAI's request, and what servers have added to it.

    Without a `temperature`, or with 0, the answer is greedy, and the others of sampling are as good as absent. Without
    a `seed` one is drawn here and signed. `tools` are functions that the model may call, or must, as `tool_choice` has
    it; with `parallel_tool_calls` false an answer makes at most one call. What the answer's text must be, one of
    the others says, as OpenAI and vLLM spell them: see docs/structured-output.md.
    """

    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, Any] | None
    guided_json: Mapping[str, Any] | str | None
    guided_regex: str | None
    guided_choice: Sequence[str] | None
    guided_grammar: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A request about to be sent."""

    input: Input
    request: Request
    digest: bytes
    body: dict[str, Any]
    number: int | None  # in the node's ledger; None where it is an order of a client before this one
    price_per_token_wei: int

    @property
    def path(self) -> str:
        """Where a node takes it."""
        return "/v1/chat/completions" if self.input.text is None else "/v1/completions"


def as_input(messages: Messages, stop: Sequence[str] = (), **drawing: Unpack[Drawing]) -> Input:
    """A plain string is one user message. Raises InvalidInput, and TypeError for a name that is none of `Drawing`."""
    if unknown := drawing.keys() - Drawing.__annotations__.keys():
        raise TypeError(f"no such field of a request: {', '.join(sorted(unknown))}")
    sampling, grammar = requested(drawing, secrets.choice(DRAWN_SEEDS)), constrained(_listed(drawing, "guided_choice"))
    tools = offered(_listed(drawing, "tools"))
    if tools and grammar:
        raise InvalidInput("tools and a grammar in one request are not served: leave out one of them")
    grammar = grammar or forced(tools, drawing.get("tool_choice"))
    if isinstance(messages, Input):
        if tools and messages.messages is None:
            raise InvalidInput("tools are for chats: a plain prompt has no place for them")
        stops = stop_strings(list(stop)) if stop else messages.stop
        return replace(
            messages,
            stop=stops,
            sampling=sampling or messages.sampling,
            tools=tools or messages.tools,
            grammar=grammar or messages.grammar,
        )
    listed = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    return chat_input(listed, list(stop), sampling, tools, grammar)


def _listed(fields: Mapping[str, Any], field: str) -> dict[str, Any]:
    """With any sequence there as the list that JSON has."""
    given = fields.get(field)
    return {**fields, field: list(given) if isinstance(given, Sequence) and not isinstance(given, str) else given}


def salted(asked: Input) -> Input:
    """The input with a salt of its own. Raises InvalidInput for one that is too long."""
    return asked if asked.salt else asked.salted(secrets.token_bytes(SALT_BYTES))


def draft_request(
    asked: Input, model: ModelEntry, client: str, max_tokens: int, now: int, most_wei: int | None = None
) -> Request:
    """A request whose fee limit covers the longest prompt that the text can make, and is `most_wei` at most. Raises
    InvalidInput.

    `now` is the chain's time, seconds.
    """
    if not 1 <= max_tokens < 1 << 20:
        raise InvalidInput(f"max_tokens is {max_tokens}, expected 1 to {(1 << 20) - 1}")
    worst = worst_fee_wei(asked, model, max_tokens)
    return Request(
        client=client,
        model_id=model.model_id,
        input_hash=asked.hash(),
        max_tokens=max_tokens,
        max_fee_wei=worst if most_wei is None else min(worst, most_wei),
        nonce=secrets.randbits(256),
        deadline=now + REQUEST_LIFETIME_SECONDS,
    )


def worst_fee_wei(asked: Input, model: ModelEntry, max_tokens: int) -> int:
    """What an answer may cost at most."""
    return model.price_per_token_wei * (prompt_tokens_at_most(asked) + max_tokens)


def prompt_tokens_at_most(asked: Input) -> int:
    """The client has no tokenizer, but no token is shorter than a byte. Templates may write tools on many lines; they
    are not shown the grammar."""
    tokens = len(replace(asked, grammar=None, salt=b"").canonical()) + TEMPLATE_ALLOWANCE_TOKENS
    if asked.tools:
        spread = json.dumps(asked.tools.as_list(), ensure_ascii=False, indent=4)
        tokens += len(spread) - len(asked.tools.text) + TOOLS_ALLOWANCE_TOKENS
    return tokens


def order_body(
    asked: Input, model: ModelEntry, request: Request, signature: bytes, voucher: Voucher, voucher_signature: bytes
) -> dict[str, Any]:
    return {
        "model": model.name,
        **({"messages": asked.as_messages()} if asked.text is None else {"prompt": asked.text}),
        **asked.tools.fields(),
        "max_tokens": request.max_tokens,
        **(asked.sampling.fields() if asked.sampling else {"temperature": 0}),
        **_constraint(asked),
        **({"stop": list(asked.stop)} if asked.stop else {}),
        "trine": {
            "request": request.to_json(),
            "signature": "0x" + signature.hex(),
            **({"salt": "0x" + asked.salt.hex()} if asked.salt else {}),
            "voucher": {"voucher": voucher.to_json(), "signature": "0x" + voucher_signature.hex()},
        },
    }


def _constraint(asked: Input) -> dict[str, Any]:
    """The fields of a request that hold its answer to what was signed."""
    if choice := choice_of(asked.tools, asked.grammar):
        return {"tool_choice": choice}
    return asked.grammar.fields() if asked.grammar else {}
