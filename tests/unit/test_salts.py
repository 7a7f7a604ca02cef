"""What hashes that everybody may see tell of what was asked: nothing, where the order has a salt."""

import secrets
from dataclasses import replace

import httpx2
import pytest
import test_node_support as small
from eth_account import Account as EthAccount
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from test_node_support import CHAT, MESSAGES, RECORD, RecordingChain, model, serving, signed_body

from trine._ordering import as_input, draft_request, prompt_tokens_at_most, salted
from trine.chain import ModelEntry
from trine.errors import InvalidInput
from trine.protocol import merkle
from trine.protocol.evidence import Anchor, missing
from trine.protocol.inputs import MAX_INPUT_BYTES, chat_input, parse_input, text_input
from trine.protocol.messages import Receipt, text_hash
from trine.protocol.policy import Bounds, Policy
from trine.protocol.salts import read_salt, salted_hash
from trine.protocol.tokens import encode_tokens, tokens_hash
from trine.protocol.verdict import Outcome
from trine_node.answering import Answering
from trine_node.orders import Order
from trine_operator.store import Store
from trine_verifier.checking import check_leaf

LAX = Policy((("cpu-fp32", "cpu-fp32", Bounds(1000, 1000, 1000, 1, 1, 1, 1)),))
GUESSES = ("Name three birds.", MESSAGES[0]["content"], "What is the time?")
SALTS = st.binary(min_size=32, max_size=32)


@pytest.fixture
def answering(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield Answering(small.engine(), RecordingChain(), store, model(0), allow_unsigned=True)
    store.close()


def answered(answering, asked):
    order = Order(asked, 12, stream=False, include_usage=False, signed=None)
    return list(answering.answer(answering.accept(order), lambda: False))[-1]


def guessed(answering, receipt):
    """What somebody finds who has the receipt, the model and a list of likely prompts: the one that was asked."""
    engine = answering.engine
    for guess in GUESSES:
        asked = chat_input([{"role": "user", "content": guess}])
        prompt_ids = tuple(answering.render(asked))
        steps = list(engine.generate(prompt_ids, receipt.max_tokens))
        output_ids = tuple(step.token_id for step in steps)
        evidence = answered(answering, asked).evidence
        hashes = {
            asked.hash(),
            tokens_hash(prompt_ids),
            tokens_hash(output_ids),
            text_hash(engine.decode(output_ids)),
            bytes(keccak(evidence.fingerprint)),
        }
        if hashes & set(receipt.values()):
            return guess
    return None


def test_attack_a_receipt_without_a_salt_is_guessed_and_one_with_a_salt_is_not(answering):
    bare = answered(answering, chat_input(MESSAGES)).evidence.receipt
    assert guessed(answering, bare) == MESSAGES[0]["content"]
    hidden = answered(answering, salted(chat_input(MESSAGES))).evidence.receipt
    assert guessed(answering, hidden) is None
    shown = {name for name, _ in Receipt.FIELDS if name.endswith("Hash")} - {"requestHash"}
    kept = {name: value for (name, _), value in zip(Receipt.FIELDS, hidden.values(), strict=True) if name in shown}
    assert not set(kept.values()) & set(bare.values())
    other = answered(answering, salted(chat_input(MESSAGES))).evidence.receipt
    assert not set(kept.values()) & set(other.values())  # nor does it show that the same was asked twice


def test_verifiers_check_a_salted_answer_and_the_client_its_text(answering):
    finished = answered(answering, salted(chat_input(MESSAGES)))
    evidence, chain = finished.evidence, answering.chain
    leaf = merkle.leaf_hash(0, evidence.receipt)
    anchor = Anchor(chain.domain, chain.address, RECORD.model_id, merkle.root([leaf]), 1)
    assert check_leaf(evidence, 0, leaf, anchor, small.engine(), LAX).outcome is Outcome.ACCEPT
    salt = parse_input(evidence.input).salt
    assert evidence.receipt.text_hash == text_hash(finished.text, salt) != text_hash(finished.text)
    # Another salt, or none, is another input: whoever shows it has shown nothing.
    for other in (chat_input(MESSAGES), salted(chat_input(MESSAGES))):
        shown = replace(evidence, input=other.canonical())
        assert missing(shown, 0, leaf, anchor) == "input shown do not hash to what the receipt says"


def test_a_node_that_hashes_without_the_salt_is_not_taken_for_one_that_shows_its_leaf(answering):
    evidence, chain = answered(answering, salted(chat_input(MESSAGES))).evidence, answering.chain
    receipt = replace(evidence.receipt, prompt_hash=tokens_hash(evidence.prompt_ids))
    leaf = merkle.leaf_hash(0, receipt)
    anchor = Anchor(chain.domain, chain.address, RECORD.model_id, merkle.root([leaf]), 1)
    assert "prompt token ids" in (missing(replace(evidence, receipt=receipt), 0, leaf, anchor) or "")


def test_over_http_the_salt_comes_with_the_order_and_is_part_of_what_is_signed(tmp_path):
    client, asked = EthAccount.create(), salted(chat_input(MESSAGES))
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=True) as node:
        body = signed_body(node.chain, client, input_hash=asked.hash())

        def ask(salt: object) -> httpx2.Response:
            return node.http.post(CHAT, json={**body, "trine": {**body["trine"], "salt": salt}})

        answer = ask("0x" + asked.salt.hex())
        assert answer.status_code == 200, answer.text
        receipt = Receipt.from_json(answer.json()["trine"]["receipt"])
        assert receipt.text_hash == text_hash(answer.json()["choices"][0]["message"]["content"], asked.salt)
        for salt, code in (("0x" + "11" * 32, "request_mismatch"), (None, "request_mismatch")):
            refused = ask(salt)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
        for salt in ("", "0x12", 7, ["0x" + "11" * 32], "0x" + "zz" * 32):
            refused = ask(salt)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "trine")
        # An order that nobody signed may have one, too.
        unsigned = {**{name: body[name] for name in body if name != "trine"}, "trine": {"salt": asked.salt.hex()}}
        answer = node.http.post(CHAT, json=unsigned).json()
        assert answer["trine"]["receipt"]["inputHash"] == "0x" + asked.hash().hex()


