"""Evidence at rest: what is found by who has the store and not the keystore, and what is left when a batch is over."""

import json
from pathlib import Path

import pytest
from eth_account import Account as EthAccount
from sqlalchemy import select, text
from test_node_pruning import batch_of, chain, evidence, store  # noqa: F401  (fixtures)
from test_node_support import MESSAGES

from trine_operator.database import StoreError
from trine_operator.pruning import DAY_SECONDS, Pruning
from trine_operator.store import EvidencePruned
from trine_operator.tables import AnswerRow
from trine_operator.vault import Vault
from trine_verifier.kept import KeptAnswerRow

QUESTION = MESSAGES[0]["content"]
BATCH = bytes([7]) * 32


def vault_of(account):
    return Vault(lambda digest: bytes(account.unsafe_sign_hash(digest).signature))


def at_rest(store):  # noqa: F811
    """Every value of every table, and for a file its bytes with those of its log."""
    with store.reading() as session:
        found = [
            repr(tuple(row)).encode()
            for table in ("answers", "kept_answers", "batches", "votes")
            for row in session.execute(text(f"SELECT * FROM {table}"))
        ]
    if store._engine.dialect.name == "sqlite":
        path = Path(store._engine.url.database)
        found += [each.read_bytes() for each in path.parent.glob(path.name + "*")]
    return b"\n".join(found)


@pytest.fixture
def vault(store):  # noqa: F811
    store.vault = vault_of(EthAccount.create())
    return store.vault


def fill(store, batch_of, evidence):  # noqa: F811
    batch = batch_of(("0x" + "11" * 20, 0), ("0x" + "22" * 20, 0))
    leaf = evidence.receipt.struct_hash()  # whatever its hash: the store does not ask
    store.kept.keep(BATCH, {0: evidence}, [leaf])
    return batch


def test_attack_who_has_the_store_and_not_the_keystore_reads_no_prompt(store, vault, batch_of, evidence):  # noqa: F811
    batch = fill(store, batch_of, evidence)
    found = at_rest(store)
    for secret in (QUESTION.encode(), str(list(evidence.output_ids))[1:-1].encode(), b"promptIds"):
        assert secret not in found
    assert [each.evidence.input for each in store.answers_of(batch.batch_id)] == [evidence.input] * 2
    assert json.loads(store.kept.answer_at(BATCH, 0).document) == evidence.to_json()
    assert [json.loads(each) for each in store.kept.documents_of(BATCH, 1)] == [evidence.to_json()]
    store.vault = vault_of(EthAccount.create())
    with pytest.raises(StoreError, match="another account"):
        store.answers_of(batch.batch_id)
    with pytest.raises(StoreError, match="another account"):
        store.kept.answer_at(BATCH, 0)
    store.vault = None
    one = store.answers_of(batch.batch_id)[0]
    assert one.receipt.node == evidence.receipt.node
    with pytest.raises(EvidencePruned, match="keystore"):
        _ = one.evidence
    with pytest.raises(StoreError, match="keystore"):
        store.kept.answer_at(BATCH, 0)


def test_what_is_looked_for_is_there_without_a_vault(store, batch_of, evidence):  # noqa: F811
    fill(store, batch_of, evidence)
    assert QUESTION.encode() in at_rest(store)
    # What was kept before there was a vault is read with one.
    store.vault = vault_of(EthAccount.create())
    assert json.loads(store.kept.answer_at(BATCH, 0).document) == evidence.to_json()
    assert [each.evidence for each in store.unbatched(9)] == []


def test_when_a_batch_is_over_no_data_key_is_left(store, vault, chain, batch_of, evidence):  # noqa: F811
    """Not even for the operator, whose account unwraps them: neither in a row nor in the file or its log."""
    batch = fill(store, batch_of, evidence)
    with store.reading() as session:
        keys = [
            key for column in (AnswerRow.data_key, KeptAnswerRow.data_key) for key in session.scalars(select(column))
        ]
    assert len(keys) == len({*keys}) == 3
    assert all(key.encode() in at_rest(store) for key in keys)
    store.mark_anchored(batch.batch_id)
    store.mark_final(batch.batch_id, 3, 0, ["accept"] * 2)
    pruning = Pruning(store, chain, keep_evidence_days=1)
    pruning.step()
    assert all(key.encode() in at_rest(store) for key in keys)  # it is final, and kept for a day
    chain.seconds += DAY_SECONDS + 1
    Pruning(store, chain, keep_evidence_days=1, more=[lambda _now: store.kept.prune(chain)]).step()
    for _ in range(20):  # the verifier's copy goes when the chain has said so for some blocks
        chain.block += 10
        store.kept.prune(chain)
    found = at_rest(store)
    assert not [key for key in keys if key.encode() in found]
    assert store.kept.answer_at(BATCH, 0) is None
    for one in store.answers_of(batch.batch_id):
        with pytest.raises(EvidencePruned):
            _ = one.evidence


def test_two_answers_have_two_keys_and_neither_opens_in_the_others_place(vault):
    first, second = vault.seal("a", QUESTION), vault.seal("b", QUESTION)
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert vault.open("a", *first) == QUESTION
    for name, key, sealed in (
        ("b", *first),
        ("a", first[0], second[1]),
        ("a", second[0], first[1]),
        ("a", "AAAA", first[1]),
        ("a", first[0], "no base64!"),
    ):
        with pytest.raises(StoreError):
            vault.open(name, key, sealed)


def test_the_same_account_opens_it_again():
    account = EthAccount.create()
    sealed = vault_of(account).seal("a", QUESTION)
    assert vault_of(account).open("a", *sealed) == QUESTION
