"""An examiner: what it plants, remembers, commits to, opens, appeals and is paid for, and that nobody can tell."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from chain_support import devnet
from eth_account import Account as EthAccount
from test_node_support import (
    APPEAL_SECONDS,
    PRICE_WEI,
    RECORD,
    RecordingChain,
    chain_batch,
    engine,
    result_of,
    sealed,
    serving,
    sign,
    signed_body,
)

from trine._ordering import as_input
from trine.chain import AppealPhase, BatchState
from trine.errors import InvalidInput, NodeRefused, TransactionReverted
from trine.protocol import canaries, merkle
from trine.protocol.header import Header
from trine.protocol.inputs import Message, chat_input, text_input
from trine.protocol.messages import Domain
from trine_operator.store import Store, sealed_batch
from trine_research.examining.opening import Committing, Opening, salt_of
from trine_research.examining.planting import Habits, Planting, PlantingEngine
from trine_research.examining.prompts import corpus, everyday
from trine_research.examining.record import Planted, Record
from trine_research.examining.run import Ordering
from trine_research.examining.settings import ExaminerSettings

HABITS = Habits(order_seconds=10, canary_rate=0.25, answer_tokens=(4, 8), kinds=("swapped-token",))
VERIFIERS = tuple("0x" + f"{number:02x}" * 20 for number in range(1, 12))


# What is remembered


def test_a_record_is_whole_again_after_a_restart(tmp_path):
    file = tmp_path / "planted.jsonl"
    record = Record(file)
    record.plant(bytes([1]) * 32)
    for number in (2, 3):
        record.commit(Planted(bytes([number]) * 32, bytes([9]) * 32, (0, number)))
    record.end(bytes([2]) * 32)
    record.expose("0xC1")
    again = Record(file)
    assert again.is_planted(bytes([1]) * 32)
    assert not again.is_planted(bytes([2]) * 32)
    assert again.open_batches() == [Planted(bytes([3]) * 32, bytes([9]) * 32, (0, 3))]
    assert again.is_known("0xC1")
    assert not again.is_known("0xC2")


def test_a_line_that_a_crash_tore_off_has_not_happened(tmp_path):
    file = tmp_path / "planted.jsonl"
    Record(file).plant(bytes([1]) * 32)
    whole = file.read_text()
    file.write_text(whole + '{"input": "0202')
    record = Record(file)
    assert record.is_planted(bytes([1]) * 32)
    assert file.read_text() == whole
    record.plant(bytes([3]) * 32)
    assert Record(file).is_planted(bytes([3]) * 32)


def test_what_is_over_is_neither_remembered_nor_kept_on_disk(tmp_path):
    file = tmp_path / "planted.jsonl"
    record = Record(file, remembered=3)
    for number in range(50):
        record.plant(bytes([number]) * 32)
        record.commit(Planted(bytes([number]) * 32, bytes([9]) * 32, (number,)))
        if number != 7:
            record.end(bytes([number]) * 32)
    record.expose("0xC1")
    assert len(record._inputs) == 3
    file.chmod(0o600)
    long = file.stat().st_size
    again = Record(file, remembered=3)
    assert file.stat().st_size < long / 10
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    for known in (again, Record(file)):
        assert [n for n in range(50) if known.is_planted(bytes([n]) * 32)] == [47, 48, 49]
        assert [planted.leaves for planted in known.open_batches()] == [(7,)]
        assert known.is_known("0xC1")


def test_a_crash_while_the_record_is_written_anew_loses_nothing(tmp_path, monkeypatch):
    file = tmp_path / "planted.jsonl"
    Record(file).plant(bytes([1]) * 32)
    (tmp_path / "planted.jsonl.new").write_text('{"input": "02')  # of a process that was killed
    assert Record(file).is_planted(bytes([1]) * 32)

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InvalidInput, match="cannot read or write"):
        Record(file)
    monkeypatch.undo()
    assert Record(file).is_planted(bytes([1]) * 32)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"input": 7}', '{"batch": {}}', '{"other": 1}', "[" * 10**5, "\u00e9", "7" * (1 << 17)]
)
def test_a_damaged_record_is_refused_with_its_line(tmp_path, line):
    file = tmp_path / "planted.jsonl"
    file.write_text(f'{{"client": "0xC1"}}\n{line}\n')
    with pytest.raises(InvalidInput, match="line 2 is damaged"):
        Record(file)


# What is planted


class Orders:
    """Notes orders and what was known of them then."""

    def __init__(self, record):
        self.record = record
        self.made = []
        self.error = None

    def __call__(self, prompt, max_tokens):
        self.made.append((prompt, max_tokens, self.record.is_planted(prompt.hash())))
        if self.error:
            raise self.error


def planting(tmp_path, habits=HABITS, prompts=None):
    record, lot, now = Record(tmp_path / "planted.jsonl"), random.Random(5), [0.0]
    orders, planted = Orders(record), PlantingEngine(engine())
    work = Planting(planted, record, prompts or everyday(lot), habits, orders, lot, lambda: now[0])
    return SimpleNamespace(work=work, orders=orders, engine=planted, record=record, now=now)


def test_orders_come_by_lot_and_a_share_of_them_is_planted_beforehand(tmp_path):
    made = planting(tmp_path)
    for _ in range(20_000):
        made.now[0] += 1
        made.work.step()
    orders = made.orders.made
    assert 1_600 < len(orders) < 2_100  # once in ten seconds in the mean; one a step
    assert 0.2 < sum(known for *_, known in orders) / len(orders) < 0.3
    assert {tokens for _, tokens, _ in orders} == {4, 5, 6, 7, 8}
    planted = [prompt.hash() for prompt, _, known in orders if known]
    assert len(planted) == len(set(planted)), "no planted prompt comes again"


def test_only_the_planted_prompt_is_answered_badly_and_only_once():
    planted = PlantingEngine(engine())
    first, second = ([5, 6, 7, 8, 9], [9, 8, 7, 6, 5])
    honest = [list(engine().generate(ids, 8)) for ids in (first, second)]
    planted.plan(first, "swapped-token")
    assert list(planted.generate(second, 8)) == honest[1]
    assert list(planted.generate(first, 8)) != honest[0]
    assert list(planted.generate(first, 8)) == honest[0]
    planted.plan(first, "swapped-token")
    planted.forget(first)
    assert list(planted.generate(first, 8)) == honest[0]


def test_an_order_that_fails_leaves_no_plan_behind(tmp_path):
    made = planting(tmp_path, replace(HABITS, canary_rate=1.0))
    made.orders.error = NodeRefused("busy", status=429)
    made.now[0] = 1_000.0
    with pytest.raises(NodeRefused):
        made.work.step()
    ((prompt, _, known),) = made.orders.made
    ids = engine().encode_chat(prompt.as_messages())
    assert known
    assert list(made.engine.generate(ids, 8)) == list(engine().generate(ids, 8))


def test_a_corpus_that_is_used_up_ends_planting(tmp_path):
    made = planting(tmp_path, replace(HABITS, canary_rate=1.0), lambda: chat_input([{"role": "user", "content": "Hi"}]))
    for _ in range(200):
        made.now[0] += 100
        made.work.step()
    assert len(made.orders.made) == 1


def test_a_corpus_is_read_line_by_line_and_a_bad_line_is_named(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('"Why?"\n\n[{"role": "user", "content": "How?"}]\n')
    prompts = corpus(file, random.Random(1))
    assert {prompts().messages for _ in range(50)} == {(Message("user", "Why?"),), (Message("user", "How?"),)}
    for bad in ("{", "7", '[{"role": "user"}]', '[["user", "x"]]'):
        file.write_text(f'"Why?"\n{bad}\n')
        with pytest.raises(InvalidInput, match="line 2"):
            corpus(file, random.Random(1))
    file.write_text("\n")
    with pytest.raises(InvalidInput, match="no prompts"):
        corpus(file, random.Random(1))


def test_settings_that_no_examiner_can_have_are_refused():
    given = {"deployment": "d.json", "keystore": "k.json", "password_file": "p", "model": "m", "clients": ["c.json"]}
    assert ExaminerSettings.load(None, **given).canary_rate == 0.1
    for wrong in (
        {"clients": []},
        {"canary_rate": 0.5},
        {"kinds": ["none"]},
        {"kinds": ["other-seed"]},
        {"kinds": []},
        {"answer_tokens": [64, 16]},
        {"order_seconds": 0},
    ):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            ExaminerSettings.load(None, **(given | wrong))


# What others see


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Eight answers to one client, of which the second and the last are planted, in a batch that commits to them."""
    folder = tmp_path_factory.mktemp("examiner")
    chain, client = ExaminedChain(), EthAccount.create()
    record, planted = Record(folder / "planted.jsonl"), PlantingEngine(engine())
    with serving(f"sqlite:///{folder}/node.sqlite", engine_=planted, chain=chain) as node:
        for number in range(8):
            prompt = f"Question {number} of eight"
            if number in (1, 7):
                record.plant(text_input(prompt).hash())
                planted.plan(engine().encode_text(prompt), "other-prompt" if number == 1 else "swapped-token")
            body = signed_body(chain, client, prompt=prompt, max_tokens=8)
            assert node.http.post("/v1/completions", json=body).status_code == 200
        answers = node.store.unbatched(9)
        evidence = [answer.evidence for answer in answers]
        ordinary = sealed(chain, answers)
        commit = Committing(chain, record, frozenset({client.address}))
        batch = sealed_batch(chain.domain, chain.address, RECORD.model_id, evidence, commit=commit)
        node.store.seal(batch, [answer.sequence for answer in answers])
    return SimpleNamespace(
        chain=chain, client=client, record=record, batch=batch, ordinary=ordinary, evidence=evidence, folder=folder
    )


