"""Answers orders: who may ask and for how much, then generate, store, and only then promise.

Knows neither HTTP nor how answers get on the chain.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trine.chain import Chain, Model, Parameters
from trine.protocol.evidence import parsed_input
from trine.protocol.grammar import SPELLED
from trine.protocol.inputs import Input, shown
from trine.protocol.messages import ZERO_ADDRESS, ZERO_HASH, Voucher
from trine.wording import amount
from trine_node.engines.base import Engine, GrammarBusy, GrammarExhausted, GrammarRefused, ToolsRefused, render
from trine_node.engines.rendering import TemplateRefused
from trine_node.generating import ANCHOR_WITHIN_SECONDS, Accepted, Fee, Finished, generate
from trine_node.orders import (
    Order,
    check_acknowledged,
    check_signed,
    check_time,
    check_voucher,
    check_voucher_alone,
    parse_voucher,
)
from trine_operator.refusal import Refusal
from trine_operator.store import Store, StoredAnswer

if TYPE_CHECKING:
    from trine_node.x402.door import Door

COVERED_SECONDS = 10.0
COVERED_CLIENTS = 10_000
TERMS_SECONDS = 600.0
"""Between looks at the chain's parameters; a change is announced long before."""


MAX_UNACKNOWLEDGED_WEI = 5 * 10**18


@dataclass(frozen=True, slots=True)
class Promised:
    """An answer that is being generated."""

    client: str
    worst_wei: int
    deadline: int  # of the order, seconds


