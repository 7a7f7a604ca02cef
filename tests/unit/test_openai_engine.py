"""The engine over an inference server: exact tokens, honest margins, and no weather in which it says anything wrong."""

import gzip
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_inference_support import CONTEXT_TOKENS, EOS, MODEL, chunk, said, scripted
from test_node_support import RECORD, RecordingChain, answer, body, in_thread, model, serving, wait_for
from transformers import AutoTokenizer

from trine.chain import Role
from trine.errors import InvalidInput
from trine.protocol import fingerprint, merkle
from trine.protocol.evidence import Anchor, Evidence
from trine.protocol.policy import Bounds, Policy
from trine.protocol.verdict import Outcome, Reason
from trine_node.answering import Answering
from trine_node.engines import loading
from trine_node.engines.base import ContextOverflow, EmptyPrompt, EngineError, TokenOutOfRange
from trine_node.engines.inference_server import MAX_EVENT_BYTES, ServerNotUp
from trine_node.engines.loading import load_engine
from trine_node.engines.openai_engine import OpenAiEngine
from trine_node.examination import Finding, examine
from trine_node.settings import NodeSettings
from trine_operator import opening
from trine_operator.store import Store
from trine_verifier.checking import check_leaf

PROMPT = [1, 600, 601]
BOUNDS = Bounds(1000, 50, 600, 400, 600, 2000, 10_000)
PATIENT_SECONDS, IMPATIENT_SECONDS = 60, 1.5
SERVERS = ("vllm", "sglang", "llamacpp")


@pytest.fixture(scope="module")
def server(model_folder):
    with scripted(AutoTokenizer.from_pretrained(model_folder, local_files_only=True)) as (url, script):
        yield url, script


@pytest.fixture
def script(server):
    server[1].reset()
    return server[1]


@pytest.fixture(scope="module")
def load(server, model_folder):
    with ExitStack() as stack:

        def engine(kind="vllm", **changes):
            fixed = {"model_name": RECORD.name, "model_id": RECORD.model_id, "dtype": "bf16", "url": server[0]}
            options = {**fixed, "timeout_seconds": PATIENT_SECONDS, **changes}
            return stack.enter_context(closing(OpenAiEngine.load(model_folder, server=kind, **options)))

        yield engine


@pytest.fixture(scope="module")
def engines(load, server):
    server[1].reset()
    return {kind: load(kind) for kind in SERVERS}


@pytest.fixture
def engine(engines, script):
    return engines["vllm"]


@pytest.fixture(scope="module")
def impatient(load, server):
    server[1].reset()
    return {kind: load(kind, timeout_seconds=IMPATIENT_SECONDS) for kind in SERVERS}


def tokens(engine, max_tokens=10, prompt=PROMPT, cancelled=None):
    return [step.token_id for step in engine.generate(prompt, max_tokens, cancelled)]


@pytest.mark.parametrize("kind", SERVERS)
def test_an_answer_ends_with_the_end_of_sequence_or_the_limit(kind, engines, script):
    assert tokens(engines[kind]) == script.answer
    assert tokens(engines[kind], 2) == script.answer[:2]
    assert all(step.word == b"" for step in engines[kind].generate(PROMPT, 4))
    assert engines[kind].engine_class == f"logprobs-{kind}-bf16"


@pytest.mark.parametrize("kind", SERVERS)
def test_what_the_server_calls_the_end_is_not_asked(kind, engines, script):
    script.answer = [504, 0, 338, EOS, 253]  # 0 ends text for some servers; the model's own end is 2
    assert tokens(engines[kind]) == [504, 0, 338, EOS]
    assert tokens(engines[kind], 2) == [504, 0]


