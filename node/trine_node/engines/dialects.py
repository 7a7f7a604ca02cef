"""What differs between inference servers: how each is given token ids, returns them, and says how likely they were.

All are asked for greedy decoding with every penalty off, whatever defaults the server was started with. What an answer
must hold is checked here; connections, sizes and time are `inference_server`'s business, vocabularies the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from typing import Any, Protocol

from trine_node.engines.inference_server import InferenceServer

PIECE_TOKENS = 16
ALTERNATIVES = 100
FORCED_LOGITS = 1000.0
MAX_MARGIN = 1000.0
"""Logits; servers write minus infinity as numbers of their own, and no bound of a policy is near this."""
BYTES_A_TOKEN = 512
"""Of the answer to a request for margins; one token with its two entries takes about 150."""


RESERVED = 7
"""Tokens of its context that SGLang leaves to no prompt (0.5.23: 1,017 of 1,024 are taken)."""


class Dialect(Protocol):
    """One server and the model that is asked of it."""

    model: str  # the server's name for it
    context_tokens: int  # prompt and answer together
    parallel: int  # how many requests it computes at once

    def tokenize(self, text: str) -> list[int]:
        """The server's own token ids of a text, without special tokens around it."""

    def generate(self, prompt_ids: Sequence[int], max_tokens: int, eos_ids: Collection[int]) -> Generator[int]:
        """Greedy tokens as they come. Ends after an end-of-sequence token or `max_tokens` unless something is wrong.

        May go on after an end-of-sequence token: who reads stops there.
        """

    def margins(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[float]:
        """How far each token of an answer lies below the likeliest one, in logits."""


class Vllm:
    """vLLM's completions: token ids in and out (0.10.2 and newer), margins of a whole text in one pass."""

    parallel = 16

    def __init__(self, server: InferenceServer, model: str | None = None) -> None:
        self._server = server
        listed = _listed(server, model)
        self.model = str(listed["id"])
        # A text is scored by generating one token after it, which needs a place.
        self.context_tokens = _count(server, listed.get("max_model_len"), "max_model_len") - 1

    def tokenize(self, text: str) -> list[int]:
        return _tokenized(self._server, {"model": self.model, "prompt": text, "add_special_tokens": False})

    def generate(self, prompt_ids: Sequence[int], max_tokens: int, eos_ids: Collection[int]) -> Generator[int]:
        body = {**self._greedy(prompt_ids, max_tokens), "stream": True, "stop_token_ids": sorted(eos_ids)}
        for event in self._server.events("/v1/completions", body):
            choice = self._choice(event)
            if choice.get("token_ids") is None:
                raise self._server.fault("it returns no token ids: vLLM 0.10.2 or newer is needed")
            if choice.get("prompt_token_ids") not in (None, list(prompt_ids)):
                raise self._server.fault("it answers another prompt than it was given")
            yield from _ids(self._server, choice["token_ids"])

    def margins(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[float]:
        text = [*prompt_ids, *output_ids]
        body = {**self._greedy(text, 1), "prompt_logprobs": 1}
        found = self._choice(
            self._server.post("/v1/completions", body, max_bytes=(1 << 20) + BYTES_A_TOKEN * len(text))
        ).get("prompt_logprobs")
        if not isinstance(found, list) or len(found) != len(text):
            raise self._server.fault("it gives no log-probabilities of the tokens that it was asked about")
        return [self._margin(entry, token) for entry, token in zip(found[len(prompt_ids) :], output_ids, strict=True)]

    def _margin(self, entry: Any, token: int) -> float:
        if not isinstance(entry, dict):
            raise self._server.fault("a token has no log-probability")
        logprobs = {key: _number(self._server, value, "logprob") for key, value in entry.items()}
        return _below_best(self._server, logprobs, str(token))

    def _greedy(self, prompt_ids: Sequence[int], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": list(prompt_ids),
            "max_tokens": max_tokens,
            "temperature": 0,
            "repetition_penalty": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "ignore_eos": True,  # the server's idea of it; the model's own is in stop_token_ids
            "return_token_ids": True,
        }

    def _choice(self, answer: Any) -> dict[str, Any]:
        _require_model(self._server, answer, self.model)
        choices = answer.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise self._server.fault("it does not give exactly one choice")
        return choices[0]


class Sglang:
    """SGLang by its own `/generate`: the OpenAI-like one returns no token ids. Margins of a whole text in one pass."""

    parallel = 16

    def __init__(self, server: InferenceServer, model: str | None = None) -> None:
        self._server = server
        listed = _listed(server, model)
        self.model = str(listed["id"])
        self.context_tokens = _count(server, listed.get("max_model_len"), "max_model_len") - RESERVED
        if self.context_tokens < 1:
            raise server.fault(f"its context of {listed['max_model_len']} tokens is too short")

    def tokenize(self, text: str) -> list[int]:
        return _tokenized(self._server, {"model": self.model, "prompt": text, "add_special_tokens": False})

    def generate(self, prompt_ids: Sequence[int], max_tokens: int, eos_ids: Collection[int]) -> Generator[int]:
        text, left, ended = list(prompt_ids), max_tokens, True
        while left and ended:
            # It knows ends of its own besides those that it is told: there it is asked to go on.
            ended, before = False, left
            for tokens, stopped in self._stream(tuple(text), left, eos_ids):
                yield from tokens
                text += tokens
                left -= len(tokens)
                # One that ends without a token would be asked for ever.
                ended = stopped and left < before and text[-1] not in eos_ids

    def _stream(
        self, prompt_ids: Sequence[int], max_tokens: int, eos_ids: Collection[int]
    ) -> Generator[tuple[list[int], bool]]:
        """(tokens, whether the last of them ends the text for the server) as they come."""
        body = self._greedy(prompt_ids, max_tokens, stop_token_ids=sorted(eos_ids))
        produced = 0
        for event in self._server.events("/generate", {**body, "stream": True}):
            about = self._about(event, prompt_ids)
            tokens = about.get("completion_tokens")
            found = _ids(self._server, _field(self._server, event, "output_ids"))
            # Each event has all tokens so far, or only the new ones (--incremental-streaming-output).
            if type(tokens) is not int or not 0 <= tokens - produced <= min(len(found), max_tokens - produced):
                raise self._server.fault(f"it gave {len(found)} token ids and counts {tokens}, after {produced} before")
            reason = about.get("finish_reason")
            yield found[len(found) - (tokens - produced) :], isinstance(reason, dict) and reason.get("type") == "stop"
            produced = tokens

    def margins(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[float]:
        text = [*prompt_ids, *output_ids]
        start = len(prompt_ids) - 1  # what is likely after the first of the tokens it looks at, and so on
        body = self._greedy(text, 1) | {"return_logprob": True, "logprob_start_len": start, "top_logprobs_num": 1}
        answer = self._server.post("/generate", body, max_bytes=(1 << 20) + BYTES_A_TOKEN * len(text))
        about = self._about(answer, text)
        given, best = about.get("input_token_logprobs"), about.get("input_top_logprobs")
        if not (isinstance(given, list) and isinstance(best, list) and len(given) == len(best) == len(output_ids) + 1):
            raise self._server.fault("it gives no log-probabilities of the tokens that it was asked about")
        return [self._margin(*entry) for entry in zip(given[1:], best[1:], output_ids, strict=True)]

    def _margin(self, given: Any, best: Any, token: int) -> float:
        try:
            entries = {int(found): {"logprob": logprob} for logprob, found, _ in (*best, given)}
        except (TypeError, ValueError):
            raise self._server.fault("a token has no log-probability") from None
        if token not in entries:
            raise self._server.fault("its log-probabilities are of other tokens than it was asked about")
        logprobs = {str(found): _number(self._server, entry, "logprob") for found, entry in entries.items()}
        return _below_best(self._server, logprobs, str(token))

    def _about(self, answer: Any, prompt_ids: Sequence[int]) -> dict[str, Any]:
        """What it says of an answer; it names no model there."""
        _require_no_error(self._server, answer)
        about = _field(self._server, answer, "meta_info")
        reason = about.get("finish_reason") if isinstance(about, dict) else None
        if isinstance(reason, dict) and reason.get("type") == "abort":  # with a token that means nothing
            raise self._server.fault(f"it says: {' '.join(str(reason.get('message')).split())[:300]}")
        if not isinstance(about, dict) or about.get("prompt_tokens") != len(prompt_ids):
            raise self._server.fault("it did not take the prompt as it was given")
        return about

    def _greedy(self, prompt_ids: Sequence[int], max_tokens: int, **more: Any) -> dict[str, Any]:
        sampling = {
            "max_new_tokens": max_tokens,
            "temperature": 0,
            "repetition_penalty": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "min_new_tokens": 0,
            "ignore_eos": False,  # or it would not look at stop_token_ids either
            **more,
        }
        return {"input_ids": list(prompt_ids), "sampling_params": sampling}


class LlamaCpp:
    """llama.cpp's `llama-server`, by its own `/completion`: the OpenAI-like one returns no token ids.

    Its stream leaves out the ids of tokens that end inside a character. So an answer is asked for in pieces, which
    its prompt cache makes cheap: 1 token, 2, 4, up to 16 at a time.

    It cannot score a given text. Margins come from decoding again: as long as its own greedy tokens are the claimed
    ones, margins are zero; where they part, it is asked once for the likeliest tokens there, and goes on behind the
    claimed one. That costs as much as generating did.
    """

    def __init__(self, server: InferenceServer, model: str | None = None) -> None:
        self._server = server
        self.model = str(_listed(server, model)["id"])
        properties = server.get("/props")
        settings = _field(server, properties, "default_generation_settings")
        self.context_tokens = _count(server, _field(server, settings, "n_ctx"), "n_ctx") - 1
        self.parallel = _count(server, properties.get("total_slots"), "total_slots")
        self._whole = self._whole_character()

    def tokenize(self, text: str) -> list[int]:
        return _tokenized(self._server, {"content": text, "add_special": False})

    def generate(self, prompt_ids: Sequence[int], max_tokens: int, eos_ids: Collection[int]) -> Generator[int]:
        text, left, size = list(prompt_ids), max_tokens, 1
        while left:
            piece = self._continued(text, min(size, left))
            yield from piece
            text, left, size = text + piece, left - len(piece), min(2 * size, PIECE_TOKENS)

    def margins(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> list[float]:
        text, margins = list(prompt_ids), list[float]()
        while len(margins) < len(output_ids):
            claimed = output_ids[len(margins) :]
            own = self._continued(text, min(len(claimed), PIECE_TOKENS))
            same = next((i for i, (a, b) in enumerate(zip(own, claimed, strict=False)) if a != b), len(own))
            text += own[:same]
            margins += [0.0] * same
            if same < len(own):
                margins.append(self._margin(text, claimed[same]))
                text.append(claimed[same])
        return margins

    def _continued(self, text: Sequence[int], tokens: int) -> list[int]:
        """1 to `tokens` greedy tokens after `text`; fewer than asked for only if the server's own idea ends it."""
        answer = self._asked(text, tokens)
        found = _ids(self._server, answer.get("tokens"))
        ended = answer.get("stop_type") == "eos"
        if not 0 < len(found) <= tokens or (len(found) < tokens and not ended):
            raise self._server.fault(f"it gave {len(found)} token ids where it was asked for {tokens}")
        return found

    def _margin(self, text: Sequence[int], token: int) -> float:
        """Of a token after `text`. Beyond the likeliest 100, the margin of the last of them: it is at least that."""
        # The probabilities are those before sampling. A token that ends inside a character would come without any,
        # so that the sampled one is forced to be whole; it is not looked at.
        answer = self._asked(text, 1, n_probs=ALTERNATIVES, logit_bias=[[self._whole, FORCED_LOGITS]])
        try:
            entries = answer["completion_probabilities"][0]["top_logprobs"]
            logprobs = {str(entry["id"]): _number(self._server, entry, "logprob") for entry in entries}
        except (KeyError, IndexError, TypeError):
            raise self._server.fault("it gives no log-probabilities") from None
        return _below_best(self._server, logprobs, str(token))

    def _asked(self, text: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
        body = {
            "model": self.model,
            "prompt": list(text),
            "n_predict": tokens,
            "temperature": 0,
            "samplers": ["top_k"],
            "top_k": 1,
            "cache_prompt": True,
            "return_tokens": True,
            **more,
        }
        answer = self._server.post("/completion", body)
        _require_model(self._server, answer, self.model)
        if answer.get("tokens_evaluated") != len(text) or answer.get("truncated"):
            raise self._server.fault("it did not take the prompt as it was given")
        return dict(answer)

    def _whole_character(self) -> int:
        ids = self.tokenize("a")
        if len(ids) != 1:
            raise self._server.fault("its vocabulary has no token for the letter a")
        return ids[0]


DIALECTS: dict[str, type[Vllm] | type[Sglang] | type[LlamaCpp]] = {
    "vllm": Vllm,
    "sglang": Sglang,
    "llamacpp": LlamaCpp,
}


def _listed(server: InferenceServer, model: str | None) -> dict[str, Any]:
    """The server's entry of the model of that name; without a name, of the only one that it serves."""
    entries = _field(server, server.get("/v1/models"), "data")
    try:
        by_name = {str(entry["id"]): dict(entry) for entry in entries}
    except (KeyError, TypeError, ValueError):
        raise server.fault("its list of models cannot be read") from None
    names = ", ".join(map(repr, by_name)) or "none"
    if model is None and len(by_name) != 1:
        raise server.fault(f"say in engine_model which model to ask for; it serves {names}")
    if model is not None and model not in by_name:
        raise server.fault(f"it serves no model {model!r} (engine_model); it serves {names}")
    return by_name[model if model is not None else next(iter(by_name))]


def _tokenized(server: InferenceServer, body: dict[str, Any]) -> list[int]:
    return _ids(server, _field(server, server.post("/tokenize", body), "tokens"))


def _require_no_error(server: InferenceServer, answer: Any) -> None:
    if isinstance(answer, dict) and "error" in answer:
        raise server.fault(f"it says: {' '.join(str(answer['error']).split())[:300]}")


def _require_model(server: InferenceServer, answer: Any, model: str) -> None:
    _require_no_error(server, answer)
    if not isinstance(answer, dict) or answer.get("model") != model:
        named = answer.get("model") if isinstance(answer, dict) else None
        raise server.fault(f"the answer is of model {named!r}, {model!r} was asked")


def _field(server: InferenceServer, answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise server.fault(f"its answer has no {name!r}: is it the server that `engine` names?")
    return answer[name]


def _ids(server: InferenceServer, value: Any) -> list[int]:
    if not isinstance(value, list) or any(type(token) is not int for token in value):
        raise server.fault("what it returns as token ids are none")
    return value


def _count(server: InferenceServer, value: Any, name: str) -> int:
    if type(value) is not int or value < 1:
        raise server.fault(f"its {name} is {value!r}")
    return value


def _number(server: InferenceServer, entry: Any, name: str) -> float:
    value: Any = entry.get(name) if isinstance(entry, dict) else None
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise server.fault(f"a {name} is {value!r:.80}")
    return number


def _below_best(server: InferenceServer, logprobs: dict[str, float], token: str) -> float:
    """The best one's less the token's; less the least of all where the token is not among them."""
    if not logprobs:
        raise server.fault("it gives no log-probabilities")
    of_token = logprobs.get(token, min(logprobs.values()))
    return min(max(logprobs.values()) - of_token, MAX_MARGIN)
