"""What a grammar costs a token: `python benchmarks/grammar.py`, a minute or two.

One answer at a time by the shipped model, on one thread. Everything that a grammar adds is timed where it happens: the
mask, the best of the candidates, going on by a token. The rest is decoding. Both are processor time,
so that other work on the machine counts for little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trine.models import load_record
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import ANY_OBJECT, Grammar
from trine_node.engines.choosing import Chooser
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "format": "email"},
        "trades": {"type": "array", "items": {"enum": ["baker", "smith", "weaver", "sailor"]}, "maxItems": 3},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            "required": ["street", "city"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "email", "trades", "address"],
    "additionalProperties": False,
}
SUM = (
    'start: sum\nsum: term (("+" | "-") term)*\nterm: factor (("*" | "/") factor)*\nfactor: /[0-9]{1,4}/ | "(" sum ")"'
)
GRAMMARS: Mapping[str, Grammar] = {
    "any JSON object": Grammar("json_schema", ANY_OBJECT),
    "a schema with five properties": Grammar("json_schema", json.dumps(PERSON, separators=(",", ":"))),
    "a regular expression": Grammar("regex", "([A-Z][a-z]{2,9} ){3,20}[A-Z][a-z]+\\."),
    "four choices": Grammar("choice", '["the baker","the smith","the weaver","the sailor"]'),
    "sums": Grammar("grammar", SUM),
}
QUESTIONS = ("Make up a person.", "Tell me of somebody who sails.", "Who lives in the old mill?")
TARGET = 0.05


@dataclass
class Timed:
    """Seconds that a grammar takes, by token."""

    seconds: list[float] = field(default_factory=list)
    _token: float = 0.0

    def wrap(self, chooser: Chooser) -> None:
        for name in ("choose", "push"):
            setattr(chooser, name, self._timing(getattr(chooser, name), is_last=name == "push"))

    def _timing(self, call: Callable[..., Any], *, is_last: bool) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*given)
            finally:
                self._token += time.thread_time() - began
                if is_last:
                    self.seconds.append(self._token)
                    self._token = 0.0

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--dtype", default="fp32")
    given = parser.parse_args()
    record = load_record("smollm2-135m-instruct")
    folder = prepare(record.source)
    engine = TransformersEngine.load(
        folder, model_name=record.name, model_id=record.model_id, dtype=given.dtype, threads=1
    )
    prompts = [engine.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS[: given.questions]]
    made = engine.chooser
    for prompt in prompts:  # kernels and caches are warm from here on
        list(engine.generate(prompt, 8, None, Decoding(grammar=GRAMMARS["sums"])))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(f"{engine.engine_class}; processor time, one answer at a time, one thread")
    print(
        f"{'grammar':32}{'compiled':>10}{'tokens':>8}{'median':>10}{'worst':>10}{'mean':>10}{'decoding':>10}{'share':>8}"
    )
    shares = []
    for name, grammar in GRAMMARS.items():
        began = time.process_time()
        engine.require_grammar(grammar)
        compiled = time.process_time() - began
        timed, total = Timed(), 0.0

        def watched(decoding: Decoding | None, begun: Any = (), timed: Timed = timed) -> Chooser | None:
            chooser = made(decoding, begun)
            if chooser is not None:
                timed.wrap(chooser)
            return chooser

        engine.chooser = watched  # type: ignore[method-assign]
        for prompt in prompts:
            began = time.process_time()
            list(engine.generate(prompt, given.tokens, None, Decoding(grammar=grammar)))
            total += time.process_time() - began
        engine.chooser = made  # type: ignore[method-assign]
        own = sum(timed.seconds)
        decoding = (total - own) / len(timed.seconds)
        share = own / (total - own)
        shares.append(share)
        cells = (compiled, statistics.median(timed.seconds), max(timed.seconds), own / len(timed.seconds), decoding)
        shown = [f"{1000 * seconds:.2f} ms" for seconds in cells]
        print(
            f"{name:32}{shown[0]:>10}{len(timed.seconds):8}{shown[1]:>10}{shown[2]:>10}{shown[3]:>10}{shown[4]:>10}"
            f"{100 * share:7.1f}%"
        )
    print(f"target: {TARGET:.0%} of decoding at most; highest {max(shares):.1%}")


if __name__ == "__main__":
    main()
