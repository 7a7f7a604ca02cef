"""Has the final verdicts of our batches in ERC-8004's validation registry, by Trine's adapter. Optional, never urgent.

A batch comes onto the list in the transaction of the store that notes it as final, and leaves it once the chain has
its publication for good: a crash or a re-org in between costs nothing, and the adapter takes each verdict once. The
registries belong to strangers. So a publication has no deadline and goes behind every duty; only two are open at a
time; none may take more gas than is allowed; and after a few refusals in a row all of it rests.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.chain import Chain, Header
from trine.chain.agents import Publication
from trine.chain.writes import CALLS
from trine.errors import ChainError, ChainUnreachable, NotReady, TransactionReverted
from trine_operator.outbox import Act, Submits
from trine_operator.outbox.acts import batch_names
from trine_operator.staying import Staying
from trine_operator.store import Store
from trine_operator.tables import Base

log = structlog.get_logger()

MAX_OPEN = 2
"""Publications in flight: places for transactions are the duties'."""
MAX_WAITING = 1_000
"""On the list: of more, the oldest are given up. Anybody may publish them later."""
LOOKED_AT = 8
"""Of the list, at a step."""
MAX_TRIES = 8
"""Of one batch, before it is given up."""
PAUSE_SECONDS = (10.0, 3_600.0)
"""After a refusal of one batch: the first pause, which doubles, and the longest."""
REST_AFTER = 3
"""Refusals in a row, of whatever batches, after which all rests for the longest pause: it is not the batches."""
LOOK_SECONDS = 60.0
"""Until it is looked again whether an agent is linked, or whether gas is cheap enough."""
GWEI = 10**9


class PublicationRow(Base):
    """A final batch that is to be published."""

    __tablename__ = "publications"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    batch_id: Mapped[str] = mapped_column(String(64), unique=True)


@dataclass(frozen=True, slots=True)
class Terms:
    """Which batches are published, and what that may cost."""

    every: int
    """Those whose id is divisible by it: nobody can choose which."""
    max_gas: int
    max_fee_wei: int
    """Of a unit of gas; while the chain asks more, it waits."""

    def covers(self, batch_id: bytes) -> bool:
        return int.from_bytes(batch_id) % self.every == 0


