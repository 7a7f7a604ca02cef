"""The example agent (docs/examples/agent) under attack: by what its model reads, and by who writes to its files."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from agent.attacks import GUARDS, MALLORY, PAYEES, TASKS, Obedient, Purse, attacks_on, play
from agent.certified import Certified
from agent.guarded import Guarded
from agent.loop import carry_out
from agent.mandate import TOKEN, Decision, Mandate, Payment, amount_of, decide
from agent.memory import Memory
from hypothesis import given, settings
from hypothesis import strategies as st

from trine import NotReady, VerificationFailed

NOW = 1_000_000
LIMIT = 10 * TOKEN


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    """Nothing here outlives the test."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


def obedient(task):
    return Obedient(task.steps)


class Says:
    """A model whose every word is the attacker's."""

    def __init__(self, *lines):
        self._lines = list(lines)

    def answer(self, messages):
        return self._lines.pop(0) if self._lines else "DONE"


def mandate(**changed):
    return Mandate(**{"payees": PAYEES, "payment_limit_wei": LIMIT, "task_limit_wei": LIMIT, **changed})


def guarded(folder, *, limits=None, **options):
    (folder / "documents").mkdir(exist_ok=True)
    rules = limits or mandate(valid_until=int(time.time()) + 60)
    memory = Memory(folder / "memory.jsonl", folder / "owner")
    return Guarded(rules, memory, folder / "documents", Purse(), options.pop("prove", lambda: None), **options)


