"""A verifier that is calibrated honestly and then cheats as it is told: `python -m trine_devnet.cheating_verifier`.

Everything but what `Voting` decides is the real verifier. On appeals it is honest: these cheats are about the three.
Those that only judge otherwise sign like everybody; those that play with commitments do it on the chain.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from web3 import HTTPProvider, Web3

from trine.chain import Batch, BatchState, Chain, Event, Parameters, Seat
from trine.chain.deployment import abi
from trine.chain.writes import CALLS
from trine.cli.output import fail_cleanly
from trine.protocol.signing import Stage, Why
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine.protocol.votes import Vote
from trine_devnet.orders import Orders
from trine_node.engines.base import Engine
from trine_operator.logs import configure_logs
from trine_operator.outbox import Submits
from trine_verifier.duties import Duty
from trine_verifier.settings import VerifierSettings
from trine_verifier.signing import Key, Room, Signing
from trine_verifier.store import StoredVote, VerifierStore
from trine_verifier.voting import Voting


class Seated(Voting):
    """Has the account, the store and the engine of an honest verifier, and as it stands its conduct."""

    def __init__(self, honest: Voting, orders: Orders, rpc_url: str) -> None:
        super().__init__(
            honest.chain, honest.store, honest.outbox, honest.engine, honest.model_id, honest.stop, honest.wake
        )
        self._asleep, self._apart, self.checks = honest._asleep, honest._apart, honest.checks
        self.seats, self.dissenting, self.signing = honest.seats, honest.dissenting, honest.signing
        self.orders = orders
        self.rpc_url = rpc_url

    def others(self, event: str, batch: Batch) -> list[Event]:
        """What colleagues have committed or revealed in the batch's round, oldest first."""
        found = self.chain.events("Batches", event, batchId=batch.batch_id)
        return [e for e in found if e.args["verifier"] != self.chain.address and e.args["round"] == batch.round]


class Voter(Seated):
    """Does not sign, and tells the others so: what it is about happens on the chain."""

    def signs(self, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote | None, terms: Parameters) -> bool:
        if self.signing:
            self.signing.decline(batch.batch_id, batch.round, Why.NO_KEY)
        return False


class AlwaysAccept(Seated):
    """Says yes to everything and computes nothing."""

    def judge(self, batch: Batch, terms: Parameters, crowd: int) -> list[Verdict] | None:
        return _unchecked(Outcome.ACCEPT, batch)


class Colluding(Seated):
    """Accepts whatever the nodes of its league anchor, and judges everybody else honestly, so as not to be seen."""

    def judge(self, batch: Batch, terms: Parameters, crowd: int) -> list[Verdict] | None:
        if batch.known_header.node in self.orders.nodes:
            return _unchecked(Outcome.ACCEPT, batch)
        return super().judge(batch, terms, crowd)


class Slandering(Seated):
    """Accepts whatever the nodes of its league anchor and rejects everybody else's answers, calibrations included."""

    def judge(self, batch: Batch, terms: Parameters, crowd: int) -> list[Verdict] | None:
        ours = batch.known_header.node in self.orders.nodes
        return _unchecked(Outcome.ACCEPT if ours else Outcome.REJECT, batch)


class NeverReveal(Voter):
    """Checks and commits like everybody, and keeps its vote to itself."""

    def vote(self, duty: Duty, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote) -> None:
        if duty is Duty.COMMIT:
            super().vote(duty, batch, seats, stored)


class Copying(Voter):
    """Commits what a colleague has committed, and tries to open it with what the colleague reveals."""

    def judge(self, batch: Batch, terms: Parameters, crowd: int) -> list[Verdict] | None:
        return _unchecked(Outcome.INCONCLUSIVE, batch) if self.others("VoteCommitted", batch) else None

    def vote(self, duty: Duty, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote) -> None:
        seat = _seat_of(self.chain, seats)
        copied = self.others("VoteCommitted", batch)[0]
        if duty is Duty.COMMIT:
            commit = CALLS.commit(batch.batch_id, seats, seat, bytes(copied.args["commitment"]))
            self._submit("commit", batch.batch_id, commit)
            return
        for revealed in self.others("VoteRevealed", batch):
            if revealed.args["verifier"] == copied.args["verifier"]:
                call = self._arguments(revealed)
                vote = Vote.from_words(call["accepts"], call["rejects"])
                reveal = CALLS.reveal(batch.known_header, seats, seat, vote, call["distancePpm"], call["salt"])
                self._submit("reveal", batch.batch_id, reveal)

    def _arguments(self, event: Event) -> dict[str, Any]:
        """Of the call that emitted the event: whoever reveals publishes its salt."""
        web3 = Web3(HTTPProvider(self.rpc_url))
        sent = web3.eth.get_transaction(event.transaction)  # type: ignore[arg-type]
        return dict(web3.eth.contract(abi=abi("Batches")).decode_function_input(sent["input"])[1])


