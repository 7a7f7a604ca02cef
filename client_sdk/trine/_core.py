"""What `Client` and `AsyncClient` do the same way: everything but waiting for HTTP.

Chooses nodes, signs orders, puts streams together, checks what comes back.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from trine._answer import (
    REQUEST_LIFETIME_SECONDS,
    Answer,
    Draft,
    acknowledged_by_proof,
    checked_answer,
    draft_request,
    earned_by_proof,
    order_body,
    owed_by_proof,
    refusal,
)
from trine._ledger import Ledger
from trine._reading import Reply
from trine._sse import EventDecoder
from trine.chain import BatchState, Chain, ClaimState, InclusionClaim, ModelEntry, Role
from trine.errors import InvalidInput, NodeRefused, NodeUnreachable, NotReady, VerificationFailed
from trine.protocol.access import access_header, account_digest
from trine.protocol.certificate import Certificate
from trine.protocol.inputs import Input
from trine.protocol.messages import Voucher
from trine.wording import amount

MODEL_SECONDS = 300.0
"""Its price may change, and what is registered."""
CHOICE_SECONDS = 60.0
"""Reputations move slowly."""
REST_SECONDS = 60.0
"""A node that did not answer is not the first to be asked for so long."""
PAGES = 4
"""Of the directory, 256 operators each."""
MAX_TEXT = 8 << 20
"""Characters of an answer: a token has a few, and an answer a million tokens at most."""
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 8.0
PAYMENT_RETRIES = 6
LEDGER_CODES = frozenset({"voucher_too_low", "order_behind", "acknowledged_too_little", "acknowledgement_required"})
"""What a node says whose count of our orders is ahead of ours."""


class Core:
    """What both clients do the same way: everything but waiting for HTTP."""

    def __init__(self, chain: Chain, node: str | None, deposit_wei: int) -> None:
        if deposit_wei < 0:
            raise InvalidInput("deposit_wei cannot be negative")
        self.chain = chain
        self._node = node
        self._deposit_wei = deposit_wei
        self._models: dict[str | None, tuple[float, ModelEntry]] = {}
        self._lock = threading.Lock()
        self._choices: dict[bytes, tuple[float, list[tuple[str, str]]]] = {}
        self._resting: dict[str, float] = {}  # until when, by the monotonic clock
        self._avoided: dict[str, float] = {}  # the same; these are asked nothing
        self._ledgers: dict[str, Ledger] = {}
        self._stake_per_leaf = (-math.inf, 0)  # when it was read, and the wei
        self._covered: dict[str, int] = {}  # what deposits with nodes cover, when last looked
        self._depositing: dict[str, threading.Lock] = {}

    def model(self, name: str | None) -> ModelEntry:
        """The newest model of that name, or the only one. Raises InvalidInput listing what exists."""
        known = self.remembered_model(name)
        if known is not None:
            return known
        asked = name
        models = {model.name: model for model in self.chain.models()}
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name is None or name not in models:
            raise InvalidInput(f"no model {name!r}; registered: {', '.join(sorted(models)) or 'none'}")
        with self._lock:
            self._models[asked] = time.monotonic(), models[name]
        return models[name]

    def remembered_model(self, name: str | None) -> ModelEntry | None:
        """As `model`, without asking the chain; None where that must be asked."""
        with self._lock:
            at, known = self._models.get(name, (-math.inf, None))
        return known if known and time.monotonic() - at < MODEL_SECONDS else None

    def nodes(self, model: ModelEntry, at_most_pages: int | None = None) -> list[tuple[str, str]]:
        """(address, endpoint) of calibrated nodes with an endpoint, best reputation first; of so many pages, or all."""
        listed = self.chain.operators(model.model_id, Role.NODE, at_most_pages)
        serving = [entry for entry in listed if entry.calibrated and entry.endpoint]
        serving.sort(key=lambda entry: (-entry.score_bps, entry.operator))
        return [(entry.operator, entry.endpoint) for entry in serving]

    def choose(self, model: ModelEntry, avoided: Collection[str] = ()) -> tuple[str, str]:
        """(address, endpoint) of the node to ask, none of those that are to be avoided; for a minute the same one.

        Raises NotReady.
        """
        chosen = self._best_of(self._candidates(model), avoided)
        if chosen is not None:
            return chosen
        where = f" at {self._node}" if self._node else ""
        others = ", ".join(endpoint for _, endpoint in self.nodes(model, PAGES)[:5])
        raise NotReady(f"no calibrated node{where} serves {model.name!r}" + (f"; these do: {others}" if others else ""))

    def remembered_choice(self, model: ModelEntry, avoided: Collection[str] = ()) -> tuple[str, str] | None:
        """As `choose`, without asking the chain; None where that must be asked."""
        with self._lock:
            at, known = self._choices.get(model.model_id, (-math.inf, []))
        return self._best_of(known, avoided) if time.monotonic() - at < CHOICE_SECONDS else None

    def _best_of(self, serving: list[tuple[str, str]], avoided: Collection[str]) -> tuple[str, str] | None:
        now = time.monotonic()
        with self._lock:
            left = [p for p in serving if p[0] not in avoided and self._avoided.get(p[0].lower(), 0.0) <= now]
            awake = [place for place in left if self._resting.get(place[0], 0.0) <= now]
        return next(iter(awake or left), None)

    def has_other(self, model: ModelEntry, avoided: Collection[str]) -> bool:
        """Whether there is a node besides those, as far as is known without asking the chain."""
        with self._lock:
            _, known = self._choices.get(model.model_id, (0.0, []))
            now, out = time.monotonic(), self._avoided
            return any(a not in avoided and out.get(a.lower(), 0.0) <= now for a, _ in known)

    def _candidates(self, model: ModelEntry) -> list[tuple[str, str]]:
        """Who may be asked, best first: one, where a certain one is wanted. Remembered for a minute."""
        with self._lock:
            at, known = self._choices.get(model.model_id, (-math.inf, []))
        if known and time.monotonic() - at < CHOICE_SECONDS:
            return known
        # Of a crowd a few are enough to choose from, unless a certain one is wanted or none of them serves.
        for at_most_pages in (PAGES, None):
            serving = self.nodes(model, at_most_pages)
            if self._node is not None:
                serving = [place for place in serving if place[1].rstrip("/") == self._node.rstrip("/")][:1]
            if serving:
                with self._lock:
                    self._choices[model.model_id] = time.monotonic(), serving
                return serving
        return []

    def rest(self, node: str) -> None:
        """It did not answer: others come first for a while."""
        with self._lock:
            self._resting = {each: until for each, until in self._resting.items() if until > time.monotonic()}
            self._resting[node] = time.monotonic() + REST_SECONDS

    def avoid(self, node: str, seconds: float) -> None:
        """It is asked nothing for so long."""
        until = time.monotonic() + seconds
        with self._lock:
            self._avoided = {each: end for each, end in self._avoided.items() if end > time.monotonic()}
            self._avoided[node.lower()] = until

    def forget_nodes(self) -> None:
        """One does not answer: the chain is asked again who serves."""
        with self._lock:
            self._choices.clear()

    def ledger(self, node: str) -> Ledger:
        with self._lock:
            return self._ledgers.setdefault(node, Ledger())

    def prepare(self, asked: Input, model: ModelEntry, max_tokens: int, node: str) -> Draft:
        """Signs request and voucher; deposits with the node before, if that is wanted and needed.

        The draft's number is to be given back to the node's ledger.
        """
        chain, ledger = self.chain, self.ledger(node)
        request = draft_request(asked, model, chain.address, max_tokens, chain.now())
        self._require_secured(request.max_fee_wei)
        ledger.expire(chain.now())
        taken = ledger.take(request.max_fee_wei, request.deadline)
        try:
            request = replace(request, deadline=taken.deadline)
            digest = request.digest(chain.domain)
            voucher = Voucher(chain.address, node, taken.cumulative_wei, taken.earned_wei, taken.as_of)
            self._cover(node, taken.cumulative_wei)
            body = order_body(
                asked, model, request, chain.sign(digest), voucher, chain.sign(voucher.digest(chain.payments_domain))
            )
        except BaseException:
            ledger.give_back(taken.number, 0)
            raise
        return Draft(asked, request, digest, body, taken.number, model.price_per_token_wei)

    def learn(self, account: Any, node: str) -> None:
        """What is owed, and what the next voucher acknowledges, as far as the node's account proves it.

        Raises VerificationFailed for a node that claims more.
        """
        chain, ledger, domain = self.chain, self.ledger(node), self.chain.payments_domain
        owed = owed_by_proof(account, chain.address, node, domain)
        earned, since = acknowledged_by_proof(account, chain.address, node, domain)
        shown, as_of = earned_by_proof(account, chain.address, node, chain.domain, since)
        # Not what is on its way, nor what nobody could have ordered yet.
        as_of = min(as_of, chain.now() + REQUEST_LIFETIME_SECONDS + 1)
        open_since = ledger.open_since
        as_of = as_of if open_since is None else min(as_of, open_since)
        shown = [order for order in shown if order.deadline < as_of]
        names = sorted({order.batch_id for order in shown})
        results = {}
        if names:
            with chain.reading_ahead([("Finality", "resultOf", (batch_id,)) for batch_id in names]):
                results = {batch_id: chain.result(batch_id) for batch_id in names}
        for order in shown:
            agreed = ledger.fee_of(order.request_hash)
            if agreed is not None and order.fee_wei > agreed:
                raise VerificationFailed(
                    f"the node wants {order.fee_wei} wei for an answer whose receipt to us says {agreed}"
                )
            result = results[order.batch_id]
            if not result.is_final:
                as_of = min(as_of, order.deadline)  # to our endpoint, which may be behind
                break
            if order.index >= result.leaf_count or result.on(order.index) != "accept":
                raise VerificationFailed(
                    f"the node wants to be paid for an answer that was not accepted: leaf {order.index} of batch "
                    f"0x{order.batch_id.hex()}"
                )
        earned += sum(order.fee_wei for order in shown if order.deadline < as_of)
        ledger.learn(max(owed, earned))
        if as_of >= since:  # else what is counted already could be opened again
            ledger.acknowledge(earned, as_of)

    def acknowledgement(self, account: Any, node: str) -> tuple[Voucher, bytes] | None:
        """A voucher over what the node's account proves to be earned, no more, with its signature; None if the node
        has one."""
        chain, domain = self.chain, self.chain.payments_domain
        known, _since = acknowledged_by_proof(account, chain.address, node, domain)
        self.learn(account, node)
        earned, as_of = self.ledger(node).acknowledged
        if earned <= known:
            return None
        voucher = Voucher(chain.address, node, earned, earned, as_of)
        return voucher, chain.sign(voucher.digest(domain))

    def is_ours(self, answer: Answer) -> bool:
        """Whether this account has ordered the answer."""
        return self.chain.has_account and answer.receipt.client.lower() == self.chain.address.lower()

    def _require_secured(self, fee_wei: int) -> None:
        """Raises InvalidInput for an answer that may cost more than its rejection would cost the node."""
        with self._lock:
            at, stake = self._stake_per_leaf
        if time.monotonic() - at > MODEL_SECONDS:
            stake = self.chain.parameters().stake_per_leaf
            with self._lock:
                self._stake_per_leaf = time.monotonic(), stake
        if fee_wei > stake:
            raise InvalidInput(
                f"the answer may cost {amount(fee_wei)}, more than the {amount(stake)} that secure it: a node could "
                "not collect more; lower max_tokens or shorten the messages"
            )

    def is_late(self, error: NodeRefused, attempt: int) -> bool:
        """Whether a node's clock, which is the chain's, is far from ours: then the chain is asked what time it is."""
        if attempt or error.code not in ("bad_authorization", "request_expired"):
            return False
        self.chain.forget_time()
        return True

    def pause_after(self, error: NodeRefused, node: str, attempt: int, deadline: float) -> float | None:
        """Seconds until an order is worth another try; None if it is not. `deadline` is of the monotonic clock."""
        if self.is_late(error, attempt):
            seconds = 0.0
        elif error.status in (429, 503):
            growing = min(MIN_PAUSE_SECONDS * 2 ** min(attempt, 10), MAX_PAUSE_SECONDS)
            # Who says 0 would be asked, and paid in signatures, as fast as we can.
            seconds = growing if error.retry_after is None else max(error.retry_after, MIN_PAUSE_SECONDS)
        elif attempt < self._payment_retries(error.code):
            # Another client of the account has promised, too, or somebody has withdrawn.
            self.ledger(node).forget()
            with self._lock:
                self._covered.pop(node, None)
            seconds = 0.1 * 2**attempt
        else:
            return None
        # Those who were sent away together need not come back together.
        seconds *= 1 + random.random() / 2  # noqa: S311
        return seconds if time.monotonic() + seconds < deadline else None

    def _payment_retries(self, code: str | None) -> int:
        if code == "deposit_too_low":
            return 1 if self._deposit_wei else 0
        return PAYMENT_RETRIES if code in LEDGER_CODES else 0

    def account_access(self, node: str) -> dict[str, str]:
        """Headers with which the node shows the client's account to nobody but the client."""
        at = self.chain.now()
        return {"authorization": access_header(at, self.chain.sign(account_digest(self.chain.domain, node, at)))}

    def deposit(self, node: str, amount_wei: int) -> None:
        """Adds to what the client has with the node."""
        self.chain.allow("Payments", amount_wei)
        self.chain.deposit(node, amount_wei)

    def _cover(self, node: str, promised_wei: int) -> None:
        """Deposits where what is there does not cover what is promised. Who needs no more does not wait."""
        if not self._deposit_wei or self._covered.get(node, 0) >= promised_wei:
            return
        with self._lock:
            depositing = self._depositing.setdefault(node, threading.Lock())
        with depositing:
            if self._covered.get(node, 0) >= promised_wei:
                return
            account = self.chain.account(self.chain.address, node)
            covered = account.collected + account.firm
            if covered < promised_wei:
                amount = max(promised_wei - covered, self._deposit_wei)
                self.deposit(node, amount)
                covered += amount
            self._covered[node] = covered

    def finish(self, document: Any, draft: Draft, node: str, node_url: str) -> Answer:
        """Checks a whole completion."""
        try:
            choice = document["choices"][0]
            text = choice["message"]["content"] if draft.input.text is None else choice["text"]
            reason = choice["finish_reason"]
            extras = document["trine"]
        except (KeyError, IndexError, TypeError) as error:
            raise VerificationFailed(f"the node's answer is malformed: {error!r}") from None
        return self.checked(extras, text, reason, draft, node, node_url)

    def checked(self, extras: Any, text: str, reason: str, draft: Draft, node: str, node_url: str) -> Answer:
        """See `checked_answer`. What the receipt says of the fee is remembered."""
        answer = checked_answer(extras, text, reason, draft, node, node_url, self.chain.domain)
        self.ledger(node).note_fee(draft.digest, answer.receipt.fee_wei)
        return answer

    def claim_inclusion(self, answer: Answer, place: Certificate | None) -> InclusionClaim:
        """The next step of a claim that the answer is in no batch. `place` is where the node says that it is."""
        chain, receipt = self.chain, answer.receipt
        if place and place.is_bound:
            batch = chain.batch(place.batch_id)
            if batch.state not in (BatchState.NONE, BatchState.VOID):
                raise InvalidInput(
                    f"the answer is leaf {place.index} of batch 0x{place.batch_id.hex()}, which is on the chain: a "
                    "claim would lose its bond"
                )
        claim, now = chain.inclusion_claim(answer.digest), chain.timestamp()
        if claim.state == ClaimState.OPEN:
            if now <= claim.answer_by:
                raise NotReady(
                    f"the answer is claimed; the node has {claim.answer_by - now} s to show it: then come again"
                )
            chain.conclude_inclusion(receipt)
        elif claim.state == ClaimState.BROKEN:
            return claim
        elif now <= receipt.anchor_by:
            raise NotReady(f"the node has promised to anchor the answer within {receipt.anchor_by - now} s: wait")
        else:
            chain.allow("Inclusion", chain.inclusion_bond())
            chain.claim_inclusion(receipt, answer.receipt_signature)
        return chain.inclusion_claim(answer.digest)

    def settled(self, place: Certificate, final: bool) -> Certificate | None:
        """The certificate with its result, checked against the chain; None while the batch is open.

        With `final`, None also as long as an appeal may change the answer's verdict.
        """
        result = self.chain.result(place.batch_id)
        if not result.is_settled or (final and not self.chain.verdict(place.batch_id, place.index)[1]):
            return None
        words = (result.accepted, result.rejected, result.unavailable)
        certificate = replace(place, accepted=words[0], rejected=words[1], unavailable=words[2])
        certificate.verify(*words)
        if not place.index < result.leaf_count:
            raise VerificationFailed("the certificate is not of an answer in the batch")
        return certificate


