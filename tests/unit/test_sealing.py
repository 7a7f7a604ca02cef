"""Sealed requests and answers: who stands between client and node reads nothing, and changes nothing unnoticed."""

import json
from contextlib import contextmanager

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account import Account as EthAccount
from gateway_support import seal as seal_batch
from hypothesis import given
from hypothesis import strategies as st
from test_client_parallel import client_of
from test_node_support import CHAT, RECORD, RecordingChain, chain_batch, serving

from trine import AsyncClient
from trine._http import Http
from trine.chain import BatchState, Header
from trine.errors import BadSignature, InvalidInput, NodeError, NodeUnreachable, VerificationFailed
from trine.protocol import sealing
from trine.protocol.access import FRESH_SECONDS
from trine.protocol.messages import Domain
from trine.protocol.sealing import MEDIA_TYPE, Sealer, SealingKey
from trine_operator.refusal import Refusal
from trine_operator.service.sealed import KEY_SECONDS, REMEMBERED, Seals
from trine_operator.vault import Vault
from trine_verifier.duties import Listening
from trine_verifier.gathering import Gathering, anchor_of
from trine_verifier.store import VerifierStore

SIGNER, OTHER = (EthAccount.from_key(bytes([number] * 32)) for number in (1, 2))
DOMAIN = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
PRIVATE = X25519PrivateKey.generate()
KEY = SealingKey(SIGNER.address, PRIVATE.public_key().public_bytes_raw(), 1_000, 1_000 + sealing.MAX_KEY_SECONDS)
QUESTION = "Which illness has a rash and a fever?"
HEADERS = {"authorization": "Trine 1:ab"}


def sealed(body=b"{}", *, key=KEY, at=1_000, path="/v1/chat/completions", domain=DOMAIN):
    return sealing.seal(key, domain, at, "POST", path, HEADERS, body)


def opened(wire, *, private=PRIVATE, domain=DOMAIN, operator=SIGNER.address):
    return sealing.open_request(wire, private, domain, operator)


@given(st.binary(max_size=5_000))
def test_a_request_opens_as_it_was_and_shows_its_length_only_roughly(body):
    sent = sealed(body)
    inner = opened(sent.wire)
    assert (inner.method, inner.path, inner.headers, inner.body, inner.at, inner.secret) == (
        "POST", "/v1/chat/completions", HEADERS, body, 1_000, sent.secret,
    )  # fmt: skip
    assert (len(sent.wire) - 1 - 8 - 32 - 16) % sealing.REQUEST_PADDING == 0
    assert len(sent.wire) <= len(body) + sealing.OVERHEAD_BYTES
    assert sealed(body).wire != sent.wire


@given(st.data())
def test_attack_a_request_that_is_changed_anywhere_does_not_open(data):
    wire = bytearray(sealed(b"x" * 100).wire)
    at = data.draw(st.integers(9, len(wire) - 1))  # before it is the key's name, which only says which key to try
    wire[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidInput):
        opened(bytes(wire))
    with pytest.raises(InvalidInput):
        opened(bytes(wire[: data.draw(st.integers(9, len(wire) - 1))]))


def test_attack_a_request_opens_for_no_other_operator_chain_or_key():
    wire = sealed().wire
    for other in (
        {"operator": OTHER.address},
        {"domain": Domain(1, DOMAIN.verifying_contract)},
        {"domain": Domain(DOMAIN.chain_id, OTHER.address)},
        {"private": X25519PrivateKey.generate()},
    ):
        with pytest.raises(InvalidInput, match="does not open"):
            opened(wire, **other)


@given(st.binary(max_size=400))
def test_attack_whatever_is_sent_as_a_request_ends_in_an_error_of_ours(junk):
    with pytest.raises(InvalidInput):
        sealing.key_id_of(junk[:56])
    with pytest.raises(InvalidInput):
        opened(b"\x01" + bytes(8) + junk)


