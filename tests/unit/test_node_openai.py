"""The service as clients see it: the stock openai library against a real server."""

import threading
import time

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_node_support import (
    MESSAGES,
    NAME,
    SlowEngine,
    body,
    engine,
    serving,
    wait_for,
)

from trine.protocol.fields import IGNORED, READ, UNSUPPORTED
from trine.protocol.inputs import chat_input
from trine.protocol.messages import Receipt, require_signer, text_hash
from trine_node.orders import parse_order
from trine_operator.refusal import Refusal

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with serving(f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite") as served:
        yield served


@pytest.fixture(scope="module")
def client(node):
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as stock:
        yield stock


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path}/node.sqlite"


def test_the_stock_client_chats_and_gets_a_receipt_for_the_very_text(node, client):
    answer = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5, temperature=0)
    promise = answer.model_extra["trine"]
    receipt = Receipt.from_json(promise["receipt"])
    require_signer(
        receipt.digest(node.chain.domain), bytes.fromhex(promise["signature"][2:]), node.chain.address, "receipt"
    )
    assert receipt.text_hash == text_hash(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (receipt.prompt_tokens, 5)
    assert promise["receiptDigest"] == "0x" + receipt.struct_hash().hex()
    assert answer._request_id.startswith("req_")


def test_a_stream_is_the_same_text_with_one_id_and_the_receipt_on_its_last_choice(client):
    whole = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=6)
    stream = client.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    *parts, last, usage = chunks
    assert last.choices[0].finish_reason == "length"
    assert Receipt.from_json(last.model_extra["trine"]["receipt"]).output_tokens == 6
    assert not usage.choices
    assert usage.usage.completion_tokens == 6
    assert "".join(chunk.choices[0].delta.content for chunk in parts) == whole.choices[0].message.content


def test_plain_completions_whole_and_streamed(client):
    whole = client.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4)
    chunks = list(client.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, stream=True))
    assert whole.object == "text_completion"
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert "trine" in chunks[-1].model_extra


def test_the_receipt_is_named_in_a_header_and_can_be_fetched(node):
    answer = node.http.post(CHAT, json=body())
    name = answer.headers["x-trine-receipt"]
    fetched = node.http.get(f"/v1/receipts/{name}").json()
    assert fetched == {
        "receipt": answer.json()["trine"]["receipt"],
        "signature": answer.json()["trine"]["signature"],
        "batch": None,
    }


def test_models_are_listed_and_retrieved(client):
    assert [entry.id for entry in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).model_extra["trine"]["pricePerTokenWei"] == "10"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", False),
        ("top_p", 0.9),
        ("top_k", 40),
        ("min_p", 0.1),
        ("seed", 1.5),
        ("n", 2),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("logprobs", True),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "xml"}),
        ("presence_penalty", 0.5),
        ("logit_bias", {"1": 2}),
        ("max_tokens", 0),
        ("max_tokens", 4097),
        ("max_tokens", True),
        ("max_completion_tokens", "5"),
        ("stream", "yes"),
        ("stream", 1),
        ("stream", 0),
        ("stream_options", 1),
        ("stream_options", False),
        ("n", True),
        ("frequency_penalty", False),
        ("max_token", 4),
        ("Temperature", 0),
        ("prompt", "hello"),
        ("guided_choice", []),
        ("guided_json", {"maximun": 1}),
        ("guided_regex", "(?=a)b"),
        ("guided_grammar", "start: x"),
        ("structured_outputs", "json"),
        ("min_tokens", 50),
        ("ignore_eos", True),
        ("ignore_eos", 0),
        ("stop_token_ids", [2]),
        ("bad_words", ["no"]),
        ("continue_final_message", True),
        ("add_generation_prompt", False),
        ("chat_template", "{{ messages }}"),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("truncate_prompt_tokens", 4),
        ("skip_special_tokens", False),
        ("logits_processors", ["x"]),
        ("grammar", "root ::= 'a'"),
        ("json_schema", {}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("logprobs", 0),
        ("unheard_of", 1),
        ("messages", "hello"),
        ("messages", []),
        ("messages", [{"role": "judge", "content": "x"}]),
        ("model", None),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(node, field, value):
    response = node.http.post(CHAT, json={**body(), field: value})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"include_usage": 1}, "stream_options.include_usage"),
        ({"include_usage": "yes"}, "stream_options.include_usage"),
        ({"continuous_usage_stats": True}, "stream_options.continuous_usage_stats"),
        ({"include_usages": True}, "stream_options.include_usages"),
    ],
)
def test_options_of_a_stream_that_are_not_served_are_refused_by_name(node, options, param):
    response = node.http.post(CHAT, json=body(stream=True, stream_options=options))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_misspelt_field_is_told_from_what_was_meant(node):
    error = node.http.post(CHAT, json=body(max_token=4)).json()["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "max_token")
    assert "did you mean 'max_tokens'?" in error["message"]


def test_two_limits_that_differ_are_one_too_many(node):
    assert node.http.post(CHAT, json=body(4, max_completion_tokens=4)).status_code == 200
    error = node.http.post(CHAT, json=body(4, max_completion_tokens=5)).json()["error"]
    assert error["param"] == "max_tokens"


def test_a_name_that_is_no_name_and_a_thousand_of_them_are_refused_in_few_words(node):
    long = node.http.post(CHAT, json=body(**{"x" * 100_000: 1}))
    many = node.http.post(CHAT, json=body(**{f"x{number}": None for number in range(1000)}))
    for response in (long, many):
        assert response.status_code == 400
        assert len(response.content) < 1000


@given(
    st.text(max_size=30).filter(lambda name: name not in {*READ, *IGNORED, *UNSUPPORTED, "messages", "prompt"}),
    st.one_of(st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2), st.just({})),
)
def test_no_unknown_field_is_ignored_whatever_it_is_called(name, value):
    for chat in (True, False):
        asked = {"model": NAME, **({"messages": MESSAGES} if chat else {"prompt": "x"}), name: value}
        with pytest.raises(Refusal) as refused:
            parse_order(asked, chat=chat, model_name=NAME, default_max_tokens=4, limit_tokens=9)
        assert refused.value.param == name
        order = parse_order({**asked, name: None}, chat=chat, model_name=NAME, default_max_tokens=4, limit_tokens=9)
        assert order.max_tokens == 4


