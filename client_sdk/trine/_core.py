"""What `Client` and `AsyncClient` do the same way: everything but waiting for HTTP.

Chooses nodes, signs orders, puts streams together, checks what comes back.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trine._accounts import acknowledged_by_proof, earned_by_proof, owed_by_proof
from trine._answer import Answer, Told, checked_answer
from trine._calling import StreamedCalls
from trine._choosing import Preference
from trine._ledger import Ledger
from trine._nodes import MODEL_SECONDS, Nodes
from trine._options import Wanted
from trine._ordering import REQUEST_LIFETIME_SECONDS, Draft, draft_request, order_body, salted, worst_fee_wei
from trine._reading import Fetch, refusal
from trine._repeats import Repeats, kept_orders
from trine._spending import Spending
from trine._sse import EventDecoder
from trine.chain import BatchState, Chain, ClaimState, InclusionClaim, ModelEntry
from trine.errors import InvalidInput, NodeRefused, NodeUnreachable, NotReady, VerificationFailed
from trine.protocol.access import access_header, account_digest
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Voucher
from trine.wording import amount

if TYPE_CHECKING:
    from trine._sealed import Opening, Seals
    from trine.protocol.sealing import SealingKey

MAX_TEXT = 8 << 20
"""Characters of an answer: a token has a few, and an answer a million tokens at most."""
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 8.0
PAYMENT_RETRIES = 6
LEDGER_CODES = frozenset({"voucher_too_low", "order_behind", "acknowledged_too_little", "acknowledgement_required"})
"""What a node says whose count of our orders is ahead of ours."""


class Core(Nodes):
    """What both clients do the same way: everything but waiting for HTTP."""

    def __init__(
        self,
        chain: Chain,
        node: str | None,
        deposit_wei: int,
        prefer: Preference = "reputation",
        spend_limit_wei: int | None = None,
        *,
        salted: bool = True,
        sealed: bool = False,
        state: str | Path | None = None,
    ) -> None:
        if deposit_wei < 0:
            raise InvalidInput("deposit_wei cannot be negative")
        super().__init__(chain, node, prefer)
        self.spending = Spending(spend_limit_wei)
        self.repeats = Repeats(kept_orders(chain, state))
        self._deposit_wei = deposit_wei
        self._salted = salted
        self.seals: Seals | None = None
        if sealed:
            from trine._sealed import Seals

            self.seals = Seals(chain)
        self._ledgers: dict[str, Ledger] = {}
        self._stake_per_leaf = (-math.inf, 0)  # when it was read, and the wei
        self._depositing: dict[str, threading.Lock] = {}

    def sealed(self, key: SealingKey, step: Fetch, place: tuple[str, str]) -> tuple[Fetch, Opening]:
        """The step as it travels to a node (address and endpoint), and what opens its answer."""
        from trine._sealed import Opening

        if self.seals is None:
            raise AssertionError("this client seals nothing")
        made, opener = self.seals.seal(key, step, place[1])
        return made, Opening(opener, self.seals, *place)

    def ledger(self, node: str) -> Ledger:
        with self._lock:
            return self._ledgers.setdefault(node, Ledger())

    def prepare(self, wanted: Wanted, model: ModelEntry, node: str, most_wei: int | None = None) -> Draft:
        """Signs request and voucher; deposits with the node before, if that is wanted and needed.

        The order costs `most_wei` at most, and no more than the stake behind an answer, where that is less than the
        worst price. Whoever gets the draft ends it. See `end`. Raises InvalidInput and SpendLimitReached.
        """
        chain, ledger = self.chain, self.ledger(node)
        asked = salted(wanted.input) if self._salted else wanted.input
        stake = self.stake_per_leaf()
        least = model.price_per_token_wei * wanted.max_tokens
        if least > stake:
            raise InvalidInput(
                f"{wanted.max_tokens} tokens may cost {amount(least)}, more than the {amount(stake)} that secure an "
                f"answer, of which a node can collect no more: lower max_tokens"
            )
        most = stake if most_wei is None else min(stake, most_wei)
        request = draft_request(asked, model, chain.address, wanted.max_tokens, chain.now(), most)
        ledger.expire(chain.now())
        taken = ledger.take(request.max_fee_wei, request.deadline)
        request = replace(request, deadline=taken.deadline)
        digest = request.digest(chain.domain)
        try:
            self.spending.begin(digest, request.max_fee_wei)
            voucher = Voucher(chain.address, node, taken.cumulative_wei, taken.earned_wei, taken.as_of)
            self._cover(node, taken.cumulative_wei)
            body = order_body(
                asked, model, request, chain.sign(digest), voucher, chain.sign(voucher.digest(chain.payments_domain))
            )
        except BaseException:
            ledger.give_back(taken.number, 0)
            self.spending.end(digest, 0)
            raise
        return Draft(asked, request, digest, body, taken.number, model.price_per_token_wei)

    def end(self, node: str, order: Draft, cost_wei: int | None) -> None:
        """What the order cost, or None where nobody knows. Twice is once."""
        if order.number is None:
            self.ledger(node).forget()  # of a client before this one: the node tells what is owed
        else:
            self.ledger(node).give_back(order.number, cost_wei)
        self.spending.end(order.digest, cost_wei)

    def reserve(self, node: str, order: Draft) -> None:
        """The order goes to another node though this one may have begun it. See `Ledger.reserve`."""
        if order.number is not None:
            self.ledger(node).reserve(order.number)
        self.spending.end(order.digest, None)

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

    def stake_per_leaf(self) -> int:
        """What the node loses by an answer that is rejected, wei: none costs more. Asks the chain now and then."""
        with self._lock:
            at, stake = self._stake_per_leaf
        if time.monotonic() - at > MODEL_SECONDS:
            stake = self.chain.parameters().stake_per_leaf
            with self._lock:
                self._stake_per_leaf = time.monotonic(), stake
        return stake

    def worst_fee_wei(self, wanted: Wanted, model: ModelEntry) -> int:
        """What an answer may cost at most. Asks nobody: before the stake was ever read, the price bounds it alone."""
        worst = worst_fee_wei(wanted.input, model, wanted.max_tokens)
        with self._lock:
            at, stake = self._stake_per_leaf
        return worst if at == -math.inf else min(worst, stake)

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
            reason = choice["finish_reason"]
            if draft.input.text is None:
                told = Told(choice["message"]["content"], reason, choice["message"].get("tool_calls"))
            else:
                told = Told(choice["text"], reason)
            extras = document["trine"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise VerificationFailed(f"the node's answer is malformed: {error!r}") from None
        return self.checked(extras, told, draft, node, node_url)

    def checked(self, extras: Any, told: Told, draft: Draft, node: str, node_url: str) -> Answer:
        """See `checked_answer`. What the receipt says of the fee is remembered."""
        answer = checked_answer(extras, told, draft, node, node_url, self.chain.domain)
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
        self._finish: Callable[[Any, Told], Answer] = lambda extras, told: core.checked(
            extras, told, draft, node, node_url
        )
        self._is_chat = draft.input.text is None
        self._may_call = bool(draft.input.tools)
        self._events = EventDecoder()
        self._parts: list[str] = []
        self._calls = StreamedCalls()
        self._size = 0
        self.has_begun = False
        """Whether the model has: there was text, or what may become a call."""
        self.answer: Answer | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """The texts that more bytes of the event stream add."""
        return [text for event in self._events.feed(chunk) if (text := self._read(event))]

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
                return self._choice(choice, document.get("trine"))
        except (AttributeError, KeyError, TypeError) as error:
            raise VerificationFailed(f"the node's stream holds a malformed event: {error!r:.100}") from None
        return ""

    def _choice(self, choice: Any, extras: Any) -> str:
        delta = choice.get("delta", {}) if self._is_chat else {"content": choice.get("text")}
        text, reason = str(delta.get("content") or ""), choice.get("finish_reason")
        called = delta.get("tool_calls") or []
        self._size += len(text) + self._calls.add(called)
        if self._size > MAX_TEXT:
            raise VerificationFailed(f"the node's answer is longer than {MAX_TEXT} characters")
        if self.answer is not None and (text or called or reason):
            raise VerificationFailed("the node's stream goes on after its receipt: that text nobody has signed")
        # What may be a call is shown once it is whole; an empty text says that it has begun.
        self.has_begun |= bool(text or called) or (self._may_call and "role" not in delta and not reason)
        self._parts.append(text)
        if reason:
            self.answer = self._finish(extras, Told("".join(self._parts), reason, self._calls.whole()))
        return text

    def end(self, seconds: float) -> Answer:
        for event in self._events.end():
            self._read(event)
        if self.answer is None and not self.has_begun:
            raise NodeUnreachable("the node's stream ended without a token")
        if self.answer is None:
            raise VerificationFailed("the stream ended without a receipt: do not use this answer")
        self.answer.seconds = seconds
        return self.answer
