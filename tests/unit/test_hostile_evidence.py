"""Evidence that is to crash verifiers, to hold them up or to fill them: it ends in a verdict or counts as withheld."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_evidence import make
from test_node_support import RECORD, RecordingChain, chain_batch, engine

from trine.errors import InvalidInput, NodeError, NodeUnreachable
from trine.protocol import fingerprint, merkle
from trine.protocol.evidence import Evidence, leaves_fault
from trine.protocol.header import Header
from trine.protocol.inputs import chat_input, parse_input
from trine.protocol.messages import FinishReason, Receipt, Request, Voucher
from trine.protocol.policy import Policy
from trine.protocol.verdict import Outcome, Reason
from trine_verifier import evidence as fetching
from trine_verifier.checking import TOGETHER, TOKENS_TOGETHER, check_batch, check_shown_leaf, groups
from trine_verifier.evidence import Shown, ShownLeaf, fetch, fetch_leaf

POLICY = Policy.from_bytes(RECORD.policy)
SECONDS = 30.0

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def mutated(document, path, value):
    """The document with another value at a path of keys."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else {}
    copy[path[0]] = mutated(copy.get(path[0]), path[1:], value)
    return copy


EVIDENCE = make()[0].to_json()
PATHS = [(key,) for key in EVIDENCE] + [("receipt", key) for key in EVIDENCE["receipt"]]
PATHS += [("request", key) for key in EVIDENCE["request"]]


@contextmanager
def speaking(*parts, pause=0.0, forever=b""):
    """The URL of a server that says these bytes to whoever connects, then `forever` again and again."""
    ended = threading.Event()

    def serve():
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    for part in parts:
                        connection.sendall(part)
                    while forever and not ended.wait(pause):
                        connection.sendall(forever)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def good(body, *, length=None, extra=b""):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s" % (len(body) if length is None else length, extra, body)


def batch_at(url):
    chain = RecordingChain()
    chain.endpoint_of = lambda _node: url
    return chain, chain_batch(bytes([1]) * 32)


@pytest.mark.parametrize(
    ("parts", "forever"),
    [
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",), b"x"),  # the body drips
        ((b"HTTP/1.1 200 OK\r\nx: ",), b"x"),  # the headers drip
        ((), b" "),  # not even a status
        ((), b"HTTP/1.1 100 Continue\r\n\r\n"),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",), b"1\r\nx\r\n"),
        ((b"HTTP/1.1 500 Broken\r\ncontent-length: 1000000\r\n\r\n",), b"x"),
    ],
)
def test_a_node_that_drips_is_listened_to_for_so_long(parts, forever):
    """Without a bound on the whole, each of these goes on until the test is killed."""
    with speaking(*parts, pause=0.02, forever=forever) as url:
        chain, batch = batch_at(url)
        with pytest.raises(NodeError):
            fetch(chain, batch, 0.5)


def test_a_node_that_sends_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 1 << 20)
    with speaking(b"HTTP/1.1 200 OK\r\n\r\n", forever=b"x" * 65536) as url, pytest.raises(NodeError, match="more than"):
        fetch(*batch_at(url), SECONDS)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0" * 100,
        b"HTTP/9.9 200\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        good(b"{}", length=99),  # cut off
        good(b"\x1f\x8b" + b"\0" * 50, extra=b"content-encoding: gzip\r\n"),
        good(b"{}", extra=b"content-encoding: gzip, br\r\n"),
        good(b""),
        good(b"[" * 100_000),
        good(b'{"leaves": ' * 5_000),
        good(b'{"leaves": 7}'),
        good(b'{"leaves": ["0xzz"]}\n{}'),
        good(b'{"leaves": [[]]}\n{}'),
        good(b'{"leaves": ["00"]}'),
        good(b'{"leaves": []}\n{}'),
        good(b'{"leaves": ' + json.dumps(["00" * 32] * 257).encode() + b"}\n" + b"{}\n" * 257),
        good(b"1" * 5_000),
        good(b"NaN"),
        good(b"<!doctype html><title>Not found</title>"),
        b"HTTP/1.0 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n{}",
        good("{}".encode("utf-16")),
    ],
)
def test_whatever_a_node_says_is_an_error_with_a_name(said):
    with speaking(said) as url:
        chain, batch = batch_at(url)
        for ask in (lambda: fetch(chain, batch, SECONDS), lambda: fetch_leaf(chain, batch, 0, SECONDS)):
            with pytest.raises((NodeError, InvalidInput)) as caught:
                ask()
            assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "endpoint",
    ["", "ftp://node", "http://", "http://[", "http://\0", "http://node:99999999", "http://" + "é" * 300, "//x"],
)
def test_an_endpoint_that_cannot_be_asked_is_unreachable(endpoint):
    with pytest.raises(NodeUnreachable):
        fetch(*batch_at(endpoint), SECONDS)


