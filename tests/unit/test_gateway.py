"""The gateway as stock clients see it, and what it shows of what was spent."""

from __future__ import annotations

import logging
from typing import Literal

import openai
import pytest
from gateway_support import body, gateway_before, kept, post
from pydantic import BaseModel
from test_node_support import MESSAGES, NAME, PRICE_WEI, serving, wait_for

from trine.protocol.messages import Receipt, require_signer, text_hash
from trine.protocol.salts import read_salt
from trine_gateway.keys import hash_of
from trine_gateway.records import Repeat
from trine_gateway.store import GatewayStore


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_running=4, max_waiting=1000) as served:
        yield served


@pytest.fixture
def gateway(node, tmp_path):
    with gateway_before(node, tmp_path) as made:
        yield made


@pytest.fixture
def key(gateway):
    return gateway.key()


@pytest.fixture
def stock(gateway, key):
    with gateway.stock(key) as client:
        yield client


def test_a_stock_client_chats_and_what_it_is_told_is_what_the_node_signed(node, gateway, stock, key):
    raw = stock.chat.completions.with_raw_response.create(model=NAME, messages=MESSAGES, max_tokens=5)
    answer = raw.parse()
    promise = answer.model_extra["trine"]
    receipt = Receipt.from_json(promise["receipt"])
    signature = bytes.fromhex(promise["signature"][2:])
    require_signer(receipt.digest(node.chain.domain), signature, node.chain.address, "receipt")
    assert receipt.text_hash == text_hash(answer.choices[0].message.content, read_salt(promise["salt"]))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (receipt.prompt_tokens, 5)
    assert raw.headers["x-trine-receipt"] == promise["receiptDigest"]
    assert raw.headers["x-trine-node"] == node.chain.address
    assert raw.headers["x-trine-verdict"] == "pending"
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
    assert answer._request_id.startswith("req_")
    spent = gateway.usage(key)
    assert spent["spentWei"] == str(receipt.fee_wei)
    assert spent["recent"][0]["receipt"] == promise["receiptDigest"]


