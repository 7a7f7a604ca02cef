"""Sampled answers of the shipped model: as they were signed, whatever stands beside them, and judged as such."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import test_node_support as small
from eth_account import Account
from test_node_support import (
    MESSAGES,
    NAME,
    RECORD,
    RecordingChain,
    SlowEngine,
    body,
    model,
    serving,
    signed_body,
)

from trine.protocol import merkle
from trine.protocol.decoding import Decoding
from trine.protocol.evidence import Anchor, Evidence
from trine.protocol.inputs import Input, chat_input, parse_input
from trine.protocol.policy import Bounds, Policy
from trine.protocol.sampling import MILLION, Sampling
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine_node.answering import Answering
from trine_node.engines.base import CannotSample
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.generating import Finished
from trine_node.orders import Order
from trine_operator.refusal import Refusal
from trine_operator.store import Store
from trine_verifier.checking import check_leaf

CHAT = "/v1/chat/completions"
QUESTIONS = ("Tell me how bread is baked.", "Name three birds.", "Why is the sea salty?", "Write a line of a song.")
WAYS = (
    Decoding(Sampling(700_000, 11)),
    Decoding(Sampling(1_000_000, -12, top_p_millionths=900_000)),
    Decoding(Sampling(1_300_000, 13, top_k=20, min_p_millionths=20_000)),
    None,
)
TOKENS = 24


@pytest.fixture(scope="module")
def prompts(engine: TransformersEngine) -> list[list[int]]:
    return [engine.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]


def test_an_answer_depends_on_nothing_beside_it(engine: TransformersEngine, prompts: list[list[int]]) -> None:
    alone = [list(engine.generate(prompt, TOKENS, None, way)) for prompt, way in zip(prompts, WAYS, strict=True)]
    assert engine.generate_batch(prompts, TOKENS, decodings=WAYS) == alone
    assert engine.generate_batch(prompts[::-1], TOKENS, rows=2, decodings=WAYS[::-1]) == alone[::-1]
    ids = [step.token_id for step in alone[0]]
    begun = engine.generate_batch(prompts[:1], TOKENS, decodings=WAYS[:1], begun=[ids[:7]])
    assert [step.token_id for step in begun[0]] == ids[7:]
    cases = [(prompt, [step.token_id for step in answer]) for prompt, answer in zip(prompts, alone, strict=True)]
    checked = engine.check_batch(cases, WAYS)
    assert [own.words for own in checked] == [tuple(step.word for step in answer) for answer in alone]
    assert not any(margin for own in checked for margin in own.margins), "its own choices, all of them"
    assert [engine.check(*case, way) for case, way in zip(cases, WAYS, strict=True)] == checked
    greedy = engine.check_batch(cases)
    assert all(max(own.margins) > 1 for own in greedy[:3]), "they are no greedy answers"


def test_another_seed_is_another_answer(engine: TransformersEngine, prompts: list[list[int]]) -> None:
    ways = [Decoding(Sampling(MILLION, seed)) for seed in range(6)]
    answers = engine.generate_batch([prompts[0]] * 6, 12, decodings=ways)
    assert len({tuple(step.token_id for step in answer) for answer in answers}) == 6


@pytest.mark.parametrize(("temperature", "dtype"), [(700_000, "bf16"), (1_000_000, "fp32")])
def test_honest_answers_are_accepted_by_other_precisions(
    engines: dict[str, TransformersEngine],
    prompts: list[list[int]],
    judge: Callable[..., Verdict],
    dtype: str,
    temperature: int,
) -> None:
    bounds = ((MILLION, 0), (900_000, 0), (MILLION, 40))
    ways = [Decoding(Sampling(temperature, 1, top_p, top_k)) for top_p, top_k in bounds]
    prover = engines[dtype]
    for way in ways:
        for prompt, answer in zip(
            prompts, prover.generate_batch(prompts, TOKENS, decodings=[way] * len(prompts)), strict=True
        ):
            for verifier in (engines["fp32"], engines["bf16"]):
                verdict = judge(prompt, answer, TOKENS, prover, verifier, way)
                assert verdict.outcome is Outcome.ACCEPT, (way, verdict)


# Through the node and the verifier's whole check.

LAX = Policy((("cpu-fp32", "cpu-fp32", Bounds(1000, 1000, 1000, 1, 1, 1, 1)),))
WAY = Sampling(900_000, 77, top_p_millionths=950_000)
DRAWN = chat_input(MESSAGES, None, WAY)


class OtherSeed(SlowEngine):
    def generate(self, prompt_ids, max_tokens, cancelled=None, decoding=None):  # type: ignore[no-untyped-def]
        own = decoding and Decoding(dataclasses.replace(decoding.sampling, seed=78))
        yield from super().generate(prompt_ids, max_tokens, cancelled, own)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield store
    store.close()


def answered(store: Store, engine_: object, asked: Input = DRAWN) -> tuple[Evidence, Answering]:
    answering = Answering(engine_, RecordingChain(), store, model(0), allow_unsigned=True)  # type: ignore[arg-type]
    accepted = answering.accept(Order(asked, 12, stream=False, include_usage=False, signed=None))
    [last] = [piece for piece in answering.answer(accepted, lambda: False) if isinstance(piece, Finished)]
    return last.evidence, answering


def verdict_on(evidence: Evidence, answering: Answering, verifier: object) -> Verdict:
    chain = answering.chain
    leaf = merkle.leaf_hash(0, evidence.receipt)
    anchor = Anchor(chain.domain, chain.address, RECORD.model_id, merkle.root([leaf]), 1)
    return check_leaf(evidence, 0, leaf, anchor, verifier, LAX)  # type: ignore[arg-type]


def test_verifiers_draw_by_what_the_client_signed(store: Store) -> None:
    evidence, answering = answered(store, small.engine())
    assert parse_input(evidence.input).sampling == WAY
    assert verdict_on(evidence, answering, small.engine()).outcome is Outcome.ACCEPT
    cheated, other = answered(store, OtherSeed(0))
    assert cheated.receipt.input_hash == evidence.receipt.input_hash
    verdict = verdict_on(cheated, other, small.engine())
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.MARGIN)
    greedy, other = answered(store, small.engine(), chat_input(MESSAGES))
    assert verdict_on(greedy, other, small.engine()).outcome is Outcome.ACCEPT


class GreedyOnly(SlowEngine):
    can_sample = False

    def check_batch(self, cases, decodings=None):  # type: ignore[no-untyped-def]
        if any(decodings or ()):
            raise CannotSample("only greedy")
        return self._engine.check_batch(cases)


def test_an_engine_that_cannot_draw_refuses_by_name_and_condemns_nobody(store: Store) -> None:
    evidence, answering = answered(store, small.engine())
    verdict = verdict_on(evidence, answering, GreedyOnly(0))
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT)
    with pytest.raises(Refusal) as refused:
        answered(store, GreedyOnly(0))
    assert refused.value.param == "temperature"
    answered(store, GreedyOnly(0), chat_input(MESSAGES))


def test_over_http(tmp_path: Path) -> None:
    client = Account.create()
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=True) as node:

        def ask(**fields: object) -> httpx2.Response:
            return node.http.post(CHAT, json={**body(12), **fields})

        drawn = [ask(temperature=0.9, seed=seed).json() for seed in (5, 5, 6)]
        texts = [answer["choices"][0]["message"]["content"] for answer in drawn]
        assert texts[0] == texts[1] != texts[2]
        without = ask(temperature=0.9)
        assert (without.status_code, without.json()["error"]["param"]) == (400, "seed")
        assert ask(temperature=0, top_p=0.5, seed=4).status_code == 200
        # Signed: what is asked for and what is signed must be the same, the seed as well.
        asked = chat_input(MESSAGES, None, WAY)
        signed = signed_body(node.chain, client, input_hash=asked.hash())
        for fields, status in ((WAY.fields(), 200), ({**WAY.fields(), "seed": 78}, 400), ({}, 400)):
            response = node.http.post(CHAT, json={**signed, **fields})
            assert response.status_code == status, response.text
        assert response.json()["error"]["code"] == "request_mismatch"
        receipt = node.http.post(CHAT, json={**signed, **WAY.fields()}).json()["trine"]["receipt"]
        assert receipt["inputHash"] == "0x" + asked.hash().hex()
        assert node.http.get("/v1/models").json()["data"][0]["id"] == NAME
