"""Grammars that are tried in a process of their own: what hurts there, hurts nobody here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from test_node_support import ended, engine, wait_for

from trine.protocol.grammar import Grammar
from trine_node.engines import grammars, probing
from trine_node.engines.base import GrammarBusy, GrammarRefused
from trine_node.engines.grammars import Grammars


def spelled(schema: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(schema, separators=(",", ":")))


ENDLESS = spelled({"allOf": [{"type": "string", "pattern": f"^(a|b)*a(a|b){{{n}}}$"} for n in range(20, 60)]})
"""All 40 automata at once: the library's counters let it through, and it takes minutes at least."""
HARMLESS = Grammar("choice", '["yes","no"]')
MEMBERS = [f"p{n}" for n in range(600)]
LARGE = spelled({"type": "object", "properties": {name: {"type": "integer"} for name in MEMBERS}, "required": MEMBERS})


@pytest.fixture
def tried() -> Grammars:
    small = engine()
    return Grammars(small.tokenizer, small.vocab_size, small.eos_ids)


def process_of(tried: Grammars) -> Any:
    assert tried._probe is not None
    return tried._probe._process._process


def children_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return children.read().split()


def test_attack_a_grammar_without_an_end_is_ended_and_keeps_no_other_from_its_turn(tried: Grammars) -> None:
    tried.require(HARMLESS)
    before = threading.active_count()
    refusals: list[GrammarRefused] = []

    def ask() -> None:
        try:
            tried.require(ENDLESS)
        except GrammarRefused as refused:
            refusals.append(refused)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    wait_for(lambda: children_of(process_of(tried).pid))
    for number in range(5):
        tried.require(Grammar("regex", f"[0-9]{{{number + 1}}}"))
    assert not refusals, "others had their turn meanwhile"
    for thread in asking:
        thread.join()
    assert all("takes more than 1 s of a processor" in str(refused) for refused in refusals)
    assert len(refusals) == 2
    wait_for(lambda: not children_of(process_of(tried).pid))
    assert threading.active_count() == before
    process_of(tried).kill()  # what is known needs no process
    process_of(tried).wait()
    with pytest.raises(GrammarRefused, match="takes more than"):
        tried.require(ENDLESS)


def test_attack_a_grammar_that_takes_much_memory_is_ended(tried: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MEMORY_BYTES", 0)
    with pytest.raises(GrammarRefused, match="MiB"):
        tried.require(LARGE)
    monkeypatch.undo()
    tried.require(HARMLESS)


def test_a_check_has_more_time_than_an_order(tried: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was too much for an order is tried again for an answer that another node has served."""
    monkeypatch.setattr(grammars, "SERVED_SECONDS", 0.001)
    with pytest.raises(GrammarRefused, match="takes more than"):
        tried.require(LARGE)
    assert len(tried.matcher(LARGE).permitted())
    tried.require(LARGE)


def test_its_process_begins_again_when_it_was_killed(tried: Grammars) -> None:
    tried.require(HARMLESS)
    first = process_of(tried)
    first.kill()
    first.wait()
    tried.require(Grammar("regex", "a+"))
    assert process_of(tried).pid != first.pid


def test_with_too_many_at_once_the_next_is_told_to_come_again(tried: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PATIENCE_SECONDS", 0.05)
    tried.require(HARMLESS)
    assert tried._probe is not None
    for _ in range(probing.AT_ONCE):
        tried._probe._turns.acquire()
    with pytest.raises(GrammarBusy):
        tried.require(Grammar("regex", "b+"))
    tried.require(HARMLESS)


def test_it_ends_with_those_who_ask(tried: Grammars) -> None:
    tried.require(HARMLESS)
    process = process_of(tried)
    tried._probe = None
    wait_for(lambda: process.poll() is not None)


STUCK = """
import sys, threading
from types import SimpleNamespace
from tokenizers import Tokenizer
from trine.models import load_record
from trine.protocol.grammar import Grammar
from trine_node.engines.base import GrammarRefused
from trine_node.engines.grammars import Grammars
from trine_node.models import prepare
from trine_operator.process import stop_on_signals

tokenizer = Tokenizer.from_file(str(prepare(load_record("smollm2-135m-instruct").source) / "tokenizer.json"))
grammars = Grammars(SimpleNamespace(backend_tokenizer=tokenizer), tokenizer.get_vocab_size(), [2])
grammars.require(Grammar("regex", "a"))

def ask():
    try:
        grammars.require(Grammar("json_schema", sys.argv[1]))
    except GrammarRefused:
        pass

stop = stop_on_signals()
threading.Thread(target=ask).start()
print(grammars._probe._process._process.pid, flush=True)
stop.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_attack_a_grammar_without_an_end_keeps_no_process_from_its_own(ending: signal.Signals) -> None:
    with ended(
        subprocess.Popen([sys.executable, "-c", STUCK, ENDLESS.text], stdout=subprocess.PIPE, text=True)
    ) as asking:
        assert asking.stdout is not None
        probe = int(asking.stdout.readline())
        wait_for(lambda: children_of(probe))
        children = [int(child) for child in children_of(probe)]
        asking.send_signal(ending)
        assert asking.wait(timeout=120) == (0 if ending == signal.SIGTERM else -ending)

    def is_there(pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    wait_for(lambda: not any(map(is_there, [probe, *children])))
