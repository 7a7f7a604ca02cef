"""Stop strings: the client signs them, the node ends with the first token that completes one, verifiers check it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_node_support import MESSAGES, NAME, RECORD, RecordingChain, engine, model, serving

from trine.errors import InvalidInput
from trine.protocol import merkle
from trine.protocol.evidence import Anchor, Evidence
from trine.protocol.inputs import Input, chat_input, first_stop, parse_input, shown, stop_strings, text_input
from trine.protocol.messages import text_hash
from trine.protocol.policy import Bounds, Policy
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine_node.answering import Answering
from trine_node.engines.detokenizer import TextStream
from trine_node.generating import Accepted, Finished
from trine_node.orders import Order
from trine_operator.store import Store
from trine_verifier.checking import check_leaf

CHAT = "/v1/chat/completions"
LAX = Policy((("cpu-fp32", "cpu-fp32", Bounds(1000, 1000, 1000, 1, 1, 1, 1)),))


def test_the_hash_of_an_input_without_stop_strings_is_what_it_was() -> None:
    asked = chat_input(MESSAGES)
    assert asked.canonical() == chat_input(MESSAGES, []).canonical()
    assert b"stop" not in asked.canonical()
    assert asked.hash() != chat_input(MESSAGES, "\n").hash()


@given(st.lists(st.text(min_size=1, max_size=8), max_size=4), st.text(min_size=1))
def test_canonical_bytes_round_trip(stop: list[str], text: str) -> None:
    try:
        asked = text_input(text, stop)
    except InvalidInput:  # lone surrogates
        return
    assert parse_input(asked.canonical()) == asked


@pytest.mark.parametrize("value", [5, [""], ["a"] * 5, "x" * 257, [None], {"a": 1}, True])
def test_bad_stop_strings_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="stop"):
        stop_strings(value)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet="ab \n🙂é", min_size=1, max_size=30),
    st.lists(st.text(alphabet="ab \n🙂", min_size=1, max_size=3), max_size=3),
)
def test_the_stream_is_the_text_before_the_stop(text: str, stop: list[str]) -> None:
    ids = engine().encode_text(text)
    stream = TextStream(engine(), stop)
    got = ""
    used: list[int] = []
    for token in ids:
        got += stream.push(token)
        used.append(token)
        if stream.stopped:
            break
    got += stream.flush()
    whole = engine().decode(used)
    assert got == shown(whole, stop)
    assert stream.stopped == (first_stop(whole, stop) is not None)
    assert first_stop(engine().decode(used[:-1]), stop) is None


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield Answering(engine(), RecordingChain(), store, model(0), allow_unsigned=True)
    store.close()


def finished(answering: Answering, asked: Input, max_tokens: int = 12) -> Finished:
    accepted = answering.accept(Order(asked, max_tokens, stream=False, include_usage=False, signed=None))
    assert isinstance(accepted, Accepted)
    *pieces, last = answering.answer(accepted, lambda: False)
    assert isinstance(last, Finished)
    assert "".join(pieces) == last.text
    return last


def verdict_on(answer: Evidence, answering: Answering) -> Verdict:
    chain = answering.chain
    leaf = merkle.leaf_hash(0, answer.receipt)
    anchor = Anchor(chain.domain, chain.address, RECORD.model_id, merkle.root([leaf]), 1)
    return check_leaf(answer, 0, leaf, anchor, answering.engine, LAX)


def changed(answering: Answering, evidence: Evidence, output_ids: tuple[int, ...], text: str, reason: int) -> Evidence:
    """Evidence of a dishonest node: signed, consistent, of other tokens."""
    from eth_utils.crypto import keccak

    from trine.protocol import fingerprint
    from trine.protocol.tokens import tokens_hash

    words = answering.engine.check(evidence.prompt_ids, output_ids).words
    encoded = fingerprint.encode(list(words))
    receipt = dataclasses.replace(
        evidence.receipt,
        output_hash=tokens_hash(output_ids),
        text_hash=text_hash(text),
        fingerprint_hash=bytes(keccak(encoded)),
        output_tokens=len(output_ids),
        finish_reason=reason,
    )
    signature = answering.chain.sign(receipt.digest(answering.chain.domain))
    return dataclasses.replace(
        evidence, receipt=receipt, receipt_signature=signature, output_ids=output_ids, fingerprint=encoded
    )


def test_node_and_verifier_agree_on_where_an_answer_stops(answering: Answering) -> None:
    plain = finished(answering, chat_input(MESSAGES))
    stop = plain.text[len(plain.text) // 2 :][:3]
    stopped = finished(answering, chat_input(MESSAGES, stop))
    assert stopped.text == plain.text[: plain.text.index(stop)]
    assert stopped.finish_reason == "stop"
    count = len(stopped.evidence.output_ids)
    assert plain.evidence.output_ids[:count] == stopped.evidence.output_ids
    assert count < 12
    assert verdict_on(stopped.evidence, answering).outcome is Outcome.ACCEPT
    assert verdict_on(plain.evidence, answering).outcome is Outcome.ACCEPT
    stored = answering.store.answer(stopped.digest)
    assert stored is not None
    assert answering.recall(stored).text == stopped.text

    more = plain.evidence.output_ids[: count + 1]
    late = changed(answering, stopped.evidence, more, stopped.text, stopped.evidence.receipt.finish_reason)
    verdict = verdict_on(late, answering)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.STRUCTURE)
    assert "goes on after a stop string" in verdict.detail

    fewer = plain.evidence.output_ids[: count - 2]
    text = answering.engine.decode(fewer)
    early = changed(answering, stopped.evidence, fewer, text, stopped.evidence.receipt.finish_reason)
    assert verdict_on(early, answering).reason is Reason.STRUCTURE

    whole = changed(
        answering, stopped.evidence, stopped.evidence.output_ids, plain.text, stopped.evidence.receipt.finish_reason
    )
    assert verdict_on(whole, answering).reason is Reason.TEXT


def test_over_http_whole_and_streamed(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/node.sqlite") as node:
        asked = {"model": NAME, "messages": MESSAGES, "max_tokens": 12}
        plain = node.http.post(CHAT, json=asked).json()["choices"][0]["message"]["content"]
        stop = plain[len(plain) // 2 :][:2]
        answer = node.http.post(CHAT, json={**asked, "stop": [stop, "never said"]}).json()["choices"][0]
        assert answer["message"]["content"] == plain[: plain.index(stop)]
        assert answer["finish_reason"] == "stop"
        refused = node.http.post(CHAT, json={**asked, "stop": [""]})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "stop"