@pytest.mark.parametrize(
    "said",
    [
        {"method": "GET\r\nhost: b"},
        {"path": "v1/models"},
        {"path": 7},
        {"headers": ["a"]},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"a": 1}},
        {"at": "1000"},
        {"at": True},
        {"secret": "ab"},
        {"secret": None},
    ],
)
def test_attack_what_is_inside_is_a_strangers_too(said):
    head = {"method": "GET", "path": "/", "headers": {}, "at": 1, "secret": "ab" * 32} | said
    raw = json.dumps(head).encode()
    plain = len(raw).to_bytes(4, "big") + raw + bytes(4)
    info = sealing._info(DOMAIN, SIGNER.address)
    wire = b"\x01" + KEY.key_id + sealing._SUITE.encrypt(plain, PRIVATE.public_key(), info)
    with pytest.raises(InvalidInput, match="malformed inside"):
        opened(wire)
    short = b"\x01" + KEY.key_id + sealing._SUITE.encrypt(b"\xff" * 8, PRIVATE.public_key(), info)
    with pytest.raises(InvalidInput, match="shorter"):
        opened(short)


# Answers


def answer_to(sent, chunks, status=200):
    """The frames of an answer, each as it travels."""
    sealer = Sealer(sent.secret, sent.wire)
    begun = sealer.begin(status, {"content-type": "text/event-stream"})
    frames = [begun, *(sealer.frames(chunk, is_last=False) for chunk in chunks), sealer.frames(b"", is_last=True)]
    return [frame for frame in frames if frame]


CHUNKS = st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=6)


@given(CHUNKS, st.data())
def test_an_answer_opens_however_its_bytes_come(chunks, data):
    sent = sealed()
    wire, opener, got = b"".join(answer_to(sent, chunks)), sent.opener(), b""
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        got += opener.feed(wire[:size])
        wire = wire[size:]
    assert (got, opener.status, opener.is_whole) == (b"".join(chunks), 200, True)
    assert opener.headers == {"content-type": "text/event-stream"}


@given(CHUNKS, st.data())
def test_attack_an_answer_that_is_cut_off_is_never_whole(chunks, data):
    sent = sealed()
    wire = b"".join(answer_to(sent, chunks))
    opener = sent.opener()
    opener.feed(wire[: data.draw(st.integers(0, len(wire) - 1))])
    assert not opener.is_whole


@given(CHUNKS, st.data())
def test_attack_frames_that_are_changed_moved_left_out_repeated_or_anothers_do_not_open(chunks, data):
    sent, other = sealed(), sealed()
    frames = answer_to(sent, chunks)
    what = data.draw(st.sampled_from(["change", "leave out", "repeat", "swap", "another's", "mark", "more"]))
    at = data.draw(st.integers(1, len(frames) - 1))
    if what == "change":
        place = data.draw(st.integers(0, len(frames[at]) - 1))
        frames[at] = frames[at][:place] + bytes([frames[at][place] ^ 1]) + frames[at][place + 1 :]
    elif what == "leave out":
        del frames[at]
    elif what == "repeat":
        frames.insert(at, frames[at])
    elif what == "swap":
        frames[at], frames[at - 1] = frames[at - 1], frames[at]
    elif what == "another's":
        frames = answer_to(other, chunks)
    elif what == "mark":  # as the last
        frames[at] = bytes([frames[at][0] ^ 0x80]) + frames[at][1:]
    else:
        frames.append(frames[at])
    opener = sent.opener()
    try:
        opener.feed(b"".join(frames))
    except VerificationFailed:
        return
    assert not opener.is_whole  # it waits for more: cut off


def test_lengths_of_tokens_do_not_show():
    sent = sealed()
    short, long = (answer_to(sent, [text.encode()])[1] for text in ("a", "antidisestablishmentarianism"))
    assert len(short) == len(long)


def test_a_large_answer_goes_in_frames_of_bounded_size():
    sent = sealed()
    sealer, whole = Sealer(sent.secret, sent.wire), b"x" * (3 * sealing.MAX_DATA_BYTES + 1)
    opener = sent.opener()
    assert opener.feed(sealer.begin(200, {}) + sealer.frames(whole, is_last=True)) == whole
    assert opener.is_whole
    bomb = sent.opener()
    with pytest.raises(VerificationFailed):
        bomb.feed(bytes(32) + (sealing.MAX_FRAME_BYTES + 17).to_bytes(4, "big"))


# Keys


def shown(key=KEY, signer=SIGNER):
    return {
        "key": key.to_json(),
        "signature": "0x" + bytes(signer.unsafe_sign_hash(key.digest(DOMAIN)).signature).hex(),
    }


