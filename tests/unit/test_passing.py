"""Evidence that a node shows to some only: who has it passes it on, over real HTTP, and nobody has to be believed."""

import dataclasses
import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx2
import pytest
from eth_account import Account as EthAccount
from test_hostile_evidence import good, rebuilt, speaking
from test_node_support import RECORD, RecordingChain, chain_batch, engine, sign

from trine.chain import BatchState, Event
from trine.protocol import merkle
from trine.protocol.access import access_header, evidence_digest
from trine.protocol.evidence import Evidence
from trine.protocol.header import Header
from trine.protocol.inputs import chat_input
from trine.protocol.policy import Policy
from trine.protocol.verdict import Outcome, Reason
from trine_operator.process import BackgroundServer
from trine_operator.service import create_evidence_app
from trine_operator.service import evidence as serving
from trine_operator.staying import ENDING_BLOCKS
from trine_operator.store import StoreError
from trine_verifier.checking import check_batch
from trine_verifier.duties import Listening
from trine_verifier.evidence import Source
from trine_verifier.gathering import FAULTS, Gathering
from trine_verifier.kept import Limits
from trine_verifier.store import VerifierStore

BATCH = bytes([1]) * 32
LEAVES = 20
ALL = set(range(LEAVES))
PATIENCE = Listening(3.0, 6.0)
POLICY = Policy.from_bytes(RECORD.policy)


@pytest.fixture(scope="module")
def answers():
    """Of one batch, all different: their prompts are."""
    made = []
    for number in range(LEAVES):
        asked = chat_input([{"role": "user", "content": f"Hello {number}"}])
        made.append(rebuilt(asked.canonical(), tuple(engine().encode_chat(asked.as_messages())), (4, 5)))
    return made


@pytest.fixture(scope="module")
def leaves(answers):
    return [merkle.leaf_hash(index, each.receipt) for index, each in enumerate(answers)]


@pytest.fixture(scope="module")
def anchor(leaves):
    from test_evidence import make

    return dataclasses.replace(make()[2], root=merkle.root(leaves), leaf_count=LEAVES)


def line(answer):
    return json.dumps(answer.to_json()).encode()


def shown(leaves, lines):
    """What a node sends for a batch: `lines` by leaf, else nothing."""
    head = json.dumps({"leaves": ["0x" + leaf.hex() for leaf in leaves]}).encode()
    return good(b"\n".join([head, *(lines.get(leaf, b"null") for leaf in range(len(leaves)))]))


class World:
    """A chain with a batch, its node and the verifiers that were drawn for it."""

    def __init__(self, tmp_path, anchor, stack):
        self.anchor, self.tmp_path, self.stack = anchor, tmp_path, stack
        self.endpoints, self.seats, self.jurors, self.earlier = {}, [], [], []
        self.state, self.round = BatchState.DRAWN, 0
        self.asked = []

    @property
    def batch(self):
        header = Header(self.anchor.node, self.anchor.model_id, self.anchor.root, bytes(32))
        return chain_batch(BATCH, self.state, header=header, leaf_count=LEAVES, round=self.round)

    def node(self, url):
        self.endpoints[self.anchor.node] = url

    def verifier(self, seat="seats", limits=None, sealed=False):
        """One with a store and a service of its own."""
        account = EthAccount.create()
        chain = Seen(self, account)
        store = VerifierStore(f"sqlite:///{self.tmp_path}/{account.address}.sqlite", limits)
        self.stack.callback(store.close)
        app = create_evidence_app("Trine verifier", store, chain, lambda: None, None, store.kept)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = BackgroundServer(app, "127.0.0.1", port)
        server.start()
        self.stack.callback(server.stop)
        self.endpoints[account.address] = f"http://127.0.0.1:{port}"
        getattr(self, seat).append(account.address)
        return Verifier(self, account, chain, store, Gathering(chain, store, sealed=sealed))

    def stranger(self, url, seat="seats"):
        """A seat whose endpoint is whatever it likes."""
        address = EthAccount.create().address
        self.endpoints[address] = url
        getattr(self, seat).append(address)
        return address


