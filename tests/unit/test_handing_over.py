"""What a verifier signs of key sets, keeps of them, and serves."""

from __future__ import annotations

import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from trine.chain import Deployment
from trine.errors import ChainError, ChainUnreachable, InvalidInput
from trine.handovers import signed_in
from trine.protocol import bls
from trine.protocol.key_root import MAX_STEP_EPOCHS
from trine.protocol.roster import Roster
from trine_operator.refusal import Refusal
from trine_operator.service.errors import install
from trine_verifier.handing_over import CATCH_UP_EPOCHS, HandingOver, KeySetRow, KeySets, handover_endpoints
from trine_verifier.store import VerifierStore

SECRETS = [bls.SecretKey(i + 1) for i in range(4)]
OPERATORS = ["0x" + f"{i + 1:02x}" * 20 for i in range(4)]
HASHES = dict(zip(OPERATORS, (bls.key_hash(secret.public_key()) for secret in SECRETS), strict=True))
BATCHES = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def roster(epoch, weight=10, members=4):
    pool = [(operator, weight + i) for i, operator in enumerate(OPERATORS[:members])]
    return Roster.of(epoch, [pool], HASHES, 1_000 + epoch, 100)


class SomeChain:
    """Key sets as a chain gives them, by epoch."""

    def __init__(self, newest):
        self.deployment = Deployment(31337, 1, {"Batches": BATCHES})
        self.newest, self.instead, self.asked = newest, {}, []

    def newest_key_epoch(self):
        return self.newest

    def roster(self, epoch):
        self.asked.append(epoch)
        found = self.instead.get(epoch, roster(epoch))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def store(tmp_path):
    found = VerifierStore(f"sqlite:///{tmp_path}/store.sqlite")
    yield found
    found.close()


@pytest.fixture
def chain():
    return SomeChain(20)


def verifier(chain, store, secret=SECRETS[0]):
    return HandingOver(chain, KeySets(store), secret)


def test_the_sets_of_recent_epochs_are_kept_and_each_new_one_as_it_comes(chain, store):
    handing = verifier(chain, store)
    handing.step()
    assert chain.asked == list(range(20 - CATCH_UP_EPOCHS, 21))
    handing.step()
    assert len(chain.asked) == CATCH_UP_EPOCHS + 1
    chain.newest = 22
    handing.step()
    assert chain.asked[-2:] == [21, 22]
    assert KeySets(store).of(22) == (roster(22).key_set, HASHES[OPERATORS[0]])


def test_a_hand_over_is_the_keys_signature_over_both_sets(chain, store):
    handing = verifier(chain, store)
    handing.step()
    for since, epoch in ((19, 20), (10, 20)):
        document = handing.signed(since, epoch)
        key, signature = document["key"], document["signature"]
        digest = roster(since).key_set.handover_digest(31337, BATCHES, roster(epoch).key_set)
        assert bls.verify([bytes.fromhex(key[2:])], digest, bytes.fromhex(signature[2:]))
        assert document == handing.signed(since, epoch)
        assert document == verifier(chain, store).signed(since, epoch), "after a restart too"


def test_never_two_sets_of_one_epoch(chain, store):
    """Whatever the chain shows later: a deep re-organisation, or an endpoint that lies."""
    handing = verifier(chain, store)
    handing.step()
    before = handing.signed(19, 20)
    chain.instead[20] = roster(20, weight=11)
    again = verifier(chain, store)
    again.step()
    assert again.signed(19, 20) == before
    assert not KeySets(store).keep(roster(20, weight=12).key_set, None)
    assert KeySets(store).of(20)[0] == roster(20).key_set


def test_what_is_served_was_kept_before(chain, store):
    handing = verifier(chain, store)
    with pytest.raises(Refusal, match="no key set of epoch 19"):
        handing.signed(19, 20)
    handing.step()
    with pytest.raises(Refusal, match="no key set of epoch 21"):
        handing.signed(20, 21)