def test_a_key_is_taken_from_its_operator_alone_while_it_is_good():
    assert sealing.read_key(shown(), DOMAIN, SIGNER.address, 1_000) == KEY
    for document, operator, now in (
        (shown(signer=OTHER), SIGNER.address, 1_000),
        (shown(), OTHER.address, 1_000),
        (shown(), SIGNER.address, 999),
        (shown(), SIGNER.address, KEY.valid_until + 1),
        (shown(SealingKey(SIGNER.address, KEY.public_key, 0, sealing.MAX_KEY_SECONDS + 1)), SIGNER.address, 1_000),
        ({**shown(), "signature": "0x12"}, SIGNER.address, 1_000),
        ({}, SIGNER.address, 1_000),
        (None, SIGNER.address, 1_000),
    ):
        with pytest.raises((VerificationFailed, BadSignature)):
            sealing.read_key(document, DOMAIN, operator, now)
    weak = SealingKey(SIGNER.address, bytes(32), 1_000, 2_000)  # a point of small order: what is sealed to it is open
    with pytest.raises(VerificationFailed):
        sealed(key=weak)


class Clock:
    now = 10_000

    def __call__(self):
        return self.now


def seals():
    clock = Clock()

    def sign(digest):
        return bytes(SIGNER.unsafe_sign_hash(digest).signature)

    return Seals(DOMAIN, SIGNER.address, sign, clock), clock


def newest(of, clock):
    return sealing.read_key(of.shown(), DOMAIN, SIGNER.address, clock())


def test_attack_a_request_that_is_sent_again_or_late_is_refused():
    kept, clock = seals()
    key = newest(kept, clock)
    sent = sealed(key=key, at=clock())
    assert kept.open(sent.wire).body == b"{}"
    for later in (0, FRESH_SECONDS, FRESH_SECONDS + 1):
        clock.now = 10_000 + later
        with pytest.raises(Refusal) as refused:
            kept.open(sent.wire)
        assert refused.value.code == ("replayed_request" if later <= FRESH_SECONDS else "stale_request")
    for at in (clock() - FRESH_SECONDS - 1, clock() + FRESH_SECONDS + 1):
        with pytest.raises(Refusal, match="off the chain's time"):
            kept.open(sealed(key=key, at=at).wire)
    # One from the future is remembered for as long as it would be taken.
    ahead = sealed(key=key, at=clock() + FRESH_SECONDS)
    kept.open(ahead.wire)
    clock.now += 2 * FRESH_SECONDS
    with pytest.raises(Refusal) as refused:
        kept.open(ahead.wire)
    assert refused.value.code == "replayed_request"


def test_keys_follow_one_another_and_old_ones_open_nothing():
    kept, clock = seals()
    first = newest(kept, clock)
    assert newest(kept, clock) == first
    clock.now += KEY_SECONDS + 1
    second = newest(kept, clock)
    assert second.public_key != first.public_key
    assert kept.open(sealed(key=first, at=clock()).wire).at == clock()
    clock.now = first.valid_until + 1
    with pytest.raises(Refusal) as refused:
        kept.open(sealed(key=first, at=clock()).wire)
    assert refused.value.code == "unknown_key"
    assert len(kept._keys) == 1  # the private key is gone


def test_attack_a_flood_of_sealed_requests_takes_bounded_memory():
    kept, clock = seals()
    key = newest(kept, clock)
    kept._seen = {number.to_bytes(32, "big"): clock() + FRESH_SECONDS for number in range(REMEMBERED)}
    with pytest.raises(Refusal) as refused:
        kept.open(sealed(key=key, at=clock()).wire)
    assert refused.value.status == 429
    clock.now += FRESH_SECONDS + 1
    kept.open(sealed(key=key, at=clock()).wire)
    assert len(kept._seen) == 1


# Client and node


class Bytes(httpx2.AsyncByteStream):
    """A body that is read as it comes."""

    def __init__(self, content):
        self._content = content

    async def __aiter__(self):
        yield self._content


class Between(httpx2.AsyncBaseTransport):
    """Somebody on the way, who keeps all bytes and may change answers."""

    def __init__(self, change=lambda path, response: response):
        self._real = httpx2.AsyncHTTPTransport()
        self.change = change
        self.seen = []

    async def handle_async_request(self, request):
        await request.aread()
        response = await self._real.handle_async_request(request)
        await response.aread()
        self.seen += [str(request.url).encode(), *(b": ".join(pair) for pair in request.headers.raw), request.content]
        self.seen += [response.content]
        changed = self.change(request.url.path, response)
        await changed.aread()
        return httpx2.Response(changed.status_code, headers=changed.headers, stream=Bytes(changed.content))

    async def aclose(self):
        await self._real.aclose()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with serving(f"sqlite:///{tmp_path_factory.mktemp('sealed')}/node.sqlite", allow_unsigned=False) as node:
        yield node