def test_vllm_is_asked_for_greedy_tokens_whatever_its_defaults(engine, script):
    tokens(engine, 3)
    (asked,) = script.asked("/v1/completions")
    assert (asked["prompt"], asked["max_tokens"], asked["temperature"], asked["stream"]) == (PROMPT, 3, 0, True)
    assert (asked["repetition_penalty"], asked["presence_penalty"], asked["frequency_penalty"]) == (1, 0, 0)
    assert (asked["ignore_eos"], asked["stop_token_ids"], asked["model"]) == (True, [EOS], MODEL)


def test_sglang_is_asked_for_greedy_tokens_whatever_its_defaults(engines, script):
    tokens(engines["sglang"], 3)
    (asked,) = script.asked("/generate")
    assert (asked["input_ids"], asked["stream"]) == (PROMPT, True)
    assert asked["sampling_params"] == {
        "max_new_tokens": 3,
        "temperature": 0,
        "repetition_penalty": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "min_new_tokens": 0,
        "ignore_eos": False,
        "stop_token_ids": [EOS],
    }


def test_sglang_may_send_all_tokens_so_far_or_only_the_new_ones(engines, script):
    only_new = [said([], 0, 3), said([504], 1, 3), said([338, 253], 3, 3), said([EOS], 4, 3)]
    script.acts["/generate"] = stream(*only_new)
    assert tokens(engines["sglang"]) == script.answer


def test_llama_cpp_is_asked_for_pieces_that_grow(engines, script):
    script.answer = list(range(300, 400))
    assert tokens(engines["llamacpp"], 50) == script.answer[:50]
    asked = script.asked("/completion")
    assert [body["n_predict"] for body in asked] == [1, 2, 4, 8, 16, 16, 3]
    assert all((body["samplers"], body["top_k"], body["temperature"]) == (["top_k"], 1, 0) for body in asked)
    assert asked[2]["prompt"] == PROMPT + script.answer[:3]


def test_whoever_leaves_early_hangs_up(engine, script):
    def endless(exchange):
        exchange.begin()
        exchange.drip(b"data: " + json.dumps(chunk(504)).encode() + b"\n\n")

    script.acts["/v1/completions"] = endless
    seen = []
    assert len(tokens(engine, 100, cancelled=lambda: seen.append(1) or len(seen) == 3)) == 3
    assert script.hung_up.wait(5)
    script.hung_up.clear()
    for _ in engine.generate(PROMPT, 100):
        break
    assert script.hung_up.wait(5)


def test_many_threads_generate_and_check_at_once(engines, script):
    script.answer = list(range(300, 340))
    with ThreadPoolExecutor(12) as pool:
        for kind in SERVERS:
            wanted = [pool.submit(tokens, engines[kind], 40) for _ in range(12)]
            checked = [pool.submit(engines[kind].check, PROMPT, script.answer) for _ in range(6)]
            assert all(future.result() == script.answer for future in wanted)
            assert all(future.result().margins == (0.0,) * 40 for future in checked)


def stream(*events):
    def act(exchange):
        exchange.begin()
        for event in events:
            exchange.event(event)

    return act


def silent(exchange):
    exchange.begin()
    exchange.event(chunk(504))
    exchange.hold()


def dripping(data):
    def act(exchange):
        exchange.begin()
        exchange.drip(data)

    return act


