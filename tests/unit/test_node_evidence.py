"""Who may see what: evidence holds prompts."""

import json

import pytest
from eth_account import Account as EthAccount
from test_node_support import RecordingChain, answer, body, sealed, serving, sign, signed_body

from trine.protocol import merkle
from trine.protocol.access import FRESH_SECONDS, access_header, evidence_digest
from trine.protocol.evidence import Evidence
from trine.protocol.header import Header, batch_id
from trine_operator.service import create_evidence_app
from trine_operator.store import StoredAnswer

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def verifier():
    return EthAccount.create()


@pytest.fixture(scope="module")
def owner():
    return EthAccount.create()


@pytest.fixture(scope="module")
def node(tmp_path_factory, verifier, owner):
    """With one batch: leaf 0 of `owner`, leaf 1 of nobody."""
    chain = RecordingChain(committee=(verifier.address,))
    with serving(f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite", chain=chain) as served:
        assert served.http.post(CHAT, json=signed_body(chain, owner)).status_code == 200
        assert served.http.post(CHAT, json=body(3)).status_code == 200
        answers = served.store.unbatched(9)
        batch = sealed(chain, answers)
        served.store.seal(batch, [a.sequence for a in answers])
        served.batch = batch
        served.path = f"/v1/batches/0x{batch.batch_id.hex()}"
        yield served


def header(node, account, *, at=None, batch_id=None):
    at = node.chain.now() if at is None else at
    digest = evidence_digest(node.chain.domain, batch_id or node.batch.batch_id, at)
    return {"authorization": access_header(at, sign(account, digest))}


def outcome(response):
    return response.status_code, response.json()["error"]["code"]


def test_a_drawn_verifier_gets_everything(node, verifier):
    first, *answers = node.http.get(f"{node.path}/evidence", headers=header(node, verifier)).text.splitlines()
    assert [bytes.fromhex(leaf[2:]) for leaf in json.loads(first)["leaves"]] == list(node.batch.leaves)
    assert len(answers) == 2
    for index, document in enumerate(map(json.loads, answers)):
        evidence = Evidence.from_json(document)
        assert merkle.leaf_hash(index, evidence.receipt) == node.batch.leaves[index]


def test_a_client_gets_its_own_leaf_with_a_proof_and_no_other(node, owner):
    own = node.http.get(f"{node.path}/evidence/0", headers=header(node, owner)).json()
    proof = [bytes.fromhex(sibling[2:]) for sibling in own["proof"]]
    receipt = Evidence.from_json(own["answer"]).receipt
    assert merkle.verify(node.batch.root, merkle.leaf_hash(0, receipt), proof)
    for path in ("/evidence/1", "/evidence"):
        assert outcome(node.http.get(node.path + path, headers=header(node, owner))) == (403, "no_seat")


def test_strangers_and_stale_or_foreign_signatures_get_nothing(node, verifier):
    path = f"{node.path}/evidence"
    assert outcome(node.http.get(path)) == (401, "authorization_required")
    assert outcome(node.http.get(path, headers=header(node, EthAccount.create()))) == (403, "no_seat")
    for at in (node.chain.now() - FRESH_SECONDS - 5, node.chain.now() + FRESH_SECONDS + 5):
        assert outcome(node.http.get(path, headers=header(node, verifier, at=at))) == (401, "bad_authorization")
    other = header(node, verifier, batch_id=bytes([6]) * 32)
    assert outcome(node.http.get(path, headers=other)) == (403, "no_seat")


def test_a_verifier_of_an_appeal_gets_the_appealed_leaf_only(node, monkeypatch):
    judge = EthAccount.create()
    monkeypatch.setattr(node.chain, "appeal_committee", (judge.address,))
    assert node.http.get(f"{node.path}/evidence/1", headers=header(node, judge)).status_code == 200
    assert outcome(node.http.get(f"{node.path}/evidence", headers=header(node, judge))) == (403, "no_seat")


@pytest.mark.parametrize(
    "value", ["Bearer x", "Trine", "Trine 1:zz", "Trine x:00", "Trine 99999999999999:00", "Trine :"]
)
def test_malformed_authorizations_are_refused(node, value):
    response = node.http.get(f"{node.path}/evidence", headers={"authorization": value})
    assert outcome(response) == (401, "bad_authorization")


def test_what_does_not_exist_is_not_found(node, verifier):
    for path, code in (
        (f"/v1/batches/0x{bytes(32).hex()}", "batch_not_found"),
        ("/v1/batches/nonsense", "not_a_hash"),
        (f"/v1/receipts/0x{bytes(32).hex()}", "receipt_not_found"),
        (f"{node.path}/evidence/2", "no_such_leaf"),
    ):
        assert outcome(node.http.get(path, headers=header(node, verifier))) == (404, code)
    assert node.http.get(f"{node.path}/evidence/x").status_code == 400


def test_a_batch_and_a_receipts_place_in_it_are_public(node):
    batch = node.http.get(node.path).json()
    assert batch["state"] == "sealed"
    assert "prompt" not in str(batch)
    stored = node.store.answers_of(node.batch.batch_id)[1]
    place = node.http.get(f"/v1/receipts/0x{stored.digest.hex()}").json()["batch"]
    proof = [bytes.fromhex(sibling[2:]) for sibling in place["proof"]]
    assert (place["batchId"], place["index"]) == ("0x" + node.batch.batch_id.hex(), 1)
    root, canary = (bytes.fromhex(place[name][2:]) for name in ("root", "canary"))
    header = Header(node.chain.address, stored.evidence.receipt.model_id, root, canary)
    assert batch_id(node.chain.domain.chain_id, node.chain.domain.verifying_contract, header) == node.batch.batch_id
    assert merkle.verify(node.batch.root, node.batch.leaves[1], proof)


def test_calibration_evidence_is_public_also_where_nothing_else_is_served(node):
    from fastapi.testclient import TestClient

    finished = answer(node.answering, max_tokens=1)
    shown = finished.evidence
    stored = [StoredAnswer(0, finished.digest, shown.receipt, shown.receipt_signature, shown, None, None, None)] * 2
    batch = sealed(node.chain, stored, bytes([8]) * 32)
    node.store.seal_new(batch, [(s.digest, s.evidence) for s in stored])
    path = f"/v1/batches/0x{batch.batch_id.hex()}/evidence"
    assert len(node.http.get(path).text.splitlines()) == 1 + 2
    assert node.store.batch_of_challenge(bytes([8]) * 32).batch_id == batch.batch_id
    with TestClient(create_evidence_app("Trine verifier", node.store, node.chain, lambda: None)) as small:
        assert len(small.get(path).text.splitlines()) == 1 + 2
        assert small.post(CHAT, json=body()).status_code == 404