@contextmanager
def sealing_client(node, change=lambda path, response: response):
    between = Between(change)
    with client_of(node, sealed=True) as client:
        client._async._http = Http(60.0, httpx2.AsyncClient(transport=between, timeout=60))
        yield client, between


def replaced(response, content):
    return httpx2.Response(response.status_code, headers={"content-type": MEDIA_TYPE}, content=content)


@pytest.mark.parametrize("stream", [False, True])
def test_attack_whoever_reads_what_travels_learns_neither_question_nor_answer_nor_who_asks(node, stream):
    with sealing_client(node) as (client, between):
        if stream:
            reading = client.stream(QUESTION, max_tokens=6)
            text = "".join(reading)
            answer = reading.answer
        else:
            answer = client.chat(QUESTION, max_tokens=6)
            text = answer.text
        assert answer.text == text
        client._core.forget_nodes()
        travelled = b"\n".join(between.seen)
        for secret in (QUESTION.encode(), text.encode(), answer.digest.hex().encode(), client.chain.address.encode(),
                       answer.salt.hex().encode(), b"/v1/chat", b"max_tokens"):  # fmt: skip
            assert secret not in travelled
    # What is looked for is there when nothing is sealed.
    with client_of(node) as client:
        between = Between()
        client._async._http = Http(60.0, httpx2.AsyncClient(transport=between, timeout=60))
        client.chat(QUESTION, max_tokens=6)
        assert QUESTION.encode() in b"\n".join(between.seen)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ["flip", "cut", "plain"])
