"""What a gateway says where something is missing, too large, or sent in two ways; and how soon its health knows."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from gateway_support import REQUIRED, bearer, gateway_before
from test_node_support import NAME, serving, wait_for

from trine.chain import Chain
from trine.errors import ChainUnreachable, InvalidInput
from trine_gateway.settings import GatewaySettings

BODY = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('node')}/node.sqlite"
    with serving(url, allow_unsigned=False, max_tokens=8) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(node, tmp_path_factory):
    with gateway_before(node, tmp_path_factory.mktemp("gateway")) as served:
        yield served


def test_more_tokens_than_any_node_gives_is_the_clients_mistake_and_the_limit_is_named(gateway):
    for field in ("max_tokens", "max_completion_tokens"):
        body = {**BODY, field: 9, "max_tokens": 9}
        refused = gateway.http.post("/v1/chat/completions", json=body, headers=bearer(gateway.key()))
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "max_tokens")
        assert "up to 8 tokens" in error["message"]


def test_a_budget_is_told_in_tokens(gateway):
    key = gateway.key(budget_wei=5)
    error = gateway.http.post("/v1/chat/completions", json=BODY, headers=bearer(key)).json()["error"]
    assert error["code"] == "insufficient_quota"
    assert "as a token), and of the key's budget of 5e-18 tokens only 5e-18 tokens are" in error["message"]


def test_attack_a_request_of_two_lengths_is_refused_and_what_follows_it_is_not_read(gateway, node):
    for url in (gateway.url, node.url):
        host, port = url.removeprefix("http://").split(":")
        hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\n"
        head += b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n" % len(hidden)
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head + hidden)
            answered = b""
            while more := connection.recv(65_536):  # until it is closed
                answered += more
        assert answered.count(b"HTTP/1.1 ") == 1
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert b"not both" in answered


def test_health_says_that_the_chain_is_away_and_when_it_is_back(node, tmp_path, monkeypatch):
    monkeypatch.setattr("trine_gateway.chain_watch.LOOK_SECONDS", 0.05)
    with gateway_before(node, tmp_path) as gateway:
        assert gateway.http.get("/healthz").status_code == 200
        away = [True]
        real = gateway.client.chain.timestamp

        def timestamp():
            if away[0]:
                raise ChainUnreachable("http://secret.example:8545 does not answer")
            return real()

        gateway.client.chain.timestamp = timestamp
        wait_for(lambda: gateway.http.get("/healthz").status_code == 503)
        assert "the chain cannot be asked" in gateway.http.get("/healthz").json()["reason"]
        assert "secret" not in gateway.http.get("/healthz").text
        away[0] = False
        wait_for(lambda: gateway.http.get("/healthz").status_code == 200)
    assert callable(Chain.timestamp)  # what is stood in for is there


def test_which_node_comes_first_is_a_setting():
    assert GatewaySettings.load(None, **REQUIRED, prefer="speed").prefer == "speed"
    with pytest.raises(InvalidInput, match="prefer"):
        GatewaySettings.load(None, **REQUIRED, prefer="fastest")


def run(*arguments, cwd=None):
    """`trine gateway …`."""
    command = [sys.executable, "-m", "trine", "gateway", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_running_without_a_file_names_the_command_that_writes_one(tmp_path):
    done = run("run", cwd=tmp_path)
    assert done.returncode == 3
    assert "trine gateway init" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_name_that_another_key_has_is_said(tmp_path):
    settings = tmp_path / "gateway.toml"
    required = {**REQUIRED, "store_url": f"sqlite:///{tmp_path}/gateway.sqlite"}
    settings.write_text("".join(f'{field} = "{value}"\n' for field, value in required.items()))
    added = [run("keys", "add", name, "--config", str(settings)) for name in ("app", "other", "app")]
    assert [("is also what" in done.stderr, done.returncode) for done in added] == [(False, 0), (False, 0), (True, 0)]
    assert added[0].stdout.removeprefix("sk-trine-")[:12] in added[2].stderr


def test_two_idempotency_keys_are_none(gateway):
    headers = [*bearer(gateway.key()).items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
    refused = gateway.http.post("/v1/chat/completions", json=BODY, headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "idempotency-key")


def test_attack_numbers_that_are_no_numbers_cost_nothing(gateway):
    """They were echoed after the answer had been paid for, as no JSON."""
    for field in ("metadata", "max_tool_calls"):
        content = b'{"model": "%s", "input": "Hi", "%s": {"a": 1e400}}' % (NAME.encode(), field.encode())
        key = gateway.key()
        refused = gateway.http.post("/v1/responses", content=content, headers=bearer(key))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json")
        assert gateway.usage(key)["spentWei"] == "0"


def test_attack_a_field_that_stands_twice_costs_nothing(gateway):
    for path, name in (("/v1/chat/completions", "max_tokens"), ("/v1/responses", "max_output_tokens")):
        content = f'{{"model": "{NAME}", "{name}": 5, "{name}": 500}}'.encode()
        key = gateway.key()
        refused = gateway.http.post(path, content=content, headers=bearer(key))
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "repeated_field", name)
        assert gateway.usage(key)["spentWei"] == "0"