def test_a_batch_commits_to_what_was_planted_and_to_nothing_else(judged):
    (kept,) = judged.record.open_batches()
    assert (kept.root, kept.canary, kept.leaves) == (judged.batch.root, judged.batch.canary, (1, 7))
    salt = salt_of(judged.chain, judged.batch.root)
    assert judged.batch.canary == canaries.commitment((1, 7), salt)
    assert salt != salt_of(judged.chain, bytes(32))


def test_attack_telling_canaries_from_others_by_what_a_verifier_sees(judged):
    """Header, receipts and evidence of a planted answer have the form, the sizes and the senders of all others."""
    assert len(judged.batch.canary) == len(judged.ordinary.canary) == 32
    assert judged.batch.leaves == judged.ordinary.leaves
    documents = [json.loads(json.dumps(each.to_json())) for each in judged.evidence]
    forms = {json.dumps(_form(document), sort_keys=True) for document in documents}
    assert len(forms) == 1
    for each in judged.evidence:
        receipt = each.receipt
        assert receipt.client == judged.client.address
        assert receipt.request_hash == each.request.digest(judged.chain.domain)
        assert receipt.fee_wei == PRICE_WEI * (receipt.prompt_tokens + receipt.output_tokens)
        assert (receipt.max_tokens, receipt.output_tokens, receipt.engine_class_name) == (8, 8, "cpu-fp32")
        assert len(each.fingerprint) == len(judged.evidence[0].fingerprint)
        assert len(each.receipt_signature) == 65


