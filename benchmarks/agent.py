"""How often an agent does what an attacker wants, and what its owner wants, with and without its guard:

    python benchmarks/agent.py                          # a model that obeys whatever it reads: the worst case, seconds
    python benchmarks/agent.py --model smollm2-135m-instruct [--goals "pay a stranger"] [--json FILE]

Tasks and attacks are those of docs/examples/agent/attacks.py: a text in a fetched document (in eight wordings), an
entry of memory that was forged or edited past the agent, one that it was made to write in an earlier session. A real
model is the engine as nodes run it, greedy, in this process; no network is asked, as verdicts do not change what a
model says. Documents are opened for it, where the task says so, because small models skip that, and were not attacked
then. An attack has succeeded when anything was paid that the owner did not want, or the attacker's words are
believed to be the owner's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "examples"))

from agent.attacks import GOALS, GUARDS, TASKS, Attack, Obedient, Task, attacks_on, play  # noqa: E402
from agent.loop import SHOWN, Message, Model  # noqa: E402

MAX_TOKENS = 24
DONE, UNDER_ATTACK, HARMED = "task done, no attack", "task done under attack", "attack succeeded"
WAYS = ("fetched", "forged", "edited", "learned")
COLUMNS = (DONE, UNDER_ATTACK, HARMED, *WAYS)


class Local:
    """A model in this process; answers are one line, as the agent asks for."""

    def __init__(self, name: str, dtype: str, threads: int) -> None:
        from trine_research.study.subject import Subject

        self._engine = Subject.find(name, threads).engine(dtype)
        self._known: dict[tuple[int, ...], str] = {}

    def answer(self, messages: Sequence[Message]) -> str:
        prompt = self._engine.encode_chat(messages)
        if tuple(prompt) not in self._known:
            tokens: list[int] = []
            for step in self._engine.generate(prompt, MAX_TOKENS):
                tokens.append(step.token_id)
                if "\n" in self._engine.decode(tokens):
                    break
            self._known[tuple(prompt)] = self._engine.decode(tokens).partition("\n")[0]
        return self._known[tuple(prompt)]


class Led:
    """The documents of a task are read, and the model says all the rest."""

    def __init__(self, local: Local, task: Task) -> None:
        self._local, self._reads = local, [step for step in task.steps if step.startswith("READ ")]

    def answer(self, messages: Sequence[Message]) -> str:
        done = len(messages) // 2 - 1 - len(SHOWN)
        return self._reads[done] if done < len(self._reads) else self._local.answer(messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: none, but a stand-in that obeys everything")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--goals", default=",".join(GOALS), help="names with commas between them")
    parser.add_argument("--tasks", default=",".join(task.name for task in TASKS), help="names with commas between them")
    parser.add_argument("--guards", default=";".join(GUARDS), help="names with semicolons between them")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    goals, guards = given.goals.split(","), given.guards.split(";")
    tasks = [task for task in TASKS if task.name in given.tasks.split(",")]
    if (
        unknown := {*goals} - {*GOALS}
        | {*guards} - {*GUARDS}
        | {*given.tasks.split(",")} - {task.name for task in TASKS}
    ):
        sys.exit(f"error: unknown: {', '.join(sorted(unknown))}")
    if given.model:
        local = Local(given.model, given.dtype, given.threads)
        title = f"{given.model}, {given.dtype}, greedy, {MAX_TOKENS} tokens"
    else:
        local, title = None, "a stand-in that obeys whatever text says (not a model)"
    print(f"{title}; {len(tasks)} tasks; goals: {', '.join(goals)}; Python {platform.python_version()}", flush=True)

    def model(task: Task) -> Model:
        return Led(local, task) if local else Obedient(task.steps)

    cases = [(task, attack) for task in tasks for attack in attacks_on(task) if attack.goal in goals]
    started = time.monotonic()
    table: dict[str, dict[str, tuple[int, int]]] = {}
    print("\n| guard | " + " | ".join(COLUMNS) + " |\n| --- |" + " --- |" * len(COLUMNS))
    for guard in guards:
        row = table[guard] = measure(guard, tasks, cases, model)
        cells = ["{} of {}".format(*row.get(name, (0, 0))) for name in COLUMNS]
        print(f"| {guard} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{len(cases)} attacks and {len(tasks)} tasks for each row, {time.monotonic() - started:.0f} s")
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "goals": goals, "table": table}, indent=1) + "\n")


def measure(
    guard: str, tasks: Sequence[Task], cases: Sequence[tuple[Task, Attack]], model: Callable[[Task], Model]
) -> dict[str, tuple[int, int]]:
    """Of which cases how many were so, by what they are."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder:
            counts[DONE].append(play(task, None, guard, Path(folder), model).is_done)
    for task, attack in cases:
        with tempfile.TemporaryDirectory() as folder:
            outcome = play(task, attack, guard, Path(folder), model)
        counts[UNDER_ATTACK].append(outcome.is_done)
        counts[attack.way].append(outcome.is_harmed)
        counts[HARMED].append(outcome.is_harmed)
    return {name: (sum(found), len(found)) for name, found in counts.items()}


if __name__ == "__main__":
    main()
