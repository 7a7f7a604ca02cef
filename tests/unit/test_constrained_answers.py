"""Answers that are held to a grammar: as it was signed, whatever stands beside them, judged as such, in bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
import test_node_support as small
from eth_account import Account
from pydantic import BaseModel, ConfigDict
from test_node_support import MESSAGES, NAME, RECORD, RecordingChain, SlowEngine, body, model, serving, signed_body
from test_sampled_answers import CHAT, verdict_on

from trine.protocol.decoding import Decoding
from trine.protocol.evidence import Evidence
from trine.protocol.grammar import ENGINE, Grammar, requested
from trine.protocol.inputs import Input, chat_input, parse_input
from trine.protocol.messages import FinishReason
from trine.protocol.sampling import MILLION, Sampling
from trine.protocol.verdict import Outcome, Reason
from trine_node import orders
from trine_node.answering import Answering
from trine_node.engines.base import EngineError, GrammarExhausted, GrammarRefused, OffGrammar
from trine_node.engines.grammar_source import LIMITS, WRITTEN
from trine_node.engines.grammars import LIBRARY, Grammars
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.generating import Finished
from trine_node.orders import Order
from trine_operator.refusal import Refusal
from trine_operator.store import Store

TOKENS = 32


def spelled(schema: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(schema, ensure_ascii=False, separators=(",", ":")))


def chained(count: int, link: Callable[[Any], Any]) -> Grammar:
    """Definitions that refer to one another, each to the next."""
    definitions = {f"d{number}": link({"$ref": f"#/$defs/d{number + 1}"}) for number in range(count)}
    return spelled({"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{count}": {"type": "integer"}}})


PERSON = spelled(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
GRAMMARS = (
    PERSON,
    Grammar("regex", "[0-9]{3}-[a-f]{2}"),
    Grammar("choice", '["colours: red","né \\"quoted\\"\\n","日本"]'),
    Grammar("grammar", 'start: "<" word ">"\nword: /[a-z]{1,6}/ | "(" word ")"'),
    Grammar("grammar", 'root ::= "yes" | "no" root'),
    None,
)
WAYS = [
    Decoding(Sampling(MILLION, 5, top_p_millionths=900_000) if number % 2 else None, grammar)
    for number, grammar in enumerate(GRAMMARS)
]


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    return small.engine()


def ids_of(answer: Any) -> list[int]:
    return [step.token_id for step in answer]


def keeps_to(text: str, grammar: Grammar) -> bool:
    if grammar.kind == "json_schema":
        read = json.loads(text)
        return list(read) == ["name", "age"] and len(read["name"]) <= 8 and read["age"] <= 99
    if grammar.kind == "choice":
        return text in json.loads(grammar.text)
    pattern = {"start": r"<\(*[a-z]{1,6}\)*>", "root ": "(no)*yes"}.get(grammar.text[:5], grammar.text)
    return re.fullmatch(pattern, text) is not None


def test_an_answer_keeps_to_its_grammar_and_depends_on_nothing_beside_it(tiny: TransformersEngine) -> None:
    prompts = [tiny.encode_text(f"Number {number}:") for number in range(len(WAYS))]
    alone = [list(tiny.generate(prompt, TOKENS, None, way)) for prompt, way in zip(prompts, WAYS, strict=True)]
    for way, answer in zip(WAYS, alone, strict=True):
        if way.grammar and ids_of(answer)[-1] in tiny.eos_ids:
            assert keeps_to(tiny.decode(ids_of(answer)), way.grammar), (way, tiny.decode(ids_of(answer)))
    assert sum(ids_of(answer)[-1] in tiny.eos_ids for answer in alone) >= 3
    assert tiny.generate_batch(prompts, TOKENS, decodings=WAYS) == alone
    assert tiny.generate_batch(prompts[::-1], TOKENS, rows=2, decodings=WAYS[::-1]) == alone[::-1]
    begun = tiny.generate_batch(prompts[:1], TOKENS, decodings=WAYS[:1], begun=[ids_of(alone[0])[:3]])
    assert ids_of(begun[0]) == ids_of(alone[0])[3:]
    cases = [(prompt, ids_of(answer)) for prompt, answer in zip(prompts, alone, strict=True)]
    checked = tiny.check_batch(cases, WAYS)
    assert [own.words for own in checked] == [tuple(step.word for step in answer) for answer in alone]
    assert not any(margin for own in checked for margin in own.margins), "its own choices, all of them"
    assert [tiny.check(*case, way) for case, way in zip(cases, WAYS, strict=True)] == checked
    free = tiny.check_batch(cases[:3])
    assert all(max(own.margins) > 0.1 for own in free), "not what the model would have said by itself"


def test_attack_a_model_that_loves_blanks_writes_none_between_the_parts_of_json(tiny: TransformersEngine) -> None:
    way = Decoding(grammar=spelled({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}))
    chooser = tiny.chooser(way)
    assert chooser is not None
    for token in tiny.encode_text('{"a":1'):
        chooser.push(token)
        permitted = chooser.permitted()
        assert permitted is not None
        assert not any(tiny.decode([token]).isspace() for token in permitted.tolist())


def test_margins_count_candidates_only(tiny: TransformersEngine) -> None:
    """A token that is a candidate and not the best has the margin to the best candidate, not to the best token."""
    way = Decoding(grammar=Grammar("choice", '["a","b"]'))
    prompt = tiny.encode_text("Say one:")
    [best] = ids_of(tiny.generate(prompt, 1, None, way))
    [[a], [b]] = (tiny.encode_text(letter) for letter in "ab")
    other = a if best == b else b
    [margin] = tiny.check(prompt, [other], way).margins
    [of_best], [of_other] = tiny.check(prompt, [best]).margins, tiny.check(prompt, [other]).margins
    assert margin == pytest.approx(of_other - of_best, abs=1e-4)
    assert of_best > 0 < margin
    with pytest.raises(OffGrammar, match="token 0"):
        tiny.check(prompt, tiny.encode_text("c"), way)
    with pytest.raises(OffGrammar, match="token 1"):  # may not end yet
        tiny.check(prompt, [*tiny.encode_text("<"), min(tiny.eos_ids)], Decoding(grammar=GRAMMARS[3]))
    with pytest.raises(OffGrammar, match="token 1"):  # must end
        tiny.check(prompt, [a, a], way)


def test_a_model_with_more_logits_than_tokens_and_several_ends(tiny: TransformersEngine) -> None:
    wide = Grammars(tiny.tokenizer, tiny.vocab_size + 100, [0, 2])
    matcher = wide.matcher(Grammar("regex", "a*"))
    assert {0, 2} <= set(matcher.permitted().tolist())
    assert max(matcher.permitted()) < tiny.vocab_size


# What cannot be had is refused before anything is paid.

REFUSED = {
    "nothing keeps to it": Grammar("regex", r"[^\x00-\U0010FFFF]"),
    "only nothing keeps to it": Grammar("regex", ""),
    "false": spelled({"type": "object", "properties": {"a": False}, "required": ["a"]}),
    "recursion without end": spelled({"$ref": "#"}),
    "no such definition": spelled({"$ref": "#/$defs/nowhere"}),
    "contradiction": spelled({"type": "integer", "minimum": 5, "maximum": 3}),
    "alternatives that exclude each other": spelled({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
    "an unknown format": spelled({"type": "string", "format": "nosuch"}),
    "look-around": Grammar("regex", "(?=a)b"),
    "a pattern with look-around": spelled({"type": "string", "pattern": "(?!a)b"}),
    "a back-reference": Grammar("regex", r"(a)\1"),
    "an unknown rule": Grammar("grammar", "start: x"),
    "rules without end": Grammar("grammar", "start: x\nx: y\ny: x"),
    "a schema within, with a keyword that is not known": Grammar("grammar", 'start: %json {"not":{}}'),
    "deep brackets": Grammar("grammar", "start: " + "(" * 3900 + '"a"' + ")" * 3900),
    "deep brackets as GBNF": Grammar("grammar", "root ::= " + "(" * 3900 + '"a"' + ")" * 3900),
    "a deep regular expression": Grammar("regex", "(" * 2000 + "a" + ")" * 2000),
    "a long chain of references": chained(1000, lambda then: {"type": "array", "items": then}),
    "a temperature of its own": Grammar("grammar", 'start: a\na[temperature=0.7]: "x"+'),
    "another engine": Grammar("regex", "a", "llguidance-0.0.1"),
    "another kind": Grammar("kind", "a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name(tiny: TransformersEngine, name: str) -> None:
    with pytest.raises(GrammarRefused) as refused:
        tiny.require_grammar(REFUSED[name])
    assert 10 < len(str(refused.value)) < 500


ENDLESS = Grammar("grammar", 'start: r{100000}\nr: "a"{100000} | "b"')
"""It compiles, and is more work after some tokens than any answer is worth."""
DOUBLING = "".join(f"r{i}: r{i + 1} r{i + 1}\n" for i in range(99))
WORK = {
    "long text": Grammar("regex", "a" * 4096),
    "many optional": Grammar("regex", "a?" * 2000 + "b"),
    "counted within counted": Grammar("regex", "(((a{1,100}){1,100}){1,100}b?){1,1000}"),
    "doubling states": Grammar("regex", "(a|b)*a(a|b){200}"),
    "doubling rules": Grammar(
        "grammar", "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(99)) + '\nr99: "a"'
    ),
    "every reading": Grammar("grammar", 'start: e\ne: e e | "a" | e "+" e |'),
    "a chain of references": chained(160, lambda then: {"type": "array", "items": {"anyOf": [then, {"type": "null"}]}}),
    "a chain of one and the same": chained(400, lambda then: {"allOf": [then, then]}),
    "a chain of choices": chained(250, lambda then: {"anyOf": [then, {"type": "object", "properties": {"a": then}}]}),
    "alternatives of alternatives": spelled(
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(4)]} for i in range(60)]}
    ),
    "many properties": spelled({"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(600)}}),
    "many choices": Grammar("choice", json.dumps([f"v{i * 7919}" for i in range(1024)], separators=(",", ":"))),
    "many values": spelled({"enum": [f"v{i * 7919}" for i in range(4000)]}),
    "a long list": spelled({"type": "array", "minItems": 10**6, "items": {"type": "integer"}}),
    "patterns": spelled({"type": "object", "patternProperties": {f"^a{i}.*b$": {} for i in range(900)}}),
}


@pytest.mark.parametrize("name", WORK)
def test_whatever_is_asked_comes_to_an_end(tiny: TransformersEngine, name: str) -> None:
    """By an answer or by a refusal, and by the same one again."""

    def tried() -> list[int] | str:
        try:
            tiny.require_grammar(WORK[name])
            return ids_of(tiny.generate(tiny.encode_text("x"), 6, None, Decoding(grammar=WORK[name])))
        except EngineError as error:
            return str(error)

    assert tried() == tried()


def test_attack_an_order_that_cannot_pay_compiles_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, client = RecordingChain(balance=0), Account.create()
    answering = Answering(SlowEngine(0), chain, store, model(), allow_unsigned=False)  # type: ignore[arg-type]
    compiled: list[Grammar] = []
    monkeypatch.setattr(answering.engine, "require_grammar", compiled.append, raising=False)
    signed = signed_body(chain, client, max_tokens=TOKENS, input_hash=HELD.hash())

    def order(body: dict[str, Any] | None) -> Order:
        request = orders._extras(body["trine"])[0] if body else None
        return Order(HELD, TOKENS, stream=False, include_usage=False, signed=request)

    for unpaid, code in ((None, "signed_request_required"), (signed, "deposit_too_low")):
        with pytest.raises(Refusal) as refused:
            answering.accept(order(unpaid))
        assert refused.value.code == code
    assert not compiled
    chain.balance = 10**18
    answering.accept(order(signed))
    assert compiled == [PERSON], "once there is a deposit, it is"


# Through the node and the verifier's whole check.

HELD = chat_input(MESSAGES, None, Sampling(900_000, 3), grammar=PERSON)


class Otherwise(SlowEngine):
    """Does as if another grammar had been asked for."""

    def __init__(self, grammar: Grammar | None) -> None:
        super().__init__(0)
        self.grammar = grammar

    def generate(self, prompt_ids, max_tokens, cancelled=None, decoding=None):  # type: ignore[no-untyped-def]
        yield from super().generate(prompt_ids, max_tokens, cancelled, Decoding(decoding.sampling, self.grammar))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield store
    store.close()


def answered(store: Store, engine: object, asked: Input = HELD, tokens: int = TOKENS) -> tuple[Evidence, Answering]:
    answering = Answering(engine, RecordingChain(), store, model(0), allow_unsigned=True)  # type: ignore[arg-type]
    accepted = answering.accept(Order(asked, tokens, stream=False, include_usage=False, signed=None))
    [last] = [piece for piece in answering.answer(accepted, lambda: False) if isinstance(piece, Finished)]
    return last.evidence, answering


def test_verifiers_hold_it_to_what_the_client_signed(store: Store, tiny: TransformersEngine) -> None:
    evidence, answering = answered(store, tiny)
    assert parse_input(evidence.input).grammar == PERSON
    assert verdict_on(evidence, answering, tiny).outcome is Outcome.ACCEPT
    short, other = answered(store, tiny, tokens=5)
    assert short.receipt.finish_reason == FinishReason.LENGTH
    assert verdict_on(short, other, tiny).outcome is Outcome.ACCEPT, "it ran out of tokens, and says so"
    for grammar in (None, spelled({"type": "object"})):
        cheated, other = answered(store, Otherwise(grammar))
        assert cheated.receipt.input_hash == evidence.receipt.input_hash
        verdict = verdict_on(cheated, other, tiny)
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.STRUCTURE)
        assert "grammar" in verdict.detail


@pytest.mark.parametrize("release", ["0.0.1", "9.9.9"])
def test_a_verifier_with_another_release_condemns_nobody(
    store: Store, tiny: TransformersEngine, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, answering = answered(store, tiny)
    monkeypatch.setattr("trine_node.engines.grammars.metadata.version", lambda name: release)
    verdict = verdict_on(evidence, answering, tiny)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT)
    assert ENGINE in verdict.detail
    assert f"{LIBRARY}-{release}" in verdict.detail
    with pytest.raises(Refusal) as refused:
        answered(store, tiny)
    assert refused.value.code == "unsupported_value"


def test_what_a_verifier_cannot_follow_condemns_nobody(
    store: Store, tiny: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, answering = answered(store, tiny)
    monkeypatch.setitem(LIMITS, "step_max_items", 1)
    verdict = verdict_on(evidence, answering, tiny)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.FAULT), verdict
    assert "the grammar" in verdict.detail


def test_one_that_cannot_go_on_spoils_nobody_elses_answer(tiny: TransformersEngine) -> None:
    prompt = tiny.encode_text("x")
    expected = list(tiny.generate(prompt, 20))
    stuck = tiny.generate(prompt, 20, None, Decoding(grammar=ENDLESS))
    beside = tiny.generate(prompt, 20)
    with pytest.raises(GrammarExhausted):
        list(stuck)
    assert list(beside) == expected


def test_over_http_and_with_the_stock_client(tmp_path: Path) -> None:
    client = Account.create()
    with serving(f"sqlite:///{tmp_path}/node.sqlite", allow_unsigned=True) as node:

        def ask(**fields: object) -> httpx2.Response:
            return node.http.post(CHAT, json={**body(TOKENS), **fields})

        wanted = {"type": "json_schema", "json_schema": {"name": "p", "schema": json.loads(PERSON.text)}}
        text = ask(response_format=wanted).json()["choices"][0]["message"]["content"]
        assert keeps_to(text, PERSON)
        assert ask(guided_choice=["red", "blue"]).json()["choices"][0]["message"]["content"] in ("red", "blue")
        for fields, named in (
            ({"guided_regex": "(?=a)b"}, "guided_regex"),
            ({"guided_json": {"type": "string", "format": "nosuch"}}, "guided_json"),
            ({"guided_json": {"type": "object", "not": {}}}, "guided_json"),
            ({"guided_grammar": "start: x"}, "guided_grammar"),
            ({"guided_grammar": ENDLESS.text}, "guided_grammar"),  # after some tokens
        ):
            refused = ask(**fields)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, named), refused.text
        # Signed: what is asked for and what is signed must be the same.
        asked = chat_input(MESSAGES, grammar=PERSON)
        signed = signed_body(node.chain, client, input_hash=asked.hash())
        for fields, status in (({"response_format": wanted}, 200), ({}, 400), ({"guided_regex": "a"}, 400)):
            assert node.http.post(CHAT, json={**signed, **fields}).status_code == status
        # The stock client.
        stock = openai.OpenAI(base_url=f"{str(node.http.base_url).rstrip('/')}/v1", api_key="none")

        class Person(BaseModel):
            model_config = ConfigDict(extra="forbid")
            name: Literal["Ada", "Grace"]
            born: Literal[1815, 1906] | None

        parsed = stock.chat.completions.parse(model=NAME, messages=MESSAGES, response_format=Person)  # type: ignore[arg-type]
        assert isinstance(parsed.choices[0].message.parsed, Person)
        with stock.chat.completions.stream(
            model=NAME,
            messages=MESSAGES,
            response_format=wanted,
            max_tokens=TOKENS,  # type: ignore[arg-type]
        ) as stream:
            assert stream.get_final_completion().choices[0].message.content == text
        with pytest.raises(openai.BadRequestError, match="nosuch"):
            stock.chat.completions.create(
                model=NAME,
                messages=MESSAGES,  # type: ignore[arg-type]
                extra_body={"structured_outputs": {"json": {"type": "string", "format": "nosuch"}}},
            )


def test_the_installed_release_is_the_one_that_is_signed() -> None:
    from importlib import metadata

    assert f"{LIBRARY}-{metadata.version(LIBRARY)}+{WRITTEN}" == ENGINE
    assert RECORD.name == NAME
    assert requested({}) is None
