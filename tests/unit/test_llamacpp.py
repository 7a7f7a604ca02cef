"""The engine before llama.cpp's real server with the shipped model, in a process of its own."""

import importlib.util
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from trine_node.engines.base import EngineError
from trine_node.engines.openai_engine import OpenAiEngine
from trine_node.models import parse_source

KEY = "key-of-this-test"
START_SECONDS = 120
WORST_MARGIN = 1.5  # logits; of honest answers, its 4-bit arithmetic against dense fp32, 0.85 was measured
EMOJI = [{"role": "user", "content": "Repeat exactly: 👌🌐👌🌐👌🌐 日本語"}]
QUESTION = [{"role": "user", "content": "Why is the sky blue? Answer in two sentences."}]


SERVER = Path(__file__).parents[2] / "deploy" / "scripts" / "llama_server.py"

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("xllamacpp"), reason="xllamacpp has no wheel for this platform"
)


@contextmanager
def running(weights, log):
    """(process, URL) of a server that has loaded the model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = log.with_name("key")
    key.write_text(KEY)
    command = [sys.executable, str(SERVER), str(weights), str(port), "--api-key-file", str(key)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not healthy(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process, url
    finally:
        process.kill()
        process.wait()


def healthy(url):
    try:
        return httpx2.get(f"{url}/health", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def weights(record, tmp_path_factory):
    return parse_source(record.source).fetch(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    with running(weights, tmp_path_factory.mktemp("log") / "llama-server.log") as (_, url):
        yield url


def load(url, record, model_folder):
    engine = OpenAiEngine.load(
        model_folder,
        model_name=record.name,
        model_id=record.model_id,
        server="llamacpp",
        url=url,
        dtype="fp32",
        api_key=KEY,
    )
    return closing(engine)


@pytest.fixture(scope="module")
def llama(server, record, model_folder):
    with load(server, record, model_folder) as engine:
        yield engine


def tokens(engine, messages, count):
    return [step.token_id for step in engine.generate(engine.encode_chat(messages), count)]


def test_its_answers_are_its_own_greedy_tokens_and_the_models(llama, engine):
    prompt, answer = llama.encode_chat(QUESTION), tokens(llama, QUESTION, 32)
    assert "sky" in llama.decode(answer)
    assert max(llama.check(prompt, answer).margins) < 0.1  # its caches are filled differently; a near-tie may flip
    assert max(engine.check(prompt, answer).margins) < WORST_MARGIN


def test_it_checks_the_answers_of_another_engine(llama, engine):
    prompt, answer = llama.encode_chat(QUESTION), tokens(engine, QUESTION, 32)
    assert max(llama.check(prompt, answer).margins) < WORST_MARGIN
    swapped = [*answer[:5], answer[6], *answer[6:]]
    margins = llama.check(prompt, swapped).margins
    assert len(margins) == len(swapped)
    assert margins[5] > 2 * WORST_MARGIN
    assert max(margins[:5]) < WORST_MARGIN


def test_no_token_is_lost_inside_a_character(llama, engine):
    prompt = [*llama.encode_chat(EMOJI), *llama.encode_text("👌🌐👌")]
    answer = [step.token_id for step in llama.generate(prompt, 24)]
    assert len(answer) == 24 or answer[-1] in llama.eos_ids
    assert any(len(llama.decode([token])) == 1 and llama.decode([token]) == "\ufffd" for token in answer)
    assert max(engine.check(prompt, answer).margins) < WORST_MARGIN
    assert max(llama.check(prompt, answer).margins) < 0.1


def test_the_end_of_sequence_is_part_of_the_answer(llama):
    answer = tokens(llama, [{"role": "user", "content": "What is 2+2? Answer briefly."}], 60)
    assert len(answer) < 60
    assert answer[-1] in llama.eos_ids


def test_more_threads_than_it_has_places_get_the_same_answer(llama):
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: tokens(llama, QUESTION, 12), range(5)))
    assert all(answer == answers[0] for answer in answers)


def test_a_wrong_key_is_refused(server, record, model_folder):
    with pytest.raises(EngineError, match="401"):
        OpenAiEngine.load(
            model_folder,
            model_name=record.name,
            model_id=record.model_id,
            server="llamacpp",
            url=server,
            dtype="fp32",
            api_key="wrong",
        )


def test_a_server_that_dies_in_the_middle_of_an_answer_is_an_engines_error(weights, record, model_folder, tmp_path):
    with running(weights, tmp_path / "log") as (process, url), load(url, record, model_folder) as engine:
        answer = engine.generate(engine.encode_chat(QUESTION), 200)
        next(answer)
        process.kill()
        process.wait()
        with pytest.raises(EngineError):
            list(answer)
        with pytest.raises(EngineError, match="cannot be reached"):
            tokens(engine, QUESTION, 2)
