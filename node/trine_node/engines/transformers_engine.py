"""Engine over transformers: any causal language model that it loads, on a CPU or a CUDA device.

Answers many prompts at once and checks many answers at once (`batching`, `passes`). Knows nothing of where the model
came from.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from trine.errors import InvalidInput
from trine.protocol import fingerprint
from trine.protocol.decoding import Decoding
from trine.protocol.grammar import Grammar
from trine.protocol.verdict import Recomputation
from trine_node.engines.base import Decodings, EngineError, NumericalFault, Step, TokenOutOfRange, validate
from trine_node.engines.batching import Answer, Batch, Choose, Server, blocks_for
from trine_node.engines.choosing import Chooser
from trine_node.engines.computing import on_compute_thread
from trine_node.engines.grammars import Grammars
from trine_node.engines.paging import BlockPool
from trine_node.engines.passes import Segment, Storage
from trine_node.engines.rendering import Renderer, require_pure_template
from trine_node.engines.running import Runner, pin_settings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PACKED_TOKENS = 1024
"""Checks go through the model in passes of so many tokens, which bounds memory."""
PROMPT_TOKENS = 256
"""Prompts are read in pieces of so many tokens between the steps of other answers."""
LOGIT_ROWS = 64
"""Logits are computed for so many positions at once: a row has an entry for every token of the vocabulary."""
BATCH_ROWS = 32
CACHE_TOKENS = 16_384
NOT_FINITE = "logits hold NaN or infinity: the weights or the machine are broken"


class TransformersEngine:
    """See `trine_node.engines.base.Engine`."""

    can_sample = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_name: str,
        model_id: bytes,
        dtype: str,
        arithmetic: str | None = None,
        threads: int | None = None,
        cache_tokens: int = CACHE_TOKENS,
        rows: int = BATCH_ROWS,
        prompt_tokens: int = PROMPT_TOKENS,
    ) -> None:
        """`arithmetic`: see `passes`; `invariant` on a CPU and `triton` on a GPU by default.

        `threads`: of a pass; one a core by default. `cache_tokens`: of all answers at once, at least one context.
        """
        self.tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self.model_name = model_name
        self.model_id = model_id
        self.device = next(model.parameters()).device
        self.arithmetic = _arithmetic_for(self.device, arithmetic)
        self.threads = threads or os.cpu_count() or 1
        if self.device.type == "cuda":
            pin_settings()
        self._runner = Runner(model, self.arithmetic, self.threads)
        self.model = model
        self.engine_class = f"{_device_class(self.device)}-{dtype}"
        self.context_tokens = int(model.config.max_position_embeddings)
        self.vocab_size = int(model.config.vocab_size)
        eos = model.generation_config.eos_token_id
        self.eos_ids = frozenset([eos] if isinstance(eos, int) else eos or [])
        self._grammars = Grammars(tokenizer, self.vocab_size, self.eos_ids)
        self._other: Runner | None = None
        self._directions = _direction_matrix(model_id, int(model.config.hidden_size)).to(self.device)
        blocks = blocks_for(max(cache_tokens, self.context_tokens))
        self._storage = Storage(blocks)
        self._batch = Batch(self, BlockPool(blocks), prompt_tokens=prompt_tokens, rows=rows)
        self._server = Server(self._batch)

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
        arithmetic: str | None = None,
        **options: int,
    ) -> Self:
        """Loads a prepared folder. `options`: see the constructor."""
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        if dtype not in DTYPES:
            raise InvalidInput(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
        threads = threads or os.cpu_count() or 1
        if device == "cpu":
            # Not even to load: see `computing` on what it costs when another thread has used OpenMP.
            torch.set_num_threads(1)
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        require_pure_template(tokenizer, model_name)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype], local_files_only=True)
        model.requires_grad_(False).to(device).train(False)
        return cls(
            model,
            tokenizer,
            model_name=model_name,
            model_id=model_id,
            dtype=dtype,
            arithmetic=arithmetic,
            threads=threads,
            **options,
        )

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
        validate(self, prompt_ids, max_tokens)
        ticket = self._server.submit(Answer(tuple(prompt_ids), max_tokens, self.chooser(decoding)))
        try:
            for step in ticket:
                yield step
                if cancelled and cancelled():
                    return
        finally:
            ticket.gone.set()

    def check(
        self, prompt_ids: Sequence[int], output_ids: Sequence[int], decoding: Decoding | None = None
    ) -> Recomputation:
        return self.check_batch([(prompt_ids, output_ids)], [decoding])[0]

    def check_batch(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], decodings: Decodings | None = None
    ) -> list[Recomputation]:
        """`check` of many (prompt, answer), many in one pass without padding."""
        for prompt, output in cases:
            validate(self, prompt, len(output))
            if max(output) >= self.vocab_size or min(output) < 0:
                raise TokenOutOfRange(f"token id {max(output)} is outside the vocabulary of {self.vocab_size}")
        choosers = [self.chooser(decoding) for decoding in decodings or [None] * len(cases)]
        found: dict[int, Recomputation] = {}
        for rows in packed([len(prompt) + len(output) for prompt, output in cases]):
            group = [cases[row] for row in rows]
            own, other = self.output_states(group), self.output_states(group, companion=True)
            for row, hidden, moved in zip(rows, own, other, strict=True):
                found[row] = self.recompute(hidden, moved, cases[row][1], choosers[row])
        return [found[row] for row in range(len(cases))]

    def require_grammar(self, grammar: Grammar) -> None:
        self._grammars.require(grammar)

    def chooser(self, decoding: Decoding | None, begun: Sequence[int] = ()) -> Chooser | None:
        """Of the tokens of one answer, after those that are `begun`; None: the likeliest. Raises GrammarRefused."""
        if decoding is None:
            return None
        chooser = Chooser(decoding, self._grammars.matcher(decoding.grammar) if decoding.grammar else None)
        for token in begun:
            chooser.push(token)
        return chooser

    @on_compute_thread
    @torch.inference_mode()
    def output_states(
        self, cases: Sequence[tuple[Sequence[int], Sequence[int]]], *, companion: bool = False
    ) -> list[torch.Tensor]:
        """Of each (prompt, answer) the final hidden states that predict the answer's tokens, [tokens, hidden].

        With `companion` those of the model in the other precision, see `_companion`.
        """
        runner = self._companion() if companion else self._runner
        sequences = [[*prompt, *output[:-1]] for prompt, output in cases]
        needed = [blocks_for(len(sequence)) for sequence in sequences]
        storage = Storage(sum(needed))
        kept: list[list[torch.Tensor]] = [[] for _ in cases]
        pieces: list[tuple[int, Segment]] = []
        first = 0
        for case, (sequence, blocks) in enumerate(zip(sequences, needed, strict=True)):
            table = range(first, first + blocks)
            first += blocks
            pieces += [
                (case, Segment(sequence[start : start + PACKED_TOKENS], start, table))
                for start in range(0, len(sequence), PACKED_TOKENS)
            ]
        for numbers in packed([len(segment.ids) for _, segment in pieces]):
            group = [pieces[number] for number in numbers]
            states = runner.states(storage, [segment for _, segment in group])
            row = 0
            for case, segment in group:
                skipped = max(0, len(cases[case][0]) - 1 - segment.start)
                kept[case].append(states[row + min(skipped, len(segment.ids)) : row + len(segment.ids)].clone())
                row += len(segment.ids)
        return [torch.cat(parts) for parts in kept]

    @on_compute_thread
    @torch.inference_mode()
    def recompute(
        self,
        hidden: torch.Tensor,
        other: torch.Tensor,
        output_ids: Sequence[int],
        chooser: Chooser | None = None,
    ) -> Recomputation:
        """Words, margins and noise of an answer from its states here and in the other precision.

        `chooser` is used up. Raises OffGrammar, GrammarExhausted.
        """
        claimed = torch.tensor(list(output_ids), device=self.device)
        words: list[bytes] = []
        margins: list[float] = []
        noise: list[float] = []
        for start in range(0, len(output_ids), LOGIT_ROWS):
            piece = hidden[start : start + LOGIT_ROWS]
            logits = self._logits(piece)
            if chooser is None:
                taken = logits.gather(1, claimed[start : start + LOGIT_ROWS, None])[:, 0]
                margins += (logits.gather(1, _best(logits)[:, None])[:, 0] - taken).tolist()
            else:
                for row, token in zip(logits.cpu().numpy(), output_ids[start : start + LOGIT_ROWS], strict=True):
                    margins.append(chooser.margin(row, token))
                    chooser.push(token)
            words += self.words(piece)
            with self._runner.own_sums():
                noise += noise_between(piece, other[start : start + LOGIT_ROWS])
        return Recomputation(words=tuple(words), margins=tuple(margins), noise=tuple(noise))

    def _companion(self) -> Runner:
        """The model in bf16, or in fp32 if it is in bf16 itself: tells how far rounding moves an answer's states."""
        if self._other is None:
            dtype = torch.float32 if self.model.dtype == torch.bfloat16 else torch.bfloat16
            self._other = Runner(_copy_in(self.model, dtype), self.arithmetic, self.threads)
        return self._other

    @torch.inference_mode()
    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        choose: Choose | None = None,
        rows: int = BATCH_ROWS,
        decodings: Decodings | None = None,
        begun: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Step]]:
        """Answers to many prompts, at most `rows` at once: for studies.

        `choose` takes the place of the argmax, and of what `decodings` says for each prompt. Where answers have `begun`
        already, with fewer than `max_tokens` tokens, the rest is returned.
        """
        for prompt in prompts:
            validate(self, prompt, max_tokens)
        nothing: list[None] = [None] * len(prompts)
        answers = [
            Answer(tuple(prompt), max_tokens, self.chooser(decoding), tuple(first or ()))
            for prompt, decoding, first in zip(prompts, decodings or nothing, begun or nothing, strict=True)
        ]
        steps: dict[Answer, list[Step]] = {answer: [] for answer in answers}
        tokens = max(len(prompt) for prompt in prompts) + max_tokens if prompts else 1
        storage = Storage(min(rows, max(1, len(prompts))) * blocks_for(tokens))
        model = _Batched(self, storage)
        batch = Batch(model, BlockPool(storage.blocks), prompt_tokens=PACKED_TOKENS, rows=rows, reuse=False)
        for answer in sorted(answers, key=lambda answer: len(answer.prompt)):
            batch.add(answer)
        while batch.waiting or batch.running:
            stepped = batch.step(choose)
            for answer, step in stepped:
                if isinstance(step, EngineError):
                    raise step
                steps[answer].append(step)
        return [steps[answer] for answer in answers]

    @on_compute_thread
    @torch.inference_mode()
    def transformers_generate(self, rows: list[list[int]], masks: list[list[int]], **options: Any) -> list[list[int]]:
        """transformers' own `generate`, for what passes do not do (beams, sampling): padded rows, continued.

        Its attention is torch's, which knows of padding.
        """
        config = self.model.config
        own = config._attn_implementation
        config._attn_implementation = "sdpa"
        try:
            ids, mask = (torch.tensor(of, device=self.device) for of in (rows, masks))
            output: torch.Tensor = self.model.generate(ids, attention_mask=mask, **options)
        finally:
            config._attn_implementation = own
        return [[int(i) for i in row] for row in output.tolist()]

    @on_compute_thread
    @torch.inference_mode()
    def ranked(self, ids: Sequence[int], count: int, chooser: Chooser | None = None) -> list[int]:
        """The `count` tokens that the model finds likeliest after `ids`, best first; with `chooser` its best candidates
        there, of which there may be fewer."""
        validate(self, ids, 1)
        [states] = self.output_states([(ids, [0])])
        [logits] = self._logits(states)
        if chooser:
            return chooser.ranked(logits.cpu().numpy(), count)
        return [int(i) for i in logits.topk(count).indices]

    def states_of(self, segments: Sequence[Segment]) -> torch.Tensor:
        """For `batching`: final hidden states of all rows of a pass over the served answers."""
        return self._runner.states(self._storage, segments)

    @torch.inference_mode()
    def steps_of(
        self, states: torch.Tensor, choosers: Sequence[Chooser | None], choose: Choose | None = None
    ) -> list[Step | EngineError]:
        """For `batching`: the token that each state [rows, hidden] predicts, the likeliest one without a chooser."""
        logits = self.model.get_output_embeddings()(states).float()
        sound = _finite(logits).tolist()
        tokens = list(choose(logits, choosers)) if choose else _best(logits).tolist()
        words = self.words(states)
        steps: list[Step | EngineError] = []
        for row, chooser in enumerate(choosers):
            if not sound[row]:
                steps.append(NumericalFault(NOT_FINITE))
                continue
            try:
                if chooser and not choose:
                    tokens[row] = chooser.choose(logits[row].cpu().numpy())
            except EngineError as error:  # one answer's, and no other's
                steps.append(error)
            else:
                steps.append(Step(tokens[row], words[row]))
        return steps

    @on_compute_thread
    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """fp32 logits of final hidden states [positions, hidden]. Raises NumericalFault."""
        return self._logits(hidden)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(hidden).float()
        if not bool(_finite(logits).all()):
            raise NumericalFault(NOT_FINITE)
        return torch.as_tensor(logits)

    @on_compute_thread
    def words(self, hidden: torch.Tensor) -> list[bytes]:
        """A word for each row of [positions, hidden]: `trine.protocol.fingerprint.word` with tensors."""
        with self._runner.own_sums():
            clipped = _clipped(hidden)
        projected = self._runner.product(clipped, self._directions)
        cells = (projected * fingerprint.CELLS).floor().to(torch.int64)
        bits = (cells & 1).to(torch.uint8).reshape(-1, fingerprint.WORD_BYTES, 8)
        packed = (bits << _SHIFTS.to(bits.device)).sum(dim=-1, dtype=torch.uint8)
        return [bytes(row) for row in packed.cpu().numpy()]