BAD_WEATHER = {
    "refuses": (lambda e: e.json({"error": "no such prompt"}, 400), "status 400.*no such prompt"),
    "wants a key": (lambda e: e.json({"error": "Unauthorized"}, 401), "status 401"),
    "fails": (lambda e: e.raw(b"\xff" * 2000, 500), "status 500"),
    "is loading": (lambda e: e.json({"error": "Loading model"}, 503), "status 503.*Loading model"),
    "sends elsewhere": (lambda e: e.raw(b"", 307, location="http://127.0.0.1:1/"), "status 307"),
    "floods": (dripping(b"x" * MAX_EVENT_BYTES), "over .* bytes"),
    "is cut at once": (stream(), "broke off after 0 of 10"),
    "is cut midway": (stream(chunk(504)), "broke off after 1 of 10"),
    "stops too early": (stream(chunk(504), b"[DONE]"), "broke off after 1 of 10"),
    "breaks a promised length": (lambda e: (e.raw(b"", content_length=99), e.connection.close()), "connection broke"),
    "sends no JSON": (stream(b"{tokens"), "not JSON"),
    "sends deep JSON": (stream(b"[" * 100_000), "not JSON"),
    "sends NaN": (stream(b'{"model": NaN}'), "not JSON"),
    "sends a list": (stream([]), "is of model None"),
    "is another model": (stream(chunk(504, model="cheaper")), "'cheaper'.*'served-model' was asked"),
    "tells an error midway": (stream(chunk(504), {"error": {"message": "engine is dead"}}), "engine is dead"),
    "has no choice": (stream({"model": MODEL, "choices": []}), "exactly one choice"),
    "returns no ids": (stream({"model": MODEL, "choices": [{"text": "hi"}]}), "no token ids"),
    "returns text as ids": (stream(chunk("504")), "token ids are none"),
    "returns truth as ids": (stream(chunk(True)), "token ids are none"),
    "returns a negative id": (stream(chunk(-1)), "token id -1"),
    "returns an unknown id": (stream(chunk(10**9)), "token id 1000000000"),
    "answers another prompt": (stream(chunk(504, prompt_token_ids=[7])), "another prompt"),
    "compresses": (lambda e: e.raw(gzip.compress(b"x"), content_encoding="gzip"), "compressed"),
}


@pytest.mark.parametrize("act", [silent, dripping(b": ping\n"), dripping(b"data")])
def test_a_wait_for_a_token_has_an_end(act, impatient, script):
    script.acts["/v1/completions"] = act
    with pytest.raises(EngineError, match=r"no answer within 1\.5 s \(engine_timeout_seconds\)"):
        tokens(impatient["vllm"])


@pytest.mark.parametrize("kind", SERVERS)
def test_a_wait_for_a_check_has_an_end(kind, impatient, script):
    script.acts["/v1/completions"] = lambda e: e.hold()
    script.acts["/generate"] = lambda e: e.hold()
    script.acts["/completion"] = dripping(b" ")
    with pytest.raises(EngineError, match="no answer within"):
        impatient[kind].check(PROMPT, [504])


@pytest.mark.parametrize("kind_of_weather", BAD_WEATHER)
def test_bad_weather_is_an_engines_error_and_passes(kind_of_weather, engine, script):
    fails_and_recovers(engine, script, "/v1/completions", *BAD_WEATHER[kind_of_weather])


def fails_and_recovers(engine, script, path, act, expected):
    honest = script.acts[path]
    script.acts[path] = act
    with pytest.raises(EngineError, match=expected) as raised:
        tokens(engine)
    assert len(str(raised.value)) < 500
    script.acts[path] = honest
    assert tokens(engine) == script.answer


