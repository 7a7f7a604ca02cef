"""An answer as a client keeps it: the node's receipt, checked against what was ordered. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

from trine._ordering import Draft, prompt_tokens_at_most
from trine.errors import InvalidInput, VerificationFailed
from trine.protocol.calls import read_calls, told_reason
from trine.protocol.certificate import Certificate
from trine.protocol.grammar import Grammar
from trine.protocol.messages import MAX_ANCHOR_SECONDS, Domain, FinishReason, Receipt, require_signer, text_hash
from trine.protocol.salts import read_salt
from trine.protocol.sampling import Sampling
from trine.protocol.tools import ToolCall, tool_calls

MAX_DRIFT_SECONDS = 86_400
"""Between an order's deadline and the time that its receipt says: what is claimed later is claimed by that time."""
MAX_SHOWN = 200
"""Characters of a text that an answer shows of itself."""
FINISH_REASONS: dict[int, str] = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
"""As OpenAI's clients name what a receipt says."""


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


@dataclass(slots=True, repr=False)
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

    def __repr__(self) -> str:
        """What a person looks for: signatures, hashes and salts are in the fields."""
        text = self.text if len(self.text) <= MAX_SHOWN else self.text[:MAX_SHOWN] + "…"
        said = self.certificate.result if self.certificate else "not asked for"
        return (
            f"<Answer {text!r}, {self.finish_reason}, {self.usage.total_tokens} tokens, by {self.receipt.node}, "
            f"verdict: {said}>"
        )

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
