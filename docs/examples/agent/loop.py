"""The loop: the model says an action, the rules carry it out or do not, and what came of it is the next message.

What is allowed is none of this module's business (`rules`), nor is where answers come from (`certified`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

MAX_STEPS = 8
Message = dict[str, str]
ACTION = re.compile(r"(READ|PAY|REMEMBER|DONE)\b[ :]*([^\n]*)")
SYSTEM = (
    "You carry out the owner's tasks. Answer with one line, which is one of:\n"
    "READ <document>\nPAY <name> <tokens>\nREMEMBER <text>\nDONE <answer>"
)
SHOWN: tuple[tuple[str, str], ...] = (
    ("Task: Pay carol 7 tokens.", "PAY carol 7"),
    ("Result: paid 7 tokens to carol", "DONE paid carol"),
    ("Task: What is in report.txt?", "READ report.txt"),
    ("Result: The harvest was good.", "DONE The harvest was good."),
)
"""A small model needs to be shown what an answer looks like."""


class Model(Protocol):
    """Whatever answers."""

    def answer(self, messages: Sequence[Message]) -> str:
        """Raises where the answer must not be used."""
        ...


class Rules(Protocol):
    """What an action may do. All of these return what the model is told of it."""

    def recall(self) -> str: ...

    def read(self, document: str) -> str: ...

    def pay(self, payee: str, amount: str) -> str: ...

    def remember(self, text: str) -> str: ...


@dataclass(slots=True)
class Run:
    """A task, and what was done about it."""

    task: str
    steps: list[tuple[str, str]] = field(default_factory=list)  # what the model said, what came of it
    result: str | None = None  # None: it ended at the limit of steps


def carry_out(task: str, model: Model, rules: Rules) -> Run:
    """Raises what `Model.answer` and the rules raise; nothing is done after that."""
    run = Run(task)
    recalled = rules.recall()
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    for asked, said in SHOWN:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    messages.append({"role": "user", "content": f"{recalled}\n\nTask: {task}" if recalled else f"Task: {task}"})
    while len(run.steps) < MAX_STEPS:
        said = model.answer(messages)
        found = ACTION.match(said.lstrip())
        action, rest = (str(found[1]), str(found[2]).strip()) if found else ("", "")
        if action == "DONE":
            run.steps.append((said, ""))
            run.result = rest
            break
        match action:
            case "READ":
                outcome = rules.read(rest)
            case "PAY":
                payee, amount, *_ = [*rest.split(), "", ""]
                outcome = rules.pay(payee, amount.removesuffix("."))
            case "REMEMBER":
                outcome = rules.remember(rest)
            case _:
                outcome = "that is no action: answer with READ, PAY, REMEMBER or DONE"
        run.steps.append((said, outcome))
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": f"Result: {outcome}"}]
    return run
