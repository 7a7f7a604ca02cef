"""Three verifiers that exchange statements over real HTTP; the chain is a table that all of them see."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

from eth_account import Account
from test_node_support import PARAMETERS, chain_batch

from trine.chain import BatchState, Event, Seat
from trine.protocol import bls
from trine.protocol.messages import Domain
from trine.protocol.signing import SEATS, Do
from trine.protocol.votes import Vote
from trine_devnet.processes import free_port
from trine_operator.process import BackgroundServer
from trine_operator.service.frame import create_frame
from trine_verifier.exchange import Exchange
from trine_verifier.seat_service import SeatEndpoints
from trine_verifier.signing import NotYet, Signing
from trine_verifier.store import StoredVote, VerifierStore

WINDOW = 120
TERMS = replace(PARAMETERS, commit_seconds=WINDOW)
VOTE = Vote(0b1, 0)
BATCH_ID = bytes([0xBA]) * 32
SECONDS = 3.0
"""For an exchange in all, instead of five."""


def verifier(number: int):
    return Account.from_key(bytes([9]) * 31 + bytes([number + 1]))


@dataclass
class Table:
    """What the chain shows."""

    batch: object
    now: int = 10_000
    keys: dict[str, bytes | None] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    committed: list[tuple[str, bytes]] = field(default_factory=list)
    drawn: list[str] | None = None  # else all who have keys
    fails: Exception | None = None


class SeenChain:
    """The table, through one account's eyes."""

    def __init__(self, table, account):
        self._table, self._account = table, account
        self.address = account.address
        self.domain = Domain(31_337, "0x" + "44" * 20)
        self.deployment = SimpleNamespace(chain_id=31_337, address=lambda _: self.domain.verifying_contract)

    def now(self):
        return self._table.now

    timestamp = now

    def sign(self, digest):
        return bytes(self._account.unsafe_sign_hash(digest).signature)

    def reading_ahead(self, _questions):
        return contextlib.nullcontext()

    def key_hash_of(self, operator):
        if self._table.fails:
            raise self._table.fails
        return self._table.keys[operator]

    def endpoint_of(self, operator):
        return self._table.endpoints[operator]

    def draw_epoch(self, _batch):
        return 3

    def anchoring(self, _batch_id):
        return SimpleNamespace(block=1)

    def events(self, _contract, name, **_filters):
        if name == "CommitteeDrawn":
            drawn = self._table.keys if self._table.drawn is None else self._table.drawn
            seats = [{"verifier": address} for address in drawn]
            yield Event("Batches", name, {"round": 0, "seats": seats}, 1, 0, b"")
            return
        for address, commitment in self._table.committed:
            yield Event(
                "Batches", "VoteCommitted", {"verifier": address, "round": 0, "commitment": commitment}, 2, 0, b""
            )


@functools.cache
def empty_store() -> Path:
    """A store with its tables: making them takes most of what opening a new one takes."""
    file = Path(tempfile.mkdtemp()) / "empty.sqlite"
    VerifierStore(f"sqlite:///{file}").close()
    return file


class Member:
    """A verifier that follows the rules: its seats, its exchange, its endpoint, its store."""

    def __init__(self, table, number, folder):
        self.account, self.secret = verifier(number), bls.SecretKey(0x600D + number)
        self.table, self.folder, self.number = table, folder, number
        self.port = free_port()
        table.keys[self.account.address] = bls.key_hash(self.secret.public_key())
        table.endpoints[self.account.address] = f"http://127.0.0.1:{self.port}"
        self.stored: StoredVote | None = None
        self.start()

    def start(self):
        file = self.folder / f"verifier-{self.number}.sqlite"
        if not file.exists():
            shutil.copy(empty_store(), file)
        self.store = VerifierStore(f"sqlite:///{file}")
        self.signing = Signing(SeenChain(self.table, self.account), self.store, self.secret)
        self.exchange = self.signing.exchanges = Exchange(self.signing, SECONDS)
        self.exchange.start()
        app = create_frame("test", lambda: None)
        app.include_router(SeatEndpoints(self.signing).router)
        self.server = BackgroundServer(app, "127.0.0.1", self.port)
        self.server.start()

    def stop(self):
        self.exchange.stop()
        self.server.stop()
        self.store.close()

    @property
    def address(self):
        return self.account.address

    def find(self, vote=VOTE, salt=None):
        self.stored = StoredVote(vote, 0, salt or bytes([self.number + 1]) * 32, [])

    def step(self):
        return self.signing.advance(self.table.batch, committee(self.table), self.stored, TERMS)


class Seats:
    """Three of them on one batch. Use as a context manager."""

    def __init__(self, folder, **changes):
        clock = 10_000 + WINDOW
        batch = chain_batch(BATCH_ID, BatchState.DRAWN, clock=clock, committee=77, **changes)
        self.table = Table(batch)
        self.members = [Member(self.table, number, folder) for number in range(SEATS)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            with contextlib.suppress(Exception):
                member.stop()

    @property
    def turns(self):
        """Members in the order in which they send."""
        addresses = [member.address for member in self.members]
        first = int.from_bytes(BATCH_ID, "big") % SEATS
        return [self.members[(first + turn) % len(addresses)] for turn in range(SEATS)]

    def run_until(self, done, members=None, seconds=20.0):
        """Steps everybody until `done(steps)`; returns the last steps. Fails when it never is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            steps = {member.number: member.step() for member in members or self.members}
            if done(steps):
                return steps
            time.sleep(0.02)
        raise AssertionError(f"it never came to that: {steps}")


def all_send_or_wait_signed(seats):
    """Whether each has everybody's signature."""

    def done(_steps):
        try:
            for member in seats.members:
                member.signing.settlement(BATCH_ID, 0)
        except NotYet:
            return False
        return True

    return done


def everybody_votes(steps):
    return all(step.do is Do.VOTE for step in steps.values())


def committee(table):
    return [Seat(verifier(number).address, 1) for number in range(SEATS)]