class Seen(RecordingChain):
    """The world as one account sees it."""

    def __init__(self, world, account):
        super().__init__(signer=account)
        self.world = world

    @property
    def domain(self):
        return self.world.anchor.domain

    @property
    def committee(self):
        return tuple(self.world.seats)

    @committee.setter
    def committee(self, _):
        pass

    @property
    def appeal_committee(self):
        return tuple(self.world.jurors)

    @appeal_committee.setter
    def appeal_committee(self, _):
        pass

    def batch(self, batch_id):
        return self.world.batch

    def anchoring(self, _batch_id):
        return dataclasses.make_dataclass("Anchoring", ["block"])(1)

    def events(self, _contract, name, **_filters):
        drawn = self.world.earlier if name == "CommitteeDrawn" else self.world.jurors
        args = {"seats": [{"verifier": each} for each in drawn]}
        return [Event("0x", name, args, 1, 0, bytes(32))] if drawn else []

    def endpoint_of(self, operator):
        self.world.asked.append(operator)
        return self.world.endpoints.get(operator, "")

    def now(self):
        return int(time.time())


@dataclasses.dataclass
class Verifier:
    world: World
    account: object
    chain: Seen
    store: VerifierStore
    gathering: Gathering

    def gather(self, patience=PATIENCE):
        return self.gathering.batch(self.world.batch, self.world.anchor, patience)

    def has(self):
        return {leaf for leaf in range(LEAVES) if self.store.kept.answer_at(BATCH, leaf)}

    def ask(self, path="", account=None):
        account, at = account or self.account, self.chain.now()
        signature = sign(account, evidence_digest(self.chain.domain, BATCH, at))
        url = f"{self.world.endpoints[self.account.address]}/v1/batches/0x{BATCH.hex()}/evidence{path}"
        return httpx2.get(url, headers={"authorization": access_header(at, signature)}, trust_env=False)


@pytest.fixture
def world(tmp_path, anchor):
    with ExitStack() as stack:
        yield World(tmp_path, anchor, stack)


@contextmanager
def node_showing(world, leaves, lines):
    with speaking(shown(leaves, lines)) as url:
        world.node(url)
        yield


def every(answers):
    return {leaf: line(each) for leaf, each in enumerate(answers)}


def outcome(response):
    return response.status_code, response.json()["error"]["code"]


def test_a_node_that_shows_its_evidence_to_one_of_three_has_shown_it_to_all(world, answers, leaves):
    """The two to whom it was not shown voted otherwise than the third."""
    first, second, third = (world.verifier() for _ in range(3))
    with node_showing(world, leaves, every(answers)):
        assert first.gather().missing == 0
    world.node("http://127.0.0.1:1")
    alone = second.gather(Listening(1.0, 0.0))
    assert (alone.shown, alone.missing) == (None, LEAVES)
    for other in (second, third):
        found = other.gather()
        assert found.missing == 0
        assert list(found.shown.answers) == answers
        assert found.shown.leaves == leaves
        assert other.has() == ALL