def test_a_line_is_unpacked_alone_and_bounded(monkeypatch):
    monkeypatch.setattr(fetching, "MAX_LINE_BYTES", 100)
    leaf = make()[1]
    body = json.dumps({"leaves": [leaf.hex()] * 2}).encode() + b"\n" + b"[" * 101 + b"\n" + b"[" * 99
    with speaking(good(body)) as url:
        with pytest.raises(InvalidInput, match="at most 100"):
            fetch(*batch_at(url), SECONDS)
        monkeypatch.setattr(fetching, "MAX_LINE_BYTES", 1000)
        shown = fetch(*batch_at(url), SECONDS)
    for _ in range(2):  # may be gone through again
        assert all(isinstance(answer, InvalidInput) for answer in shown.answers)


@pytest.mark.parametrize(
    "leaves", [[bytes(32)], [b"\1" * 31], [b""], [b"\1" * 33], [], [b"\1" * 32] * 2, [b"\1" * 32] * 300]
)
def test_leaves_that_are_none_are_a_fault_and_no_crash(leaves):
    _, _, anchor = make()
    assert leaves_fault(leaves, anchor)
    verdicts = check_batch(Shown(leaves, []), anchor, engine(), POLICY)
    assert [(v.outcome, v.reason) for v in verdicts] == [(Outcome.UNAVAILABLE, Reason.WITHHELD)]


def bound(evidence, count=1):
    """Evidence as the leaves of a batch that was anchored with it, and the anchor."""
    _, _, anchor = make()
    leaves = [merkle.leaf_hash(index, evidence.receipt) for index in range(count)]
    return leaves, dataclasses.replace(anchor, root=merkle.root(leaves), leaf_count=count)


class Broken:
    """The engine, with one function that raises."""

    def __init__(self, name, error, every=1):
        self._name, self._error, self._every, self.calls = name, error, every, 0

    def __getattr__(self, name):
        if name != self._name:
            return getattr(engine(), name)

        def call(*arguments):
            self.calls += 1
            if self.calls % self._every == 0:
                raise self._error
            return getattr(engine(), name)(*arguments)

        return call


@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), MemoryError(), OverflowError(), KeyError("x")])
@pytest.mark.parametrize("name", ["encode_chat", "decode", "check_batch"])
def test_an_error_that_nobody_foresaw_is_nobodys_guilt_and_stays_with_its_answer(honest, name, error):
    leaves, anchor = bound(honest, 3)
    verdicts = check_batch(Shown(leaves, [honest] * 3), anchor, Broken(name, error, every=1), POLICY)
    assert [(v.outcome, v.reason) for v in verdicts] == [(Outcome.INCONCLUSIVE, Reason.FAULT)] * 3
    once = check_batch(Shown(leaves, [honest] * 3), anchor, Broken("encode_chat", error, every=2), POLICY)
    assert [v.outcome for v in once] == [Outcome.INCONCLUSIVE if index == 1 else once[0].outcome for index in range(3)]
    assert once[0].outcome is not Outcome.INCONCLUSIVE or once[0].reason is not Reason.FAULT


@pytest.fixture(scope="module")
def honest():
    """Bound to its leaf, and as short as can be; whether the model said it is another question."""
    asked = chat_input([{"role": "user", "content": "Hello"}])
    prompt = tuple(engine().encode_chat(asked.as_messages()))
    return rebuilt(asked.canonical(), prompt, (4, 5))


def rebuilt(canonical, prompt, output):
    from eth_utils.crypto import keccak
    from test_evidence import DOMAIN, NODE, sign

    from trine.protocol.messages import text_hash
    from trine.protocol.tokens import tokens_hash

    words = fingerprint.encode([b"\1" * 8] * len(output))
    evidence, _, _ = make(
        signed=False,
        input_hash=bytes(keccak(canonical)),
        prompt_hash=tokens_hash(prompt),
        output_hash=tokens_hash(output),
        fingerprint_hash=bytes(keccak(words)),
        prompt_tokens=len(prompt),
        output_tokens=len(output),
        max_tokens=len(output),
        finish_reason=FinishReason.LENGTH,
        text_hash=text_hash(engine().decode(output)),
    )
    changed = dataclasses.replace(evidence, input=canonical, prompt_ids=prompt, output_ids=output, fingerprint=words)
    return dataclasses.replace(changed, receipt_signature=sign(NODE, evidence.receipt.digest(DOMAIN)))


