"""Engine over transformers: any causal language model that it loads, on a CPU or a CUDA device.

Single stream, greedy, one key-value cache a request. Knows nothing of where the model came from.
"""

from __future__ import annotations

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
    ) -> Self:
        """Loads a prepared folder. `threads` sets torch's intra-op threads for the whole process."""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        if dtype not in DTYPES:
            raise InvalidInput(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        if threads is not None:
            torch.set_num_threads(threads)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation="sdpa", local_files_only=True
        )
        model.requires_grad_(False).to(device).train(False)
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
        validate(self, prompt_ids, len(output_ids))
        if max(output_ids) >= self.vocab_size or min(output_ids) < 0:
            raise TokenOutOfRange(f"token id {max(output_ids)} is outside the vocabulary of {self.vocab_size}")
        words: list[bytes] = []
        margins: list[float] = []
        with self._lock, torch.inference_mode():
            ids = [*prompt_ids, *output_ids[:-1]]
            hidden = self._forward(ids, self._new_cache())[len(prompt_ids) - 1 :]
            claimed = torch.tensor(list(output_ids), device=self.device)
            for start in range(0, len(output_ids), CHUNK_TOKENS):
                piece = hidden[start : start + CHUNK_TOKENS]
                logits = self._logits(piece)
                taken = logits.gather(1, claimed[start : start + CHUNK_TOKENS, None])[:, 0]
                margins += (logits.amax(dim=-1) - taken).tolist()
                words += self._words(piece)
        return Recomputation(words=tuple(words), margins=tuple(margins))

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.model.config)

    @torch.inference_mode()
    def _step(self, hidden: torch.Tensor) -> Step:
        """The greedy token that a state [1, hidden] predicts."""
        return Step(int(self._logits(hidden).argmax(dim=-1)), self._words(hidden)[0])

    # The mode is entered call by call: a generator that holds it would leave it switched on in its consumer's thread.
    @torch.inference_mode()
    def _forward(self, ids: Sequence[int], cache: Any) -> torch.Tensor:
        """Final hidden states, [len(ids), hidden], after the last norm."""
        pieces = []
        for start in range(0, len(ids), CHUNK_TOKENS):
            batch = torch.tensor([list(ids[start : start + CHUNK_TOKENS])], device=self.device)
            output = self.model.base_model(input_ids=batch, past_key_values=cache, use_cache=True)
            pieces.append(output.last_hidden_state[0])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(hidden).float()
        if not bool(torch.isfinite(logits).all()):
            raise NumericalFault("logits hold NaN or infinity: the weights or the machine are broken")
        return torch.as_tensor(logits)

    def _words(self, hidden: torch.Tensor) -> list[bytes]:
        """A word for each row of [positions, hidden]: `trine.protocol.fingerprint.word` with tensors."""
        state = hidden.float()
        bound = state.abs().mean(dim=-1, keepdim=True)
        projected = state.clamp(-bound, bound) @ self._directions
        rms = projected.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-30)
        cells = (projected / rms * fingerprint.CELLS_PER_RMS).floor().to(torch.int64)
        bits = (cells & 1).to(torch.uint8).reshape(-1, fingerprint.WORD_BYTES, 8)
        packed = (bits << _SHIFTS.to(bits.device)).sum(dim=-1, dtype=torch.uint8)
        return [bytes(row) for row in packed.cpu().numpy()]


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