def piece(**changes):
    def act(exchange):
        asked = exchange.body
        usual = {"model": MODEL, "tokens": [504] * asked["n_predict"], "tokens_evaluated": len(asked["prompt"])}
        exchange.json({**usual, "truncated": False, "stop_type": "limit", **changes})

    return act


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (piece(model="cheaper"), "'cheaper'"),
        (piece(tokens=[]), "0 token ids where it was asked for 1"),
        (piece(tokens=[], stop_type="eos"), "0 token ids where it was asked for 1"),
        (piece(tokens=[504, 504]), "2 token ids where it was asked for 1"),
        (piece(tokens=None), "token ids are none"),
        (piece(tokens=[10**9]), "token id 1000000000"),
        (piece(tokens_evaluated=2), "did not take the prompt"),
        (piece(truncated=True), "did not take the prompt"),
        (lambda e: e.raw(b"x" * (2 << 20)), "over .* bytes"),
    ],
)
def test_bad_weather_at_llama_cpp_is_an_engines_error_and_passes(act, expected, engines, script):
    fails_and_recovers(engines["llamacpp"], script, "/completion", act, expected)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (stream(said([504], 1, 3)), "broke off after 1 of 10"),
        (stream(said([504], 1, 2)), "did not take the prompt"),
        (stream(said([], 0, 3, {"type": "stop", "matched": 0})), "broke off after 0 of 10"),
        (stream({"error": {"message": "too long"}}), "too long"),
        (stream(said([29], 1, 1, {"type": "abort", "message": "Input length"})), "it says: Input length"),
        (stream(said([504], 1, 3), said([504, 338], 2, 3, {"type": "length"})), "broke off after 2 of 10"),
        (stream(said(list(range(300, 311)), 11, 3)), "gave 11 token ids and counts 11"),
        (stream({"text": "hi"}), "no 'meta_info'"),
        (stream({"meta_info": {"prompt_tokens": 3}}), "no 'output_ids'"),
        (stream({"output_ids": [504], "meta_info": []}), "did not take the prompt"),
        (stream(said(["504"], 1, 3)), "token ids are none"),
        (stream(said([504], 2, 3)), "gave 1 token ids and counts 2"),
        (stream(said([504, 338], 2, 3), said([504], 1, 3)), "gave 1 token ids and counts 1, after 2"),
        (stream(said([504], True, 3)), "counts True"),
        (stream(said([10**9], 1, 3)), "token id 1000000000"),
    ],
)
def test_bad_weather_at_sglang_is_an_engines_error_and_passes(act, expected, engines, script):
    fails_and_recovers(engines["sglang"], script, "/generate", act, expected)


@pytest.mark.parametrize(
    ("given", "best"),
    [
        (None, None),
        ([], []),
        ([[None, 601, None]], [None]),
        ([[None, 601, None], None], [None, [[-1.0, 504, None]]]),
        ([[None, 601, None], [-1.0, 504, None]], [None, None]),
        ([[None, 601, None], [-1.0, 7, None]], [None, [[-0.5, 9, None]]]),
        ([[None, 601, None], ["x", 504, None]], [None, [[-0.5, 504, None]]]),
        ([[None, 601, None], [None, 504, None]], [None, [[-0.5, 9, None]]]),
    ],
)
def test_probabilities_of_sglang_that_are_none_are_the_servers_fault(given, best, engines, script):
    about = {"prompt_tokens": 4, "input_token_logprobs": given, "input_top_logprobs": best}
    script.acts["/generate"] = lambda e: e.json({"output_ids": [7], "meta_info": about})
    with pytest.raises(EngineError):
        engines["sglang"].check(PROMPT, [504])


@pytest.mark.parametrize(
    ("kind", "path", "ids"), [("vllm", "/v1/completions", "prompt"), ("sglang", "/generate", "input_ids")]
)
def test_margins_of_a_whole_answer_come_in_one_request(kind, path, ids, engines, script):
    script.margins = {len(PROMPT) + 1: 0.5}
    checked = engines[kind].check(PROMPT, [504, 338, EOS])
    assert checked.margins == pytest.approx((0.0, 0.5, 0.0))
    assert (checked.words, checked.noise) == ((), ())
    (asked,) = script.asked(path)
    assert asked[ids] == [*PROMPT, 504, 338, EOS]


def test_llama_cpp_decodes_again_and_is_asked_only_where_it_would_have_said_something_else(engines, script):
    claimed = [504, 7, 253, EOS]
    script.acts["/completion"] = lambda e: (
        setattr(script, "answer", [504, 338, 9, 9] if len(e.body["prompt"]) < 5 else [253, EOS]),
        script.llamacpp(e),
    )
    checked = engines["llamacpp"].check(PROMPT, claimed)
    assert checked.margins == pytest.approx((0.0, 0.7, 0.0, 0.0))
    again, probabilities, rest = script.asked("/completion")
    assert (again["prompt"], again["n_predict"]) == (PROMPT, 4)
    assert (probabilities["prompt"], probabilities["n_predict"], probabilities["n_probs"]) == ([*PROMPT, 504], 1, 100)
    assert rest["prompt"] == [*PROMPT, 504, 7]