def test_a_stream_is_the_same_text_with_usage_and_the_receipt_on_its_last_choice(stock):
    whole = stock.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=6)
    chunks = list(
        stock.chat.completions.create(
            model=NAME, messages=MESSAGES, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    *parts, last, usage = chunks
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in parts) == whole.choices[0].message.content
    assert Receipt.from_json(last.model_extra["trine"]["receipt"]).output_tokens == usage.usage.completion_tokens == 6


def test_plain_completions_whole_and_streamed(stock):
    whole = stock.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, stop=["zzz"])
    chunks = list(stock.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert "trine" in chunks[-1].model_extra


def test_models_are_listed_and_retrieved(stock):
    assert [entry.id for entry in stock.models.list()] == [NAME]
    assert stock.models.retrieve(NAME).model_extra["trine"]["pricePerTokenWei"] == str(PRICE_WEI)
    with pytest.raises(openai.NotFoundError):
        stock.models.retrieve("another")
    with pytest.raises(openai.NotFoundError) as raised:
        stock.chat.completions.create(model="another", messages=MESSAGES)
    assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.5),
        ("top_p", 0.5),
        ("max_token", 4),
        ("stream", 1),
        ("guided_choice", []),
        ("guided_json", {"maximun": 1}),
        ("guided_regex", "(?=a)b"),
        ("tools", [{"type": "function"}]),
        ("trine", {}),
        ("messages", [{"role": "tool", "content": "x"}]),
    ],
)
def test_fields_that_a_node_refuses_are_refused_alike(gateway, key, field, value):
    answer = post(gateway, key, **{**body(), field: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")


def test_an_answer_is_held_to_a_grammar(stock, gateway, key):
    class Colour(BaseModel):
        name: Literal["red", "green"]

    parsed = stock.chat.completions.parse(model=NAME, messages=MESSAGES, response_format=Colour, max_tokens=60)
    assert parsed.choices[0].message.parsed.name in ("red", "green")
    response = stock.responses.parse(
        model=NAME, input="A colour?", text_format=Colour, max_output_tokens=60, store=False
    )
    assert response.output_parsed.name in ("red", "green")
    refused = post(gateway, key, **body(), guided_json={"type": "string", "format": "nosuch"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guided_json"), "a node's word for it"
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")


def test_a_sampled_answer_needs_no_seed_for_the_gateway_signs_one(stock):
    def text(**fields):
        asked = stock.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=12, temperature=1, **fields)
        return asked.choices[0].message.content

    assert text() != text()
    assert text(seed=5) == text(seed=5)
    response = stock.responses.create(
        model=NAME, input="Hello", max_output_tokens=12, temperature=0.9, top_p=0.95, store=False
    )
    assert (response.temperature, response.top_p) == (0.9, 0.95)
    assert response.output_text
    assert response.model_extra["trine"]["sampling"]["seed"]


def test_what_only_the_node_knows_to_refuse_is_passed_on(gateway, key):
    answer = post(gateway, key, **body(2048, messages=[{"role": "user", "content": "word " * 2500}]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    wait_for(lambda: gateway.usage(key)["reservedWei"] == "0")
    assert gateway.usage(key)["spentWei"] == "0"


# What is shown, and what is not


def test_usage_is_shown_to_its_key_alone_and_all_to_an_admin(gateway, key):
    other, admin = gateway.key("<script>alert(1)</script>"), gateway.key("boss", is_admin=True)
    post(gateway, other)
    assert "keys" not in gateway.usage(key)
    assert gateway.usage(key)["answers"] == 0
    assert {one["name"] for one in gateway.usage(admin)["keys"]} >= {"somebody", "boss"}
    page = gateway.http.get("/usage", auth=("anybody", admin), headers={"accept": "text/html"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "http" not in page.text.replace("http-equiv", "")  # nothing is loaded from anywhere
    asked = gateway.http.get("/usage", headers={"accept": "text/html"})
    assert (asked.status_code, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    for wrong in ("Basic !!!", "Basic", "Basic " + "QQ==" * 9):
        assert gateway.http.get("/usage", headers={"authorization": wrong}).status_code == 401


@pytest.mark.parametrize(
    ("wei", "shown"),
    [
        (0, "0"),
        (1, "&lt; 0.000001"),
        (10**12, "0.000001"),
        (25 * 10**17, "2.5"),
        (10 * 10**18 - 1, "9.999999"),
        (10 * 10**18, "10"),
        (123_456 * 10**18, "123,456"),
    ],
)
def test_the_page_shows_amounts_as_people_write_them_and_rounds_none_up(gateway, wei, shown):
    key = gateway.key("x" * 64, budget_wei=wei)
    page = gateway.http.get("/usage", auth=("", key), headers={"accept": "text/html"}).text
    assert f'<td class="n">{shown}<' in page


def test_a_key_is_in_no_store_and_no_log(gateway, tmp_path, caplog, capfd):
    key = gateway.key()
    post(gateway, key)
    post(gateway, key[:-1] + "_")
    post(gateway, key, **body(messages=[{"role": "user", "content": "a secret question"}]))
    with caplog.at_level(logging.DEBUG):
        post(gateway, key, headers={"idempotency-key": "k"})
    out, err = capfd.readouterr()
    secret = key[-20:]
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("gateway.sqlite*"))
    assert secret.encode() not in stored
    assert b"a secret question" not in stored
    for told in (caplog.text, out, err):
        assert secret not in told
    assert hash_of(key).encode() in stored
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("gateway.sqlite*")} == {0o600}


def test_the_revisions_make_what_the_tables_declare(database_url):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from trine_gateway.tables import Base
    from trine_operator.database import open_engine

    store = GatewayStore(database_url)
    key_id, text_ = store.add_key("k", budget_wei=5, requests_per_minute=1)
    assert store.key(key_id).hash == hash_of(text_)
    name = store.reserve(key_id, 5, 60)
    store.settle(name, key_id, kept(1, 5), Repeat("a", "b"), "{}")
    store.judge(kept(1).digest, "reject", is_final=True)
    assert store.usage(key_id)[0].spent_wei == 0
    assert store.why_not_ready() is None
    store.close()
    engine = open_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert list(compare_metadata(context, Base.metadata)) == []
    engine.dispose()