def _form(document):
    """Names and kinds, without what differs from answer to answer."""
    if isinstance(document, dict):
        return {name: _form(value) for name, value in document.items()}
    if isinstance(document, list):
        return ["list"]
    return type(document).__name__


def test_a_batch_without_canaries_has_a_word_that_looks_like_any(judged, tmp_path):
    record = Record(tmp_path / "planted.jsonl")
    commit = Committing(judged.chain, record, frozenset({judged.client.address}))
    words = {commit(bytes([n]) * 32, [each.receipt for each in judged.evidence]) for n in range(20)}
    assert len(words) == 20
    assert {len(word) for word in words} == {32}
    assert record.open_batches() == []


def test_anothers_answer_to_a_planted_prompt_is_no_canary(judged):
    """Its client would have to sign, and is owed a good answer."""
    commit = Committing(judged.chain, judged.record, frozenset({"0x" + "99" * 20}))
    word = commit(bytes([3]) * 32, [each.receipt for each in judged.evidence])
    assert word == canaries.commitment((), salt_of(judged.chain, bytes([3]) * 32))


# What becomes of it


class ExaminedChain(RecordingChain):
    """As `RecordingChain`, with canaries and bounties."""

    canaries_domain = Domain(31337, "0x0000000000000000000000000000000000000Ca7")
    opened = paid = False
    due, available, appeal_credit, phase = 5, 10**18, 0, AppealPhase.NONE

    def has_canaries_open(self, _batch_id):
        return self.opened

    def is_bounty_paid(self, _batch_id):
        return self.paid

    def bounty_paid(self, _batch_id):
        return self.due

    def bounty_due(self, _header):
        return self.due

    def bounty_available(self):
        return self.available

    def appeal_bond(self, _level, _terms):
        return 28

    def appeal_credit_of(self, _account):
        return self.appeal_credit

    def appeal_case(self, batch_id, leaf):
        return replace(super().appeal_case(batch_id, leaf), phase=self.phase, clock=self.block - 1)


