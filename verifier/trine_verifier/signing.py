"""Settling by signatures: what this verifier's seats have heard, what they may say, and when they vote instead.

`trine.protocol.signing` decides; here are the rooms, one a seat, in which it is applied. Knows nothing of HTTP: what
others say comes to `hear`, what is to be said goes out by `exchange`, which `trine_verifier.exchange` is. Thread-safe.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog
from sqlalchemy.orm import Session

from trine.chain import Batch, BatchState, Chain, Parameters, Seat
from trine.errors import BadSignature, TrineError, VerificationFailed
from trine.protocol import bls
from trine.protocol.signing import (
    SEATS,
    Do,
    OwnVote,
    Peer,
    Seating,
    Stage,
    Statement,
    Step,
    View,
    Why,
    next_step,
    state,
)
from trine.protocol.votes import Vote
from trine_operator.outbox.protection import promise, vote_guard
from trine_verifier.store import StoredVote, VerifierStore
from trine_verifier.trust import Debt, Trust

log = structlog.get_logger()

Key = tuple[bytes, int]
"""Batch and round."""


class Exchanges(Protocol):
    """What carries statements to the other seats."""

    def want(self, room: Room, verifier: str) -> None:
        """Shows our statement to this seat soon, and again until it has told what it has to. Does not wait."""
        ...


@dataclass(slots=True)
class Room:
    """A seat of ours and what is known of the other two. What changes is read and written under `lock`."""

    seating: Seating
    me: str
    committee: int
    endpoints: dict[str, str]
    hindrance: Why | None
    peers: dict[str, Peer]
    fixed: dict[str, bytes]  # what others had committed to when they were shown our vote, before a restart too
    view: View
    own: OwnVote | None = None
    mine: Statement | None = None
    declined: Why | None = None
    is_over: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def key(self) -> Key:
        return self.seating.batch_id, self.seating.round

    @property
    def is_closed(self) -> bool:
        return self.is_over or self.declined is not None

    def owes(self, verifier: str) -> Statement | None:
        """Our statement, if this seat has not seen it or has not told as much itself."""
        with self.lock:
            peer, mine = self.peers[verifier], self.mine
            if self.is_closed or mine is None or peer.refuses is not None:
                return None
            return mine if peer.told < mine.stage or peer.stage < mine.stage else None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What `settleSigned` takes, but header and seats."""

    epoch: int
    result: Vote
    keys: bytes
    signature: bytes


class Declined(TrineError):
    """This seat votes on the chain."""


class NotYet(TrineError):
    """This seat has nothing to say yet."""


