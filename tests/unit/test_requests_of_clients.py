"""Requests as clients are reported to send them, at a node and at a gateway alike: what asks for nothing is taken, what
would change an answer is served or refused by name, and nothing else happens.

Each row names the public report that it was made of, in words of this project.
"""

from __future__ import annotations

import gzip
import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import pytest
from gateway_support import gateway_before
from test_node_support import NAME, serving
from tools_support import CALLED, TOOLS, Saying

CHAT, PLAIN, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"
HELLO = [{"role": "user", "content": "Hello"}]
ASSISTANT = {"role": "assistant", "content": "Hi"}


@dataclass
class Served:
    """Where to ask, and by which headers."""

    http: httpx2.Client
    url: str
    headers: dict[str, str]

    def ask(self, path=CHAT, **fields):
        body = {"model": NAME, "max_tokens": 3, **({"messages": HELLO} if path == CHAT else {"prompt": "Hello"})}
        given = {**body, **fields}
        sent = {field: value for field, value in given.items() if value is not ...}
        return self.http.post(path, json=sent, headers=self.headers)

    def raw(self, *head, body=b"", end=b"\r\n"):
        """What comes back on a connection of its own, until it is closed."""
        host, port = self.url.removeprefix("http://").split(":")
        lines = [*head, "host: x", "connection: close", *(f"{name}: {value}" for name, value in self.headers.items())]
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n" + end + body)
            answered = b""
            while more := connection.recv(65_536):
                answered += more
        return answered


@contextmanager
def both(folder, **options):
    """A node, and a gateway before another one that wants signed orders."""
    with (
        serving(f"sqlite:///{folder}/open.sqlite", **options) as node,
        serving(f"sqlite:///{folder}/signed.sqlite", allow_unsigned=False, **options) as signed,
        gateway_before(signed, folder) as gateway,
    ):
        yield {
            "node": Served(node.http, node.url, {}),
            "gateway": Served(gateway.http, gateway.url, {"authorization": f"Bearer {gateway.key()}"}),
        }


@pytest.fixture(scope="module")
def everybody(tmp_path_factory):
    with both(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="module")
def callers(tmp_path_factory):
    with both(tmp_path_factory.mktemp("callers"), engine_=Saying("Sunny.")) as served:
        yield served


@pytest.fixture(params=["node", "gateway"])
def at(request, everybody):
    return everybody[request.param]


@pytest.fixture(params=["node", "gateway"])
def caller(request, callers):
    return callers[request.param]


@pytest.fixture(scope="module")
def plainly(everybody):
    """What the plain request is answered with."""
    return {path: text_of(everybody["node"].ask(path)) for path in (CHAT, PLAIN)}


