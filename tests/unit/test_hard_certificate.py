"""Hard certificates: a committee's signatures are all that is needed, and nothing in them can be exchanged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import BadSignature, InvalidInput, ProtocolError, VerificationFailed
from trine.protocol import bls
from trine.protocol._bls_py_ecc import PyEcc
from trine.protocol.certificate import HardCertificate, result_digest
from trine.protocol.header import Header, batch_id
from trine.protocol.key_root import KeySet

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "bls.json").read_text())
CERTIFICATE = HardCertificate.from_json(json.loads(VECTORS["certificate_json"]))
(_SET,) = decode(["(bytes32,uint64,uint32,uint128)"], bytes.fromhex(VECTORS["key_set"][2:]))
KEY_SET = KeySet(int(VECTORS["epoch"], 16), _SET[0], _SET[2], _SET[3], _SET[1])
SECRETS = [bls.SecretKey.from_bytes(bytes.fromhex(secret[2:])) for secret in VECTORS["secret"]]
ADDRESS = "0x" + "11" * 20

words = st.integers(0, 2**256 - 1)


def test_a_certificate_holds_against_its_key_set_with_both_curves():
    assert CERTIFICATE.result == "accept"
    CERTIFICATE.verify(KEY_SET)
    CERTIFICATE.verify(KEY_SET, PyEcc())


def test_a_certificate_survives_json():
    document = json.loads(json.dumps(CERTIFICATE.to_json()))
    assert HardCertificate.from_json(document) == CERTIFICATE
    HardCertificate.from_json(document).verify(KEY_SET)


def test_contracts_get_what_the_vectors_say():
    signers = "((uint32,uint64)[],bytes,bytes32[],bytes)"
    kind = f"(uint64,address,bytes32,bytes32,bytes32,uint256,uint256,uint8,bytes32,uint32,bytes32[],{signers})"
    assert "0x" + encode([kind], [CERTIFICATE.to_call()]).hex() == VECTORS["certificate"][0]
    assert "0x" + CERTIFICATE.batch_id.hex() == VECTORS["certificate_batchId"][0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain_id", 1),
        ("batches", ADDRESS),
        ("root", b"r" * 32),
        ("canary", b"c" * 32),
        ("index", 3),
        ("accepted", 1 << 137),
        ("rejected", 1 << 255),
        ("proof", CERTIFICATE.proof[:-1]),
        ("receipt", replace(CERTIFICATE.receipt, fee_wei=1)),
        ("receipt", replace(CERTIFICATE.receipt, node=ADDRESS)),
        ("signature", SECRETS[0].sign(CERTIFICATE.digest)),
        ("members", (CERTIFICATE.members[1], CERTIFICATE.members[0], CERTIFICATE.members[2])),
        ("members", (CERTIFICATE.members[0],) * 3),
        ("members", (replace(CERTIFICATE.members[0], weight=999), *CERTIFICATE.members[1:])),
        ("members", (replace(CERTIFICATE.members[0], key=SECRETS[9].public_key()), *CERTIFICATE.members[1:])),
    ],
)
def test_nothing_in_a_certificate_can_be_exchanged(field, value):
    with pytest.raises(VerificationFailed):
        replace(CERTIFICATE, **{field: value}).verify(KEY_SET)


def test_keys_that_are_not_in_the_set_cannot_sign():
    outsiders = [bls.SecretKey(i) for i in (1, 2, 3)]
    members = tuple(
        replace(member, key=secret.public_key()) for member, secret in zip(CERTIFICATE.members, outsiders, strict=True)
    )
    signature = bls.aggregate([secret.sign(CERTIFICATE.digest) for secret in outsiders])
    with pytest.raises(VerificationFailed, match="distinct keys of the epoch"):
        replace(CERTIFICATE, members=members, signature=signature).verify(KEY_SET)


def test_a_result_is_not_for_another_epoch():
    with pytest.raises(VerificationFailed, match="epoch"):
        replace(CERTIFICATE, epoch=CERTIFICATE.epoch + 1).verify(KEY_SET)
    later = replace(KEY_SET, epoch=CERTIFICATE.epoch + 1)
    with pytest.raises(VerificationFailed, match="not signed"):
        replace(CERTIFICATE, epoch=CERTIFICATE.epoch + 1).verify(later)


def test_the_node_must_have_signed_the_receipt():
    with pytest.raises(BadSignature):
        replace(CERTIFICATE, receipt_signature=bytes(65)).verify(KEY_SET)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chainId", 0),
        ("chainId", 2**256),
        ("epoch", -1),
        ("epoch", 2**64),
        ("batches", "nobody"),
        ("root", "0x00"),
        ("canary", "0x"),
        ("index", 256),
        ("index", -1),
        ("accepted", "0x1" + "0" * 64),
        ("rejected", hex(CERTIFICATE.accepted)),
        ("members", CERTIFICATE.to_json()["members"][:2]),
        ("members", [{}, {}, {}]),
        ("signature", "0xzz"),
        ("proof", ["0x00"]),
        ("receipt", {}),
    ],
)
def test_what_is_no_certificate_is_refused(field, value):
    with pytest.raises(InvalidInput):
        HardCertificate.from_json({**CERTIFICATE.to_json(), field: value})


@pytest.mark.parametrize("document", [None, [], "certificate", {}])
def test_other_json_is_refused(document):
    with pytest.raises(InvalidInput):
        HardCertificate.from_json(document)


@given(st.binary(max_size=140), st.binary(max_size=270))
def test_junk_never_verifies(signature, key):
    for changed in (
        replace(CERTIFICATE, signature=signature),
        replace(CERTIFICATE, members=(replace(CERTIFICATE.members[0], key=key), *CERTIFICATE.members[1:])),
    ):
        with pytest.raises(ProtocolError):
            changed.verify(KEY_SET)


@given(words, words, st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32))
def test_digests_bind_every_field(accepted, rejected, epoch, word):
    digests = {
        result_digest(1, ADDRESS, epoch, word, accepted, rejected),
        result_digest(2, ADDRESS, epoch, word, accepted, rejected),
        result_digest(1, "0x" + "12" * 20, epoch, word, accepted, rejected),
        result_digest(1, ADDRESS, epoch + 1, word, accepted, rejected),
        result_digest(1, ADDRESS, epoch, bytes([word[0] ^ 1]) + word[1:], accepted, rejected),
        result_digest(1, ADDRESS, epoch, word, accepted ^ 1, rejected),
        result_digest(1, ADDRESS, epoch, word, accepted, rejected ^ 1),
    }
    assert len(digests) == 7
    ids = {
        batch_id(1, ADDRESS, Header(ADDRESS, word, word, word)),
        batch_id(2, ADDRESS, Header(ADDRESS, word, word, word)),
        batch_id(1, "0x" + "12" * 20, Header(ADDRESS, word, word, word)),
        batch_id(1, ADDRESS, Header("0x" + "12" * 20, word, word, word)),
        batch_id(1, ADDRESS, Header(ADDRESS, word, bytes([word[0] ^ 1]) + word[1:], word)),
        batch_id(1, ADDRESS, Header(ADDRESS, word, word, bytes([word[0] ^ 1]) + word[1:])),
        batch_id(1, ADDRESS, Header(ADDRESS, bytes([word[0] ^ 1]) + word[1:], word, word)),
    }
    assert len(ids) == 7