@given(st.text(max_size=50), SALTS)
def test_an_input_with_a_salt_comes_back_as_it_was(text, salt):
    asked = text_input("Say: " + text.encode("utf-8", "ignore").decode()).salted(salt)
    assert parse_input(asked.canonical()) == asked
    assert read_salt(salt.hex()) == read_salt("0x" + salt.hex()) == salt


@pytest.mark.parametrize("salt", ['"12"', "null", "7", '""', f'"{"AB" * 32}"', f'"0x{"ab" * 32}"', f'["{"ab" * 32}"]'])
def test_a_salt_is_written_in_one_way(salt):
    """Whatever node and verifier could read differently is read by neither."""
    with pytest.raises(InvalidInput):
        parse_input(f'{{"prompt":"Hi","salt":{salt}}}'.encode())
    assert parse_input(f'{{"prompt":"Hi","salt":"{"ab" * 32}"}}'.encode()).salt == b"\xab" * 32


@given(SALTS, st.text(), st.lists(st.integers(0, 2**32 - 1)))
def test_attack_no_salt_passes_for_the_beginning_of_a_text_that_has_none(salt, text, ids):
    """Else a client could choose words of its own as the salt, and show a certificate for them."""
    raw = text.encode("utf-8", "ignore")
    preimage = b"\xff" + salt + raw
    assert salted_hash(raw, salt) == bytes(keccak(preimage))
    with pytest.raises(UnicodeDecodeError):
        preimage.decode()
    assert len(b"\xff" + salt + encode_tokens(ids)) % 4 != 0


def test_a_salt_costs_nothing_and_may_not_make_an_input_too_long():
    plain = as_input("Hi")
    entry, client = ModelEntry(b"\1" * 32, "m", 10, 1), EthAccount.create().address
    fees = {draft_request(asked, entry, client, 8, 1_000).max_fee_wei for asked in (plain, salted(plain))}
    assert len(fees) == 1
    assert prompt_tokens_at_most(salted(plain)) == prompt_tokens_at_most(plain)
    longest = text_input("a" * (MAX_INPUT_BYTES - len(text_input("a").canonical()) + 1))
    with pytest.raises(InvalidInput, match="at most"):
        longest.salted(secrets.token_bytes(32))
    with pytest.raises(InvalidInput, match="32 bytes"):
        plain.salted(b"short")
