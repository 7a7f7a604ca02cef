"""Examples of docs/examples where a beginner errs or presses Ctrl-C: a sentence, and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_node_support import ended

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TOOLS = Path(__file__).parents[2] / ".examples-venv" / "bin" / "python"
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("TRINE_", "OPENAI_"))}
HEADER = "row,question,answer,verdict,fee_wei,receipt\r\n"


def run(folder, command, variables=None, python=sys.executable):
    done = subprocess.run(
        [str(python), *map(str, command)],
        cwd=folder,
        env={**BARE, "PYTHONPATH": str(EXAMPLES), **(variables or {})},
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


class _Gateway(BaseHTTPRequestHandler):
    """Answers the first request, and lets every other wait; refuses wrong keys."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Bearer right":
            return self._send(401, {"error": {"message": "this key is not known here", "code": "invalid_api_key"}})
        if next(self.server.numbers):
            self.server.reached.set()
            self.server.over.wait(120)
        message = {"role": "assistant", "content": "Elbe"}
        trine = {"verdict": "accept", "feeWei": "7", "receiptDigest": "0x12"}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        return self._send(200, {"id": "1", "object": "chat.completion", "choices": choices, "trine": trine})

    def _send(self, status, document, events=None):
        body = json.dumps(document).encode() if events is None else events
        self.send_response(status)
        self.send_header("content-type", "application/json" if events is None else "text/event-stream")
        self.send_header("x-trine-verdict", self.server.verdict)
        self.send_header("x-trine-receipt", "0x12")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class _Judging(_Gateway):
    """Answers whatever is asked of its one model, whole and streamed; the verdict is the server's."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != "Bearer right":
            return self._send(401, {"error": {"message": "this key is not known here", "code": "invalid_api_key"}})
        if asked["model"] != "smollm2-135m-instruct":
            return self._send(404, {"error": {"message": "there is no such model", "code": "model_not_found"}})
        head = {"id": "1", "created": 1, "model": asked["model"]}
        if asked.get("stream"):
            begun = {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": "El"}}
            ended = {"index": 0, "finish_reason": "stop", "delta": {}}
            said = [{**head, "object": "chat.completion.chunk", "choices": [each]} for each in (begun, ended)]
            if self.server.breaks:
                said[1] = {"error": {"message": "no node answers right now", "code": "no_node"}}
            body = "".join(f"data: {json.dumps(each)}\n\n" for each in said)
            return self._send(200, None, (body + "data: [DONE]\n\n").encode())
        message = {"role": "assistant", "content": "Elbe"}
        return self._send(
            200,
            {
                **head,
                "object": "chat.completion",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                "trine": {"verdict": self.server.verdict, "receiptDigest": "0x12"},
            },
        )


@contextmanager
def gateway(handler=_Gateway):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.verdict, server.breaks = "accept", False
    server.numbers, server.reached, server.over = iter(range(1000)), threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


def tenant(server, key="right"):
    return {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_address[1]}/v1", "OPENAI_API_KEY": key}


@pytest.mark.slow
@pytest.mark.parametrize("command", [[EXAMPLES / "chat.py"], ["-m", "agent", "Do it."]])
def test_an_example_without_a_network_says_what_to_set(command, tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "mandate.json").write_text('{"payees": {}, "paymentLimit": "1", "taskLimit": "1"}')
    code, said = run(tmp_path, command, {"TRINE_RPC_URL": "http://127.0.0.1:9"})
    assert (code, "TRINE_DEPLOYMENT" in said, "trine devnet up" in said) == (1, True, True)
    wrong = {"TRINE_RPC_URL": "x", "TRINE_DEPLOYMENT": "x", "TRINE_KEYSTORE": "x", "TRINE_PASSWORD_FILE": "x"}
    code, said = run(tmp_path, command, wrong)
    assert (code, "cannot read a password from x" in said) == (1, True)


@pytest.mark.slow
def test_the_agent_says_what_is_wrong_with_a_mandate(tmp_path):
    for mandate, arguments, words in (
        (None, [], "the owner writes it"),
        ("{", [], "is no JSON"),
        ("[]", [], "needs payees"),
        ('{"payees": {"alice": "0x00"}, "paymentLimit": "1", "taskLimit": "1"}', ["--pay", "bob", "1"], "(alice)"),
    ):
        (tmp_path / "owner").mkdir(exist_ok=True)
        if mandate is not None:
            (tmp_path / "owner" / "mandate.json").write_text(mandate)
        code, said = run(tmp_path, ["-m", "agent", "Do it.", *arguments])
        assert (code, words in said) == (1, True), said


@pytest.mark.slow
def test_a_batch_says_what_is_wrong_and_spoils_no_file(tmp_path):
    batch, answers = EXAMPLES / "batch.py", tmp_path / "answers.csv"
    questions = tmp_path / "questions.csv"
    questions.write_text("question\nName a river.\n")
    with gateway() as server:
        right = tenant(server)
        for arguments, variables, words in (
            ([questions, answers], {}, "set OPENAI_BASE_URL, OPENAI_API_KEY"),
            ([questions, answers, "--column", "nope"], right, "no column 'nope': there are question"),
            ([tmp_path / "none.csv", answers], right, "No such file"),
            ([questions, questions], right, "was not written by this script"),
            ([questions, answers], tenant(server, "wrong"), "this key is not known here"),
            ([questions, answers], {**right, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "127.0.0.1:9/v1 does not"),
        ):
            code, said = run(tmp_path, [batch, *arguments], variables)
            assert (code, words in said) == (1, True), said
        assert questions.read_text() == "question\nName a river.\n"


@pytest.mark.slow
@pytest.mark.skipif(not TOOLS.exists(), reason="make examples has not been run")
@pytest.mark.parametrize("example", ["with_langchain.py", "with_litellm.py"])
def test_a_library_before_a_gateway_says_what_is_wrong_in_one_sentence(example, tmp_path):
    script, offline = EXAMPLES / example, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with gateway(_Judging) as server:
        right = tenant(server)

        def ends(variables, *arguments):
            code, said = run(tmp_path, [script, *arguments], {**offline, **variables}, TOOLS)
            assert code == (0 if not said else 1), said
            return said.strip()

        assert ends({}) == "error: set OPENAI_BASE_URL, OPENAI_API_KEY: docs/gateway.md says where to get a key"
        assert ends(tenant(server, "wrong")) == "error: this key is not known here"
        assert ends(right, "another") == "error: there is no such model"
        assert ends(right) == ""
        server.verdict = "reject"
        assert ends(right) == "error: the verdict on this answer is reject: do not use it"
        server.breaks = True
        assert ends(right) == "error: no node answers right now"
        away = "http://127.0.0.1:9/v1"
        assert ends({**right, "OPENAI_BASE_URL": away}).startswith(f"error: {away} does not answer")


@pytest.mark.slow
def test_ctrl_c_ends_a_batch_at_once_and_keeps_what_is_answered(tmp_path):
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.csv"
    questions.write_text("question\n" + "".join(f"Name river {number}.\n" for number in range(4)))
    with gateway() as server:
        command = [sys.executable, str(EXAMPLES / "batch.py"), str(questions), str(answers), "--at-once", "1"]
        environment = {**BARE, **tenant(server)}
        with ended(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)) as running:
            assert server.reached.wait(120)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=120)  # what it waits for never comes
    assert (running.returncode, "Traceback" in said) == (130, False)
    assert "start it again to go on" in said
    assert answers.read_bytes().decode() == HEADER + "0,Name river 0.,Elbe,accept,7,0x12\r\n"
