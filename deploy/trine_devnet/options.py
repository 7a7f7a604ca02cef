"""What a demo may be told, and what it is told by default. Imports nothing: the command line reads it at once."""

from __future__ import annotations

from dataclasses import dataclass

MODEL = "smollm2-135m-instruct"
VERIFIERS = 4
DTYPES = ("fp32", "bf16", "fp16")
CHEATS = ("int8-weights", "swapped-token", "other-prompt")
# One calibration prompt an operator, so that seven operators on two cores are ready within a minute.
# The time to appeal is short, so that slashes, which come after it, are part of the demo.
PARAMETERS: dict[str, int | str] = {
    "promptsPerChallenge": 1,
    "seedDelayBlocks": 1,
    "drawDelayBlocks": 1,
    "appealWindowSeconds": 6,
}
QUICK_ACTS: tuple[str, ...] = (
    "request_answered",
    "settled_signed",
    "certificate_abroad",
    "erc8004_published",
    "x402_paid",
)
"""What is shown beside the questions, on the same network; `acts.programme` has what each does."""
SLOW_ACTS = ("canary_caught", "appeal_overturned")
"""With networks of their own."""
ACT_NAMES = (*QUICK_ACTS, *SLOW_ACTS)


@dataclass(frozen=True, slots=True)
class Options:
    """What a demo may be told."""

    node_dtypes: tuple[str, ...] = ("fp32", "bf16")
    verifier_dtypes: tuple[str, ...] = ("fp32",) * VERIFIERS
    cheats: tuple[str, ...] = CHEATS
    cheating_verifiers: tuple[str, ...] = ()  # what the first verifiers try as soon as everybody is calibrated
    prompts: tuple[str, ...] = ()
    max_tokens: int = 48
    threads: int = 1