@given(which=st.integers(0, 2), claimed=st.integers(0, 2**20))
def test_a_leaf_that_counts_other_tokens_can_never_be_shown(honest, which, claimed):
    """The committee and, later, a jury that sees one leaf only say the same."""
    leaves, anchor = bound(honest, 3)
    actual = merkle.tokens_of(leaves[which])
    leaves[which] = leaves[which][:28] + claimed.to_bytes(4)
    anchor = dataclasses.replace(anchor, root=merkle.root(leaves))
    assert merkle.tokens_of(anchor.root) == 2 * actual + claimed
    verdicts = check_batch(Shown(leaves, [honest] * 3), anchor, engine(), POLICY)
    for index, verdict in enumerate(verdicts):
        lied = index == which and claimed != actual
        assert (verdict.outcome is Outcome.UNAVAILABLE and verdict.reason is Reason.WITHHELD) == lied
        shown = ShownLeaf(tuple(merkle.proof(leaves, index)), honest)
        alone = check_shown_leaf(shown, index, anchor, engine(), POLICY)
        assert (alone.reason is Reason.WITHHELD) == lied


@given(sizes=st.lists(st.integers(1, 3000), max_size=40))
def test_answers_are_checked_in_groups_that_do_not_keep_others_waiting(honest, sizes):
    answers = [dataclasses.replace(honest, prompt_ids=(1,), output_ids=(1,) * (size - 1)) for size in sizes]
    found = list(groups(enumerate((bytes(32), answer) for answer in answers)))
    assert [numbered for group in found for numbered in group] == list(enumerate((bytes(32), a) for a in answers))
    for group in found:
        tokens = sum(sizes[index] for index, _ in group)
        assert 0 < len(group) <= TOGETHER
        assert len(group) == 1 or tokens <= TOKENS_TOGETHER


def test_what_there_is_no_time_for_is_neither_accepted_nor_rejected(honest):
    leaves, anchor = bound(honest, TOGETHER + 2)
    asked = []

    def in_time(tokens, check):
        asked.append(tokens)
        return check() if len(asked) == 1 else None

    shown = Shown(leaves, [honest] * len(leaves))
    verdicts = check_batch(shown, anchor, engine(), POLICY, in_time=in_time)
    size = len(honest.prompt_ids) + len(honest.output_ids)
    assert asked == [TOGETHER * size, 2 * size]
    assert all(verdict.reason is not Reason.LATE for verdict in verdicts[:TOGETHER])
    assert [(v.outcome, v.reason) for v in verdicts[TOGETHER:]] == [(Outcome.INCONCLUSIVE, Reason.LATE)] * 2


def test_messages_that_the_template_refuses_cost_their_node_that_answer_only(honest):
    refused = chat_input([{"role": "user", "content": "a \U00100000 b"}])
    leaves, anchor = bound(honest, 2)
    evidence = rebuilt(refused.canonical(), (1, 2), (4,))
    leaves = [leaves[0], merkle.leaf_hash(1, evidence.receipt)]
    anchor = dataclasses.replace(anchor, root=merkle.root(leaves))
    verdicts = check_batch(Shown(leaves, [honest, evidence]), anchor, engine(), POLICY)
    assert verdicts[1].outcome is Outcome.REJECT
    assert "private-use" in verdicts[1].detail
    assert verdicts[0].reason not in (Reason.WITHHELD, Reason.FAULT)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), value=json_values)
def test_evidence_with_one_wrong_part_is_judged(path, value):
    document = mutated(EVIDENCE, path, value)
    _, leaf, anchor = make()
    try:
        answer = Evidence.from_json(document)
    except InvalidInput as error:
        answer = error
    (verdict,) = check_batch(Shown([leaf], [answer]), anchor, engine(), POLICY)
    # What is as it was (`"request": None` where JSON has nothing) may pass this far and no further.
    assert verdict.outcome is not Outcome.ACCEPT
    assert verdict.reason is not Reason.FAULT
    if isinstance(answer, Evidence):
        proof = merkle.proof([leaf], 0)
        alone = check_shown_leaf(ShownLeaf(tuple(proof), answer), 0, anchor, engine(), POLICY)
        assert alone.outcome is verdict.outcome


@given(document=json_values)
@pytest.mark.parametrize("parse", [Evidence.from_json, Receipt.from_json, Request.from_json, Voucher.from_json])
def test_objects_are_read_or_refused_by_name(parse, document):
    with pytest.raises(InvalidInput):
        parse(document)


@given(raw=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("parse", [Policy.from_bytes, parse_input, fingerprint.decode, fetching.parsed])
def test_bytes_are_read_or_refused_by_name(parse, raw):
    with contextlib.suppress(InvalidInput):
        parse(raw)


@given(field=st.sampled_from(sorted(EVIDENCE["receipt"])), value=json_values)
def test_a_receipt_with_one_wrong_field_is_read_or_refused_by_name(field, value):
    try:
        receipt = Receipt.from_json({**EVIDENCE["receipt"], field: value})
    except InvalidInput:
        return
    assert len(receipt.struct_hash()) == 32  # what was read can be hashed


def test_a_foreign_header_is_not_asked_for():
    chain, batch = batch_at("http://127.0.0.1:1")
    foreign = dataclasses.replace(batch, header=Header(chain.address, bytes([9]) * 32, bytes(32), bytes(32)))
    with pytest.raises(NodeUnreachable):
        fetch(chain, foreign, SECONDS)