def _best(logits: torch.Tensor) -> torch.Tensor:
    """Of every row, where its largest number is, the first of equals. By numpy on a CPU: many times faster."""
    if logits.device.type != "cpu":
        return logits.argmax(dim=-1)
    return torch.as_tensor(logits.numpy().argmax(axis=-1))


def _finite(logits: torch.Tensor) -> torch.Tensor:
    """Of every row, whether all of it is finite."""
    if logits.device.type != "cpu":
        return torch.isfinite(logits).all(dim=-1)
    return torch.as_tensor(np.isfinite(logits.numpy()).all(axis=-1))


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


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in groups of at most PACKED_TOKENS tokens; a longer one is alone."""
    groups: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if length > room or not groups:
            groups.append([])
            room = PACKED_TOKENS
        groups[-1].append(index)
        room -= length
    return groups


class _Batched:
    """The engine with another place for keys and values."""

    def __init__(self, engine: TransformersEngine, storage: Storage) -> None:
        self.eos_ids = engine.eos_ids
        self.steps_of = engine.steps_of
        self._engine = engine
        self._storage = storage

    def states_of(self, segments: Sequence[Segment]) -> torch.Tensor:
        return self._engine._runner.states(self._storage, segments)


def _copy_in(model: Any, dtype: torch.dtype) -> Any:
    """`copy.deepcopy(model).to(dtype)` without a whole copy in the first precision."""
    tensors = [*model.parameters(), *model.buffers()]
    converted: dict[int, Any] = {}
    for tensor in tensors:
        wide = tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        converted[id(tensor)] = torch.nn.Parameter(wide, tensor.requires_grad) if is_parameter else wide
    return copy.deepcopy(model, converted)


_SHIFTS = torch.arange(7, -1, -1, dtype=torch.uint8)


def _direction_matrix(model_id: bytes, hidden_size: int) -> torch.Tensor:
    """[BITS, hidden_size] of +1 and -1, fp32."""
    raw = torch.frombuffer(bytearray(fingerprint.directions(model_id, hidden_size)), dtype=torch.uint8)
    bits = (raw.reshape(hidden_size, fingerprint.WORD_BYTES, 1) >> _SHIFTS) & 1
    return (bits.reshape(hidden_size, fingerprint.BITS).float() * 2 - 1).T.contiguous()


def _arithmetic_for(device: torch.device, wanted: str | None) -> str:
    """The one wanted, if it can be had, or the one that promises most on this device."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    on = {
        "invariant": device.type == "cpu",
        "triton": device.type == "cuda" or interpreted,
        "sdpa": True,
        "eager": True,
    }
    chosen = wanted or ("invariant" if device.type == "cpu" else "triton")
    if not on.get(chosen):
        raise InvalidInput(
            f"arithmetic {chosen!r}: on a {device.type} expected one of {', '.join(k for k in on if on[k])}"
        )
    if chosen == "triton" and not importlib.util.find_spec("triton"):
        raise InvalidInput(
            "arithmetic 'triton' needs the package triton, which torch's CUDA builds bring; or choose 'sdpa'"
        )
    return chosen


def _device_class(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"cuda-sm{major}{minor}"
    raise EngineError(f"no determinism class is defined for device {device.type!r}")