def text_of(answer):
    choice = answer.json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {}},  # vllm#1045: LangChain, Haystack send it always
        {"max_tokens": ..., "max_completion_tokens": 3},  # llama-cpp-python#1907
        {"max_tokens": 3, "max_completion_tokens": 3},  # LiteLLM sends both
        {"max_tokens": 3, "max_completion_tokens": None},  # vllm#19862
        {"n": 1, "frequency_penalty": 0, "presence_penalty": 0.0},  # RWKV-Runner#96: LangChain's defaults
        {"n": None, "stop": None, "seed": None, "user": None, "tools": None, "tool_choice": None},
        {"stop": []},  # search_with_lepton#35
        {"stop": ""},  # unsloth#5711: a form that was left empty
        {"stop": ["\u0000 never said"]},
        {"logprobs": False, "top_logprobs": None},
        {"logprobs": False, "top_logprobs": 0},  # vllm#13881
        {"temperature": 0, "top_p": 1},
        {"temperature": 0.0, "top_p": 0.1, "seed": 7},  # greedy: these change nothing
        {"temperature": None, "top_p": None, "top_k": -1, "min_p": 0},
        {"user": "somebody", "metadata": {"trace": "1"}, "store": False, "service_tier": "auto"},
        {"store": True},  # openai-python's `chat.completions.create(store=True)`
        {"parallel_tool_calls": True, "tools": [], "tool_choice": "none"},  # browser-use/web-ui#587
        {"functions": [], "function_call": "none"},
        {"response_format": {"type": "text"}},
        {"stream": None, "stream_options": None},
        {"stream": False, "stream_options": {"include_usage": True}},  # dify-plugin-sdks#50
        {"modalities": ["text"], "reasoning_effort": None, "verbosity": None, "prediction": None},
        {"prompt_cache_key": "x", "safety_identifier": "y", "prompt_cache_retention": None},  # OmniRoute#1154
        {"repetition_penalty": 1.0, "length_penalty": 1, "early_stopping": False, "best_of": 1},  # vLLM's defaults
        {"skip_special_tokens": True, "spaces_between_special_tokens": True, "add_generation_prompt": True},
        {"cache_prompt": True, "id_slot": -1, "typical_p": 1.0, "mirostat": 0, "repeat_penalty": 1},  # llama.cpp's
        {"dry_multiplier": 0, "xtc_probability": 0.0, "dynatemp_range": 0, "tfs_z": 1, "timings_per_token": False},
        {"separate_reasoning": True, "stream_reasoning": True, "no_stop_trim": False, "rid": "1"},  # SGLang's
    ],
)
def test_what_asks_for_nothing_changes_nothing(at, plainly, fields):
    answer = at.ask(**fields)
    assert answer.status_code == 200, answer.text
    assert text_of(answer) == plainly[CHAT]
    assert answer.json()["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["Hello"]},  # vllm#186, FastChat#1306: LangChain sends a list always
        {"suffix": None, "echo": False, "best_of": 1, "logprobs": None},
        {"suffix": "", "logit_bias": {}, "n": 1, "stop": None},
    ],
)
def test_what_asks_for_nothing_changes_no_plain_completion(at, plainly, fields):
    answer = at.ask(PLAIN, **fields)
    assert (answer.status_code, text_of(answer)) == (200, plainly[PLAIN])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),  # MTPLX#191: one choice came, with a 200
        ({"n": True}, "n"),
        ({"logit_bias": {"15339": -100}}, "logit_bias"),  # OrcaRouter-Lite#126: dropped in silence
        ({"logit_bias": {"AI": -100}}, "logit_bias"),  # vllm#5963: ended the engine
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 5}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),  # llama.cpp takes it for "no limit"
        ({"max_tokens": "3"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),  # litellm#18921, continue#2461
        ({"stop": [""]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stop_sequences": ["a"]}, "stop_sequences"),  # litellm#4483
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": "usage"}, "stream_options"),
        ({"stream_options": {"includ_usage": True}}, "stream_options.includ_usage"),  # mellea#823: a typo, in silence
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"temperature": "0.7"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": ...}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
        ({"messages": [{**HELLO[0], "opts": {"visible": False}}]}, "messages"),  # vllm#10463: lost where it is ignored
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"repetition_penalty": 1.97}, "repetition_penalty"),  # SillyTavern#1018
        ({"typical_p": 0.975}, "typical_p"),
        ({"extra_body": {}}, "extra_body"),
        ({"num_ctx": 4096}, "num_ctx"),
        ({"max_token": 3}, "max_token"),
        ({"response_format": {"type": "json"}}, "response_format"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
    ],
)
def test_what_would_change_an_answer_is_refused_by_name(at, fields, param):
    answer = at.ask(**fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"logprobs": 0}, "logprobs"),  # zero asks for the chosen tokens' own
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"messages": HELLO}, "messages"),
    ],
)
def test_what_would_change_a_plain_completion_is_refused_by_name(at, fields, param):
    answer = at.ask(PLAIN, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "messages",
    [
        [*HELLO, ASSISTANT, *HELLO],
        [*HELLO, {**ASSISTANT, "content": ""}, *HELLO],  # vllm#21089
        [*HELLO, {**ASSISTANT, "content": None}, *HELLO],  # freellmapi#165
        [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}],
        [*HELLO, {**ASSISTANT, "tool_calls": [], "function_call": None, "refusal": None, "audio": None}, *HELLO],
        [*HELLO, {**ASSISTANT, "annotations": [], "reasoning_content": None}, *HELLO],  # as vLLM answers, sent back
        [{"role": "system", "content": [{"type": "text", "text": "Brief."}]}, {**HELLO[0], "name": "ann"}],
        [{"role": "developer", "content": "Brief."}, *HELLO],
        [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]}],
        [{"role": "user", "content": ""}],
        [*HELLO, *HELLO],
    ],
)
def test_histories_are_taken_as_clients_keep_them(at, messages):
    answer = at.ask(messages=messages)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 3