def test_a_token_beyond_the_alternatives_has_at_least_the_margin_of_the_last_one(engines, script):
    script.answer = [504]
    assert engines["llamacpp"].check(PROMPT, [30_000]).margins == pytest.approx((9.9,))


def test_a_margin_is_never_infinite(engine, script):
    script.margins = {len(PROMPT): 3.4e38}
    assert engine.check(PROMPT, [504]).margins == (1000.0,)


@pytest.mark.parametrize(
    "entry",
    [
        *(None, {}, [], {"504": {}}, {"504": 7}, {"504": {"logprob": None}}, {"504": {"logprob": "-1"}}),
        *({"504": {"logprob": True}}, {"504": {"logprob": -(10**400)}}),
    ],
)
def test_probabilities_that_are_none_are_the_servers_fault(entry, engine, script):
    script.acts["/v1/completions"] = lambda e: e.json(
        {"model": MODEL, "choices": [{"prompt_logprobs": [None] * len(PROMPT) + [entry]}]}
    )
    with pytest.raises(EngineError):
        engine.check(PROMPT, [504])


@pytest.mark.parametrize("found", [None, "x", [], [None] * 3])
def test_probabilities_of_another_number_of_tokens_are_the_servers_fault(found, engine, script):
    script.acts["/v1/completions"] = lambda e: e.json({"model": MODEL, "choices": [{"prompt_logprobs": found}]})
    with pytest.raises(EngineError, match="no log-probabilities"):
        engine.check(PROMPT, [504])


def test_what_the_model_cannot_have_said_is_invalid_and_what_only_the_server_cannot_read_is_its_fault(engine):
    with pytest.raises(TokenOutOfRange):
        engine.check(PROMPT, [engine.vocab_size])
    with pytest.raises(TokenOutOfRange):
        engine.check(PROMPT, [-1])
    with pytest.raises(EmptyPrompt):
        engine.check([], [504])
    with pytest.raises(ContextOverflow):
        engine.check([504] * engine.model_context_tokens, [504])
    with pytest.raises(EngineError, match="start it with the model's"):
        engine.check([504] * CONTEXT_TOKENS, [504])
    with pytest.raises(ContextOverflow):
        tokens(engine, CONTEXT_TOKENS)


def test_an_empty_batch_of_checks_has_no_results(engine):
    assert engine.check_batch([]) == []


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_is_down_at_the_start_is_named(load):
    with pytest.raises(ServerNotUp, match=r"127\.0\.0\.1.*cannot be reached"):
        load(url=f"http://127.0.0.1:{unused_port()}")


def test_a_server_that_is_still_loading_can_be_waited_for(load, script):
    ready = threading.Timer(0.3, script.reset)
    script.acts["/v1/models"] = lambda e: e.json({"error": "Loading model"}, 503)
    with pytest.raises(ServerNotUp, match="Loading model"):
        load()
    ready.start()
    assert tokens(load(start_seconds=30)) == script.answer
    ready.join()


@pytest.mark.parametrize(
    ("path", "act", "expected"),
    [
        ("/v1/models", lambda e: e.json({"error": "?"}, 404), "status 404"),
        ("/v1/models", lambda e: e.json([]), "no 'data'"),
        ("/v1/models", lambda e: e.json({"data": [{}]}), "list of models cannot be read"),
        ("/v1/models", lambda e: e.json({"data": []}), "it serves none"),
        ("/v1/models", lambda e: e.json({"data": [{"id": "a"}, {"id": "b"}]}), "say in engine_model.*'a', 'b'"),
        ("/v1/models", lambda e: e.json({"data": [{"id": "a"}]}), "max_model_len is None"),
        ("/tokenize", lambda e: e.json({"tokens": [7]}), "another vocabulary"),
        ("/tokenize", lambda e: e.json({"tokens": "7"}), "token ids are none"),
    ],
)
def test_a_server_that_serves_something_else_is_refused_at_the_start(path, act, expected, load, script):
    script.acts[path] = act
    with pytest.raises(EngineError, match=expected):
        load()