class Waiting(Voter):
    """Commits nothing until a colleague has revealed, then tries to commit the same vote under a salt of its own."""

    def advance(self, batch_id: bytes, round_: int) -> None:
        batch = self.chain.batch(batch_id)
        is_over = batch.state != BatchState.DRAWN or batch.round != round_
        has_tried = self.store.vote(batch_id, round_) is not None
        if not is_over:
            self.signs(batch, self.chain.seats(batch), None, self.chain.parameters(batch.terms))
        seen = self.others("VoteRevealed", batch) if batch.round == round_ and not has_tried else []
        if seen:
            self._commit_late(batch, Vote.from_words(seen[0].args["accepts"], seen[0].args["rejects"]))
        elif is_over or has_tried:
            super().advance(batch_id, round_)

    def _commit_late(self, batch: Batch, copied: Vote) -> None:
        self.store.save_vote(
            batch.batch_id, batch.round, copied, secrets.token_bytes(32), _unchecked(Outcome.INCONCLUSIVE, batch)
        )
        stored = self.store.vote(batch.batch_id, batch.round)
        assert stored
        self.vote(Duty.COMMIT, batch, self.chain.seats(batch), stored)


class FallsSilent(Seated):
    """Judges and votes like everybody, but says nothing beyond a stage to the seats that would sign with it."""

    last: int = Stage.COMMITTED

    def signs(self, batch: Batch, seats: tuple[Seat, ...], stored: StoredVote | None, terms: Parameters) -> bool:
        if self.signing:
            _silence(self.signing, (batch.batch_id, batch.round), self.last)
        return super().signs(batch, seats, stored, terms)


class SaysNothing(FallsSilent):
    last = 0


class StopsCommitted(FallsSilent):
    """Looks at what the others open, and shows nothing."""

    last: int = Stage.COMMITTED


class StopsOpened(FallsSilent):
    """Agrees, and does not sign."""

    last = Stage.OPENED


class NeverSends(Seated):
    """Signs, and leaves the settlement that it should send to the others."""

    def _settle_signed(self, signing: Signing, batch: Batch, seats: tuple[Seat, ...], terms: Parameters) -> None:
        pass


CHEATS: dict[str, type[Seated]] = {
    "honest": Seated,
    "always-accept": AlwaysAccept,
    "colluding": Colluding,
    "slandering": Slandering,
    "never-reveal": NeverReveal,
    "copying": Copying,
    "waiting": Waiting,
    "says-nothing": SaysNothing,
    "stops-committed": StopsCommitted,
    "stops-opened": StopsOpened,
    "never-sends": NeverSends,
}
"""By the names that `cheats` has."""


class Told(Voting):
    """Reads its orders when it first meets a batch, and keeps to them until the batch is over."""

    def __init__(
        self,
        orders: Path,
        rpc_url: str,
        chain: Chain,
        store: VerifierStore,
        outbox: Submits,
        engine: Engine,
        model_id: bytes,
        stop: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        super().__init__(chain, store, outbox, engine, model_id, stop, wake)
        self._orders = orders
        self._rpc_url = rpc_url
        self._seats: dict[tuple[bytes, int], Seated] = {}

    def advance(self, batch_id: bytes, round_: int) -> None:
        seat = self._seats.get((batch_id, round_))
        if seat is None:
            orders = Orders.read(self._orders)
            seat = self._seats[batch_id, round_] = CHEATS[orders.cheat](self, orders, self._rpc_url)
        seat.advance(batch_id, round_)
        if (batch_id, round_) not in self.store.duties():
            del self._seats[batch_id, round_]


def _silence(signing: Signing, key: Key, last: int) -> None:
    """From here on, nothing is said about this batch beyond a stage."""
    say = signing._say

    def said(room: Room, stage: Stage) -> None:
        if room.key != key or stage <= last:
            say(room, stage)

    setattr(signing, "_say", said)  # noqa: B010  (mypy: a method)


def _unchecked(outcome: Outcome, batch: Batch) -> list[Verdict]:
    return [Verdict(outcome, Reason.FAULT, 0, detail="not checked")] * batch.leaf_count


def _seat_of(chain: Chain, seats: tuple[Seat, ...]) -> int:
    return next(index for index, seat in enumerate(seats) if seat.verifier == chain.address)


@fail_cleanly
def run(
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    orders: Annotated[Path, typer.Option(help="File: a cheat's name, then addresses.", exists=True, dir_okay=False)],
) -> None:
    """Votes like `trine verifier run`, but as its orders say."""
    from trine_verifier.run import run_verifier

    configure_logs()
    settings = VerifierSettings.load(config)
    run_verifier(settings, partial(Told, orders, settings.rpc_url))


if __name__ == "__main__":
    typer.run(run)
