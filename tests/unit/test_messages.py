"""EIP-712 messages: agreement with eth-account's independent implementation, signatures, JSON."""

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from trine.errors import BadSignature, InvalidInput
from trine.protocol.messages import (
    Domain,
    Receipt,
    Request,
    Voucher,
    abi_words,
    engine_class_bytes,
    recover,
    require_signer,
)

DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)


def uint(bits):
    return st.integers(0, 2**bits - 1)


KINDS = {"bytes32": words, "address": addresses, **{f"uint{bits}": uint(bits) for bits in (8, 32, 64, 256)}}


def structs(kind):
    return st.tuples(*(KINDS[solidity] for _, solidity in kind.FIELDS)).map(lambda values: kind(*values))


messages = st.one_of(structs(Request), structs(Receipt), structs(Voucher))


@given(messages)
def test_digests_equal_eth_accounts(message):
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            message.NAME: [{"name": name, "type": kind} for name, kind in message.FIELDS],
        },
        "primaryType": message.NAME,
        "domain": {
            "name": "Trine",
            "version": "1",
            "chainId": DOMAIN.chain_id,
            "verifyingContract": DOMAIN.verifying_contract,
        },
        "message": dict(zip((name for name, _ in message.FIELDS), message.values(), strict=True)),
    }
    signable = encode_typed_data(full_message=typed)
    assert message.digest(DOMAIN) == keccak(b"\x19\x01" + signable.header + signable.body)


odd = st.one_of(
    st.integers(-2, 2**256 + 1),
    st.binary(max_size=33),
    st.booleans(),
    st.none(),
    addresses,
    addresses.map(str.swapcase),
)


@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4), data=st.data())
def test_whatever_is_hashed_is_encoded_as_eth_abi_does_or_refused_as_it_does(kinds, data):
    values = [data.draw(KINDS[kind] | odd) for kind in kinds]

    def outcome(encoding):
        try:
            return encoding(kinds, values)
        except Exception as error:  # noqa: BLE001  (compared)
            return type(error)

    assert outcome(abi_words) == outcome(encode)


@given(messages)
def test_json_round_trip(message):
    assert type(message).from_json(message.to_json()) == message


@given(structs(Voucher), st.sampled_from(["payer", "payee", "cumulativeWei"]))
def test_json_with_a_missing_or_wrong_field_is_refused_by_name(voucher, field):
    document = voucher.to_json()
    with pytest.raises(InvalidInput, match=field):
        Voucher.from_json({**document, field: "nonsense"})
    del document[field]
    with pytest.raises(InvalidInput, match="exactly the fields"):
        Voucher.from_json(document)


@pytest.mark.parametrize("value", [-1, 2**256, "1" * 79, "-1", "0x10", True, None, 1.5, [], "²"])
def test_numbers_from_outside_are_bounded(value):
    document = Voucher(DOMAIN.verifying_contract, DOMAIN.verifying_contract, 1).to_json()
    with pytest.raises(InvalidInput, match="cumulativeWei"):
        Voucher.from_json({**document, "cumulativeWei": value})


@given(messages)
def test_signatures_are_recovered_and_bind_domain_and_content(message):
    account = Account.create()
    digest = message.digest(DOMAIN)
    signature = bytes(account.unsafe_sign_hash(digest).signature)
    assert recover(digest, signature) == account.address
    require_signer(digest, signature, account.address.lower(), "message")
    with pytest.raises(BadSignature, match="message is signed by"):
        require_signer(message.digest(Domain(1, DOMAIN.verifying_contract)), signature, account.address, "message")


def test_malleable_and_malformed_signatures_are_refused():
    account = Account.create()
    digest = bytes(32)
    signature = bytes(account.unsafe_sign_hash(digest).signature)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high_s = order - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + high_s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(BadSignature, match="high s"):
        recover(digest, twin)
    for broken in (b"", signature[:64], signature[:64] + b"\x00", bytes(65), bytes(64) + b"\x1b"):
        with pytest.raises(BadSignature):
            recover(digest, broken)


def test_engine_classes_are_short_ascii():
    assert engine_class_bytes("cpu-fp32") == b"cpu-fp32".ljust(32, b"\0")
    for name in ("", "x" * 32, "cpü"):
        with pytest.raises(InvalidInput):
            engine_class_bytes(name)
