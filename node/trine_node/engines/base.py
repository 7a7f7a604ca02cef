"""What an engine is: the seam between the protocol and whatever computes a model's answers.

Knows nothing of HTTP, the chain or any framework. Nodes use `generate`, verifiers `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trine.errors import InvalidInput, TrineError
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.inputs import Input
from trine.protocol.verdict import Recomputation


class EngineError(TrineError):
    """The engine failed at an input that it should have managed."""


class NumericalFault(EngineError):
    """Logits hold NaN or infinity: the weights or the machine are broken."""


class EmptyPrompt(InvalidInput):
    """A prompt has no tokens."""


class TokenOutOfRange(InvalidInput):
    """A token id is not in the model's vocabulary."""


class ContextOverflow(InvalidInput):
    """Prompt and answer do not fit the model's context."""


class ToolsRefused(InvalidInput):
    """The model's chat template has no place for tools, or for calls: they would be lost."""


class CannotSample(EngineError):
    """The engine cannot draw tokens by the protocol's rule, nor check those that were."""


class GrammarRefused(EngineError):
    """A grammar cannot be had here: out of bounds, not understood, of another release, or one that allows nothing."""


class GrammarBusy(GrammarRefused):
    """A grammar cannot be had here now, and may be later."""


class GrammarExhausted(EngineError):
    """An answer came to where its grammar allows no token of the model, or is too much work to follow."""


class OffGrammar(InvalidInput):
    """A claimed token is none that the answer's grammar allows."""


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token and the fingerprint word of the state that predicted it; empty where no state is seen."""

    token_id: int
    word: bytes


Decodings = Sequence[Decoding | None]
"""How the tokens of each of several answers are chosen; None: the likeliest."""


class Engine(Protocol):
    """A loaded model that takes its likeliest tokens, or chooses as the client has signed. Many threads may use it at
    once."""

    model_name: str
    model_id: bytes
    engine_class: str  # e.g. "cpu-fp32": what the verdict policy's calibration matrix is indexed by
    context_tokens: int
    vocab_size: int
    eos_ids: frozenset[int]
    can_sample: bool  # by `trine.protocol.sampling`; else all that is asked to raises CannotSample

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Token ids of the messages under the model's chat template, with the prompt for its answer; `tools` and calls
        as OpenAI has them."""

    def encode_text(self, text: str) -> list[int]:
        """Token ids of plain text."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; special tokens are left out."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int,
        cancelled: Callable[[], bool] | None = None,
        decoding: Decoding | None = None,
    ) -> Iterator[Step]:
        """Tokens, the likeliest ones without `decoding`, ending after an end-of-sequence token (which is included) or
        `max_tokens`.

        Raises EmptyPrompt, TokenOutOfRange, ContextOverflow, NumericalFault, CannotSample, GrammarRefused,
        GrammarExhausted.
        """

    def check(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], decoding: Decoding | None = None
    ) -> Recomputation:
        """One teacher-forced pass over prompt and claimed answer, chosen so. Raises as `generate` does, and OffGrammar
        where a claimed token is no candidate."""

    def check_batch(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], decodings: Decodings | None = None
    ) -> list[Recomputation]:
        """`check` of many (prompt, answer), together where the engine can. Raises if any of them does.

        `decodings` has an entry for each case; all have the likeliest tokens without.
        """

    def require_grammar(self, grammar: Grammar) -> None:
        """Raises GrammarRefused for one that answers cannot be held to here, before anything is paid."""


def validate(engine: Engine, prompt_ids: Sequence[int], answer_tokens: int) -> None:
    """The checks of input that every engine makes first."""
    if not prompt_ids:
        raise EmptyPrompt("the prompt has no tokens")
    if answer_tokens < 1:
        raise InvalidInput(f"{answer_tokens} tokens to answer with: at least 1 is needed")
    worst = max(prompt_ids)
    if worst >= engine.vocab_size or min(prompt_ids) < 0:
        raise TokenOutOfRange(f"token id {worst} is outside the vocabulary of {engine.vocab_size}")
    if len(prompt_ids) + answer_tokens > engine.context_tokens:
        raise ContextOverflow(
            f"{len(prompt_ids)} prompt tokens and {answer_tokens} answer tokens exceed the model's context of "
            f"{engine.context_tokens}: shorten the prompt or lower max_tokens"
        )


def render(engine: Engine, asked: Input) -> list[int]:
    """Prompt token ids of a client's input: what node and verifier must agree on."""
    if asked.text is not None:
        return engine.encode_text(asked.text)
    return engine.encode_chat(asked.as_messages(), asked.tools.as_list())
