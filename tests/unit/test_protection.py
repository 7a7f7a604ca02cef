"""What an operator has signed is never contradicted: not by it, not by its backup, not by what it is told."""

import json

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from trine.chain import Deployment, create_keystore
from trine.chain.transactions import Call, EncodedCall
from trine.errors import InvalidInput
from trine_node.cli import app
from trine_operator.outbox import Act
from trine_operator.outbox.protection import (
    Contradiction,
    Owner,
    anchor_guards,
    appeal_guard,
    export,
    merge,
    read_file,
    recorded,
    vote_guard,
)
from trine_operator.outbox.queue import Queue
from trine_operator.store import Store

BATCH, OTHER, ROOT, CHALLENGE = (bytes([digit]) * 32 for digit in (1, 2, 3, 4))
OWNER = Owner(31337, "0x" + "55" * 20, "0x" + "66" * 20)
CALL = EncodedCall("commit", "0x" + "55" * 20, b"")


@pytest.fixture
def store(tmp_path):
    opened = Store(f"sqlite:///{tmp_path}/operator.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def queue(store):
    return Queue(store)


def act(name, *guards):
    return Act((name,), Call("Batches", "commit", ()), guards=guards)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((vote_guard(BATCH, 0, ROOT),), (vote_guard(BATCH, 0, OTHER),)),
        ((appeal_guard(BATCH, 3, 1, 0, ROOT),), (appeal_guard(BATCH, 3, 1, 0, OTHER),)),
        (anchor_guards(BATCH, ROOT, None), anchor_guards(OTHER, ROOT, None)),  # the same answers in two batches
        (anchor_guards(BATCH, ROOT, CHALLENGE), anchor_guards(OTHER, OTHER, CHALLENGE)),
    ],
)
def test_the_second_of_two_that_contradict_is_not_even_queued(queue, first, second):
    number = queue.add(act("first", *first), CALL)
    queue.finish(number, None, "refused")
    with pytest.raises(Contradiction, match="signs nothing else"):
        queue.add(act("second", *second), CALL)
    assert queue.open_names() == frozenset()
    assert queue.add(act("first again", *first), CALL)


def test_other_seats_and_rounds_are_free(queue):
    guards = [vote_guard(BATCH, 0, ROOT), vote_guard(BATCH, 1, OTHER), vote_guard(OTHER, 0, OTHER)]
    guards += [appeal_guard(BATCH, 0, 1, 0, OTHER), appeal_guard(BATCH, 0, 2, 0, ROOT)]
    for number, guard in enumerate(guards):
        assert queue.add(act(f"act {number}", guard), CALL)


def test_the_record_goes_to_another_machine_and_holds_there(store, queue, tmp_path):
    queue.add(act("vote", vote_guard(BATCH, 0, ROOT)), CALL)
    document = json.loads(json.dumps(export(store, OWNER)))
    assert document == {
        "format": "trine-protection",
        "version": 1,
        "chainId": 31337,
        "batches": OWNER.batches,
        "account": OWNER.account,
        "signed": [{"kind": "vote", "subject": f"{BATCH.hex()}/0", "value": ROOT.hex()}],
    }
    new = Store(f"sqlite:///{tmp_path}/new.sqlite")
    try:
        other = Queue(new)
        assert merge(new, OWNER, document) == 1
        assert merge(new, OWNER, document) == 0
        with pytest.raises(Contradiction):
            other.add(act("vote", vote_guard(BATCH, 0, OTHER)), CALL)
        assert other.add(act("vote", vote_guard(BATCH, 0, ROOT)), CALL)
    finally:
        new.close()