def test_a_model_is_asked_for_by_its_name(load, script):
    assert load(served_model=MODEL).context_tokens == CONTEXT_TOKENS - 1
    with pytest.raises(EngineError, match=r"serves no model 'other'.*'served-model'"):
        load(served_model="other")


@pytest.mark.parametrize("url", ["http://", "http://host:port", "http://[::1"])
def test_an_address_that_is_none_is_invalid(url, load):
    with pytest.raises((InvalidInput, EngineError)):
        load(url=url)


def test_the_key_goes_to_the_server_and_nowhere_else(load, script):
    engine = load(api_key="very-secret")
    assert {headers["authorization"] for _, headers, _ in script.seen} == {"Bearer very-secret"}
    script.acts["/v1/completions"] = lambda e: e.json({"error": "Unauthorized"}, 401)
    with pytest.raises(EngineError) as raised:
        tokens(engine)
    assert "very-secret" not in str(raised.value)


@pytest.fixture
def settings(tmp_path, server):
    (tmp_path / "key").write_text("very-secret")
    return NodeSettings(
        deployment=tmp_path / "d.json",
        keystore=tmp_path / "k.json",
        password_file=tmp_path / "p",
        model=RECORD.name,
        engine="vllm",
        engine_url=server[0],
        engine_api_key_file=tmp_path / "key",
        dtype="bf16",
    )


def test_an_operator_names_the_server_in_the_settings(settings, script):
    with closing(load_engine(settings, model(0))) as engine:
        assert (engine.engine_class, tokens(engine)) == ("logprobs-vllm-bf16", script.answer)
    assert {headers["authorization"] for _, headers, _ in script.seen} == {"Bearer very-secret"}


def test_the_check_of_a_node_shows_its_server_and_what_is_wrong_with_it(settings, script, server, monkeypatch):
    class Chain(RecordingChain):
        def gas_balance(self, _):
            return 1

        def stake_of(self, _):
            return SimpleNamespace(active=1, locked=0)

        def endpoint_of(self, _):
            return settings.endpoint

        def is_calibrated(self, *_):
            return True

    monkeypatch.setattr(opening, "open_chain", lambda _: Chain())
    monkeypatch.setattr(opening, "find_model", lambda *_: model(0))
    settings = settings.model_copy(update={"store_url": "sqlite://"})

    def findings():
        with ExitStack() as stack:
            opened = lambda *arguments: stack.enter_context(closing(load_engine(*arguments)))  # noqa: E731
            monkeypatch.setattr(loading, "load_engine", opened)
            return {finding.what: finding for finding in examine(settings, Role.NODE, "trine node serve", 64)}

    assert findings()["engine"] == Finding("engine", f"logprobs-vllm-bf16 at {server[0]}")
    script.acts["/v1/models"] = lambda e: e.json({"error": "Loading model"}, 503)
    found = findings()
    assert "Loading model" in found["engine"].found
    assert server[0] in found["engine"].todo
    assert found["calibrated"].found == "yes"  # it goes on to look at the rest


# What an answer of such an engine is worth to the protocol.


@pytest.fixture
def answering(engine, tmp_path):
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield Answering(engine, RecordingChain(), store, model(0), allow_unsigned=True)
    store.close()