@contextmanager
def overheard(url, heard):
    """An endpoint on the way to another: all that goes through is kept."""
    place = urlsplit(url)
    sockets, threads = [], []

    def through(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                heard.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(listener):
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection((place.hostname, place.port))
                sockets.extend((here, there))
                for pair in ((here, there), (there, here)):
                    threads.append(threading.Thread(target=through, args=pair))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving_ = threading.Thread(target=serve, args=(listener,))
        serving_.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving_.join()
            for each in sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in sockets:
                each.close()


def test_attack_who_listens_between_two_seats_reads_no_prompt(world, answers, leaves):
    first = world.verifier()
    with node_showing(world, leaves, every(answers)):
        first.gather()
    world.node("")
    for sealed in (True, False):  # what is listened for is there when it is not sealed
        other, heard = world.verifier(sealed=sealed), []
        direct = world.endpoints[first.account.address]
        with overheard(direct, heard) as way:
            world.endpoints[first.account.address] = way
            found = other.gather()
        world.endpoints[first.account.address] = direct
        assert list(found.shown.answers) == answers
        assert (b"Hello 7" in b"".join(heard)) is not sealed
        world.seats.remove(other.account.address)


def test_attack_evidence_is_not_asked_for_openly_where_no_key_is_shown(world, answers, leaves):
    verifier = world.verifier(sealed=True)
    with node_showing(world, leaves, every(answers)):  # to whatever it is asked
        found = verifier.gather(Listening(2.0, 0.0))
    assert (found.shown, found.missing) == (None, LEAVES)
    assert "sealing-key" in found.why


def test_attack_a_seat_that_names_anothers_endpoint_keeps_nobody_from_it(world, answers, leaves):
    first = world.verifier()
    with node_showing(world, leaves, every(answers)):
        first.gather()
    world.node("")
    endpoint = world.endpoints[first.account.address]
    for _ in range(3):
        world.stranger(endpoint)
    assert world.verifier(sealed=True).gather().missing == 0


def test_garbage_for_one_seat_and_good_evidence_for_another_is_good_evidence_for_both(world, answers, leaves):
    first, second = world.verifier(), world.verifier()
    with node_showing(world, leaves, every(answers)):
        first.gather()
    forged = dataclasses.replace(answers[0], receipt_signature=bytes(65))
    garbage = {leaf: line(forged) if leaf else b"[" * 99 for leaf in ALL}
    with node_showing(world, leaves, garbage):
        assert second.gather(Listening(3.0, 0.0)).missing == LEAVES
        assert second.gather().missing == 0


def test_a_leaf_that_one_source_shows_completes_what_another_has_shown(world, answers, leaves):
    """A node that keeps another leaf from each of the seats: together they have all of it."""
    whole, verifiers = every(answers), [world.verifier() for _ in range(3)]
    for number, verifier in enumerate(verifiers):
        kept_back = set(range(number, LEAVES, 3))
        with node_showing(world, leaves, {leaf: each for leaf, each in whole.items() if leaf not in kept_back}):
            assert verifier.gather(Listening(3.0, 0.0)).missing == len(kept_back)
    world.node("")
    for verifier in verifiers:
        assert verifier.gather().missing == 0


def test_what_nobody_shows_is_unavailable_leaf_by_leaf(world, answers, leaves, anchor):
    verifier, whole = world.verifier(), every(answers)
    world.verifier()
    forged = dataclasses.replace(answers[2], output_ids=(9, 9))
    lines = {leaf: each for leaf, each in whole.items() if leaf not in (1, 2)} | {2: line(forged)}
    with node_showing(world, leaves, lines):
        found = verifier.gather()
    assert found.missing == 2
    verdicts = check_batch(found.shown, anchor, engine(), POLICY)
    hidden = [(verdict.outcome, verdict.reason) for verdict in verdicts[1:3]]
    assert hidden == [(Outcome.UNAVAILABLE, Reason.WITHHELD)] * 2
    assert all(v.reason is not Reason.WITHHELD for v in (verdicts[0], *verdicts[3:]))
    assert verifier.has() == ALL - {1, 2}


@pytest.mark.parametrize(
    ("said", "pause", "forever"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", 0.02, b"x"),  # drips
        (b"HTTP/1.1 200 OK\r\n\r\n", 0.0, b"x" * 65536),  # sends without end
        (b"", 0.02, b""),
        (good(b"[" * 10_000), 0.0, b""),
    ],
)
def test_a_hostile_seat_costs_a_part_of_the_time_and_is_asked_last_from_then_on(
    world, answers, leaves, said, pause, forever
):
    has_it, asks = world.verifier(), world.verifier()
    with node_showing(world, leaves, every(answers)):
        has_it.gather()
    world.node("")
    with speaking(said, pause=pause, forever=forever) as url:
        hostile = [Source(world.stranger(url), url) for _ in range(2)]
        assert asks.gather(Listening(0.5, 20.0)).missing == 0  # the hostile ones would take for ever
        asks.gathering._failures.update(hostile)
        assert asks.gathering._others(world.batch, None)[0].operator == has_it.account.address


def test_a_seat_whose_leaves_are_all_wrong_is_looked_at_no_longer(world, answers, leaves, monkeypatch):
    """Each signature that is checked takes time."""
    asks, looked = world.verifier(), []
    forged = {leaf: line(dataclasses.replace(each, receipt_signature=bytes(65))) for leaf, each in enumerate(answers)}
    from trine_verifier import gathering

    monkeypatch.setattr(gathering, "missing", lambda *_: looked.append(1) or "no")
    with speaking(shown(leaves, forged)) as url:
        world.stranger(url)
        assert asks.gather().missing == LEAVES
    assert len(looked) == FAULTS < LEAVES


def test_a_hostile_seat_fills_nobodys_store(world, answers, leaves):
    """What comes with good evidence and is none of it is not kept."""
    asks = world.verifier()
    stuffed = {leaf: json.dumps(each.to_json() | {"x": "y" * 100_000}).encode() for leaf, each in enumerate(answers)}
    with speaking(shown(leaves, stuffed)) as url:
        world.stranger(url)
        assert asks.gather().missing == 0
    assert all(len(asks.store.kept.answer_at(BATCH, leaf).document) < 10_000 for leaf in ALL)


def test_seats_of_earlier_rounds_are_asked_and_seats_of_later_ones_are_shown(world, answers, leaves):
    before = world.verifier("earlier")
    with node_showing(world, leaves, every(answers)):
        before.gather()
    world.node("")
    world.round = 1
    now = world.verifier()
    assert now.gather().missing == 0
    assert before.ask(account=now.account).status_code == 200
    assert outcome(now.ask(account=before.account)) == (403, "no_seat")


def test_what_was_shown_to_the_three_and_kept_from_the_jury_the_jury_sees_all_the_same(world, answers, leaves, anchor):
    seat = world.verifier()
    with node_showing(world, leaves, every(answers)):
        seat.gather()
    forged = json.dumps(
        {"proof": ["0x" + s.hex() for s in merkle.proof(leaves, 3)], "answer": answers[4].to_json()}
    ).encode()
    with speaking(good(forged)) as url:
        world.node(url)
        juror, another = world.verifier("jurors"), world.verifier("jurors")
        assert juror.gathering.leaf(world.batch, 3, anchor, Listening(3.0, 0.0)).shown is None
        found = juror.gathering.leaf(world.batch, 3, anchor, PATIENCE)
    assert found.shown.answer == answers[3]
    world.seats = []
    world.endpoints.pop(anchor.node)
    assert another.gathering.leaf(world.batch, 3, anchor, PATIENCE).shown.answer == answers[3]  # of the other juror


def test_a_juror_is_shown_its_leaf_and_strangers_nothing(world, answers, leaves):
    seat = world.verifier()
    with node_showing(world, leaves, every(answers)):
        seat.gather()
    stranger, juror = EthAccount.create(), EthAccount.create()
    for path in ("", "/3"):
        assert outcome(seat.ask(path, stranger)) == (403, "no_seat")
    world.jurors.append(juror.address)
    answer = seat.ask("/3", juror).json()
    proof = [bytes.fromhex(sibling[2:]) for sibling in answer["proof"]]
    assert merkle.verify(merkle.root(leaves), leaves[3], proof)
    assert Evidence.from_json(answer["answer"]) == answers[3]
    assert outcome(seat.ask("", juror)) == (403, "no_seat")
    assert outcome(seat.ask("/99999", juror)) == (404, "batch_not_found")


def test_a_caller_is_shown_so_many_batches_at_once(world, answers, leaves, monkeypatch):
    monkeypatch.setattr(serving, "AT_ONCE", 1)
    seat = world.verifier()
    with node_showing(world, leaves, every(answers)):
        seat.gather()
    going_on, begun = threading.Event(), threading.Event()

    def slow(_batch_id, count):
        begun.set()
        going_on.wait(20)
        return iter(["null"] * count)

    def documents(batch_id, count):
        yield from slow(batch_id, count)

    monkeypatch.setattr(seat.store.kept, "documents_of", documents)
    first = threading.Thread(target=seat.ask, daemon=True)
    first.start()
    assert begun.wait(20)
    assert outcome(seat.ask()) == (429, "busy")
    going_on.set()
    first.join(20)
    assert seat.ask().status_code == 200


def test_evidence_is_passed_on_until_its_batch_is_final_for_good(world, answers, leaves):
    seat = world.verifier()
    with node_showing(world, leaves, every(answers)):
        seat.gather()
    kept = seat.store.kept
    for state in (BatchState.SETTLED, BatchState.FINAL, BatchState.SETTLED):
        world.state = state  # a re-org takes the end back
        kept.prune(seat.chain)
        seat.chain.block += ENDING_BLOCKS
    kept.prune(seat.chain)
    assert seat.ask().status_code == 200
    world.state = BatchState.FINAL
    for _ in range(2):
        kept.prune(seat.chain)
        assert seat.has() == (ALL if _ == 0 else set())
        seat.chain.block += ENDING_BLOCKS
    assert outcome(seat.ask()) == (404, "batch_not_found")


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(tmp_path, answers, leaves):
    size = max(len(json.dumps(each.to_json(), separators=(",", ":"))) for each in answers)
    store = VerifierStore(f"sqlite:///{tmp_path}/v.sqlite", Limits(in_all=10 * size, per_batch=4 * size))
    for number in range(5):
        store.kept.keep(bytes([number]) * 32, dict(enumerate(answers)), leaves)
    kept = [sum(store.kept.answer_at(bytes([n]) * 32, leaf) is not None for leaf in ALL) for n in range(5)]
    assert kept[:2] == [0, 0] or kept[:3] == [0, 0, 0]
    assert kept[-1] in (4, 5)
    store.close()
    none = VerifierStore(f"sqlite:///{tmp_path}/none.sqlite", Limits(0, 4 * size))
    none.kept.keep(BATCH, dict(enumerate(answers)), leaves)
    assert none.kept.leaves_of(BATCH) is None
    none.close()


def test_a_verifier_without_an_endpoint_gets_what_others_have_and_is_not_asked(world, answers, leaves):
    has_it, without = world.verifier(), world.verifier()
    world.endpoints.pop(without.account.address)
    with node_showing(world, leaves, every(answers)):
        has_it.gather()
    world.node("")
    assert without.gather().missing == 0
    assert has_it.gathering._sources_of(world.batch, None) == []


def test_who_was_restarted_goes_on_with_what_it_was_shown(world, answers, leaves, anchor):
    seat = world.verifier()
    with node_showing(world, leaves, every(answers)):
        seat.gather()
    world.node("")
    again = Gathering(seat.chain, seat.store, sealed=False).batch(world.batch, anchor, Listening(0.5, 0.0))
    assert again.missing == 0


def test_a_full_batch_with_missing_calibration_answers_rejects_no_claim(answers, leaves):
    """Whoever is not shown a leaf cannot say that its tokens were made up."""
    from trine_verifier.checking import claim_fault
    from trine_verifier.evidence import Lines, NotShown, Shown

    claimed = sum(len(each.output_ids) for each in answers)
    partial = Lines([line(answers[0]), *[NotShown("no")] * (LEAVES - 1)])
    assert claim_fault(Shown(leaves, partial), claimed) is None


def test_a_store_that_takes_no_changes_keeps_no_evidence_from_being_checked(world, answers, leaves, monkeypatch):
    verifier = world.verifier()

    def full():
        raise StoreError("the disk is full")

    monkeypatch.setattr(verifier.store, "writing", full)
    with node_showing(world, leaves, every(answers)):
        assert verifier.gather().missing == 0
    assert verifier.has() == set()
