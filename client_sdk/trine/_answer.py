"""What a client builds, checks and keeps: the pure half that `Client` and `AsyncClient` share."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypedDict, Unpack

from eth_abi.exceptions import EncodingError

from trine.chain.records import ModelEntry
from trine.errors import InvalidInput, NodeRefused, PaymentRequired, VerificationFailed
from trine.protocol.calls import read_calls, told_reason
from trine.protocol.certificate import Certificate
from trine.protocol.forcing import choice_of, forced
from trine.protocol.grammar import Grammar
from trine.protocol.grammar import requested as constrained
from trine.protocol.inputs import Input, chat_input, stop_strings
from trine.protocol.messages import (
    MAX_ANCHOR_SECONDS,
    Domain,
    FinishReason,
    Receipt,
    Request,
    Voucher,
    require_signer,
    text_hash,
)
from trine.protocol.numbers import whole
from trine.protocol.salts import SALT_BYTES, read_salt
from trine.protocol.sampling import DRAWN_SEEDS, Sampling, requested
from trine.protocol.tools import ToolCall, offered, tool_calls

TEMPLATE_ALLOWANCE_TOKENS = 256
"""Tokens that a chat template may add; the rest of a prompt has at most one token a byte."""
TOOLS_ALLOWANCE_TOKENS = 1_024
"""Tokens that it may add about tools: how they are called, in each model's own words."""
REQUEST_LIFETIME_SECONDS = 900
MAX_DRIFT_SECONDS = 86_400
"""Between an order's deadline and the time that its receipt says: what is claimed later is claimed by that time."""
MAX_ORDERS = 4_096
MAX_RETRY_AFTER_SECONDS = 60.0
MAX_REASON = 2_000
FINISH_REASONS: dict[int, str] = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
"""As OpenAI's clients name what a receipt says."""

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
class Usage:
    """Tokens of one answer, as OpenAI's clients name them. Verifiers count both."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Tried:
    """A node that an order went to before, in vain."""

    node: str
    node_url: str
    reason: str
    may_cost_wei: int  # 0 where it has begun nothing; else it may have, and could be paid for it up to this

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "nodeUrl": self.node_url,
            "reason": self.reason,
            "mayCostWei": str(self.may_cost_wei),
        }


@dataclass(slots=True)
class Answer:
    """An answer with the node's signed promise, and the chain's certificate once asked for."""

    text: str
    finish_reason: str
    receipt: Receipt
    receipt_signature: bytes
    digest: bytes  # the receipt's struct hash: its name at the node
    node_url: str
    seconds: float = 0.0
    first_seconds: float | None = None  # until the first text, where it came as a stream
    certificate: Certificate | None = field(default=None)
    tried: tuple[Tried, ...] = ()
    """Nodes that were asked before the one that answered."""
    sampling: Sampling | None = None
    """How its tokens were drawn, as was signed, with the seed; None: greedily."""
    grammar: Grammar | None = None
    """What its text had to be, as was signed."""
    salt: bytes = b""
    """Who is shown it and the text can see that the receipt is for them; see `trine.protocol.salts`."""
    tool_calls: tuple[ToolCall, ...] = ()
    """What it calls, which is read from the text: look at names and arguments before anything is run."""
    beside_calls: str | None = None
    """The text around the calls, None where there is none."""

    @property
    def content(self) -> str | None:
        """The text without the calls in it."""
        return self.beside_calls if self.tool_calls else self.text

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to ask on from: after it, results of its calls as messages of the role `tool`."""
        calls = {"tool_calls": [call.to_json() for call in self.tool_calls]} if self.tool_calls else {}
        return {"role": "assistant", "content": self.content, **calls}

    @property
    def usage(self) -> Usage:
        return Usage(self.receipt.prompt_tokens, self.receipt.output_tokens)

    @property
    def tokens_per_second(self) -> float:
        """As the client saw it: output tokens over the whole time of the call."""
        return self.receipt.output_tokens / self.seconds if self.seconds else 0.0

    def held(self) -> dict[str, Any]:
        """What to keep of it, as JSON: with that the node can be held to its promise. See `from_held`."""
        return {
            "receipt": self.receipt.to_json(),
            "receiptSignature": "0x" + self.receipt_signature.hex(),
            "nodeUrl": self.node_url,
            **({"salt": "0x" + self.salt.hex()} if self.salt else {}),
        }

    @classmethod
    def from_held(cls, document: Any) -> Self:
        """The answer that `held` kept, without its text. Raises InvalidInput."""
        if isinstance(document, dict) and "proof" in document:
            raise InvalidInput(
                "this is a certificate, which `trine audit certificate` checks: its answer is in a batch"
            )
        try:
            receipt, url = Receipt.from_json(document["receipt"]), document["nodeUrl"]
            signature = bytes.fromhex(document["receiptSignature"].removeprefix("0x"))
            salt = read_salt(document["salt"]) if document.get("salt") is not None else b""
            if not isinstance(url, str):
                raise InvalidInput("nodeUrl is no text")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"this is no receipt as it was saved: {error!r:.300}") from None
        return cls("", "", receipt, signature, receipt.struct_hash(), url.rstrip("/"), salt=salt)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request about to be sent."""

    input: Input
    request: Request
    digest: bytes
    body: dict[str, Any]
    number: int  # in the node's ledger
    price_per_token_wei: int

    @property
    def path(self) -> str:
        """Where a node takes it."""
        return "/v1/chat/completions" if self.input.text is None else "/v1/completions"


@dataclass(frozen=True, slots=True)
class Earned:
    """An answer to an order of the client's that is where the node says: what it has earned if it was accepted."""

    request_hash: bytes
    batch_id: bytes
    index: int
    deadline: int  # of the order, seconds
    fee_wei: int


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