@pytest.mark.parametrize(
    "messages",
    [
        CALLED,
        [
            CALLED[0],
            {key: value for key, value in CALLED[1].items() if key != "content"},
            CALLED[2],
        ],  # #456 of jekalmin
        [CALLED[0], {**CALLED[1], "content": ""}, CALLED[2]],
        [CALLED[0], CALLED[1], {**CALLED[2], "content": [{"type": "text", "text": '{"celsius": 21.5}'}]}],
    ],
)
def test_calls_without_words_are_taken_back(caller, messages):
    answer = caller.ask(messages=messages, tools=TOOLS)
    assert answer.status_code == 200, answer.text
    plain = caller.ask(messages=CALLED, tools=TOOLS).json()
    assert answer.json()["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


def chunks_of(answer):
    lines = [line for line in answer.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("path", [CHAT, PLAIN])
def test_a_stream_tells_its_usage_last_and_once_and_its_end_once(at, path):
    """openai-openapi#240, sglang#8417, vllm-mlx#628, openai-agents-js#107."""
    chunks = chunks_of(at.ask(path, stream=True, stream_options={"include_usage": True}))
    *said, usage = chunks
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)
    assert [chunk["usage"] for chunk in said] == [None] * len(said)
    assert [chunk["choices"][0]["finish_reason"] for chunk in said] == [None] * (len(said) - 1) + ["length"]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    if path == CHAT:
        assert [("role" in chunk["choices"][0]["delta"]) for chunk in said] == [True] + [False] * (len(said) - 1)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_a_stream_that_is_not_asked_for_usage_tells_none(at, options):
    chunks = chunks_of(at.ask(stream=True, stream_options=options))
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)