@pytest.mark.parametrize(("since", "epoch"), [(20, 20), (20, 19), (0, MAX_STEP_EPOCHS + 1)])
def test_a_hand_over_goes_forward_and_only_so_far(chain, store, since, epoch):
    with pytest.raises(Refusal, match="epochs forward"):
        verifier(chain, store).signed(since, epoch)


def test_a_key_that_is_not_in_the_set_signs_nothing_for_it(chain, store):
    chain.instead[19] = roster(19, members=3)
    handing = verifier(chain, store, SECRETS[3])
    handing.step()
    with pytest.raises(Refusal, match="not in the set of epoch 19"):
        handing.signed(19, 20)
    assert handing.signed(18, 19)
    rotated = verifier(chain, store, bls.SecretKey(77))
    with pytest.raises(Refusal, match="not in the set of epoch 18"):
        rotated.signed(18, 19)


def test_an_epoch_without_a_set_or_without_state_is_passed_over(chain, store):
    chain.instead = {15: InvalidInput("2 verifiers"), 16: ChainError("use an archive node")}
    handing = verifier(chain, store)
    handing.step()
    assert handing.signed(14, 20)
    for epoch in (15, 16):
        with pytest.raises(Refusal, match=f"no key set of epoch {epoch}"):
            handing.signed(14, epoch)


def test_an_endpoint_that_is_away_is_asked_again(chain, store):
    chain.instead[20] = ChainUnreachable("away")
    handing = verifier(chain, store)
    with pytest.raises(ChainUnreachable):
        handing.step()
    del chain.instead[20]
    handing.step()
    assert handing.signed(19, 20)
    chain.newest, chain.instead[21] = 21, ChainError("makes no sense")
    with pytest.raises(ChainError):
        handing.step()
    del chain.instead[21]
    handing.step()
    assert handing.signed(20, 21)


def test_sets_that_no_hand_over_can_name_any_more_are_forgotten(store):
    sets = KeySets(store)
    for epoch in (1, 2, 3 + MAX_STEP_EPOCHS):
        assert sets.keep(roster(epoch).key_set, None)
    with store.reading() as session:
        assert session.scalars(select(KeySetRow.epoch)).all() == [3 + MAX_STEP_EPOCHS]


def test_who_does_not_hold_the_store_keeps_nothing(chain, store):
    def fence(_):
        raise InvalidInput("another process has taken this store over")

    handing = HandingOver(chain, KeySets(store, fence), SECRETS[0])
    with pytest.raises(InvalidInput, match="taken this store over"):
        handing.step()
    with pytest.raises(Refusal):
        handing.signed(19, 20)


def test_many_at_once_get_the_same(chain, store):
    handing = verifier(chain, store)
    handing.step()
    found = []
    threads = [threading.Thread(target=lambda: found.append(handing.signed(12, 20)["signature"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


# Over HTTP


@pytest.fixture
def http(chain, store):
    handing = verifier(chain, store)
    handing.step()
    app = FastAPI()
    install(app)
    app.include_router(handover_endpoints(handing))
    with TestClient(app) as found:
        yield found


def test_whoever_asks_gets_key_and_signature(http):
    key, signature = signed_in(http.get("/v1/handovers/20").content)
    digest = roster(19).key_set.handover_digest(31337, BATCHES, roster(20).key_set)
    assert key == SECRETS[0].public_key()
    assert bls.verify([key], digest, signature)
    assert len(http.get("/v1/handovers/20?since=12").content) < 4096


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("21", 404),
        ("20?since=20", 400),
        ("20?since=-1", 400),
        ("20?since=x", 400),
        ("0", 400),
        ("x", 400),
        (f"{2**64}", 400),
        ("20?since=3", 404),
    ],
)
def test_what_is_not_there_is_said(http, path, status):
    answer = http.get(f"/v1/handovers/{path}")
    assert answer.status_code in (status, 422)
    assert answer.json()["error"]["message"]


def test_a_verifier_without_a_key_says_so():
    app = FastAPI()
    install(app)
    app.include_router(handover_endpoints(None))
    with TestClient(app) as http:
        assert "no BLS key" in http.get("/v1/handovers/20").json()["error"]["message"]
