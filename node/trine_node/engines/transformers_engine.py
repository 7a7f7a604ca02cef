"""Engine over transformers: any causal language model that it loads, on a CPU or a CUDA device.

Single stream, greedy, one key-value cache a request. Knows nothing of where the model came from.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from trine.errors import InvalidInput
from trine.protocol import fingerprint
from trine.protocol.verdict import Recomputation
from trine_node.engines.base import EngineError, NumericalFault, Step, TokenOutOfRange, validate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNK_TOKENS = 512
"""Prefill and checking go through the model in pieces of this many tokens, which bounds memory."""
PACKED_TOKENS = 1024
"""Answers that are checked together have at most this many tokens with their padding."""
BATCH_ROWS = 32
WIDENED_ROWS = 4
"""From so many rows on, multiplying in fp32 pays for widening the weights."""


class TransformersEngine:
    """See `trine_node.engines.base.Engine`."""

    def __init__(self, model: Any, tokenizer: Any, *, model_name: str, model_id: bytes, dtype: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.model_id = model_id
        self.device = next(model.parameters()).device
        self.engine_class = f"{_device_class(self.device)}-{dtype}"
        self.context_tokens = int(model.config.max_position_embeddings)
        self.vocab_size = int(model.config.vocab_size)
        eos = model.generation_config.eos_token_id
        self.eos_ids = frozenset([eos] if isinstance(eos, int) else eos or [])
        self._lock = threading.Lock()
        self._other: Any = None
        self._directions = _direction_matrix(model_id, int(model.config.hidden_size)).to(self.device)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        model_name: str,
        model_id: bytes,
        dtype: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
        attention: str = "sdpa",
    ) -> Self:
        """Loads a prepared folder.

        `attention` is transformers' name of the implementation; `threads` sets torch's intra-op threads for the
        whole process.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        if dtype not in DTYPES:
            raise InvalidInput(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        if threads is not None:
            torch.set_num_threads(threads)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation=attention, local_files_only=True
        )
        model.requires_grad_(False).to(device).train(False)
        in_precision(model, DTYPES[dtype])
        return cls(model, tokenizer, model_name=model_name, model_id=model_id, dtype=dtype)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        ids = self.tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=True, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        return [int(i) for i in ids]

    def encode_text(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer(text)["input_ids"]]

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def generate(
        self, prompt_ids: Sequence[int], max_tokens: int, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Step]:
        validate(self, prompt_ids, max_tokens)
        with self._lock:
            cache = self._new_cache()
            hidden = self._forward(prompt_ids, cache)[-1:]
            for produced in range(1, max_tokens + 1):
                step = self._step(hidden)
                yield step
                if step.token_id in self.eos_ids or produced == max_tokens or (cancelled and cancelled()):
                    return
                hidden = self._forward([step.token_id], cache)

    def check(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputation:
        return self.check_batch([(prompt_ids, output_ids)])[0]

    def check_batch(self, cases: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Recomputation]:
        """`check` of many (prompt, answer), several in one pass; padding after an answer changes nothing before it."""
        for prompt, output in cases:
            validate(self, prompt, len(output))
            if max(output) >= self.vocab_size or min(output) < 0:
                raise TokenOutOfRange(f"token id {max(output)} is outside the vocabulary of {self.vocab_size}")
        found: dict[int, Recomputation] = {}
        for rows in packed([len(prompt) + len(output) for prompt, output in cases]):
            group = [cases[row] for row in rows]
            own, other = self.output_states(group), self.output_states(group, companion=True)
            for row, hidden, moved in zip(rows, own, other, strict=True):
                found[row] = self.recompute(hidden, moved, cases[row][1])
        return [found[row] for row in range(len(cases))]

    @torch.inference_mode()
    def output_states(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], *, companion: bool = False
    ) -> list[torch.Tensor]:
        """Of each (prompt, answer) the final hidden states that predict the answer's tokens, [tokens, hidden].

        With `companion` those of the model in the other precision, see `_companion`. All rows go in one pass.
        """
        with self._lock:
            model = self._companion() if companion else self.model
            states = self._states(model, [[*prompt, *output[:-1]] for prompt, output in cases])
        return [state[len(prompt) - 1 :] for state, (prompt, _) in zip(states, cases, strict=True)]

    @torch.inference_mode()
    def recompute(self, hidden: torch.Tensor, other: torch.Tensor, output_ids: Sequence[int]) -> Recomputation:
        """Words, margins and noise of an answer from its states here and in the other precision."""
        claimed = torch.tensor(list(output_ids), device=self.device)
        words: list[bytes] = []
        margins: list[float] = []
        noise: list[float] = []
        for start in range(0, len(output_ids), CHUNK_TOKENS):
            piece = hidden[start : start + CHUNK_TOKENS]
            logits = self._logits(piece)
            taken = logits.gather(1, claimed[start : start + CHUNK_TOKENS, None])[:, 0]
            margins += (logits.amax(dim=-1) - taken).tolist()
            words += self.words(piece)
            noise += noise_between(piece, other[start : start + CHUNK_TOKENS])
        return Recomputation(words=tuple(words), margins=tuple(margins), noise=tuple(noise))

    def _states(self, model: Any, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Final hidden states of each sequence, [tokens, hidden]; one alone goes in pieces, which bounds memory."""
        if len(sequences) == 1:
            return [self._forward(sequences[0], self._new_cache(), model)]
        longest = max(map(len, sequences))
        ids = torch.tensor([[*s, *[0] * (longest - len(s))] for s in sequences], device=self.device)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return [row[: len(s)] for row, s in zip(hidden, sequences, strict=True)]

    def _companion(self) -> Any:
        """The model in bf16, or in fp32 if it is in bf16 itself: tells how far rounding moves an answer's states."""
        if self._other is None:
            dtype = torch.float32 if self.model.dtype == torch.bfloat16 else torch.bfloat16
            self._other = in_precision(copy.deepcopy(self.model), dtype)
        return self._other

    @torch.inference_mode()
    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        choose: Callable[[torch.Tensor], torch.Tensor] | None = None,
        rows: int = BATCH_ROWS,
    ) -> list[list[Step]]:
        """Answers to many prompts, `rows` at once, padded on the left: for studies, faster than one by one.

        `choose` maps logits [rows, vocabulary] to token ids [rows]; the default is the argmax.
        """
        answers: list[list[Step]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), rows):
            group = order[start : start + rows]
            for prompt in (prompts[i] for i in group):
                validate(self, prompt, max_tokens)
            with self._lock:
                generated = self._generate_rows([prompts[i] for i in group], max_tokens, choose)
            for row, answer in zip(group, generated, strict=True):
                answers[row] = answer
        return answers

    def _generate_rows(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        choose: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> list[list[Step]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        answers: list[list[Step]] = [[] for _ in prompts]
        done = [False] * len(prompts)
        cache = self._new_cache()
        for _ in range(max_tokens):
            positions = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            hidden = self.model.base_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            logits = self._logits(hidden)
            ids = (choose(logits) if choose else logits.argmax(dim=-1))[:, None]
            words = self.words(hidden)
            for row, (token, word) in enumerate(zip(ids[:, 0].tolist(), words, strict=True)):
                if not done[row]:
                    answers[row].append(Step(token, word))
                    done[row] = token in self.eos_ids
            if all(done):
                break
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        return answers

    @torch.inference_mode()
    def ranked(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` tokens that the model finds likeliest after `ids`, best first."""
        validate(self, ids, 1)
        with self._lock:
            logits = self._logits(self._forward(ids, self._new_cache())[-1:])
        return [int(i) for i in logits[0].topk(count).indices]

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    @torch.inference_mode()
    def _step(self, hidden: torch.Tensor) -> Step:
        """The greedy token that a state [1, hidden] predicts."""
        return Step(int(self._logits(hidden).argmax(dim=-1)), self.words(hidden)[0])

    # The mode is entered call by call: a generator that holds it would leave it switched on in its consumer's thread.
    @torch.inference_mode()
    def _forward(self, ids: Sequence[int], cache: Any, model: Any = None) -> torch.Tensor:
        """Final hidden states, [len(ids), hidden], after the last norm."""
        pieces = []
        for start in range(0, len(ids), CHUNK_TOKENS):
            batch = torch.tensor([list(ids[start : start + CHUNK_TOKENS])], device=self.device)
            output = (model or self.model).base_model(input_ids=batch, past_key_values=cache, use_cache=True)
            pieces.append(output.last_hidden_state[0])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(hidden).float()
        if not bool(torch.isfinite(logits).all()):
            raise NumericalFault("logits hold NaN or infinity: the weights or the machine are broken")
        return torch.as_tensor(logits)

    def words(self, hidden: torch.Tensor) -> list[bytes]:
        """A word for each row of [positions, hidden]: `trine.protocol.fingerprint.word` with tensors."""
        projected = _clipped(hidden) @ self._directions
        cells = (projected * fingerprint.CELLS).floor().to(torch.int64)
        bits = (cells & 1).to(torch.uint8).reshape(-1, fingerprint.WORD_BYTES, 8)
        packed = (bits << _SHIFTS.to(bits.device)).sum(dim=-1, dtype=torch.uint8)
        return [bytes(row) for row in packed.cpu().numpy()]


def _clipped(hidden: torch.Tensor) -> torch.Tensor:
    """Rows clipped at their mean absolute value and divided by their norm: `trine.protocol.fingerprint`, 1 and 3."""
    state = hidden.float()
    bound = state.abs().mean(dim=-1, keepdim=True)
    clipped = state.clamp(-bound, bound)
    return torch.as_tensor(clipped / clipped.norm(dim=-1, keepdim=True).clamp_min(1e-30))


def noise_between(hidden: torch.Tensor, other: torch.Tensor) -> list[float]:
    """For each row of two [positions, hidden], the norm of the difference of the clipped, normalised states."""
    distances: list[float] = (_clipped(hidden) - _clipped(other)).norm(dim=-1).tolist()
    return distances


def in_precision(model: Any, dtype: torch.dtype) -> Any:
    """`model` in another precision, in place.

    A CPU without instructions for half precision emulates them, several times slower than fp32. There, linear layers
    multiply many rows in fp32 and round the result: the same rounding, in fp32's time.
    """
    model = model.to(dtype)
    if dtype != torch.float32 and next(model.parameters()).device.type == "cpu" and not _has_half_precision():
        for module in model.base_model.modules():
            if isinstance(module, torch.nn.Linear):
                setattr(module, "forward", functools.partial(widened, module))  # noqa: B010 - mypy: a method
    return model


def widened(module: torch.nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """`module` of rows [..., inputs]: many are multiplied in fp32 and rounded to the module's precision."""
    if rows.numel() // rows.shape[-1] < WIDENED_ROWS:
        return torch.nn.functional.linear(rows, module.weight, module.bias)
    bias = None if module.bias is None else module.bias.float()
    return torch.nn.functional.linear(rows.float(), module.weight.float(), bias).to(rows.dtype)


def _has_half_precision() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in groups of similar lengths, each group of at most PACKED_TOKENS tokens with its padding."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= PACKED_TOKENS:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


_SHIFTS = torch.arange(7, -1, -1, dtype=torch.uint8)


def _direction_matrix(model_id: bytes, hidden_size: int) -> torch.Tensor:
    """[hidden_size, 256] of +1 and -1, fp32."""
    raw = torch.frombuffer(bytearray(fingerprint.directions(model_id, hidden_size)), dtype=torch.uint8)
    bits = (raw.reshape(hidden_size, fingerprint.WORD_BYTES, 1) >> _SHIFTS) & 1
    return bits.reshape(hidden_size, fingerprint.BITS).float() * 2 - 1


def _device_class(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"cuda-sm{major}{minor}"
    raise EngineError(f"no determinism class is defined for device {device.type!r}")