@pytest.fixture
def scene(judged):
    """The batch, settled: all accepted but the second leaf. Its appeal could be judged by seven."""
    chain = ExaminedChain(signer=judged.chain.signer, verifiers=VERIFIERS, committee=VERIFIERS[:3], allowed=2**255)
    record = Record(judged.folder / "planted.jsonl")
    batch = judged.batch
    state = {
        "header": Header(chain.address, RECORD.model_id, batch.root, batch.canary),
        "leaf_count": 8,
        "clock": chain.seconds,
        "accepted": 0b11111101,
        "rejected": 0b10,
    }
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.SETTLED, **state)
    store = Store(f"sqlite:///{judged.folder}/node.sqlite")
    bad = [True]
    clients = {judged.client.address: judged.client}
    opening = Opening(chain, store, chain.outbox, record, RECORD.model_id, clients, lambda _answer, _anchor: bad[0])
    yield SimpleNamespace(chain=chain, opening=opening, record=record, batch=batch, bad=bad, client=judged.client)
    store.close()


def test_what_was_recorded_and_never_sealed_is_forgotten_at_the_next_start(scene):
    lost = Planted(bytes([5]) * 32, bytes([6]) * 32, (0,))
    scene.record.commit(lost)
    scene.opening.step()
    assert lost in scene.record.open_batches()  # it may be sealed just now
    again = Opening(
        scene.chain, scene.opening.store, scene.chain.outbox, scene.record, RECORD.model_id, {}, lambda _a, _b: True
    )
    assert lost not in again.record.open_batches()
    assert scene.batch.root in {planted.root for planted in again.record.open_batches()}


def test_canaries_are_opened_with_their_clients_signatures_and_proofs(scene):
    scene.opening.step()
    (act,) = scene.chain.outbox.acts
    assert act.call.function == "open"
    header, leaves, salt, openings, signatures = act.call.arguments
    assert canaries.commitment((1, 7), salt) == scene.batch.canary == header[3]
    assert leaves == 0b10000010
    assert [opening[2] for opening in openings] == [1, 7]
    for (root, _, leaf, _, proof), signature in zip(openings, signatures, strict=True):
        assert merkle.verify(root, scene.batch.leaves[leaf], tuple(proof))
        digest = canaries.digest(scene.chain.canaries_domain, scene.batch.batch_id, leaf)
        assert signature == sign(scene.client, digest)
    assert act.due.at == scene.chain.seconds + APPEAL_SECONDS
    assert scene.record.is_known(scene.client.address), "it is no longer a client like others"


def test_nothing_is_opened_before_the_verdict_or_after_the_time_to_appeal(scene):
    settled = scene.chain.batches[scene.batch.batch_id]
    scene.chain.batches[scene.batch.batch_id] = replace(settled, state=BatchState.DRAWN)
    scene.opening.step()
    scene.chain.batches[scene.batch.batch_id] = settled
    scene.chain.seconds += APPEAL_SECONDS + 1
    scene.opening.step()
    assert scene.chain.outbox.acts == []