HISTORY = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "Bye"},
]


def rendered(messages):
    """Token ids that are decoded from, and verified."""
    return engine().encode_chat(chat_input(messages).as_messages())


@pytest.mark.parametrize(
    "answered",
    [
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [], "function_call": None},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": None,
            "annotations": [],
            "function_call": None,
            "tool_calls": None,
            "name": "bot",
        },
    ],
)
def test_an_answer_without_text_is_taken_back_as_an_empty_one(node, answered):
    history = [HISTORY[0], answered, HISTORY[2]]
    assert rendered(history) == rendered([HISTORY[0], {"role": "assistant", "content": ""}, HISTORY[2]])
    response = node.http.post(CHAT, json=body(messages=history))
    assert response.status_code == 200
    assert response.json()["usage"]["prompt_tokens"] == len(rendered(history))


def test_what_the_stock_client_was_given_can_be_sent_back(client):
    first = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=3)
    back = [*MESSAGES, first.choices[0].message.model_dump(), {"role": "user", "content": "Go on."}]
    assert client.chat.completions.create(model=NAME, messages=back, max_tokens=3).choices


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_text_parts_give_the_same_ids_as_the_joined_text(node, role):
    parts = [{"type": "text", "text": "Take c"}, {"type": "text", "text": "are 🙂"}, {"type": "text", "text": "\n\n."}]
    apart = [{"role": role, "content": parts}, {"role": "user", "content": "Hello"}]
    joined = [{"role": role, "content": "Take care 🙂\n\n."}, {"role": "user", "content": "Hello"}]
    assert rendered(apart) == rendered(joined)
    answers = [node.http.post(CHAT, json=body(messages=messages)).json() for messages in (apart, joined)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"] == answers[1]["usage"]


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, "messages[1].function_call"),
        ({"role": "assistant", "content": None, "refusal": "No."}, "messages[1].refusal"),
        ({"role": "assistant", "content": "x", "prefix": True}, "messages[1].prefix"),
        ({"role": "assistant", "content": "x", "reasoning_content": "hm"}, "messages[1].reasoning_content"),
        ({"role": "assistant", "content": "x", "audio": {"id": "1"}}, "messages[1].audio"),
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, "messages[1]: a message of the role 'tool'"),
        ({"role": "function", "content": "x", "name": "f"}, "messages[1].role"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "system", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 1}, "messages[1].content"),
        ({"role": "user", "content": "x", "weight": 0}, "messages[1].weight"),
        ({"role": ["user"], "content": "x"}, "messages[1].role"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "detail": "y"}]}, "messages[1].content[0].detail"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content"),
    ],
)
def test_what_would_be_lost_of_a_message_is_refused_by_name(node, message, named):
    response = node.http.post(CHAT, json=body(messages=[HISTORY[0], message]))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")
    assert named in response.json()["error"]["message"]