def verdict_on(finished, chain, verifier, policy):
    """Of the evidence as it arrives at a verifier, alone in its batch."""
    shown = Evidence.from_json(finished.evidence.to_json())
    leaf = merkle.leaf_hash(0, shown.receipt)
    anchor = Anchor(chain.domain, chain.address, RECORD.model_id, merkle.root([leaf]), 1)
    return check_leaf(shown, 0, leaf, anchor, verifier, policy)


def test_evidence_without_words_survives_the_way_and_is_judged_by_its_margins(answering, engines, script):
    script.answer = [504, 338, 253, 504, EOS]
    finished = answer(answering, max_tokens=8)
    assert fingerprint.decode(finished.evidence.fingerprint) == []
    assert finished.evidence.receipt.engine_class_name == "logprobs-vllm-bf16"
    policy = Policy((("logprobs-vllm-bf16", "logprobs-llamacpp-bf16", BOUNDS),))
    verifier, chain = engines["llamacpp"], answering.chain
    assert verdict_on(finished, chain, verifier, policy).outcome is Outcome.ACCEPT
    script.answer = [504, 338, 7, 504, EOS]
    assert verdict_on(finished, chain, verifier, policy).reason is Reason.MARGIN
    uncalibrated = verdict_on(finished, chain, verifier, Policy(()))
    assert (uncalibrated.outcome, uncalibrated.reason) == (Outcome.INCONCLUSIVE, Reason.UNCALIBRATED)
    script.acts["/completion"] = lambda e: e.json({"error": "?"}, 500)
    fault = verdict_on(finished, chain, verifier, policy)
    assert (fault.outcome, fault.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT)


def test_words_left_out_under_another_class_are_rejected(answering, engines, script):
    finished = answer(answering, max_tokens=8)
    chain = answering.chain
    receipt = replace(finished.evidence.receipt, engine_class=b"cpu-fp32".ljust(32, b"\0"))
    disguised = replace(
        finished,
        evidence=replace(
            finished.evidence, receipt=receipt, receipt_signature=chain.sign(receipt.digest(chain.domain))
        ),
    )
    verdict = verdict_on(disguised, chain, engines["llamacpp"], Policy(()))
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.STRUCTURE)


def test_an_answer_that_is_cut_is_neither_stored_nor_signed(answering, script):
    signed = []
    answering.chain.sign = signed.append
    for act, _ in (BAD_WEATHER["is cut midway"], BAD_WEATHER["tells an error midway"]):
        script.acts["/v1/completions"] = act
        with pytest.raises(EngineError):
            answer(answering, max_tokens=8)
    assert signed == []
    assert answering.store.unbatched(10) == []


@pytest.mark.parametrize("stream_to_the_client", [False, True])
def test_a_node_outlives_its_server(engine, script, tmp_path, stream_to_the_client):
    with serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=engine) as node:
        honest = script.acts["/v1/completions"]
        script.acts["/v1/completions"] = BAD_WEATHER["is cut midway"][0]
        failed = node.http.post("/v1/chat/completions", json=body(8, stream=stream_to_the_client))
        assert "broke off" in failed.text
        assert "receipt" not in failed.text
        assert failed.status_code == (200 if stream_to_the_client else 503)
        script.acts["/v1/completions"] = honest
        answered = node.http.post("/v1/chat/completions", json=body(8)).json()
        assert answered["usage"]["completion_tokens"] == len(script.answer)
        assert len(node.store.unbatched(10)) == 1


def test_a_client_that_leaves_makes_the_server_stop(engine, script, tmp_path):
    def endless(exchange):
        exchange.begin()
        exchange.drip(b"data: " + json.dumps(chunk(504)).encode() + b"\n\n")

    script.acts["/v1/completions"] = endless
    with serving(f"sqlite:///{tmp_path}/node.sqlite", engine_=engine) as node:

        def leave():
            with node.http.stream("POST", "/v1/chat/completions", json=body(300, stream=True)) as response:
                next(response.iter_lines())

        in_thread(leave)
        wait_for(script.hung_up.is_set)