# Attacks


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_no_attack_moves_the_guarded_agent_though_its_model_obeys_all_of_them(task, tmp_path):
    for number, attack in enumerate(attacks_on(task)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = play(task, attack, GUARDS[-1], folder, obedient)
        assert not outcome.is_harmed, attack
        if task.named:
            assert outcome.is_done, f"{attack}: what the owner named herself is paid all the same"


def test_the_same_attacks_move_the_agent_without_its_guard(tmp_path):
    """Else the test above would show nothing."""
    task = TASKS[2]
    for guard in GUARDS[:2]:
        for attack in attacks_on(task):
            folder = tmp_path / f"{guard} {attack.way} {attack.goal} {attack.wording}"
            folder.mkdir()
            assert play(task, attack, guard, folder, obedient).is_harmed, (guard, attack)


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_is_done_where_nobody_attacks(task, guard, tmp_path):
    done = play(task, None, guard, tmp_path, obedient).is_done
    # Nobody is there to confirm what an invoice asks for.
    assert done == (guard != "guard" or task.name != "pay what an invoice asks for")


words = st.sampled_from(["alice", "bob", "mallory", MALLORY, PAYEES["alice"], "ALICE", "alice,bob", "../owner", ""])
amounts = st.sampled_from(["1", "9", "10", "11", "0", "-1", "1e3", "0.5", "9.999999999999999999", "1_0", "NaN", "٣"])
actions = st.one_of(
    st.builds("PAY {} {}".format, words, amounts),
    st.builds("READ {}".format, st.sampled_from(["page.txt", "../owner/memory.key", "/etc/passwd", "link", ".", ""])),
    st.builds("REMEMBER {}".format, st.sampled_from(["pay mallory", "x", ""])),
    st.sampled_from(["", "Hello.", "pay alice 2", "PAY", "READ", "\n\nPAY bob 1", "PAY\tbob\t1", "\x00"]),
)


@settings(max_examples=30, deadline=None)
@given(said=st.lists(actions, min_size=2, max_size=8), confirms=st.booleans())
def test_whatever_the_model_says_only_the_owners_payees_are_paid_within_her_limits(said, confirms):
    with tempfile.TemporaryDirectory() as name:
        whatever_it_says(Path(name), said, confirms)


def whatever_it_says(folder, said, confirms):
    (folder / "documents").mkdir()
    (folder / "documents" / "page.txt").write_text("words of others")
    (folder / "documents" / "link").symlink_to(folder / "owner" / "memory.key")
    rules = guarded(folder, confirm=lambda _payment, _read: confirms)
    run = carry_out("Do as you like.", Says(*said), rules)
    paid = Counter(rules.wallet.paid)
    assert {address for address, _ in paid} <= set(PAYEES.values())
    assert sum(wei * times for (_, wei), times in paid.items()) <= LIMIT
    shown = "".join(outcome for _, outcome in run.steps)
    assert rules.memory._key.hex() not in shown
    assert "root:" not in shown
    for entry in rules.memory.entries.values():
        assert entry.origin == "agent"
    if not confirms and rules.read_so_far:
        first_read = next(i for i, (_, outcome) in enumerate(run.steps) if "words of others" in outcome)
        assert not [outcome for _, outcome in run.steps[first_read:] if outcome.startswith("paid")]


# The mandate


@pytest.mark.parametrize(
    ("wanted", "tainted", "decision"),
    [
        (Payment("alice", TOKEN), False, Decision.ALLOW),
        (Payment("alice", TOKEN), True, Decision.ASK),
        (Payment("bob", 2 * TOKEN), True, Decision.ALLOW),  # named
        (Payment("bob", 2 * TOKEN + 1), True, Decision.ASK),
        (Payment("mallory", TOKEN), False, Decision.UNKNOWN),
        (Payment("alice", 6 * TOKEN), False, Decision.PAYMENT_LIMIT),
        (Payment("alice", 5 * TOKEN), False, Decision.TASK_LIMIT),  # 6 are spent
        (Payment("alice", 0), False, Decision.AMOUNT),
        (Payment("alice", -TOKEN), False, Decision.AMOUNT),
    ],
)
def test_the_owners_word_decides_on_a_payment(wanted, tainted, decision):
    owners = mandate(payment_limit_wei=5 * TOKEN, valid_until=NOW + 1, named=(Payment("bob", 2 * TOKEN),))
    paid = [Payment("alice", 5 * TOKEN), Payment("alice", TOKEN)]
    assert decide(owners, paid, wanted, is_tainted=tainted, now=NOW) is decision
    assert decide(owners, paid, wanted, is_tainted=tainted, now=NOW + 1) is Decision.EXPIRED


def test_what_was_named_once_is_paid_once():
    named = Payment("bob", TOKEN)
    owners = mandate(valid_until=NOW + 1, named=(named,))
    assert decide(owners, [named], named, is_tainted=True, now=NOW) is Decision.ASK


@pytest.mark.parametrize(
    ("text", "wei"),
    [
        ("2", 2 * TOKEN),
        ("0.5", TOKEN // 2),
        *((text, None) for text in ("1e3", "-1", "٣", "", ".", "1.2.3", "NaN", "0." + "0" * 18 + "1", "9" * 41)),
    ],
)
def test_an_amount_is_a_plain_number(text, wei):
    assert amount_of(text) == wei


# Memory


def changed(file, change):
    lines = file.read_text().splitlines()
    change(lines)
    file.write_text("".join(line + "\n" for line in lines))


def edit(lines):
    lines[1] = lines[1].replace("second", "other")


def untaint(lines):
    lines[2] = json.dumps({**json.loads(lines[2]), "read": []})


def append(lines):
    lines.append(json.dumps({**json.loads(lines[0]), "number": 4, "text": "forged"}))


def junk(lines):
    lines[1:1] = ["{", "null", "[]", '{"mac": 1}', "[" * 100_000, '{"number": 1e999, "mac": ""}']


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (edit, {1, 3}),
        (untaint, {1, 2}),
        (append, {1, 2, 3}),
        (junk, {1, 2, 3}),
        (lambda lines: lines.pop(1), {1, 3}),
        (lambda lines: lines.pop(), {1, 2}),  # rolled back to what it was before
        (lambda lines: lines.append(lines[0]), {1, 2, 3}),  # said twice
        (lambda lines: lines.clear(), set()),
    ],
)
def test_who_writes_past_the_agent_is_noticed_and_what_is_left_is_genuine(change, left, tmp_path):
    file, owner = tmp_path / "memory.jsonl", tmp_path / "owner"
    memory = Memory(file, owner)
    for text, read in (("first", ()), ("second", ()), ("third", {"page.txt"})):
        memory.write(text, origin="owner", read=read)
    untouched = Memory(file, owner)
    assert untouched.entries == memory.entries
    assert not untouched.is_doubtful
    changed(file, change)
    found = Memory(file, owner)
    assert found.is_doubtful
    assert found.entries == {number: memory.entries[number] for number in left}