ORIGIN = "https://app.example"


def test_a_page_may_ask_only_where_its_origin_is_allowed(store_url):
    preflight = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }
    with serving(store_url, cors_origins=[ORIGIN]) as node:
        allowed = node.http.options(CHAT, headers={"origin": ORIGIN, **preflight})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        other = node.http.options(CHAT, headers={"origin": "https://app.example.evil", **preflight})
        assert "access-control-allow-origin" not in other.headers
        for asked, status in ((body(), 200), (body(max_token=1), 400)):
            answer = node.http.post(CHAT, json=asked, headers={"origin": ORIGIN})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
            assert "x-trine-receipt" in answer.headers["access-control-expose-headers"]
    with serving(store_url) as node:
        assert node.http.options(CHAT, headers={"origin": ORIGIN, **preflight}).status_code == 405
        assert (
            "access-control-allow-origin" not in node.http.post(CHAT, json=body(), headers={"origin": ORIGIN}).headers
        )


@pytest.mark.parametrize(
    "harmless",
    [
        {"temperature": 0.0, "top_p": 1.0, "n": 1, "stop": None, "tools": [], "response_format": {"type": "text"}},
        {"user": "me", "seed": 5, "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"safety_identifier": "x", "prompt_cache_key": "y", "parallel_tool_calls": True, "store": True},
        {"max_tokens": None, "max_completion_tokens": 3},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"min_tokens": 0, "ignore_eos": False, "stop_token_ids": [], "chat_template_kwargs": {}, "unheard_of": None},
    ],
)
def test_what_changes_nothing_is_ignored(node, harmless):
    assert node.http.post(CHAT, json={**body(), **harmless}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b'{"model":' * 100_000, 400, "invalid_json"),
        (b'{"model": NaN}', 400, "invalid_json"),
        (b'{"model": "\\ud800"}', 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[]", 400, None),
        (b'{"metadata": {"a": [1, 1e400]}}', 400, "invalid_json"),
        (b'{"max_tokens": 5, "max_tokens": 500}', 400, "repeated_field"),
        (b'{"messages": [{"role": "user", "content": "a", "r\\u006fle": "system"}]}', 400, "repeated_field"),
        (b'{"model": "another"}', 404, "model_not_found"),
    ],
)
def test_bodies_that_are_no_orders(node, content, status, code):
    response = node.http.post(CHAT, content=content)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_unknown_paths_and_methods_fail_in_the_same_form(node):
    without = node.http.post("/chat/completions", json={})
    assert without.json()["error"]["message"] == "nothing is served at /chat/completions: a base URL ends in /v1"
    for response, status in ((without, 404), (node.http.get("/v1/nothing"), 404), (node.http.get(CHAT), 405)):
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_over_the_limit_is_refused_while_it_arrives(store_url):
    with serving(store_url, max_body_bytes=2048) as node:
        sent = 0

        def endless():
            nonlocal sent
            for _ in range(1000):
                sent += 1
                yield b" " * 1024

        try:
            response = node.http.post(CHAT, content=endless())
            assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
        except httpx2.TransportError:
            assert sent < 1000  # the connection was closed on us before we could read the refusal
        assert node.http.post(CHAT, json=body()).status_code == 200


def test_an_answer_that_no_batch_may_hold_is_refused(node, monkeypatch):
    monkeypatch.setattr(node.answering.chain, "max_batch_tokens", 40)
    monkeypatch.setattr(node.answering, "_terms", None)
    response = node.http.post(CHAT, json=body(38))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "what a batch may hold, 40" in response.json()["error"]["message"]


def test_a_prompt_and_answer_beyond_the_context_are_refused(node):
    response = node.http.post(CHAT, json=body(2048, messages=[{"role": "user", "content": "word " * 2500}]))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_a_full_queue_says_when_to_come_back_and_then_serves(store_url):
    with serving(store_url, engine_=SlowEngine(0.02), max_running=1, max_waiting=1) as node:
        results = []
        working = threading.Thread(target=lambda: results.append(node.http.post(CHAT, json=body(50)).status_code))
        working.start()
        wait_for(lambda: node.answering.engine.produced > 0)
        queue = node.app.state.openai._generations
        queue.take_place()  # somebody waits
        refused = node.http.post(CHAT, json=body(1))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        queue._ends.extend([time.monotonic() - seconds for seconds in (60, 40, 20)])
        assert 15 <= int(node.http.post(CHAT, json=body(1)).headers["retry-after"]) <= 25, "half of two places' time"
        queue.give_place_back()
        assert node.http.post(CHAT, json=body(1)).status_code == 200
        working.join()
        assert results == [200]


