"""Calibration of a model: honest variants and cheats on a prompt set, thresholds fitted, policy and report written."""

from __future__ import annotations

import itertools
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from trine.errors import InvalidInput
from trine.models import load_record
from trine.protocol.calibration import parse_prompt_set
from trine.protocol.inputs import Input
from trine.protocol.policy import Policy
from trine.protocol.sampling import MAX_TEMPERATURE
from trine_research.adversaries import ADVERSARIES, CONSTRAINING, DRAWING
from trine_research.study import observations, report
from trine_research.study.fit import fit_pairs, fit_policy, split, with_margins_of
from trine_research.study.observe import Leaf, Plan, Progress, observe_cheats, observe_honest
from trine_research.study.subject import MAX_PROMPTS, Subject, decodings_at, honest_variants, render_all

MAX_TOKENS = 4096
OBSERVATIONS = "observations.jsonl.gz"
MAX_PROMPT_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Options:
    """What is run; the report repeats it."""

    model: str
    prompt_file: Path | None = None  # a prompt set instead of the model's own
    prompts: int = 120
    cheat_prompts: int = 40
    tokens: int = 96
    seed: int = 0
    dtypes: tuple[str, ...] = ("fp32", "bf16", "fp16")
    temperatures: tuple[float, ...] = (0.0,)  # 0: greedy
    adversaries: tuple[str, ...] = tuple(
        ADVERSARIES
    )  # those of DRAWING where there is something to draw, none of CONSTRAINING
    cheat_dtype: str = ""  # what cheats run in and claim; the noisiest, which has the laxest bounds, if empty
    device: str = "cpu"
    threads: int | None = None
    accept_sigmas: float = 4.0
    reject_sigmas: float = 5.0
    margins_of: str = ""  # a shipped model: no bound of a margin is narrower than its own

    def __post_init__(self) -> None:
        honest_variants(self.dtypes)  # refuses precisions that no engine has
        if not 1 <= self.cheat_prompts <= self.prompts <= MAX_PROMPTS:
            raise InvalidInput(f"prompts must be 1 to {MAX_PROMPTS}, those for cheats at most as many")
        if not 8 <= self.tokens <= MAX_TOKENS:
            raise InvalidInput(f"answers of {self.tokens} tokens: choose 8 to {MAX_TOKENS}")
        if self.cheat_dtype and self.cheat_dtype not in self.dtypes:
            raise InvalidInput(f"cheats in {self.cheat_dtype}: choose one of {', '.join(self.dtypes)}")
        if not all(0 <= each <= MAX_TEMPERATURE for each in self.temperatures):
            raise InvalidInput(f"temperatures are 0 to {MAX_TEMPERATURE}")
        if not 0 < self.accept_sigmas <= self.reject_sigmas <= 10:
            raise InvalidInput("sigmas must be over 0 and at most 10, accept at most reject")


def observe(options: Options, subject: Subject, progress: Progress) -> Iterator[list[Leaf]]:
    """Everything that is measured, one prover after the other."""
    verifiers = {dtype: subject.engine(dtype, device=options.device) for dtype in options.dtypes}
    first = verifiers[options.dtypes[0]]
    prompts = render_all(first, subject.prompts(options.prompts, options.seed, prompt_set(options.prompt_file)))
    room = first.context_tokens - options.tokens
    if any(len(prompt) > room for prompt in prompts):
        raise InvalidInput(f"a prompt does not fit the context with {options.tokens} tokens to answer: choose fewer")
    chosen = range(options.cheat_prompts)
    dtype = options.cheat_dtype or ("bf16" if "bf16" in options.dtypes else options.dtypes[0])
    for temperature in options.temperatures:
        ways = decodings_at(temperature, len(prompts), options.seed)
        plan = Plan(subject, prompts, options.tokens, verifiers, ways, options.device)
        cheats = [name for name in options.adversaries if name not in CONSTRAINING and (ways or name not in DRAWING)]
        found = itertools.chain(
            observe_honest(plan, honest_variants(options.dtypes), progress),
            observe_cheats(plan, cheats, dtype, chosen, progress),
        )
        for leaves in found:
            yield [replace(leaf, prover=f"{leaf.prover} at {temperature:g}") for leaf in leaves] if ways else leaves


def calibrate(options: Options, out: Path, progress: Progress, observed: Path | None = None) -> Policy:
    """Writes policy and report into `out` and returns the policy. `observed`: observations to use instead of new ones.

    New observations are kept in `out`, too, those of a prover as soon as it is done. The policy is fitted to all honest
    leaves. The report also tells how one fitted to half of the prompts fares on the other half: what to expect of
    prompts that nobody has calibrated on.
    """
    if options.margins_of:
        shipped_policy(options.margins_of)  # says that there is none before an hour has gone by
    subject = Subject.find(options.model, options.threads)
    if observed:
        leaves = list(observations.read(observed))
    else:
        leaves = []
        for found in observe(options, subject, progress):
            if not leaves:
                out.mkdir(parents=True, exist_ok=True)
                (out / OBSERVATIONS).unlink(missing_ok=True)
            observations.append(out / OBSERVATIONS, found)
            leaves += found
    honest = [leaf for leaf in leaves if leaf.honest]
    policy = _fitted(honest, options)
    document: dict[str, Any] = {
        "model": options.model,
        "model_id": subject.model_id.hex(),
        "command": shlex.join(["trine-study", *sys.argv[1:]]),
        "conditions": {"observations": f"{len(leaves)} leaves of {observed}"} if observed else conditions(options),
    }
    if len({leaf.prompt for leaf in honest}) >= 80:
        fitted, tested = split(honest, lambda prompt: prompt % 2 == 0)
        document["held_out"] = report.honest_summary(tested, _fitted(fitted, options))
    report.write(out, document, leaves, policy, fit_pairs(honest))
    return policy


def _fitted(honest: Sequence[Leaf], options: Options) -> Policy:
    policy = fit_policy(honest, options.accept_sigmas, options.reject_sigmas)
    return with_margins_of(policy, shipped_policy(options.margins_of)) if options.margins_of else policy


def shipped_policy(model: str) -> Policy:
    """Raises InvalidInput for a model that has none."""
    return Policy.from_bytes(load_record(model).policy)


def prompt_set(file: Path | None) -> tuple[Input, ...] | None:
    """A file's prompts: a JSON list of strings and chats. Raises InvalidInput for a file that is none or too large."""
    if file is None:
        return None
    if file.stat().st_size > MAX_PROMPT_BYTES:
        raise InvalidInput(f"{file}: over {MAX_PROMPT_BYTES} bytes")
    return tuple(parse_prompt_set(file.read_bytes()))


def conditions(options: Options) -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "prompts": f"{options.prompts}, {options.cheat_prompts} of them for cheats, seed {options.seed}",
        "tokens": f"at most {options.tokens} an answer",
        "temperatures": ", ".join(f"{each:g}" for each in options.temperatures),
        "precisions": f"{', '.join(options.dtypes)}; cheats in {options.cheat_dtype or 'the noisiest'}",
        "device": options.device if options.device == "cpu" else torch.cuda.get_device_name(options.device),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "software": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}",
    }


def parse_list(text: str, allowed: Sequence[str] | None = None) -> tuple[str, ...]:
    """Comma-separated names, each once. Raises InvalidInput for an empty list or a name that is not allowed."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InvalidInput("an empty list: give names with commas between them")
    for name in names:
        if allowed is not None and name not in allowed:
            raise InvalidInput(f"{name!r} is none of {', '.join(allowed)}")
    return names