class Signing:
    """The seats of one verifier account. `secret` is None where it has no BLS key: then every seat is declined."""

    def __init__(
        self,
        chain: Chain,
        store: VerifierStore,
        secret: bls.SecretKey | None,
        fence: Callable[[Session], None] = lambda _session: None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`fence` raises, in a transaction of the store, when this process may not speak for the account any more.
        `wake` is called when the voting thread has something to do before the next block."""
        self.chain = chain
        self.store = store
        self.wake = wake
        self.exchanges: Exchanges | None = None
        self.settled: Counter[str] = Counter()  # batches, `signed` or `votes`
        self.voted: Counter[str] = Counter()  # seats that did not sign, by reason
        self.failed: Counter[str] = Counter()  # exchanges, by reason
        self._secret = secret
        self._key_hash = bls.key_hash(secret.public_key()) if secret else None
        self._fence = fence
        self._trust = Trust(store)
        self._rooms: dict[Key, Room] = {}
        self._declined: dict[Key, Why] = {}

    # The voting thread

    def advance(self, batch: Batch, seats: Sequence[Seat], stored: StoredVote | None, terms: Parameters) -> Step:
        """What the seat, which has not committed on the chain, does now. Raises TrineError when the chain cannot be
        asked who sits where. Once it says VOTE it always does."""
        room, view = self._room(batch, seats), _view(batch, terms, self.chain.timestamp())
        with room.lock:
            if room.declined is not None:
                return Step(Do.VOTE if stored else Do.WAIT, room.declined)
            room.view = replace(view, complete_since=room.view.complete_since)
            if stored is not None and room.own is None:
                room.own = OwnVote(stored.vote, stored.distance_ppm, stored.salt)
        step = self._proceed(room)
        if step.why is not None:
            self._decline(room, step.why)
        return step

    def settlement(self, batch_id: bytes, round_: int) -> Settlement:
        """The aggregate of what the three have signed. Raises NotYet."""
        room = self._rooms[batch_id, round_]
        with room.lock:
            said = {room.me: room.mine, **{verifier: peer.statement for verifier, peer in room.peers.items()}}
        statements = [said[verifier] for verifier in room.seating.verifiers]
        signed = [each for each in statements if each is not None and each.stage is Stage.SIGNED]
        if len(signed) < SEATS:
            raise NotYet("not all seats have signed")
        keys = b"".join(each.key for each in signed)
        signature = bls.aggregate([each.result_signature for each in signed])
        return Settlement(room.seating.epoch, signed[0].vote, keys, signature)

    def decline(self, batch_id: bytes, round_: int, why: Why) -> None:
        """The seat votes on the chain, whatever others offer."""
        room = self._rooms.get((batch_id, round_))
        if room is not None:
            self._decline(room, why)
        else:
            self._declined[batch_id, round_] = why

    def conclude(self, batch: Batch, round_: int) -> None:
        """The round is decided, or over: who has kept its vote to itself is remembered. Raises TrineError."""
        key = (batch.batch_id, round_)
        room = self._rooms.pop(key, None)
        self._declined.pop(key, None)
        if room is not None:
            with room.lock:
                room.is_over = True
            if batch.state is BatchState.SETTLED and batch.round == round_:
                how = "signed" if batch.signed else "votes"
                self.settled[how] += 1
                why = room.declined.value if room.declined and not batch.signed else None
                log.info("batch_settled", batch=batch.batch_id.hex(), round=round_, by=how, why=why)
        debts = {} if batch.signed and batch.round == round_ else self._trust.shown_to(*key)
        broken = self._broken(batch, round_, debts) if debts else []
        for verifier in broken:
            log.warning("vote_kept_back", batch=batch.batch_id.hex(), round=round_, verifier=verifier)
        self._trust.conclude(*key, broken, self.chain.timestamp())

    def _broken(self, batch: Batch, round_: int, debts: dict[str, Debt]) -> list[str]:
        """Who of those that were shown our vote may have copied it. Whoever has lost the seat by a re-org, which drew
        others, has nothing to commit."""
        since = self.chain.anchoring(batch.batch_id).block
        drawn = self.chain.events("Batches", "CommitteeDrawn", from_block=since, batchId=batch.batch_id)
        seated = {seat["verifier"] for each in drawn if each.args["round"] == round_ for seat in each.args["seats"]}
        events = self.chain.events("Batches", "VoteCommitted", from_block=since, batchId=batch.batch_id)
        on_chain = {
            event.args["verifier"]: bytes(event.args["commitment"]) for event in events if event.args["round"] == round_
        }
        owing = {verifier: debt for verifier, debt in debts.items() if verifier in seated}
        return [verifier for verifier, debt in owing.items() if debt.is_broken(on_chain.get(verifier))]

    # Threads of the service and of exchanges

    def receive(self, batch_id: bytes, round_: int, document: Any) -> dict[str, Any]:
        """Another seat's statement comes, ours goes back. Raises InvalidInput, BadSignature, VerificationFailed,
        Declined, NotYet, and KeyError for a seat that this verifier does not know, yet or any more."""
        key = (batch_id, round_)
        if key in self._declined:
            raise Declined(self._declined[key].value)
        room = self._rooms[key]
        statement = Statement.from_json(document)
        self.hear(room, statement)
        with room.lock:
            if room.declined is not None:
                raise Declined(room.declined.value)
            if room.mine is None:
                raise NotYet("no vote yet")
            self._note_told(room, statement.verifier, room.mine.stage)
            return room.mine.to_json()

    def hear(self, room: Room, statement: Statement) -> None:
        """Takes what another seat says. Raises BadSignature for what it has not said, VerificationFailed for what it
        should not have: then nothing is signed with it."""
        verifier = statement.verifier
        if verifier not in room.peers:
            raise VerificationFailed(f"{verifier} has no seat beside ours on this batch")
        if statement == room.peers[verifier].statement:
            return
        try:
            statement.verify(room.seating)
            self._merge(room, statement)
        except BadSignature:
            raise
        except VerificationFailed as error:
            self.refuse(room, verifier, Why.SPOILT, str(error))
            raise
        if statement.stage >= Stage.OPENED:
            self._trust.note_opened(*room.key, verifier)
        if self._proceed(room).do in (Do.SEND, Do.VOTE):
            self.wake()

    def refuse(self, room: Room, verifier: str, why: Why, error: str = "") -> None:
        """Nothing will be signed with this seat in this round."""
        with room.lock:
            if room.peers[verifier].refuses is not None or room.is_closed:
                return
            room.peers[verifier] = replace(room.peers[verifier], refuses=why)
        batch_id, round_ = room.key
        log.info("seat_refuses", batch=batch_id.hex(), round=round_, verifier=verifier, why=why.value, error=error)
        self.wake()

    def note_told(self, room: Room, verifier: str, stage: int) -> None:
        """This seat has our statement."""
        with room.lock:
            self._note_told(room, verifier, stage)

    def _note_told(self, room: Room, verifier: str, stage: int) -> None:
        peer = room.peers[verifier]
        room.peers[verifier] = replace(peer, told=max(peer.told, stage))

    def _merge(self, room: Room, statement: Statement) -> None:
        verifier = statement.verifier
        with room.lock:
            if room.fixed.get(verifier, statement.commitment) != statement.commitment:
                raise VerificationFailed(f"{verifier} has committed to two votes")
            peer = room.peers[verifier]
            room.peers[verifier] = replace(peer, statement=statement.after(peer.statement))

    # Both

    def _room(self, batch: Batch, seats: Sequence[Seat]) -> Room:
        key = (batch.batch_id, batch.round)
        room = self._rooms.get(key)
        if room is None or room.committee != batch.committee:
            if room is not None:  # blocks were taken back, and others drawn
                room.is_over = True
            room = self._rooms[key] = self._opened(batch, [seat.verifier for seat in seats])
        return room

    def _opened(self, batch: Batch, verifiers: list[str]) -> Room:
        chain, me = self.chain, self.chain.address
        others = [verifier for verifier in verifiers if verifier != me]
        hashes: list[bytes | None] = [None] * len(verifiers)
        endpoints: dict[str, str] = {}
        hindrance, epoch = self._declined.pop((batch.batch_id, batch.round), None), 0
        if hindrance is None:
            hindrance = Why.CALIBRATION if batch.is_calibration else None if self._secret else Why.NO_KEY
        if hindrance is None:
            with chain.reading_ahead([("VerifierKeys", "keyHashOf", (verifier,)) for verifier in verifiers]):
                hashes = [chain.key_hash_of(verifier) for verifier in verifiers]
            endpoints = {verifier: chain.endpoint_of(verifier) for verifier in others}
            epoch = chain.draw_epoch(batch)
            hindrance = self._hindrance(dict(zip(verifiers, hashes, strict=True)), others)
        seating = Seating(
            chain.domain, batch.batch_id, batch.round, epoch, batch.leaf_count, tuple(verifiers), tuple(hashes)
        )
        peers, debts = {verifier: Peer() for verifier in others}, self._trust.shown_to(batch.batch_id, batch.round)
        fixed = {verifier: debt.commitment for verifier, debt in debts.items()}
        return Room(seating, me, batch.committee, endpoints, hindrance, peers, fixed, View(0, 0, 0, False))

    def _hindrance(self, hashes: dict[str, bytes | None], others: list[str]) -> Why | None:
        if hashes[self.chain.address] != self._key_hash:
            return Why.NO_KEY  # it was rotated: this process signs nothing that is taken
        if any(hashes[verifier] is None for verifier in others):
            return Why.PEER_WITHOUT_KEY
        return Why.MISTRUSTED if self._trust.mistrusts(others, self.chain.timestamp()) else None

    def _proceed(self, room: Room) -> Step:
        """Says what may be said now, and returns what else is to be done."""
        with room.lock:
            if room.is_closed:
                return Step(Do.WAIT)
            now = max(room.view.now, self.chain.now())
            if _is_complete(room) and room.view.complete_since is None:
                room.view = replace(room.view, complete_since=now)
            step = self._step(room, now)
            if step.do is not Do.VOTE and step.stage > (room.mine.stage if room.mine else 0):
                self._say(room, Stage(step.stage))
                if _is_complete(room) and room.view.complete_since is None:
                    room.view = replace(room.view, complete_since=now)
                step = self._step(room, now)
            due = [verifier for verifier in room.peers if room.owes(verifier)] if step.do is not Do.VOTE else []
        for verifier in due:
            if self.exchanges is not None:
                self.exchanges.want(room, verifier)
        return step

    def _step(self, room: Room, now: int) -> Step:
        turn, view = room.seating.turn_of(room.me), replace(room.view, now=now)
        return next_step(room.own, list(room.peers.values()), view, turn, room.hindrance)

    def _say(self, room: Room, stage: Stage) -> None:
        """Makes our statement of this stage. What it binds us to, and who owes us for it, is in the store before."""
        if room.own is None:
            return
        if room.mine is None:
            commitment = room.seating.commitment_of(room.me, room.own.vote, room.own.distance_ppm, room.own.salt)
            with self.store.writing() as session:
                self._fence(session)
                promise(session, [vote_guard(*room.key, commitment)])
        if stage >= Stage.OPENED:
            said = {v: p.statement for v, p in room.peers.items() if p.statement}
            seen = {v: (each.commitment, each.stage >= Stage.OPENED) for v, each in said.items()}
            self._trust.note_shown(*room.key, seen)
            room.fixed |= {v: commitment for v, (commitment, _) in seen.items()}
        room.mine = state(room.seating, room.me, room.own, stage, self.chain.sign, self._secret)

    def _decline(self, room: Room, why: Why) -> None:
        with room.lock:
            if room.declined is not None:
                return
            room.declined = why
        self.voted[why.value] += 1
        batch_id, round_ = room.key
        log.info("votes_on_chain", batch=batch_id.hex(), round=round_, why=why.value)


def _is_complete(room: Room) -> bool:
    mine = room.mine is not None and room.mine.stage is Stage.SIGNED
    return mine and all(peer.stage == Stage.SIGNED for peer in room.peers.values())


def _view(batch: Batch, terms: Parameters, now: int) -> View:
    return View(now, batch.clock, terms.commit_seconds, batch.ballots != 0)