class Stream:
    """Puts a stream's events together and checks the end."""

    def __init__(self, core: Core, draft: Draft, node: str, node_url: str) -> None:
        self._finish: Callable[[Any, str, str], Answer] = lambda extras, text, reason: core.checked(
            extras, text, reason, draft, node, node_url
        )
        self._is_chat = draft.input.text is None
        self._events = EventDecoder()
        self._parts: list[str] = []
        self._size = 0
        self.answer: Answer | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """The texts that more bytes of the event stream add."""
        return [text for event in self._events.feed(chunk) if (text := self._read(event))]

    @property
    def has_begun(self) -> bool:
        """Whether there was any text."""
        return self._size > 0

    def _read(self, event: str) -> str:
        if event.strip() == "[DONE]":
            return ""
        try:
            document = json.loads(event)
        except (ValueError, RecursionError):
            raise VerificationFailed("the node's stream holds an event that is not JSON") from None
        if not isinstance(document, dict):
            raise VerificationFailed("the node's stream holds an event that is no object")
        if "error" in document:
            raise refusal(500, document)
        try:
            for choice in document.get("choices") or []:
                text = str((choice.get("delta", {}).get("content") if self._is_chat else choice.get("text")) or "")
                self._size += len(text)
                if self._size > MAX_TEXT:
                    raise VerificationFailed(f"the node's answer is longer than {MAX_TEXT} characters")
                if self.answer is not None and (text or choice.get("finish_reason")):
                    raise VerificationFailed("the node's stream goes on after its receipt: that text nobody has signed")
                self._parts.append(text)
                if choice.get("finish_reason"):
                    self.answer = self._finish(document.get("trine"), "".join(self._parts), choice["finish_reason"])
                return text
        except (AttributeError, TypeError) as error:
            raise VerificationFailed(f"the node's stream holds a malformed event: {error!r:.100}") from None
        return ""

    def end(self, seconds: float) -> Answer:
        for event in self._events.end():
            self._read(event)
        if self.answer is None and not self.has_begun:
            raise NodeUnreachable("the node's stream ended without a token")
        if self.answer is None:
            raise VerificationFailed("the stream ended without a receipt: do not use this answer")
        self.answer.seconds = seconds
        return self.answer


def decoded(response: Reply) -> Any:
    """The JSON of a good answer. Raises NodeRefused for any other."""
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = None
    if response.status_code != 200:
        raise refusal(response.status_code, document, response.headers.get("retry-after"))
    if document is None:
        raise VerificationFailed("the node's answer is not JSON")
    return document
