"""What text mode can and cannot detect: honest engines and cheats against one fp32 verifier, on the shipped model.

Half of the prompts calibrates the bounds from honest answers alone; the other half is judged. The same answers go
through the protocol's own verdict on fingerprints and margins. Collects and judges; `text_report` makes the tables.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.calibration import parse_prompt_set
from trine.protocol.messages import FinishReason
from trine.protocol.policy import Policy
from trine.protocol.verdict import Claim, Outcome, Recomputation, decide
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare
from trine_research.study.text_provers import (
    BATCH,
    OTHER_SYSTEM,
    Prover,
    answer,
    cheaper_models,
    edited,
    fingerprinted,
    load_engine,
    render,
    sampled,
)
from trine_research.text.decision import SCALE, Decoding, TextBounds, TextPolicy, agreement, decide_text
from trine_research.text.index import AnswerIndex
from trine_research.text.regeneration import Answer, retokenised
from trine_research.text.signature import Signature, signature_of

MODEL = "smollm2-135m-instruct"
VERIFIER = "cpu-fp32"
FALSE_REJECTS = 0.01
"""The share of honest answers that a rejecting bound may hit, as far as the calibration's answers can tell."""
CLAIMED = {"same": "cpu-fp32", "cross": "cpu-bf16"}
"""What a cheat may claim to be: the verifier's own class, or another."""
HONEST = {"fp32, in other batches": "same", "bf16": "cross", "fp16": "cross"}


@dataclass(frozen=True, slots=True)
class Compared:
    """One answer against the verifier's regeneration."""

    prover: str
    honest: bool
    calibrates: bool
    prompt: int
    decoding: Decoding
    jaccard: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer's verdict, in text mode or (`decoding` None) on fingerprint and margins."""

    prover: str
    honest: bool
    relation: str  # "same" class as the verifier, or "cross"
    prompt: int
    decoding: Decoding | None
    outcome: Outcome


@dataclass(slots=True)
class Study:
    conditions: dict[str, Any]
    compared: list[Compared]
    judged: list[Judged]
    bounds: dict[
        tuple[str, Decoding], tuple[float, int]
    ]  # (relation, decoding): reject below, honest answers behind it
    agreements: dict[str, list[int]]  # verifiers and threshold: prompts on which all three, two, none agree
    lookup: dict[str, tuple[int, int]]  # what was found, of how many
    retokenised: tuple[int, int]  # answers whose text gives back their tokens, of how many

    def to_json(self) -> dict[str, Any]:
        return {
            "conditions": self.conditions,
            "bounds": [[*key, *value] for key, value in self.bounds.items()],
            "compared": [asdict(row) for row in self.compared],
            "judged": [asdict(row) for row in self.judged],
            "agreements": self.agreements,
            "lookup": self.lookup,
            "retokenised": self.retokenised,
        }