def test_attack_an_answer_that_was_tampered_with_is_no_answer(node, what, stream):
    def change(path, response):
        raw = response.content
        if path != sealing.SEALED_PATH or len(raw) < 2_000:  # the account goes through
            return response
        if what == "flip":
            return replaced(response, raw[:-300] + bytes([raw[-300] ^ 1]) + raw[-299:])
        if what == "cut":
            return replaced(response, raw[: len(raw) // 2])
        return httpx2.Response(200, json={"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]})

    with sealing_client(node, change) as (client, _):
        ask = client.stream if stream else client.chat
        with pytest.raises(NodeUnreachable):
            list(ask(QUESTION, max_tokens=40))


def test_attack_another_key_in_the_place_of_the_nodes_is_noticed_and_nothing_is_sent(node):
    mine = X25519PrivateKey.generate()

    def change(path, response):
        if path != sealing.KEY_PATH:
            return response
        document = response.json()
        document["key"]["publicKey"] = "0x" + mine.public_key().public_bytes_raw().hex()
        return httpx2.Response(200, json=document)

    with sealing_client(node, change) as (client, between):
        with pytest.raises(NodeUnreachable, match="cannot be sealed to"):
            client.chat(QUESTION, max_tokens=4)
        assert sealing.SEALED_PATH.encode() not in b"\n".join(between.seen)


def test_attack_a_key_that_is_kept_back_does_not_make_a_client_ask_openly(node):
    def change(path, response):
        return httpx2.Response(404, json={"error": {"message": "none"}}) if path == sealing.KEY_PATH else response

    with sealing_client(node, change) as (client, between):
        with pytest.raises(NodeError, match="no sealing key"):
            client.chat(QUESTION, max_tokens=4)
        assert QUESTION.encode() not in b"\n".join(between.seen)
        assert b"/v1/chat" not in b"\n".join(between.seen)


def test_attack_what_is_said_outside_of_the_seal_is_not_believed(node):
    def change(path, response):
        if path != sealing.SEALED_PATH:
            return response
        error = {"error": {"message": "deposit more", "code": "deposit_too_low"}}
        return httpx2.Response(402, json=error)

    with sealing_client(node, change) as (client, _), pytest.raises(NodeUnreachable, match="before it was opened"):
        client.chat(QUESTION, max_tokens=4)


def test_a_node_that_has_started_again_is_asked_for_its_new_key(node):
    with sealing_client(node) as (client, _):
        client.chat(QUESTION, max_tokens=4)
        old = client._core.seals.key(node.chain.address)
        fresh = Seals(node.chain.domain, node.chain.address, node.chain.sign, node.chain.now)
        other = sealing.read_key(fresh.shown(), node.chain.domain, node.chain.address, node.chain.now())
        for ask in (lambda: client.chat(QUESTION, max_tokens=4), lambda: list(client.stream(QUESTION, max_tokens=4))):
            client._core.seals._keys[node.chain.address.lower()] = other
            assert ask()
            assert client._core.seals.key(node.chain.address) == old


def test_a_refusal_comes_sealed_and_with_its_type(node):
    with sealing_client(node) as (client, between):
        for ask in (
            lambda: client.chat(QUESTION, max_tokens=100_000),
            lambda: list(client.stream(QUESTION, max_tokens=100_000)),
        ):
            with pytest.raises(NodeError) as refused:
                ask()
            assert refused.value.param == "max_tokens"
        assert b"max_tokens" not in b"\n".join(between.seen)


def test_asyncio_seals_as_well(node):
    import asyncio

    async def ask():
        with client_of(node, AsyncClient, sealed=True) as client:
            stream = client.stream(QUESTION, max_tokens=6)
            texts = [text async for text in stream]
            whole = await client.chat(QUESTION, max_tokens=6)
            assert "".join(texts) == stream.answer.text == whole.text
            await client.close()

    asyncio.run(ask())


def test_what_is_sealed_is_bounded_as_what_is_open_is(node):
    document = node.http.get(sealing.KEY_PATH).json()
    key = sealing.read_key(document, node.chain.domain, node.chain.address, node.chain.now())

    def post(method, path, body=b"", headers=None):
        sent = sealing.seal(key, node.chain.domain, node.chain.now(), method, path, headers or {}, body)
        return sent, node.http.post(sealing.SEALED_PATH, content=sent.wire)

    sent, response = post("POST", CHAT, b"[" * 100_000)
    opener = sent.opener()
    said = opener.feed(response.content)
    assert (opener.status, json.loads(said)["error"]["code"], opener.is_whole) == (400, "invalid_json", True)
    _, response = post("POST", CHAT, b" " * (4 << 20))
    assert response.status_code == 413
    for path in (sealing.SEALED_PATH, sealing.SEALED_PATH + "?a"):
        _, response = post("POST", path, b"")
        assert response.json()["error"]["code"] == "sealed_twice"
    sent, response = post("GET", "/v1/models")
    assert response.headers["content-type"] == MEDIA_TYPE
    assert json.loads(sent.opener().feed(response.content))["data"][0]["id"] == RECORD.name
    for junk in (b"", b"\x01" * 57, b"\x01" + key.key_id + b"x" * 200):
        assert node.http.post(sealing.SEALED_PATH, content=junk).status_code == 400


def test_a_drawn_verifier_is_shown_evidence_by_a_real_node_and_a_stranger_is_not(tmp_path):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=False) as node, client_of(node) as client:
        node.store.vault = Vault(node.chain.sign)
        answer = client.chat(QUESTION, max_tokens=4)
        stored = node.store.batch(seal_batch(node))
        header = Header(node.chain.address, RECORD.model_id, stored.root, stored.canary)
        batch = chain_batch(stored.batch_id, BatchState.DRAWN, header=header, leaf_count=1)
        drawn, stranger = RecordingChain(), RecordingChain()
        node.chain.committee = (drawn.address,)
        for chain in (drawn, stranger):
            chain.endpoint_of = lambda _operator: node.url
            chain.committee = node.chain.committee
        store = VerifierStore(f"sqlite:///{tmp_path}/verifier.sqlite")
        refused = Gathering(stranger, store).batch(batch, anchor_of(stranger, batch), Listening(5.0, 0.0))
        assert (refused.missing, "no seat" in refused.why) == (1, True)
        found = Gathering(drawn, store).batch(batch, anchor_of(drawn, batch), Listening(5.0, 0.0))
        assert found.missing == 0
        (evidence,) = found.shown.answers
        assert evidence.receipt == answer.receipt
        assert QUESTION in evidence.input.decode()
        one = Gathering(drawn, store).leaf(batch, 0, anchor_of(drawn, batch), Listening(5.0, 0.0))
        assert one.shown is not None
        store.close()
