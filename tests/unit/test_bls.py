"""BLS: both curve libraries agree with each other, with the RFC and with the vectors; nothing malformed passes."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import G2Point, Scalar
from py_ecc.bls.g2_primitives import G2_to_signature
from py_ecc.optimized_bls12_381.optimized_curve import G2, multiply

from trine.chain.bls_keystore import create_bls_keystore, decrypt, load_bls_keystore
from trine.errors import InvalidInput
from trine.protocol import bls
from trine.protocol._bls_py_ecc import PyEcc

VECTORS = Path(__file__).parents[1] / "vectors"
PY_ECC = PyEcc()
CURVES = pytest.mark.parametrize("curve", [bls.ARKWORKS, PY_ECC], ids=["arkworks", "py_ecc"])
REGISTRY = "0x00000000000000000000000000000000000b1500"
ALICE, MALLORY = "0x" + "a1" * 20, "0x" + "bd" * 20

scalars = st.integers(1, bls.GROUP_ORDER - 1).map(bls.SecretKey)


@pytest.fixture(scope="module")
def vectors() -> dict:
    return json.loads((VECTORS / "bls.json").read_text())


def raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@CURVES
def test_messages_hash_to_the_points_that_the_rfc_prints(vectors, curve):
    tag = raw(vectors["rfc9380_tag"])
    for message, point in zip(vectors["rfc9380_message"], vectors["rfc9380_point"], strict=True):
        assert bls.hash_to_g1(raw(message), tag, curve) == raw(point)


@CURVES
def test_both_curves_sign_and_verify_the_vectors(vectors, curve):
    message = raw(vectors["message"])
    keys = [raw(key) for key in vectors["key"]]
    for i in range(2):
        secret = bls.SecretKey.from_bytes(raw(vectors["secret"][i]))
        assert secret.public_key(curve) == keys[i]
        assert secret.sign(message, curve=curve) == raw(vectors["signature"][i])
        operator, proof = vectors["operator"][i], raw(vectors["possession"][i])
        assert secret.prove_possession(vectors["chainId"], REGISTRY, operator, curve) == proof
        assert bls.proves_possession(keys[i], proof, vectors["chainId"], REGISTRY, operator, curve)
    signatures = [raw(signature) for signature in vectors["signature"]]
    assert bls.aggregate(signatures[:3], curve) == raw(vectors["aggregate"][2])
    assert bls.verify(keys[:3], message, raw(vectors["aggregate"][2]), curve=curve)
    assert not bls.verify(keys[:2], message, raw(vectors["aggregate"][2]), curve=curve)


@settings(max_examples=8)
@given(scalars, scalars, st.binary(max_size=200))
def test_both_curves_agree(first, second, message):
    for secret in (first, second):
        assert secret.public_key() == secret.public_key(PY_ECC)
        assert secret.sign(message) == secret.sign(message, curve=PY_ECC)
    signatures = [first.sign(message), second.sign(message)]
    keys = [first.public_key(), second.public_key()]
    if (first.scalar + second.scalar) % bls.GROUP_ORDER:
        assert bls.aggregate(signatures) == bls.aggregate(signatures, PY_ECC)
        assert bls.aggregate_keys(keys) == bls.aggregate_keys(keys, PY_ECC)


@settings(max_examples=25)
@given(st.lists(scalars, min_size=1, max_size=15, unique=True), st.binary(max_size=64), st.binary(max_size=64))
def test_an_aggregate_verifies_for_its_message_and_keys_only(secrets, message, other):
    keys = [secret.public_key() for secret in secrets]
    if sum(secret.scalar for secret in secrets) % bls.GROUP_ORDER == 0:
        return
    signature = bls.aggregate([secret.sign(message) for secret in secrets])
    assert bls.verify(keys, message, signature)
    assert bls.verify(keys, other, signature) == (other == message)
    assert not bls.verify(keys[1:], message, signature)
    assert not bls.verify([*keys, keys[0]], message, signature)


@given(st.binary(max_size=300))
def test_random_bytes_never_verify_and_never_raise(junk):
    secret = bls.SecretKey(7)
    assert not bls.verify([secret.public_key()], b"message", junk)
    assert not bls.verify([junk], b"message", secret.sign(b"message"))


@CURVES
def test_infinity_is_no_key_and_no_signature(curve):
    secret = bls.SecretKey(7)
    zero_key, zero_signature = bytes(bls.KEY_BYTES), bytes(bls.SIGNATURE_BYTES)
    assert not bls.verify([zero_key], b"m", zero_signature, curve=curve)
    assert not bls.verify([], b"m", zero_signature, curve=curve)
    assert not bls.verify([secret.public_key()], b"m", zero_signature, curve=curve)
    assert not bls.verify([secret.public_key(), zero_key], b"m", secret.sign(b"m"), curve=curve)
    opposite = bls.SecretKey(bls.GROUP_ORDER - 7)
    with pytest.raises(InvalidInput):
        bls.aggregate_keys([secret.public_key(), opposite.public_key()], curve)
    with pytest.raises(InvalidInput):
        bls.aggregate([secret.sign(b"m"), opposite.sign(b"m")], curve)
    assert not bls.verify([secret.public_key(), opposite.public_key()], b"m", zero_signature, curve=curve)


def claims_of(*numbers: int) -> list[bls.Claim]:
    """True ones: of one, two, … signers over messages of their own."""
    found = []
    for number in numbers:
        secrets = [bls.SecretKey(100 * number + i) for i in range(1, number + 1)]
        message = b"message %d" % number
        signature = bls.aggregate([secret.sign(message) for secret in secrets])
        found.append(bls.Claim(tuple(secret.public_key() for secret in secrets), message, signature))
    return found


def shifted(claim: bls.Claim, scalar: int) -> bls.Claim:
    """With a signature that is wrong by `scalar` times a point."""
    error = bls.SecretKey(scalar % bls.GROUP_ORDER).sign(b"what is wrong with it")
    return replace(claim, signature=bls.aggregate([claim.signature, error]))


@CURVES
def test_many_claims_hold_together_exactly_if_each_holds_alone(curve):
    claims = claims_of(1, 2)
    assert bls.verify_all(claims, curve=curve)
    assert not bls.verify_all([], curve=curve)
    assert not bls.verify_all([claims[0], replace(claims[1], message=b"another")], curve=curve)
    assert not bls.verify_all([claims[0], replace(claims[1], keys=())], curve=curve)
    assert not bls.verify_all(claims, tag=bls.PROOF_TAG, curve=curve)
    assert not bls.verify_all([replace(claims[0], signature=claims[1].signature), claims[1]], curve=curve)


@CURVES
def test_attack_two_false_claims_do_not_cancel(curve):
    claims = claims_of(1, 2)
    false = [shifted(claims[0], 77), shifted(claims[1], -77)]
    unpadded = [
        bls.Claim(
            tuple(bls.unpad(key, bls.KEY_BYTES) for key in claim.keys),
            claim.message,
            bls.unpad(claim.signature, bls.SIGNATURE_BYTES),
        )
        for claim in false
    ]
    assert curve.verify(unpadded, bls.MESSAGE_TAG, [1, 1]), "with equal powers they would"
    assert not bls.verify_all(false, curve=curve)


@settings(max_examples=20)
@given(st.permutations([1, 2, 3, 4]), st.integers(1, 2**128), st.integers(1, bls.GROUP_ORDER - 1))
def test_attack_errors_that_would_cancel_under_the_powers_of_other_claims(order, guessed, error):
    """Whoever moves an error from one claim to another must know the powers, which then are others."""
    claims = claims_of(*order)
    honest = bls._factors(claims, bls.MESSAGE_TAG)
    for factor in (guessed, honest[1]):
        false = [shifted(claims[0], error * factor), shifted(claims[1], -error), *claims[2:]]
        assert bls._factors(false, bls.MESSAGE_TAG)[1] not in (guessed, honest[1])
        assert not bls.verify_all(false)
    assert not bls.verify_all([claims[1], claims[0], shifted(claims[2], error), *claims[3:]])
    assert bls.verify_all(claims)


def test_every_byte_of_every_claim_moves_all_powers_but_the_first():
    claims = claims_of(1, 2, 3)
    found = {tuple(bls._factors(claims, bls.MESSAGE_TAG)), tuple(bls._factors(claims, bls.PROOF_TAG))}
    found.add(tuple(bls._factors([claims[1], claims[0], claims[2]], bls.MESSAGE_TAG)))
    for number in range(3):
        for changed in (
            replace(claims[number], keys=claims[number].keys[::-1] + claims[0].keys),
            replace(claims[number], message=claims[number].message + b"!"),
            shifted(claims[number], 1),
        ):
            others = [changed if i == number else claim for i, claim in enumerate(claims)]
            found.add(tuple(bls._factors(others, bls.MESSAGE_TAG)))
    assert len(found) == 3 + 9
    assert all(first == 1 and 0 < second < 2**128 and 0 < third < 2**128 for first, second, third in found)
    assert len({power for powers in found for power in powers[1:]}) == 2 * len(found)


@CURVES
def test_attack_keys_that_cancel_or_lie_outside_the_subgroup_hide_in_no_claim(vectors, curve):
    claims = claims_of(1, 2)
    outside, opposite = raw(vectors["outside_g2"]), bls.SecretKey(bls.GROUP_ORDER - 7).public_key()
    y = [bls.FIELD_MODULUS - int.from_bytes(outside[at : at + 64], "big") for at in (128, 192)]
    negated = outside[:128] + b"".join(value.to_bytes(64, "big") for value in y)
    for keys in (
        (bls.SecretKey(7).public_key(), opposite),
        (*claims[1].keys, outside),
        (*claims[1].keys, outside, negated),
    ):
        assert not bls.verify_all([claims[0], replace(claims[1], keys=keys)], curve=curve)
    assert not bls.verify_all([claims[0], replace(claims[1], signature=raw(vectors["outside_g1"]))], curve=curve)


@CURVES
def test_points_outside_the_subgroup_are_refused(vectors, curve):
    with pytest.raises(InvalidInput):
        bls.require_key(raw(vectors["outside_g2"]), curve)
    with pytest.raises(InvalidInput):
        bls.require_signature(raw(vectors["outside_g1"]), curve)
    bls.require_key(raw(vectors["key"][0]), curve)
    bls.require_signature(raw(vectors["signature"][0]), curve)


@CURVES
def test_points_off_the_curve_are_refused(curve):
    key = bytearray(bls.SecretKey(7).public_key())
    key[-1] ^= 1
    with pytest.raises(InvalidInput):
        bls.require_key(bytes(key), curve)


def test_a_point_has_one_encoding():
    key = bls.SecretKey(7).public_key()
    x0 = int.from_bytes(key[:64], "big")
    with pytest.raises(InvalidInput, match="below the field's modulus"):
        bls.require_key((x0 + bls.FIELD_MODULUS).to_bytes(64, "big") + key[64:])


def test_a_proof_of_possession_is_worthless_to_others():
    secret = bls.SecretKey(7)
    key, proof = secret.public_key(), secret.prove_possession(1, REGISTRY, ALICE)
    assert bls.proves_possession(key, proof, 1, REGISTRY, ALICE)
    assert not bls.proves_possession(key, proof, 1, REGISTRY, MALLORY)
    assert not bls.proves_possession(key, proof, 2, REGISTRY, ALICE)
    assert not bls.proves_possession(key, proof, 1, MALLORY, ALICE)
    message = bls.possession_message(1, REGISTRY, ALICE, key)
    assert not bls.verify([key], message, proof), "a proof is no signature of a message"


def test_secrets_are_bounded_and_not_shown():
    for scalar in (0, -1, bls.GROUP_ORDER):
        with pytest.raises(InvalidInput):
            bls.SecretKey(scalar)
    with pytest.raises(InvalidInput):
        bls.SecretKey.from_seed(bytes(31))
    with pytest.raises(InvalidInput):
        bls.SecretKey.from_bytes(bytes(33))
    assert "123456789" not in repr(bls.SecretKey(123456789))
    assert bls.SecretKey.from_seed(b"s" * 32) == bls.SecretKey.from_seed(b"s" * 32)


@settings(max_examples=10)
@given(scalars)
def test_compressed_keys_are_those_of_both_libraries(secret):
    compressed = bls.compress_key(secret.public_key())
    assert compressed == (G2Point() * Scalar(secret.scalar)).to_compressed_bytes()
    assert compressed == G2_to_signature(multiply(G2, secret.scalar))


def test_keystores_of_the_eip_open():
    document = json.loads((VECTORS / "eip2335.json").read_text())
    assert len(document["keystores"]) == 2
    for keystore in document["keystores"]:
        assert decrypt(keystore, document["password"]).to_bytes().hex() == document["secret"]
        with pytest.raises(InvalidInput):
            decrypt(keystore, "another password")


def test_a_keystore_gives_its_secret_back_to_its_owner_only(tmp_path):
    path, password_file = tmp_path / "bls.json", tmp_path / "password"
    password_file.write_text("opensesame\n")
    secret = bls.SecretKey.from_seed(b"s" * 32)
    key = create_bls_keystore(path, "opensesame", secret, iterations=2)
    assert key == secret.public_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_bls_keystore(path, password_file) == secret
    with pytest.raises(InvalidInput, match="never overwritten"):
        create_bls_keystore(path, "opensesame", secret, iterations=2)
    password_file.write_text("wrong\n")
    with pytest.raises(InvalidInput, match="does not open"):
        load_bls_keystore(path, password_file)


def test_a_keystore_that_names_another_key_is_refused(tmp_path):
    path, password_file = tmp_path / "bls.json", tmp_path / "password"
    password_file.write_text("opensesame")
    create_bls_keystore(path, "opensesame", iterations=2)
    document = json.loads(path.read_text())
    document["pubkey"] = bls.compress_key(bls.SecretKey(7).public_key()).hex()
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidInput, match="another secret"):
        load_bls_keystore(path, password_file)


@pytest.mark.parametrize("document", [None, [], {}, {"version": 3}, {"version": 4}, {"version": 4, "crypto": 5}])
def test_what_is_no_keystore_is_refused(document):
    with pytest.raises(InvalidInput):
        decrypt(document, "password")


def test_a_keystore_cannot_ask_for_endless_work():
    keystore = json.loads((VECTORS / "eip2335.json").read_text())["keystores"][0]
    keystore["crypto"]["kdf"]["params"]["n"] = 1 << 40
    with pytest.raises(InvalidInput, match="more work"):
        decrypt(keystore, "password")
