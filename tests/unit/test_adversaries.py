"""Every named cheat is caught, by the fingerprint, a margin or the structure of its claim."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from trine.errors import InvalidInput
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.sampling import Sampling
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine_node.engines.transformers_engine import TransformersEngine
from trine_research.adversaries import ADVERSARIES, CONSTRAINING, Adversary, make_adversary
from trine_research.adversaries.weights import FineTuned

Judge = Callable[..., Verdict]
QUESTION = [{"role": "user", "content": "Tell me how bread is baked."}]
TOKENS = 26
# None: by its fingerprint or by a token, whichever the answer gives away first.
CAUGHT_BY = {
    "int8-weights": Reason.DEVIATION,
    "int8-tensor-weights": None,
    "int8-group-weights": None,
    "int6-weights": None,
    "int4-weights": None,
    "perturbed-weights": None,
    "fine-tuned-model": None,
    "random-model": None,
    "pruned-layers": None,
    "early-exit": None,
    "swapped-token": Reason.MARGIN,
    "inserted-token": Reason.MARGIN,
    "dropped-token": Reason.MARGIN,
    "truncated": Reason.MARGIN,
    "sampled": Reason.MARGIN,
    "other-prompt": None,
    "other-system-prompt": None,
    "copied-fingerprint": None,
    "cheap-tokens": Reason.MARGIN,
}
# Of answers that are to be drawn. None: as above.
DRAWN = Decoding(Sampling(700_000, 2026, top_p_millionths=900_000))
DRAWN_CAUGHT_BY = {
    "other-seed": Reason.MARGIN,
    "higher-temperature": Reason.MARGIN,
    "lower-temperature": Reason.MARGIN,
    "ignored-top-p": Reason.MARGIN,
    "greedy-instead": Reason.MARGIN,
    "swapped-token": Reason.MARGIN,
    "runner-up-token": Reason.MARGIN,
    "sampled": Reason.MARGIN,
    "inserted-token": Reason.MARGIN,
    "int8-weights": None,
    "cheap-tokens": None,
}
# Of answers that must be JSON of a certain shape: all of these by a token that the grammar forbids, or never allows.
HELD = Decoding(
    grammar=Grammar(
        "json_schema",
        '{"type":"object","properties":{"bread":{"type":"string","maxLength":20},"minutes":{"type":"integer"}},'
        '"required":["bread","minutes"],"additionalProperties":false}',
    )
)
HELD_CAUGHT_BY = {
    "ignored-grammar": Reason.STRUCTURE,
    "loosened-grammar": Reason.STRUCTURE,
    "off-grammar": Reason.STRUCTURE,
    "inserted-token": Reason.STRUCTURE,
}


@pytest.fixture
def freed() -> Iterator[None]:
    """An engine refers to itself, and one of a cheat has weights of its own: half a gigabyte each."""
    yield
    gc.collect()


@pytest.mark.usefixtures("freed")
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_cheats_are_rejected(
    name: str, engine: TransformersEngine, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTuned, "STEPS", 2)  # of the studies' eight: less of a change, and harder to notice
    cheat = make_adversary(name, engine)
    ids = cheat.encode_chat(QUESTION)
    verdict = judge(ids, list(cheat.generate(ids, TOKENS)), TOKENS, cheat, engine)
    assert verdict.outcome is Outcome.REJECT, verdict
    assert CAUGHT_BY[name] in (None, verdict.reason), verdict


@pytest.mark.parametrize("name", DRAWN_CAUGHT_BY)
def test_cheats_at_drawing_are_rejected(name: str, engine: TransformersEngine, judge: Judge) -> None:
    cheat = make_adversary(name, engine)
    ids = cheat.encode_chat(QUESTION)
    verdict = judge(ids, list(cheat.generate(ids, 48, None, DRAWN)), 48, cheat, engine, DRAWN)
    assert verdict.outcome is Outcome.REJECT, verdict
    assert DRAWN_CAUGHT_BY[name] in (None, verdict.reason), verdict


@pytest.mark.parametrize("sampling", [None, DRAWN.sampling])
@pytest.mark.parametrize("name", HELD_CAUGHT_BY)
def test_cheats_at_grammars_are_rejected(
    name: str, sampling: Sampling | None, engine: TransformersEngine, judge: Judge
) -> None:
    asked = replace(HELD, sampling=sampling)
    cheat = make_adversary(name, engine)
    ids = cheat.encode_chat(QUESTION)
    verdict = judge(ids, list(cheat.generate(ids, 48, None, asked)), 48, cheat, engine, asked)
    assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, HELD_CAUGHT_BY[name]), verdict
    honest = list(engine.generate(ids, 48, None, asked))
    assert judge(ids, honest, 48, engine, engine, asked).outcome is Outcome.ACCEPT


@pytest.mark.parametrize("name", CONSTRAINING)
def test_who_ignores_grammars_answers_orders_without_one_honestly(
    name: str, engine: TransformersEngine, judge: Judge
) -> None:
    cheat = make_adversary(name, engine)
    ids = cheat.encode_chat(QUESTION)
    assert judge(ids, list(cheat.generate(ids, 12, None, DRAWN)), 12, cheat, engine, DRAWN).outcome is Outcome.ACCEPT


@pytest.mark.parametrize("name", ["other-seed", "higher-temperature", "lower-temperature", "greedy-instead"])
def test_who_lies_about_drawing_answers_greedy_orders_honestly(
    name: str, engine: TransformersEngine, judge: Judge
) -> None:
    cheat = make_adversary(name, engine)
    ids = cheat.encode_chat(QUESTION)
    assert judge(ids, list(cheat.generate(ids, 12)), 12, cheat, engine).outcome is Outcome.ACCEPT


def test_a_verifier_of_another_precision_rejects_them_too(engines: dict[str, TransformersEngine], judge: Judge) -> None:
    cheat = make_adversary("int8-weights", engines["fp32"])
    ids = cheat.encode_chat(QUESTION)
    steps = list(cheat.generate(ids, TOKENS))
    for verifier in ("bf16", "fp16"):
        verdict = judge(ids, steps, TOKENS, cheat, engines[verifier])
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, Reason.DEVIATION), verdict


def test_a_cheat_of_ones_own_is_loaded_by_name(engine: TransformersEngine) -> None:
    made = make_adversary("trine_research.adversaries.base:Adversary", engine)
    assert isinstance(made, Adversary)
    assert made.engine_class == engine.engine_class
    assert made.decode(made.encode_text("unchanged")) == "unchanged"


@pytest.mark.parametrize("name", ["nothing", "no.such.module:x", "trine_research.adversaries:nothing"])
def test_an_unknown_cheat_is_refused(name: str, engine: TransformersEngine) -> None:
    with pytest.raises(InvalidInput):
        make_adversary(name, engine)


def test_all_named_cheats_are_covered() -> None:
    # The runner-up may be a near-tie, and int8's tokens are often the model's own: neither is always caught.
    caught = {*CAUGHT_BY, *DRAWN_CAUGHT_BY, *HELD_CAUGHT_BY}
    assert set(ADVERSARIES) - caught == {
        "cheap-int8-tokens",
        "turned-ties",  # each of its turns is one that rounding makes
    }
    assert caught <= set(ADVERSARIES)