def test_a_canary_that_the_committee_accepted_is_appealed_and_its_jury_drawn(scene):
    scene.chain.opened = True
    scene.opening.step()
    (act,) = scene.chain.outbox.acts
    assert (act.call.function, act.call.arguments[2]) == ("appeal", 7)
    scene.chain.phase = AppealPhase.OPEN
    scene.opening.step()
    assert [act.call.function for act in scene.chain.outbox.acts] == ["appeal", "draw"]


def test_no_bond_is_put_up_where_it_would_be_lost(scene):
    scene.chain.opened = True
    scene.bad[0] = False  # the cheat has come out right
    scene.opening.step()
    scene.bad[0] = True
    scene.opening._found_bad.clear()
    scene.chain.verifiers = VERIFIERS[:9]  # three of whom have judged
    scene.opening.step()
    scene.chain.verifiers = VERIFIERS
    scene.chain.seconds += APPEAL_SECONDS - 10
    scene.opening.step()
    assert scene.chain.outbox.acts == []


def test_the_bounty_is_claimed_once_all_is_final_and_then_the_batch_is_done_with(scene):
    state = replace(scene.chain.batches[scene.batch.batch_id], state=BatchState.FINAL)
    scene.chain.batches[scene.batch.batch_id] = state
    scene.chain.results[scene.batch.batch_id] = replace(result_of(state), is_final=False)
    scene.opening.step()
    assert scene.chain.outbox.acts == []
    scene.chain.results.clear()
    scene.chain.available = 4  # another day
    scene.opening.step()
    assert scene.chain.outbox.acts == []
    scene.chain.available = 5
    scene.opening.step()
    assert [act.call.function for act in scene.chain.outbox.acts] == ["claim"]
    assert scene.record.open_batches()
    before = (judged_file := scene.record._file).read_text()
    scene.chain.paid = True
    scene.opening.step()
    assert scene.record.open_batches() == []
    judged_file.write_text(before)  # for the other tests


def test_commitments_of_leaves_that_no_batch_has_are_refused():
    assert canaries.word_of((0, 255)) == 1 | 1 << 255
    for leaf in (-1, 256):
        with pytest.raises(InvalidInput, match="0 to 255"):
            canaries.commitment((leaf,), bytes(32))


def test_the_chain_agrees_about_what_is_signed_opened_and_paid(tmp_path):
    """As the contracts themselves say it, of batches that they do not know."""
    unknown = bytes([7]) * 32
    with devnet(tmp_path / "home") as net:
        chain = net.admin
        asked = bytes(chain._read("Canaries", "digestOf", unknown, 3))
        assert asked == canaries.digest(chain.canaries_domain, unknown, 3)
        assert chain.canaries_of(unknown) == 0
        assert not chain.has_canaries_open(unknown)
        assert not chain.is_bounty_paid(unknown)
        assert chain.bounty_paid(unknown) == 0
        assert chain.bounty_available() == 0, "the pool is empty"
        chain.transfer(chain.deployment.address("Examiners"), 5)
        assert chain.bounty_available() == 5
        with pytest.raises(TransactionReverted, match="NotFinal"):
            chain.bounty_due(Header(chain.address, unknown, unknown, unknown))


def test_a_planted_order_is_asked_with_the_salt_that_it_is_known_by():
    """Without it no receipt was known as planted, and no canary was ever opened."""
    asked, given = chat_input([{"role": "user", "content": "Why?"}]).salted(bytes([7]) * 32), []
    client = SimpleNamespace(chat=lambda messages, **_: given.append(as_input(messages)))
    ordering = Ordering(SimpleNamespace(model="m"), {"0x1": None}, SimpleNamespace(is_known=lambda _: False))
    ordering._opened["0x1"] = client
    ordering(asked, 8)
    assert [each.hash() for each in given] == [asked.hash()]