# Bodies


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"model=x&stream=true", "invalid_json"),
        (b'{"model": "\xff\xfe"}', "invalid_json"),  # no UTF-8
        (b'{"model": "\\ud800"}', "invalid_json"),
        ('{"model": "x"}'.encode("utf-16"), "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"temperature": NaN}', "invalid_json"),
        (b"[1]", None),
        (b'"Hello"', None),
        (b"null", None),
    ],
)
def test_a_body_that_is_no_object_is_refused(at, content, code):
    answer = at.http.post(CHAT, content=content, headers=at.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def body_of(**fields):
    return json.dumps({"model": NAME, "messages": HELLO, "max_tokens": 3, **fields}).encode()


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
def test_a_body_is_json_whatever_its_header_calls_it(at, plainly, kind):
    """curl's -d names a form."""
    answer = at.http.post(CHAT, content=body_of(), headers={**at.headers, "content-type": kind})
    assert (answer.status_code, text_of(answer)) == (200, plainly[CHAT])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_compressed_body_is_refused_by_its_header(at, encoding):
    """ollama#12386: 'invalid character' helps nobody."""
    headers = {**at.headers, "content-encoding": encoding}
    answer = at.http.post(CHAT, content=gzip.compress(body_of()), headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (415, "unsupported_encoding", "content-encoding")


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_body_may_come_in_chunks(at, plainly, pieces):
    body = body_of()
    size = -(-len(body) // pieces)
    answer = at.http.post(
        CHAT, content=(body[start : start + size] for start in range(0, len(body), size)), headers=at.headers
    )
    assert "content-length" not in answer.request.headers
    assert text_of(answer) == plainly[CHAT]


def test_who_expects_to_be_told_to_go_on_is_told(at):
    """curl does, before a large body."""
    body = body_of()
    lines = [f"POST {CHAT} HTTP/1.1", f"content-length: {len(body)}", "expect: 100-continue"]
    answered = at.raw(*lines, body=body)
    assert answered.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 OK" in answered


def test_who_sends_too_much_reads_why(at):
    """Not a connection that is reset, which a stock client tries again."""
    answer = at.http.post(CHAT, content=b" " * (8 << 20), headers=at.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


# Addresses and headers


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (CHAT + "/", "leave out the slash at the end"),  # fastapi#4990: a redirect would leave TLS, with the key
        ("/v1//chat/completions", "there is a slash too many"),  # litellm#8350
        ("//v1/chat/completions", "there is a slash too many"),
        ("/v1/v1/chat/completions", "a base URL has one /v1"),  # agentskit#1009, LifeOS#708
        ("/chat/completions", "a base URL ends in /v1"),  # cline#240
    ],
)
def test_an_address_that_is_nearly_one_is_not_served_and_says_what_is_wrong(at, path, hint):
    answer = at.http.post(at.url + path, json={}, headers=at.headers, follow_redirects=False)
    assert answer.status_code == 404
    assert hint in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", CHAT, 405),
        ("PUT", CHAT, 405),
        ("HEAD", CHAT, 405),
        ("OPTIONS", CHAT, 405),  # nobody has allowed any website
        ("POST", MODELS, 405),
        ("HEAD", "/healthz", 200),
        ("GET", "/v1/embeddings", 404),
        ("POST", "/v1/audio/speech", 404),
        ("GET", "/v1/models/another", 404),
        ("GET", "/v1/models/" + "x" * 5_000, 404),
        ("GET", "/v1/models/%00%ff", 404),
        ("GET", "/", 404),
    ],
)
def test_other_methods_and_addresses_are_told_apart_in_openais_form(at, method, path, status):
    answer = at.http.request(method, path, headers=at.headers)
    assert answer.status_code == status
    if method != "HEAD":
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_models_are_listed_as_openai_lists_them(at):
    listed = at.http.get(MODELS, headers=at.headers).json()
    (entry,) = listed["data"]
    assert (listed["object"], entry["object"], entry["id"]) == ("list", "model", NAME)
    assert entry["created"] == 1_700_000_000
    assert isinstance(entry["owned_by"], str)
    assert at.http.get(f"{MODELS}/{NAME}", headers=at.headers).json() == entry
    error = at.http.get(f"{MODELS}/another", headers=at.headers).json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("model_not_found", "model", "invalid_request_error")


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("Bearer {}", 200),
        ("bearer {}", 200),
        ("BEARER {}", 200),
        ("Bearer   {}", 200),
        ("{}", 401),
        ("Bearer", 401),
        ("Basic {}", 401),
        ("Token {}", 401),
        ("Bearer {}, Bearer {}", 401),
        ('Bearer "{}"', 401),
        ("", 401),
    ],
)
def test_a_key_is_shown_in_one_way(everybody, shown, status):
    served = everybody["gateway"]
    key = served.headers["authorization"].removeprefix("Bearer ")
    answer = served.http.get(MODELS, headers={"authorization": shown.format(key, key)})
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert key not in answer.text


@pytest.mark.parametrize("header", ["api-key", "x-api-key", "openai-api-key"])
def test_a_key_in_another_header_is_none_and_the_right_one_is_named(everybody, header):
    served = everybody["gateway"]
    key = served.headers["authorization"].removeprefix("Bearer ")
    answer = served.http.get(MODELS, headers={header: key})
    assert answer.status_code == 401
    assert "Authorization: Bearer" in answer.json()["error"]["message"]


def test_when_a_model_was_registered_is_asked_of_the_chain_once_a_minute_where_it_does_not_say(tmp_path, monkeypatch):
    """Anybody may ask for models, as often as they like."""
    with serving(f"sqlite:///{tmp_path}/node.sqlite") as node:
        asked = []
        monkeypatch.setattr(node.chain, "registered_at", lambda ids: asked.append(ids) or {}, raising=False)
        entries = [node.http.get(MODELS).json()["data"][0] for _ in range(5)]
    assert {entry["created"] for entry in entries} == {0}
    assert len(asked) == 1