def test_without_a_queue_one_request_at_a_time_is_still_served(store_url):
    with serving(store_url, max_running=1, max_waiting=0) as node:
        assert [node.http.post(CHAT, json=body(1)).status_code for _ in range(3)] == [200, 200, 200]


def leave_early(node, stream):
    """Asks for a long answer and hangs up in its middle."""
    with httpx2.Client(base_url=node.url, timeout=0.4) as impatient:
        if stream:
            with impatient.stream("POST", CHAT, json=body(2000, stream=True)) as response:
                begun = time.monotonic()
                for _line in response.iter_lines():
                    if time.monotonic() - begun > 0.3:
                        return
        with pytest.raises(httpx2.TimeoutException):
            impatient.post(CHAT, json=body(2000))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_the_engine_and_frees_it_for_the_next(store_url, stream):
    engine = SlowEngine(0.02)
    with serving(store_url, engine_=engine) as node:
        for _ in range(3):
            leave_early(node, stream)
        assert node.http.post(CHAT, json=body(1), timeout=10).status_code == 200
        settled = engine.produced
        time.sleep(0.2)
        assert engine.produced == settled
        assert len(node.store.unbatched(10)) == 1  # only the answer that was waited for is promised


def test_clients_that_leave_the_queue_make_room(store_url):
    def waits_and_leaves():
        """Whether there was a place to wait in."""
        with httpx2.Client(base_url=node.url, timeout=0.3) as impatient:
            try:
                return impatient.post(CHAT, json=body(50)).status_code != 429
            except httpx2.TimeoutException:
                return True

    with serving(store_url, engine_=SlowEngine(0.05), max_running=1, max_waiting=1) as node:
        first = threading.Thread(target=node.http.post, args=(CHAT,), kwargs={"json": body(300)})
        first.start()
        wait_for(lambda: node.answering.engine.produced > 0)
        for _ in range(3):  # each takes the one waiting place and leaves it
            wait_for(waits_and_leaves)
        assert first.is_alive()
        assert node.http.post(CHAT, json=body(1)).status_code == 200
        first.join()


def test_an_answer_that_takes_too_long_is_given_up_and_not_promised(store_url):
    with serving(store_url, engine_=SlowEngine(0.05), request_timeout_seconds=0.5) as node:
        response = node.http.post(CHAT, json=body(2000))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "timeout")
        with node.http.stream("POST", CHAT, json=body(2000, stream=True)) as streamed:
            lines = [line for line in streamed.iter_lines() if line]
        assert '"code": "timeout"' in lines[-1]
        assert "[DONE]" not in lines[-1]
        assert node.http.post(CHAT, json=body(1)).status_code == 200
        assert len(node.store.unbatched(10)) == 1


def test_an_engine_that_fails_in_mid_stream_says_so_and_the_client_raises(store_url):
    class Broken(SlowEngine):
        def generate(self, *arguments):
            yield next(super().generate(*arguments))
            raise RuntimeError("secret detail")

    with serving(store_url, engine_=Broken(0)) as node:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client:
            with pytest.raises(openai.APIError, match="its log says why"):
                list(client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=9, stream=True))
            with pytest.raises(openai.InternalServerError) as raised:
                client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=9)
        assert "secret" not in raised.value.message
        assert raised.value.request_id.startswith("req_")
        assert node.store.unbatched(10) == []


def test_health_says_why_not(store_url):
    reason = ["calibrating"]
    with serving(store_url, readiness=lambda: reason[0]) as node:
        assert (node.http.get("/healthz").status_code, node.http.get("/healthz").json()["reason"]) == (
            503,
            "calibrating",
        )
        reason[0] = None
        assert node.http.get("/healthz").json() == {"status": "ok"}


def test_a_closing_node_finishes_what_it_began_and_takes_nothing_new(store_url):
    with serving(store_url, engine_=SlowEngine(0.02)) as node:
        results = []
        working = threading.Thread(target=lambda: results.append(node.http.post(CHAT, json=body(40)).status_code))
        working.start()
        wait_for(lambda: node.answering.engine.produced > 0)
        node.app.state.openai.close()
        assert node.http.post(CHAT, json=body(1)).status_code == 503
        working.join()
        assert results == [200]