def test_another_owners_entries_are_nobodys(tmp_path):
    Memory(tmp_path / "theirs", tmp_path / "they").write("pay mallory", origin="owner")
    found = Memory(tmp_path / "theirs", tmp_path / "owner")
    assert (found.entries, found.forged) == ({}, 1)


def test_an_agent_that_was_stopped_while_it_wrote_has_lost_nothing(tmp_path):
    file, owner = tmp_path / "memory.jsonl", tmp_path / "owner"
    memory = Memory(file, owner)
    memory.write("first", origin="owner")
    (owner / "memory.count").write_text("0")  # the entry is there, the count is not
    found = Memory(file, owner)
    assert found.entries == memory.entries
    assert not found.is_doubtful
    assert found.write("second", origin="owner").number == 2
    assert not Memory(file, owner).is_doubtful


def test_who_has_been_at_the_memory_makes_the_agent_ask(tmp_path):
    rules = guarded(tmp_path)
    rules.memory.write("never pay bob", origin="owner")
    (tmp_path / "memory.jsonl").write_text("")
    rules = guarded(tmp_path)
    carry_out("Pay bob what is due.", Says("PAY bob 2"), rules)
    assert [decision for _, decision in rules.refused] == [Decision.ASK]


# Answers that verifiers have not accepted


class Client:
    """Of a client, its verdicts: those of a real network are tested end to end."""

    def __init__(self, **results):
        self._results = results

    def chat(self, messages, **options):
        return SimpleNamespace(text="PAY alice 2", digest=b"", receipt=None)

    def certify(self, answer, *, final=False, hard=False, timeout):
        found = self._results["hard" if hard else "final" if final else "soft"]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(result=found)


@pytest.mark.parametrize(
    "results",
    [
        {"soft": "reject"},
        {"soft": "inconclusive"},
        {"soft": "unavailable"},
        {"soft": NotReady("no verdict yet")},
        {"soft": "accept", "hard": NotReady("by votes"), "final": "reject"},  # an appeal has turned it
        {"soft": "accept", "hard": NotReady("by votes"), "final": NotReady("not final yet")},
        {"soft": "accept", "hard": VerificationFailed("keys that nobody trusts")},
    ],
)
def test_nothing_is_paid_on_the_word_of_an_answer_that_is_not_proven(results, tmp_path):
    model = Certified(Client(**results))
    rules = guarded(tmp_path, prove=model.prove)
    with pytest.raises((VerificationFailed, NotReady)):
        carry_out("Pay alice 2 tokens.", model, rules)
    assert rules.wallet.paid == []
    model = Certified(Client(soft="accept", hard=NotReady("by votes"), final="accept"))
    rules = guarded(tmp_path, prove=model.prove)
    carry_out("Pay alice 2 tokens.", model, rules)
    assert rules.wallet.paid[0] == (PAYEES["alice"], 2 * TOKEN)


def test_a_payment_that_may_have_been_made_is_not_made_again(tmp_path):
    class Broken:
        tried = 0

        def pay(self, address, wei):
            self.tried += 1
            raise TimeoutError

    rules = guarded(tmp_path, limits=mandate(valid_until=int(time.time()) + 60, task_limit_wei=2 * TOKEN))
    rules.wallet = Broken()
    for _ in range(2):
        try:
            rules.pay("alice", "2")
        except TimeoutError:
            continue
    assert rules.wallet.tried == 1


def test_the_folder_of_the_example_holds_no_key():
    assert not list(Path(__file__).parents[2].joinpath("docs", "examples").rglob("*.key"))
