"""Hand-overs: this verifier's signature that one epoch's key set is followed by another's, for whoever relays it.

Each epoch's set is computed from the chain as soon as the epoch's first block is taken to stay, and kept before
anything is signed that names it; a second, different set of an epoch is never kept, and so never signed. A signature
follows from two kept sets and the key (BLS signatures are deterministic), so it is made when it is asked for.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query
from sqlalchemy import BigInteger, String, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from trine.certificates import source_of
from trine.chain import Chain
from trine.errors import ChainError, ChainUnreachable, InvalidInput
from trine.handovers import handover_json
from trine.protocol import bls
from trine.protocol.key_root import MAX_STEP_EPOCHS, KeySet
from trine.protocol.roster import Roster
from trine_operator.refusal import Refusal
from trine_operator.store import Store
from trine_operator.tables import Base

log = structlog.get_logger()

CATCH_UP_EPOCHS = 16
"""So many epochs back are looked up by a process that was away: older ones need an archive, and others hand over."""
CACHED = 1024
Fence = Callable[[Session], None]


class KeySetRow(Base):
    """An epoch's key set as this verifier has seen it: written once."""

    __tablename__ = "key_sets"
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[str | None] = mapped_column(String(64))  # of this verifier's key, where it is in the set


class KeySets:
    """The protection record of hand-overs: no epoch has two sets here."""

    def __init__(self, store: Store, fence: Fence = lambda _: None) -> None:
        """`fence` raises in a transaction of who does not hold the store any more."""
        self._store = store
        self._fence = fence

    def newest(self) -> int | None:
        with self._store.reading() as session:
            return session.scalar(select(func.max(KeySetRow.epoch)))

    def of(self, epoch: int) -> tuple[KeySet, bytes | None] | None:
        """The set that is kept, and the hash of our key where it is in the set."""
        with self._store.reading() as session:
            row = session.get(KeySetRow, epoch)
            if row is None:
                return None
            return KeySet.from_json(json.loads(row.document)), bytes.fromhex(row.key_hash) if row.key_hash else None

    def keep(self, key_set: KeySet, key_hash: bytes | None) -> bool:
        """Whether the epoch's set is this one: kept now, or before. False where another one is kept."""
        with self._store.writing() as session:
            self._fence(session)
            row = session.get(KeySetRow, key_set.epoch)
            if row is not None:
                return KeySet.from_json(json.loads(row.document)) == key_set
            document = json.dumps(key_set.to_json())
            held = key_hash.hex() if key_hash else None
            session.add(KeySetRow(epoch=key_set.epoch, document=document, key_hash=held))
            session.execute(delete(KeySetRow).where(KeySetRow.epoch < key_set.epoch - MAX_STEP_EPOCHS))
            return True


class HandingOver:
    """Keeps key sets as epochs come, signs hand-overs between them. Thread-safe."""

    def __init__(self, chain: Chain, sets: KeySets, secret: bls.SecretKey) -> None:
        self._chain = chain
        self._sets = sets
        self._secret = secret
        self._key = secret.public_key()
        self._source = source_of(chain)
        self._seen = -1  # all up to here were looked at
        self._signed: OrderedDict[tuple[KeySet, KeySet], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def step(self) -> None:
        """Keeps the sets of epochs that have begun. Raises TrineError."""
        newest = self._chain.newest_key_epoch()
        if newest <= self._seen:
            return
        kept = self._sets.newest()
        # The one that is kept is compared once more: a chain may have another history than before.
        for epoch in range(max(self._seen + 1, kept or 0, newest - CATCH_UP_EPOCHS, 0), newest + 1):
            try:
                roster = self._chain.roster(epoch)
            except InvalidInput as error:
                log.info("no_key_set", epoch=epoch, reason=str(error))
            except ChainUnreachable:
                raise
            except ChainError as error:
                if epoch == newest:
                    raise
                log.info("no_key_set", epoch=epoch, reason=str(error))  # it has passed, and others have signed
            else:
                self._keep(roster)
            self._seen = epoch

    def _keep(self, roster: Roster) -> None:
        ours = bls.key_hash(self._key)
        is_member = roster.index_of(ours) is not None
        if self._sets.keep(roster.key_set, ours if is_member else None):
            log.info("key_set_kept", epoch=roster.epoch, keys=len(roster.keys), is_member=is_member)
        else:
            log.error(
                "key_set_differs",
                epoch=roster.epoch,
                reason="the chain gives another key set than it did, so nothing is signed for this one: a block that "
                "was taken to stay was replaced (raise `confirmations`), or an RPC endpoint lies",
            )

    def signed(self, since: int, epoch: int) -> dict[str, Any]:
        """The hand-over from one epoch's set to a later one's, with our signature. Raises Refusal."""
        if not 0 < epoch - since <= MAX_STEP_EPOCHS:
            raise Refusal(f"a hand-over goes 1 to {MAX_STEP_EPOCHS} epochs forward", status=400, code="bad_epoch")
        current, following = self._sets.of(since), self._sets.of(epoch)
        if current is None or following is None:
            missing = since if current is None else epoch
            raise Refusal(f"no key set of epoch {missing} is known here", status=404, code="unknown_epoch")
        if current[1] != bls.key_hash(self._key):
            raise Refusal(f"this verifier's key is not in the set of epoch {since}", status=404, code="no_member")
        signature = self._signature(current[0], following[0])
        return handover_json(self._source, current[0].to_json(), following[0].to_json(), self._key, signature)

    def _signature(self, current: KeySet, following: KeySet) -> bytes:
        """One at a time: strangers who ask for many keep one core busy at most, and only until all are known."""
        with self._lock:
            known = self._signed.get((current, following))
            if known is None:
                digest = current.handover_digest(self._source.chain_id, self._source.batches, following)
                known = self._signed[current, following] = self._secret.sign(digest)
                if len(self._signed) > CACHED:
                    self._signed.popitem(last=False)
            return known


def handover_endpoints(handing_over: HandingOver | None) -> APIRouter:
    """`GET /v1/handovers/{epoch}?since=…`; `since` is the epoch before unless told otherwise."""
    router = APIRouter(prefix="/v1")

    @router.get("/handovers/{epoch}")
    def handover(
        epoch: Annotated[int, Path(ge=1, lt=2**63)], since: Annotated[int | None, Query(ge=0, lt=2**63)] = None
    ) -> dict[str, Any]:
        if handing_over is None:
            raise Refusal("this verifier has no BLS key, so it hands nothing over", status=404, code="no_key")
        return handing_over.signed(epoch - 1 if since is None else since, epoch)

    return router