class Publishing:
    """Of one account. `clock` measures pauses, in seconds."""

    def __init__(
        self, store: Store, chain: Chain, outbox: Submits, terms: Terms, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = store
        self.chain = chain
        self.outbox = outbox
        self.terms = terms
        self._clock = clock
        self._staying = Staying(chain)
        self._tries: dict[bytes, tuple[int, float]] = {}  # how often refused, and until when it is left alone
        self._in_a_row = 0
        self._not_before = 0.0
        self._told = ""

    def note_final(self, session: Session, batch_id: bytes) -> None:
        """Puts a batch on the list, in the transaction that notes it as final."""
        known = select(PublicationRow.number).where(PublicationRow.batch_id == batch_id.hex())
        if self.terms.covers(batch_id) and session.scalars(known).first() is None:
            session.add(PublicationRow(batch_id=batch_id.hex()))

    def waiting(self) -> list[bytes]:
        """The list, oldest first."""
        with self.store.reading() as session:
            names = session.scalars(select(PublicationRow.batch_id).order_by(PublicationRow.number))
            return [bytes.fromhex(name) for name in names]

    def step(self) -> None:
        """Does what is due now."""
        if self._clock() < self._not_before:
            return
        waiting = self._bounded(self.waiting())
        if not waiting or not self._may_publish():
            return
        in_flight = self.outbox.open_names()
        open_ = sum(name.startswith("publish ") for name in in_flight)
        now = self._clock()
        due = [batch_id for batch_id in waiting if self._tries.get(batch_id, (0, 0.0))[1] <= now]
        for batch_id in due[:LOOKED_AT]:
            (name,) = batch_names("publish", [batch_id])
            if name not in in_flight and self._is_publishable(batch_id) and open_ < MAX_OPEN:
                open_ += self._publish(name, batch_id)

    def _bounded(self, waiting: list[bytes]) -> list[bytes]:
        excess = waiting[:-MAX_WAITING]
        if excess:
            log.warning(
                "publications_given_up", count=len(excess), why="too many wait", hint="`trine identity publish`"
            )
            self._take_off(*excess)
        return waiting[-MAX_WAITING:]

    def _may_publish(self) -> bool:
        """Whether there is an agent to publish for, and gas is cheap enough. What is missing is told once."""
        try:
            reason = self._what_is_missing()
        except ChainUnreachable:
            raise
        except (NotReady, ChainError) as error:  # a registry that burns gas is no answer, and no revert either
            reason = str(error)
        if reason:
            self._not_before = self._clock() + LOOK_SECONDS
            if reason != self._told:
                log.warning("publishing_waits", why=reason)
        self._told = reason
        return not reason

    def _what_is_missing(self) -> str:
        self.chain.registry("Erc8004Validation")
        agent_id = self.chain.agent_of(self.chain.address)
        if agent_id is None:
            return "the account has linked no agent: run `trine identity register` with its keystore"
        if not self.chain.is_approved(self.chain.agent(agent_id)):
            return f"agent {agent_id} lets the adapter ask for nothing: run `trine identity register` again"
        market = self.chain.gateway().market()
        asked = market.tip_wei if market.base_fee_wei is None else market.base_fee_wei
        if asked > self.terms.max_fee_wei:
            return f"gas costs {asked / GWEI:.3f} gwei, more than erc8004_max_fee_gwei"
        return ""

    def _is_publishable(self, batch_id: bytes) -> bool:
        """What is over for good comes off the list."""
        state = self.chain.publication(batch_id)
        if state in (Publication.SETTLED, Publication.SOFT):
            self._staying.forget(batch_id)
            return self.chain.result(batch_id).is_final
        if self._staying.stays(batch_id, state):
            self._take_off(batch_id)
            if state is Publication.FINAL:
                self._in_a_row = 0
                log.info("batch_published", batch=batch_id.hex())
        return False

    def _publish(self, name: str, batch_id: bytes) -> bool:
        """Whether it is in flight now."""
        stored = self.store.batch(batch_id)
        if stored is None:
            self._take_off(batch_id)
            return False
        header = Header(self.chain.address, stored.model_id, stored.root, stored.canary)
        try:
            call = CALLS.publish(header, self._salt(batch_id))
            self.outbox.submit(Act((name,), call, max_gas=self.terms.max_gas))
        except ChainUnreachable:
            raise
        except ChainError as error:
            self._note_refusal(batch_id, error.reason if isinstance(error, TransactionReverted) else str(error))
            return False
        return True

    def _salt(self, batch_id: bytes) -> bytes:
        """Zero, unless somebody has taken the request's hash in the registry."""
        taken = self.chain.validation(self.chain.request_hash(batch_id)) is not None
        return secrets.token_bytes(32) if taken else bytes(32)

    def _note_refusal(self, batch_id: bytes, reason: str) -> None:
        tries = self._tries.get(batch_id, (0, 0.0))[0] + 1
        self._in_a_row += 1
        first, longest = PAUSE_SECONDS
        log.info("publication_refused", batch=batch_id.hex(), reason=reason, tries=tries)
        if tries >= MAX_TRIES:
            log.warning("publication_given_up", batch=batch_id.hex(), reason=reason, hint="`trine identity publish`")
            self._take_off(batch_id)
            return
        self._tries[batch_id] = tries, self._clock() + min(longest, first * 2 ** (tries - 1))
        if self._in_a_row >= REST_AFTER:
            self._in_a_row = 0
            self._not_before = self._clock() + longest
            log.warning(
                "publishing_rests", reason=reason, seconds=longest, hint="the registries refuse: see the reason"
            )

    def _take_off(self, *batch_ids: bytes) -> None:
        with self.store.writing() as session:
            names = [batch_id.hex() for batch_id in batch_ids]
            session.execute(delete(PublicationRow).where(PublicationRow.batch_id.in_(names)))
        for batch_id in batch_ids:
            self._tries.pop(batch_id, None)
            self._staying.forget(batch_id)
