"""Engine over an inference server that speaks OpenAI's completions or close to it: vLLM, SGLang, llama.cpp.

Prompts go out and answers come back as token ids; text is made here, with the prepared model's own tokenizer. Such a
server shows no hidden states, so there is no fingerprint: the engine's class begins with `logprobs-` and its answers
are judged by margins alone (see `trine.protocol.verdict`). Knows no server's API, see `dialects`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from trine.errors import InvalidInput
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.verdict import LOGPROBS, Recomputation
from trine_node.engines.base import (
    CannotSample,
    Decodings,
    EngineError,
    GrammarRefused,
    Step,
    TokenOutOfRange,
    validate,
)
from trine_node.engines.dialects import DIALECTS, Dialect
from trine_node.engines.inference_server import InferenceServer, ServerNotUp
from trine_node.engines.rendering import Renderer, require_pure_template

PROBES = 32
RETRY_SECONDS = 1.0


class OpenAiEngine:
    """A model that another process has loaded. Any number of threads may use it at once.

    Greedy only: no server draws tokens by the protocol's rule, and none gives the logits that it goes by.
    """

    can_sample = False

    def __init__(
        self,
        folder: Path,
        connection: InferenceServer,
        dialect: Dialect,
        *,
        model_name: str,
        model_id: bytes,
        engine_class: str,
    ) -> None:
        """`folder` holds the prepared model's configuration and tokenizer. Raises EngineError: another vocabulary."""
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        self.model_name = model_name
        self.model_id = model_id
        self.engine_class = engine_class
        self._connection = connection
        self._where = f"the inference server {connection.url}"
        self._dialect = dialect
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        require_pure_template(self._tokenizer, model_name)
        self._renderer = Renderer(self._tokenizer)
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        self.vocab_size = int(config.vocab_size)
        self.model_context_tokens = int(config.max_position_embeddings)
        self.context_tokens = min(self.model_context_tokens, dialect.context_tokens)
        eos = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
        self.eos_ids = frozenset([eos] if isinstance(eos, int) else eos or [])
        self._require_same_vocabulary()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        model_name: str,
        model_id: bytes,
        server: str,
        url: str,
        dtype: str,
        served_model: str | None = None,
        api_key: str | None = None,
        timeout_seconds: float = 120.0,
        start_seconds: float = 0.0,
    ) -> Self:
        """Connects, and looks whether the server has this model's vocabulary.

        `server` is one of `dialects.DIALECTS`; `dtype` what it computes in, which it does not tell. A server that is
        not up is waited for `start_seconds`. Raises InvalidInput or EngineError.
        """
        if server not in DIALECTS:
            raise InvalidInput(f"engine {server!r}: expected one of {', '.join(DIALECTS)}")
        connection = InferenceServer(url, api_key=api_key, timeout_seconds=timeout_seconds)
        deadline = time.monotonic() + start_seconds
        while True:
            try:
                return cls(
                    folder,
                    connection,
                    DIALECTS[server](connection, served_model),
                    model_name=model_name,
                    model_id=model_id,
                    engine_class=f"{LOGPROBS}{server}-{dtype}",
                )
            except ServerNotUp:
                if time.monotonic() >= deadline:
                    connection.close()
                    raise
                time.sleep(RETRY_SECONDS)
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Closes idle connections. An engine that is in use when the process ends needs none of this."""
        self._connection.close()

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        return self._renderer.chat(messages, tools)

    def encode_text(self, text: str) -> list[int]:
        return self._renderer.text(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._renderer.decode(token_ids)

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_tokens: int,
        cancelled: Callable[[], bool] | None = None,
        decoding: Decoding | None = None,
    ) -> Iterator[Step]:
        self._require_greedy([decoding])
        validate(self, prompt_ids, max_tokens)
        produced = 0
        # Leaving early closes the connection, and the server stops computing.
        with closing(self._dialect.generate(prompt_ids, max_tokens, self.eos_ids)) as tokens:
            for token in tokens:
                if not 0 <= token < self.vocab_size:
                    raise EngineError(f"{self._where} returned token id {token} of a vocabulary of {self.vocab_size}")
                yield Step(token, b"")
                produced += 1
                if token in self.eos_ids or produced == max_tokens or (cancelled and cancelled()):
                    return
        raise EngineError(f"{self._where} broke off after {produced} of {max_tokens} tokens")

    def check(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], decoding: Decoding | None = None
    ) -> Recomputation:
        return self.check_batch([(prompt_ids, output_ids)], [decoding])[0]

    def check_batch(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], decodings: Decodings | None = None
    ) -> list[Recomputation]:
        """`check` of many (prompt, answer), as many at once as the server computes."""
        self._require_greedy(decodings or ())
        for prompt, output in cases:
            self._validate_claim(prompt, output)
        with ThreadPoolExecutor(self._dialect.parallel, thread_name_prefix="check") as pool:
            found = list(pool.map(lambda case: self._dialect.margins(*case), cases))
        return [Recomputation(words=(), margins=tuple(margins), noise=()) for margins in found]

    def require_grammar(self, grammar: Grammar) -> None:
        raise GrammarRefused("this engine cannot hold answers to a grammar so that it can be verified")

    def _require_greedy(self, decodings: Decodings) -> None:
        for decoding in decodings:
            if decoding and decoding.grammar:
                self.require_grammar(decoding.grammar)
            if decoding:
                said = f"{self._where} can neither draw tokens by the protocol's rule nor check such answers"
                raise CannotSample(said)

    def _validate_claim(self, prompt: Sequence[int], output: Sequence[int]) -> None:
        """A claim that only this server has no room for is our fault, not the claimant's."""
        tokens = len(prompt) + len(output)
        if self.context_tokens < tokens <= self.model_context_tokens:
            raise EngineError(
                f"{self._where} has a context of {self.context_tokens} tokens, too little to check {tokens}: "
                f"start it with the model's, {self.model_context_tokens}"
            )
        validate(self, prompt, len(output))
        if max(output) >= self.vocab_size or min(output) < 0:
            raise TokenOutOfRange(f"token id {max(output)} is outside the vocabulary of {self.vocab_size}")

    def _require_same_vocabulary(self) -> None:
        """Compares ids all over the vocabulary: of whole words, because servers may split other text differently."""
        for token in self._probes():
            text = self._tokenizer.decode([token])
            if (found := self._dialect.tokenize(text)) != [token]:
                raise EngineError(
                    f"{self._where} has another vocabulary: {text!r} is {found} there and [{token}] in "
                    f"{self.model_name}; serve the registered model"
                )

    def _probes(self) -> list[int]:
        step = max(1, len(self._tokenizer) // PROBES)
        starts = range(0, len(self._tokenizer), step)
        found = [next(filter(self._is_word, range(start, start + step)), None) for start in starts]
        probes = [token for token in found if token is not None]
        if not probes:
            raise EngineError(f"{self.model_name} has no words in its vocabulary to compare the server's with")
        return probes

    def _is_word(self, token: int) -> bool:
        text = self._tokenizer.decode([token])
        word = text.removeprefix(" ")
        return (
            len(word) > 2
            and word.isascii()
            and word.isalpha()
            and self._tokenizer(text, add_special_tokens=False)["input_ids"] == [token]
        )