def run(prompts: int, tokens: int, beams: int, seed: int, threads: int) -> Study:
    """The whole study: 7.5 beam searches and 8 greedy decodes a prompt. Raises InvalidInput for sizes out of range."""
    record = load_record(MODEL)
    registered = parse_prompt_set(record.prompts)
    if not 4 <= prompts <= len(registered):
        raise InvalidInput(f"{prompts} prompts: 4 to {len(registered)} are registered")
    folder = prepare(record.source, progress=Console(stderr=True).print)
    verifier = load_engine(record, folder, "fp32", threads)
    chosen = random.Random(seed).sample(registered, prompts)  # noqa: S311 - a study repeats its draws
    asked = [render(verifier, item) for item in chosen]
    everyone, judged = list(range(prompts)), list(range(prompts // 2, prompts))
    conditions = {
        "model": MODEL,
        "prompts": prompts,
        "calibrating": prompts - len(judged),
        "tokens": tokens,
        "beams": beams,
        "seed": seed,
        "threads": threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("answers", total=len(everyone) * 4 + len(judged) * 7)

        def done(count: int) -> None:
            progress.advance(task, count)

        def answered(engine: TransformersEngine, name: str, numbers: list[int], **options: Any) -> Prover:
            progress.update(task, description=name)
            return answer(engine, name, options.pop("asked", asked), numbers, tokens, beams=beams, done=done, **options)

        own = answered(verifier, "verifier", everyone, honest=True)
        # The same kernels see other neighbours and other padding: what "the same class" means in practice.
        again = answered(verifier, "fp32, in other batches", everyone[::-1], honest=True, batch=max(1, BATCH * 2 // 3))
        honest = [again]
        for dtype in ("bf16", "fp16"):
            engine = load_engine(record, folder, dtype, threads)
            honest.append(fingerprinted(answered(engine, dtype, everyone, honest=True), engine, asked))
        cheats = [
            fingerprinted(answered(engine, name, judged), engine, asked)
            for name, engine in cheaper_models(verifier, seed)
        ]
        instructed = [render(verifier, item, OTHER_SYSTEM) for item in chosen]
        cheats.append(answered(verifier, "other system prompt", judged, asked=instructed))
        cheats.append(sampled(verifier, asked, judged, tokens, seed))
        cheats += edited(own, judged, verifier, seed)

        provers = honest + cheats
        compared = [
            row for prover in provers for row in _compare(prover, own, record.model_id, len(asked) - len(judged))
        ]
        bounds = _bounds(compared)
        verdicts = _judge_texts(provers, own, record.model_id, judged, _policy(bounds))
        progress.update(task, description="fingerprints", total=len(provers), completed=0)
        policy = Policy.from_bytes(record.policy)
        for prover in provers:
            verdicts += _judge_fingerprints(prover, verifier, asked, judged, tokens, policy)
            progress.advance(task)
    mixed = {"fp32, bf16, fp16": [own, honest[1], honest[2]], "fp32 twice, bf16": [own, again, honest[1]]}
    texts = [tuple(t for t in text if t not in verifier.eos_ids) for text in own.greedy]
    kept = sum(retokenised(verifier, verifier.decode(text)) == text for text in texts)
    return Study(
        conditions,
        compared,
        verdicts,
        bounds,
        {name: counts for who, three in mixed.items() for name, counts in _agreements(who, three, record.model_id)},
        _look_up(own, honest, cheats, record.model_id),
        (kept, len(texts)),
    )


def _by_number(prover: Prover, answers: Sequence[Any]) -> dict[int, Any]:
    return dict(zip(prover.numbers, answers, strict=True))


def _sides(prover: Prover, own: Prover, decoding: Decoding) -> list[tuple[int, Answer, list[Answer]]]:
    """(prompt, claim, regenerations) for every answer that the prover has of this decoding."""
    greedy, beams = _by_number(own, own.greedy), _by_number(own, own.beams)
    if decoding is Decoding.BEAM:
        return [(n, found[0], beams[n][:1]) for n, found in zip(prover.numbers, prover.beams, strict=False)]
    regenerated = {n: [greedy[n]] for n in greedy} if decoding is Decoding.GREEDY else beams
    return [(n, claim, regenerated[n]) for n, claim in zip(prover.numbers, prover.greedy, strict=True)]


def _signed(
    prover: Prover, own: Prover, decoding: Decoding, model_id: bytes
) -> list[tuple[int, Signature, list[Signature]]]:
    return [
        (n, signature_of(claim, model_id), [signature_of(found, model_id) for found in regenerated])
        for n, claim, regenerated in _sides(prover, own, decoding)
    ]


def _compare(prover: Prover, own: Prover, model_id: bytes, calibrating: int) -> list[Compared]:
    return [
        Compared(
            prover.name, prover.honest, n < calibrating, n, decoding, max(claim.jaccard(found) for found in regenerated)
        )
        for decoding in Decoding
        for n, claim, regenerated in _signed(prover, own, decoding, model_id)
    ]


def _bounds(compared: list[Compared]) -> dict[tuple[str, Decoding], tuple[float, int]]:
    """Reject below: the largest index that at most FALSE_REJECTS of the calibration's honest answers lie under."""
    bounds = {}
    for relation in CLAIMED:
        for decoding in Decoding:
            found = sorted(
                row.jaccard
                for row in compared
                if row.calibrates and row.honest and row.decoding is decoding and HONEST[row.prover] == relation
            )
            bounds[relation, decoding] = (found[int(FALSE_REJECTS * len(found))], len(found))
    return bounds


def _policy(bounds: dict[tuple[str, Decoding], tuple[float, int]]) -> TextPolicy:
    """Accepts only the very same text; rejects below the calibrated bound."""
    classes = {"cpu-fp32": "same", "cpu-bf16": "cross", "cpu-fp16": "cross"}
    pairs = [
        (prover, VERIFIER, decoding, TextBounds(SCALE, round(bounds[relation, decoding][0] * SCALE)))
        for prover, relation in classes.items()
        for decoding in Decoding
    ]
    return TextPolicy(tuple(sorted(pairs, key=lambda pair: pair[:3])))


def _claims(prover: Prover) -> list[tuple[str, str]]:
    """(relation, claimed class): an honest prover says what it is, a cheat whatever serves it."""
    if not prover.honest:
        return list(CLAIMED.items())
    return [(HONEST[prover.name], f"cpu-{prover.name.split(',')[0]}")]


def _judge_texts(
    provers: list[Prover], own: Prover, model_id: bytes, numbers: list[int], policy: TextPolicy
) -> list[Judged]:
    judged = []
    for prover in provers:
        for decoding in Decoding:
            for n, claim, regenerated in _signed(prover, own, decoding, model_id):
                if n not in numbers:
                    continue
                for relation, claimed in _claims(prover):
                    verdict = decide_text(
                        claim,
                        regenerated,
                        prover_class=claimed,
                        verifier_class=VERIFIER,
                        decoding=decoding,
                        policy=policy,
                    )
                    judged.append(Judged(prover.name, prover.honest, relation, n, decoding, verdict.outcome))
    return judged


def _judge_fingerprints(
    prover: Prover,
    verifier: TransformersEngine,
    prompts: list[list[int]],
    numbers: list[int],
    tokens: int,
    policy: Policy,
) -> list[Judged]:
    """The protocol's verdict on the same greedy answers.

    A prover without fingerprints of its own shows those of the right model for its tokens, which is its best case.
    An answer that ends early has as many tokens as were asked for: what contradicts itself needs no model to be seen.
    """
    judged = []
    words = _by_number(prover, prover.words) if prover.words else {}
    for n, output in zip(prover.numbers, prover.greedy, strict=True):
        if n not in numbers:
            continue
        own: Recomputation = verifier.check(prompts[n], output)
        ended = output[-1] in verifier.eos_ids
        reason = FinishReason.STOP if ended else FinishReason.LENGTH
        for relation, claimed in _claims(prover):
            claim = Claim(output, words.get(n, own.words), reason, tokens if ended else len(output), claimed)
            verdict = decide(claim, own, eos_ids=verifier.eos_ids, verifier_class=VERIFIER, policy=policy)
            judged.append(Judged(prover.name, prover.honest, relation, n, None, verdict.outcome))
    return judged


def _agreements(who: str, three: list[Prover], model_id: bytes) -> list[tuple[str, list[int]]]:
    """For greedy and best beams, same text and Jaccard 0.5: prompts on which three, two, none of three agree."""
    found = []
    for decoding, of in (("greedy", lambda p: p.greedy), ("best beam", lambda p: [b[0] for b in p.beams])):
        answers = [_by_number(prover, of(prover)) for prover in three]
        for at_least in (1.0, 0.5):
            sizes = [
                len(agreement([signature_of(a[n], model_id) for a in answers], at_least).consensus)
                for n in three[0].numbers
            ]
            found.append((f"{who}; {decoding}; from {at_least}", [sizes.count(size) for size in (3, 2, 0)]))
    return found


def _look_up(own: Prover, honest: list[Prover], cheats: list[Prover], model_id: bytes) -> dict[str, tuple[int, int]]:
    """The index of all the verifier's answers, asked for copies and for honest answers of other engines, from 0.5."""
    index = AnswerIndex()
    for n, text in zip(own.numbers, own.greedy, strict=True):
        index.add(str(n), signature_of(text, model_id))
    found = {}
    for prover in [*honest, *(cheat for cheat in cheats if cheat.name == "answer to another prompt")]:
        hits = [[name for name, _ in index.agreeing(signature_of(text, model_id), 0.5)] for text in prover.greedy]
        mine = sum(str(n) in hit for n, hit in zip(prover.numbers, hits, strict=True))
        others = sum(any(name != str(n) for name in hit) for n, hit in zip(prover.numbers, hits, strict=True))
        found[f"{prover.name}: found as an answer to its own prompt"] = (mine, len(hits))
        found[f"{prover.name}: found as an answer to another prompt"] = (others, len(hits))
    return found