def owed_by_proof(account: Any, client: str, node: str, domain: Domain) -> int:
    """What the client owes by the node's count, as far as the client's own vouchers prove it.

    Raises VerificationFailed when the node claims more than it can prove.
    """
    try:
        owed = whole(account["owedWei"])
        proof = account["voucher"]
        if owed == 0:
            return 0
        voucher = Voucher(client, node, whole(proof["cumulativeWei"]), whole(proof["earnedWei"]), whole(proof["asOf"]))
        signature = bytes.fromhex(proof["signature"].removeprefix("0x"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of what is owed is malformed: {error!r:.300}") from None
    try:
        digest = voucher.digest(domain)
    except EncodingError as error:
        raise VerificationFailed(f"the node's account of what is owed is malformed: {error!r:.300}") from None
    require_signer(digest, signature, client, "the voucher that the node shows")
    if not 0 <= owed <= voucher.cumulative_wei:
        raise VerificationFailed(f"the node claims {owed} wei, our highest voucher is over {voucher.cumulative_wei}")
    return owed


def acknowledged_by_proof(account: Any, client: str, node: str, domain: Domain) -> tuple[int, int]:
    """(earned wei, asOf) of the client's own voucher that the node shows; zeros where it shows none.

    Raises VerificationFailed.
    """
    try:
        shown = account["acknowledged"]
        if shown is None:
            return 0, 0
        voucher = Voucher(client, node, whole(shown["cumulativeWei"]), whole(shown["earnedWei"]), whole(shown["asOf"]))
        signature = bytes.fromhex(shown["signature"].removeprefix("0x"))
        require_signer(voucher.digest(domain), signature, client, "the voucher that the node shows")
    except (KeyError, TypeError, ValueError, AttributeError, EncodingError) as error:
        raise VerificationFailed(f"the node's account of what was acknowledged is malformed: {error!r:.300}") from None
    return voucher.earned_wei, voucher.as_of


def earned_by_proof(account: Any, client: str, node: str, domain: Domain, since: int) -> tuple[list[Earned], int]:
    """The answers that the node shows as accepted, to orders with a deadline from `since` on, and the deadline before
    which it says these are all; oldest first. Whether they were accepted, the chain says.

    The client keeps no record: it has signed every order, and one that it did not sign, or that is shown twice, or
    costs more than it allowed, or is in no such batch, is found here. Raises VerificationFailed.
    """
    try:
        shown, as_of = account["orders"], whole(account["asOf"])
        if not isinstance(shown, list) or len(shown) > MAX_ORDERS:
            raise ValueError(f"at most {MAX_ORDERS} orders are looked at")
        known: set[bytes] = set()
        earned = []
        for each in shown:
            request, receipt = Request.from_json(each["request"]), Receipt.from_json(each["receipt"])
            signature = bytes.fromhex(each["requestSignature"].removeprefix("0x"))
            place = _certificate(each["batch"], receipt, b"", domain)
            digest = request.digest(domain)
            require_signer(digest, signature, client, "an order that the node shows")
            faults = {
                "is not this answer's": receipt.request_hash != digest or receipt.client.lower() != client.lower(),
                "was answered by another node": receipt.node.lower() != node.lower(),
                "is shown twice": digest in known,
                "is outside of what is to be acknowledged": not since <= request.deadline < as_of,
                "costs more than it allowed": receipt.fee_wei > request.max_fee_wei,
                "is not in the batch that is named": not place.is_bound,
            }
            for fault, present in faults.items():
                if present:
                    raise VerificationFailed(f"an order that the node wants to be paid for {fault}")
            known.add(digest)
            earned.append(Earned(digest, place.batch_id, place.index, request.deadline, receipt.fee_wei))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidInput) as error:
        raise VerificationFailed(f"the node's account of what was earned is malformed: {error!r:.300}") from None
    return sorted(earned, key=lambda one: one.deadline), as_of


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as its node tells it, unread."""

    content: Any
    finish_reason: Any
    calls: Any = None


def checked_answer(extras: Any, told: Told, draft: Draft, node: str, node_url: str, domain: Domain) -> Answer:
    """The answer, once the receipt is for exactly this request, this text and this node, and what the node shows of the
    text is what it says and calls. Raises VerificationFailed."""
    signed = extras.get("text") if draft.input.tools and isinstance(extras, dict) else None
    text = told.content if signed is None else signed
    if not isinstance(text, str) or not _is_unicode(text):
        raise VerificationFailed("the node's answer is no text: do not use this answer")
    try:
        receipt = Receipt.from_json(extras["receipt"])
        signature = bytes.fromhex(extras["signature"].removeprefix("0x"))
        calls = tool_calls(told.calls, "tool_calls")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node gave no readable receipt: {error!r:.300}") from None
    require_signer(receipt.digest(domain), signature, node, "receipt")
    request = draft.request
    faults = {
        "another node": receipt.node.lower() != node.lower(),
        "another request": receipt.request_hash != draft.digest,
        "another client": receipt.client.lower() != request.client.lower(),
        "another model": receipt.model_id != request.model_id,
        "another input": receipt.input_hash != request.input_hash,
        "another limit of tokens": receipt.max_tokens != request.max_tokens,
        "another text": receipt.text_hash != text_hash(text, draft.input.salt),
        "a higher fee than allowed": receipt.fee_wei > request.max_fee_wei,
        "more tokens than were ordered": receipt.output_tokens > request.max_tokens,
        "more prompt tokens than the text can have": receipt.prompt_tokens > prompt_tokens_at_most(draft.input),
        "a higher fee than its tokens cost": receipt.fee_wei
        > draft.price_per_token_wei * (receipt.prompt_tokens + receipt.output_tokens),
        "no time by which it will be judged": not receipt.issued_at
        <= receipt.anchor_by
        <= receipt.issued_at + MAX_ANCHOR_SECONDS,
        "another time": abs(receipt.issued_at - request.deadline) > MAX_DRIFT_SECONDS,
    }
    for fault, present in faults.items():
        if present:
            raise VerificationFailed(f"the receipt is for {fault}: do not use this answer")
    read = read_calls(text, draft.input)
    reason = told_reason(FINISH_REASONS.get(receipt.finish_reason, ""), read.calls)
    faults = {
        "is for another end than the node says": told.finish_reason != reason,
        "says something else than the node shows": (told.content or "") != (read.content or ""),
        "calls other tools than the node shows": calls != read.calls,
    }
    for fault, present in faults.items():
        if present:
            raise VerificationFailed(f"the receipt {fault}: do not use this answer")
    return Answer(
        text,
        reason,
        receipt,
        signature,
        receipt.struct_hash(),
        node_url,
        sampling=draft.input.sampling,
        grammar=draft.input.grammar,
        tool_calls=read.calls,
        beside_calls=read.content if read.calls else None,
        salt=draft.input.salt,
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return True


def placed_certificate(document: Any, answer: Answer, domain: Domain) -> Certificate | None:
    """A certificate without result from a node's `/v1/receipts` answer; None before the answer is in a batch."""
    try:
        place = document["batch"]
        if place is None:
            return None
        return _certificate(place, answer.receipt, answer.receipt_signature, domain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"the node's account of the batch is malformed: {error!r:.300}") from None


def _certificate(place: Any, receipt: Receipt, signature: bytes, domain: Domain) -> Certificate:
    return Certificate(
        chain_id=domain.chain_id,
        batches=domain.verifying_contract,
        root=bytes.fromhex(place["root"].removeprefix("0x")),
        canary=bytes.fromhex(place["canary"].removeprefix("0x")),
        index=whole(place["index"]),
        receipt=receipt,
        receipt_signature=signature,
        proof=tuple(bytes.fromhex(s.removeprefix("0x")) for s in place["proof"]),
        accepted=0,
        rejected=0,
    )


def refusal(status: int, document: Any, retry_after: str | None = None) -> NodeRefused:
    """The node's error as an exception. `retry_after`: the header, in seconds."""
    error = document.get("error") if isinstance(document, dict) else None
    message, code, param = (error.get(key) if isinstance(error, dict) else None for key in ("message", "code", "param"))
    kind = PaymentRequired if status == 402 else NodeRefused
    wait = min(float(retry_after), MAX_RETRY_AFTER_SECONDS) if retry_after and retry_after.isdecimal() else None
    said = f"{message or 'no reason given'}"[:MAX_REASON]
    return kind(
        f"the node refused ({status}): {said}",
        status=status,
        code=code if isinstance(code, str) else None,
        retry_after=wait,
        param=param if isinstance(param, str) else None,
        said=said,
    )