class Answering:
    """One engine, one account, one store."""

    def __init__(
        self,
        engine: Engine,
        chain: Chain,
        store: Store,
        model: Model,
        *,
        allow_unsigned: bool,
        anchor_within_seconds: int = ANCHOR_WITHIN_SECONDS,
        max_unacknowledged_wei: int = MAX_UNACKNOWLEDGED_WEI,
        door: Door | None = None,
    ) -> None:
        """`anchor_within_seconds` is what receipts promise. `door` is where unsigned orders are paid by x402."""
        self.engine = engine
        self.chain = chain
        self.store = store
        self.model = model
        self.allow_unsigned = allow_unsigned
        self.door = door
        self._covered: dict[str, tuple[float, int]] = {}  # what clients' deposits cover, and when that was read
        self._anchor_within_seconds = anchor_within_seconds
        self._max_unacknowledged_wei = max_unacknowledged_wei
        self._promised: dict[bytes, Promised] = {}
        self._promised_lock = threading.Lock()
        self._terms: tuple[float, Parameters] | None = None  # the chain's parameters, and when they were read

    def accept(self, order: Order) -> Accepted | StoredAnswer:
        """Checks an order before anything is spent on it; a request that was answered before returns that answer.

        Raises Refusal, the engine's InvalidInput, or StoreError when no answer could be kept.
        """
        self.store.require_writable()
        terms = self.current_terms()
        prompt_ids = self._fitting_prompt(order, terms)
        if order.signed is None and self.allow_unsigned:
            self._require_grammar(order)
            return Accepted(order, prompt_ids, ZERO_HASH, ZERO_ADDRESS)
        if order.signed is None and self.door is not None:
            return self._accept_paid(order, prompt_ids, self.door, terms)
        digest = check_signed(order, domain=self.chain.domain, model_id=self.model.model_id)
        signed = order.signed
        if signed is None:
            raise AssertionError("check_signed refuses unsigned orders")
        if earlier := self.store.answer_to(digest):
            return earlier  # also after its deadline: it was begun before
        self._require_idle(digest)
        check_time(signed.request, self.chain.now())
        client = signed.request.client
        worst = self.model.price_per_token_wei * (len(prompt_ids) + order.max_tokens)
        _require_stake(worst, terms)
        # Asked before the lock: an endpoint that is slow must not keep everybody else's orders waiting.
        owed = self._owed_and_promised(client) + worst
        covered = self._covered_by(client, owed)
        if covered >= owed:  # compiled for nobody who could not pay; below, others are refused
            self._require_grammar(order)
        with self._promised_lock:
            self._require_idle(digest)
            if earlier := self.store.answer_to(digest):
                return earlier  # its other copy was answered since it was looked for above
            kept = self.store.voucher(client)
            has_voucher = check_voucher(
                signed,
                domain=self.chain.payments_domain,
                node=self.chain.address,
                owed_wei=self._owed_and_promised(client),
                worst_fee_wei=worst,
                covered_wei=covered,
                kept_wei=kept.cumulative_wei if kept else 0,
            )
            if has_voucher and signed.voucher and signed.voucher_signature:
                self._check_acknowledged(client, signed.voucher, signed.request.deadline)
                self.store.save_voucher(signed.voucher, signed.voucher_signature, self.chain.now())
            self._promised[digest] = Promised(client, worst, signed.request.deadline)
        return Accepted(order, prompt_ids, digest, client)

    def _require_idle(self, digest: bytes) -> None:
        if digest in self._promised:
            raise Refusal("this request is being answered right now", status=429, code="in_progress")

    def _accept_paid(
        self, order: Order, prompt_ids: tuple[int, ...], door: Door, terms: Parameters
    ) -> Accepted | StoredAnswer:
        if door.terms.asset == self.chain.deployment.address("TrineToken"):  # what another is worth nobody knows here
            _require_stake(door.units(order, len(prompt_ids)), terms)
        self._require_grammar(order)
        return door.accept(order, prompt_ids, ZERO_HASH, ZERO_ADDRESS)

    def accept_posted(self, order: Order, request_id: bytes, requester: str, fee: Fee) -> Accepted:
        """The same for a request that was posted on the chain, where its fee waits. Whether it is there and open, and
        has no answer here yet, the caller has looked.

        Raises Refusal, the engine's InvalidInput, or StoreError when no answer could be kept.
        """
        self.store.require_writable()
        prompt_ids = self._fitting_prompt(order, self.current_terms())
        self._require_grammar(order)
        return Accepted(order, prompt_ids, request_id, requester, fee=fee)

    @property
    def in_progress(self) -> int:
        """How many orders of paying clients are being answered."""
        return len(self._promised)

    def render(self, asked: Input) -> list[int]:
        """Token ids of the prompt. Raises what the engine does for text that its template refuses."""
        return list(render(self.engine, asked))

    def _require_grammar(self, order: Order) -> None:
        """Raises Refusal for one that cannot be had here."""
        if order.input.grammar:
            try:
                self.engine.require_grammar(order.input.grammar)
            except GrammarRefused as error:
                raise _refusal_of(error, order) from None

    def _fitting_prompt(self, order: Order, terms: Parameters) -> tuple[int, ...]:
        """Raises Refusal for more tokens than the context or a batch holds, or tokens that cannot be drawn here."""
        if order.input.sampling and not self.engine.can_sample:
            raise Refusal(
                "this node's engine serves greedy answers only: send temperature 0, or ask another node",
                code="unsupported_value",
                param="temperature",
            )
        try:
            prompt_ids = tuple(render(self.engine, order.input))
        except ToolsRefused as error:
            raise Refusal(str(error), code="tools_not_supported", param="tools") from None
        except TemplateRefused as error:
            raise Refusal(str(error), code="template_refused", param="messages") from None
        limit, of = min((self.engine.context_tokens, "the context"), (terms.max_batch_tokens, "what a batch may hold"))
        if len(prompt_ids) + order.max_tokens > limit:
            raise Refusal(
                f"{len(prompt_ids)} prompt tokens and {order.max_tokens} answer tokens exceed {of}, {limit}: "
                "shorten the prompt or lower max_tokens",
                code="context_length_exceeded",
                param="messages" if order.is_chat else "prompt",
            )
        return prompt_ids

    def _check_acknowledged(self, client: str, voucher: Voucher, deadline: int) -> None:
        """Raises Refusal for a voucher that acknowledges too little, or when the client has done so for too long."""
        earned, as_of = self._acknowledged(client)
        check_acknowledged(voucher, deadline, as_of, self._earned_before(client))
        earned, as_of = max((earned, as_of), (voucher.earned_wei, voucher.as_of))
        if self.store.earned(client) - earned <= self._max_unacknowledged_wei:
            return
        # Mostly that was all: what is not final, or was ordered after what is not, cannot be acknowledged yet.
        unacknowledged = self.store.unacknowledged(client, as_of, self.store.resolved_until(client, as_of))
        if unacknowledged > self._max_unacknowledged_wei:
            raise Refusal(
                f"{unacknowledged} wei of accepted answers, which are final, are not acknowledged; this node goes on "
                f"up to {self._max_unacknowledged_wei}: GET /v1/accounts shows them, send a voucher that acknowledges "
                "them (clients of this version do)",
                status=402,
                code="acknowledgement_required",
            )

    def acknowledge(self, body: Any) -> None:
        """Takes a voucher without an order, of a client that has been served before: it acknowledges what the client
        has had. Raises Refusal."""
        voucher, signature = parse_voucher(body)
        payer = voucher.payer
        check_voucher_alone(
            voucher, signature, domain=self.chain.payments_domain, node=self.chain.address, now=self.chain.now()
        )
        if self.store.voucher(payer) is None:
            raise Refusal("this client has never been served here", status=404, code="no_account")
        with self._promised_lock:
            _earned, as_of = self._acknowledged(payer)
            check_acknowledged(voucher, max(voucher.as_of, as_of), as_of, self._earned_before(payer))
            self.store.save_voucher(voucher, signature, self.chain.now())

    def _acknowledged(self, client: str) -> tuple[int, int]:
        kept = self.store.acknowledgement(client)
        return (kept.earned_wei, kept.as_of) if kept else (0, 0)

    def _earned_before(self, client: str) -> Callable[[int], int]:
        def earned_before(as_of: int) -> int:
            promised = sum(each.worst_wei for each in self._promises_to(client) if each.deadline < as_of)
            return self.store.owed_before(client, as_of) + promised

        return earned_before

    def current_terms(self) -> Parameters:
        """The chain's parameters, as they were lately."""
        at, terms = self._terms or (-math.inf, None)
        if terms is None or time.monotonic() - at > TERMS_SECONDS:
            terms = self.chain.parameters()
            self._terms = time.monotonic(), terms
        return terms

    def _promises_to(self, client: str) -> list[Promised]:
        return [each for each in list(self._promised.values()) if each.client == client]

    def _owed_and_promised(self, client: str) -> int:
        return self.store.owed(client) + sum(each.worst_wei for each in self._promises_to(client))

    def _covered_by(self, client: str, required_wei: int) -> int:
        """What the client's deposit covers in all. Asked again when it is not enough, or was asked a while ago: who
        withdraws gives notice, and what is under notice can still be collected."""
        if not required_wei:
            return 0
        at, covered = self._covered.get(client, (-math.inf, 0))
        if covered < required_wei or time.monotonic() - at > COVERED_SECONDS:
            account = self.chain.account(client, self.chain.address)
            covered = account.collected + account.firm
            self._covered[client] = time.monotonic(), covered
            while len(self._covered) > COVERED_CLIENTS:
                self._covered.pop(next(iter(self._covered)), None)
        return covered

    def release(self, accepted: Accepted) -> None:
        """Forgets the worst-case fee of an order that is finished or was given up."""
        if accepted.payment and self.door:
            self.door.release(accepted)
            return
        with self._promised_lock:
            self._promised.pop(accepted.request_hash, None)

    def answer(self, accepted: Accepted, cancelled: Callable[[], bool]) -> Iterator[str | Finished]:
        """Text as it is generated, then the signed answer, durable before it is yielded; none when cancelled."""
        try:
            within = self._anchor_within_seconds
            for piece in generate(self.engine, self.chain, self.model, accepted, cancelled, within):
                if isinstance(piece, Finished):
                    self._keep(accepted, piece)
                yield piece
        except GrammarExhausted as error:
            raise _refusal_of(error, accepted.order) from None
        finally:
            self.release(accepted)

    def _keep(self, accepted: Accepted, finished: Finished) -> None:
        if accepted.payment and self.door:
            self.door.keep(accepted, finished)
        # The same unsigned question within one second makes the same receipt: one promise, kept once.
        elif self.store.answer(finished.digest) is None:
            self.store.add_answer(finished.digest, finished.evidence)

    def recall(self, stored: StoredAnswer) -> Finished:
        """An answer that was given before."""
        whole = self.engine.decode(stored.evidence.output_ids)
        return Finished(stored.digest, stored.evidence, shown(whole, parsed_input(stored.evidence).stop))


def _refusal_of(error: GrammarRefused | GrammarExhausted, order: Order) -> Refusal:
    """Of a grammar, by the field that spells it."""
    if isinstance(error, GrammarBusy):
        return Refusal(str(error), status=503, code="too_busy")
    asked = order.input
    spelled = SPELLED.get(asked.grammar.kind) if asked.grammar else None
    field = "tool_choice" if asked.tools else order.shaped_by or spelled or "response_format"
    return Refusal(str(error), code="unsupported_value", param=field)


def _require_stake(worst_wei: int, terms: Parameters) -> None:
    """Raises Refusal: whoever earns more by an answer than it can lose has a reason to cheat."""
    if worst_wei > terms.stake_per_leaf:
        raise Refusal(
            f"the answer may cost {amount(worst_wei)}, more than the {amount(terms.stake_per_leaf)} of stake behind "
            "it: shorten the prompt or lower max_tokens",
            code="fee_over_stake",
        )