def test_what_contradicts_the_record_imports_nothing(store, queue):
    queue.add(act("vote", vote_guard(BATCH, 0, ROOT)), CALL)
    document = export(store, OWNER)
    document["signed"] = [
        {"kind": "vote", "subject": f"{OTHER.hex()}/0", "value": ROOT.hex()},
        {"kind": "vote", "subject": f"{BATCH.hex()}/0", "value": OTHER.hex()},
    ]
    with pytest.raises(InvalidInput, match="nothing was imported"):
        merge(store, OWNER, document)
    assert recorded(store, "vote", f"{OTHER.hex()}/0") is None
    assert recorded(store, "vote", f"{BATCH.hex()}/0") == ROOT.hex()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "interchange"}, "format is not 'trine-protection'"),
        ({"version": 2}, "version 2, this Trine knows 1"),
        ({"chainId": 1}, "chainId is 1, this operator's is 31337"),
        ({"batches": "0x" + "77" * 20}, "belongs to another operator"),
        ({"account": "0x" + "77" * 20}, "account is '0x7777"),
        ({"account": None}, "account is None"),
        ({"signed": {}}, "is no list"),
        ({"signed": [7]}, "entry 0"),
        ({"signed": [{"kind": "vote", "subject": "x", "value": ROOT.hex()}]}, "entry 0"),
        ({"signed": [{"kind": "salt", "subject": f"{BATCH.hex()}/0", "value": ROOT.hex()}]}, "entry 0"),
        ({"signed": [{"kind": "vote", "subject": f"{BATCH.hex()}/0", "value": "00"}]}, "entry 0"),
    ],
)
def test_another_chain_account_or_format_is_refused(store, queue, changes, said):
    with pytest.raises(InvalidInput, match=said):
        merge(store, OWNER, export(store, OWNER) | changes)


votes = st.builds(vote_guard, st.sampled_from([BATCH, OTHER]), st.integers(0, 2), st.sampled_from([ROOT, OTHER]))


@given(st.lists(st.tuples(st.booleans(), votes), max_size=12))
def test_no_history_of_signing_and_importing_ever_says_two_things(history):
    """Of acts that are queued, and records that are imported, in any order."""
    store = Store("sqlite://")
    try:
        queue, first = Queue(store), {}
        for number, (imports, guard) in enumerate(history):
            known = first.get(guard.subject)
            try:
                if imports:
                    entry = {"kind": guard.kind, "subject": guard.subject, "value": guard.value}
                    merge(store, OWNER, export(store, OWNER) | {"signed": [entry]})
                else:
                    queue.add(act(f"act {number}", guard), CALL)
            except (Contradiction, InvalidInput):
                assert known not in (None, guard.value)
            else:
                assert known in (None, guard.value)
                first[guard.subject] = guard.value
        assert {e["subject"]: e["value"] for e in export(store, OWNER)["signed"]} == first
    finally:
        store.close()


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "broken").write_text("{")
    for name in ("broken", "absent"):
        with pytest.raises(InvalidInput, match="cannot read"):
            read_file(tmp_path / name)


def test_the_command_line_takes_the_record_from_one_store_to_another(tmp_path):
    account = Account.create()
    create_keystore(tmp_path / "key.json", "secret", bytes(account.key), iterations=1 << 12)
    (tmp_path / "password").write_text("secret")
    deployment = Deployment.bundled(31337)
    deployment.save(tmp_path / "deployment.json")
    for name in ("old", "new"):
        (tmp_path / f"{name}.toml").write_text(
            f'deployment = "{tmp_path}/deployment.json"\nkeystore = "{tmp_path}/key.json"\n'
            f'password_file = "{tmp_path}/password"\nmodel = "any"\nstore_url = "sqlite:///{tmp_path}/{name}.sqlite"\n'
        )
    store = Store(f"sqlite:///{tmp_path}/old.sqlite")
    Queue(store).add(act("vote", vote_guard(BATCH, 0, ROOT)), CALL)
    store.close()

    def run(*arguments):
        return CliRunner().invoke(app, ["protection", *map(str, arguments)])

    shown = run("export", tmp_path / "record.json", "--config", tmp_path / "old.toml")
    assert (shown.exit_code, shown.output.split()[:2]) == (0, ["1", "entries"])
    for added in ("1", "0"):
        shown = run("import", tmp_path / "record.json", "--config", tmp_path / "new.toml")
        assert (shown.exit_code, shown.output.split()[0]) == (0, added)
    record = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps(record | {"chainId": 1}))
    shown = run("import", tmp_path / "record.json", "--config", tmp_path / "new.toml")
    assert shown.exit_code != 0
    assert "belongs to another operator" in shown.output
