"""Continuous batching and its blocks: every answer gets its own tokens, whatever happens to the others."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trine_node.engines.base import EngineError, NumericalFault, Step
from trine_node.engines.batching import Answer, Batch, Server
from trine_node.engines.paging import BLOCK, BlockPool
from trine_node.engines.passes import Segment

EOS = 0
POISON = 13


class Sums:
    """A model whose state is computed from the tokens that the blocks really hold, as a decoder's is."""

    eos_ids = frozenset([EOS])

    def __init__(self, blocks: int) -> None:
        self.cache = torch.full((blocks * BLOCK,), -1, dtype=torch.int64)
        self.rows = 0

    def states_of(self, segments: Sequence[Segment]) -> torch.Tensor:
        rows = []
        for segment in segments:
            for offset, token in enumerate(segment.ids):
                position = segment.start + offset
                self.cache[segment.table[position // BLOCK] * BLOCK + position % BLOCK] = token
                seen = [int(self.cache[segment.table[p // BLOCK] * BLOCK + p % BLOCK]) for p in range(position + 1)]
                rows.append([state(seen)])
        self.rows += len(rows)
        return torch.tensor(rows, dtype=torch.float64)

    def steps_of(self, states: torch.Tensor, draws: object, choose: object = None) -> list[Step | NumericalFault]:
        values = [int(value) for value in states[:, 0]]
        return [NumericalFault("poisoned") if v % 97 == POISON else Step(v % 50, bytes(8)) for v in values]


def state(tokens: Sequence[int]) -> int:
    value = 7
    for token in tokens:
        value = (value * 31 + token + 1) % 1_000_003
    return value


def expected(prompt: Sequence[int], max_tokens: int) -> list[int] | None:
    """The model's answer, or None if it breaks down on the way."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < max_tokens:
        value = state(tokens)
        if value % 97 == POISON:
            return None
        tokens.append(value % 50)
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


prompts_strategy = st.lists(
    st.tuples(
        st.integers(0, 40),  # of a common beginning
        st.lists(st.integers(1, 49), min_size=1, max_size=20),
        st.integers(1, 25),
        st.integers(0, 30),  # the pass before which it comes
        st.one_of(st.none(), st.integers(0, 40)),  # the pass after which its asker goes
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(prompts_strategy, st.integers(7, 30), st.integers(1, 6), st.integers(1, 40), st.booleans())
def test_every_answer_is_its_own(
    asked: list[tuple[int, list[int], int, int, int | None]], blocks: int, rows: int, pieces: int, reuse: bool
) -> None:
    common = list(range(1, 41))
    model, pool = Sums(blocks), BlockPool(blocks)
    batch = Batch(model, pool, prompt_tokens=pieces, rows=rows, reuse=reuse)
    answers = [Answer((*common[:length], *own), tokens) for length, own, tokens, _, _ in asked]
    got: dict[Answer, list[int] | None] = {answer: [] for answer in answers}
    gone: set[Answer] = set()
    for turn in range(3000):
        for answer, (_, _, _, comes, goes) in zip(answers, asked, strict=True):
            if comes == turn:
                batch.add(answer)
            if goes is not None and goes == turn and comes <= turn:
                batch.drop(answer)
                gone.add(answer)
        if turn > 40 and not batch.running and not batch.waiting:
            break
        for answer, step in batch.step():
            so_far = got[answer]
            if isinstance(step, NumericalFault) or so_far is None:
                got[answer] = None
            else:
                so_far.append(step.token_id)
    assert not batch.running
    assert not batch.waiting
    assert pool.available == pool.blocks, "blocks are lost"
    for answer in answers:
        wanted = expected(answer.prompt, answer.max_tokens)
        found = got[answer]
        if answer in gone and found is not None:
            honest = wanted if wanted is not None else expected_until_fault(answer)
            assert found == honest[: len(found)]
        else:
            assert found == wanted


def expected_until_fault(answer: Answer) -> list[int]:
    tokens = list(answer.prompt)
    while state(tokens) % 97 != POISON:
        tokens.append(state(tokens) % 50)
    return tokens[len(answer.prompt) :]


def test_a_common_beginning_is_computed_once() -> None:
    model, pool = Sums(20), BlockPool(20)
    batch = Batch(model, pool, prompt_tokens=64, rows=1)
    prompt = tuple(range(1, 41))
    for _ in range(2):
        batch.add(Answer(prompt, 1))
        while batch.running or batch.waiting:
            batch.step()
    assert model.rows == 40 + (40 - 2 * BLOCK)


def test_a_beginning_that_broke_down_is_computed_anew() -> None:
    class OnceBroken(Sums):
        def steps_of(self, states: torch.Tensor, draws: object, choose: object = None) -> list[Step | NumericalFault]:
            broken = self.rows == 40
            return [NumericalFault("a fault of the moment") if broken else Step(9, bytes(8)) for _ in states]

    model, pool = OnceBroken(20), BlockPool(20)
    batch = Batch(model, pool, prompt_tokens=64, rows=1)
    found = []
    for _ in range(3):
        batch.add(Answer(tuple(range(1, 41)), 1))
        while batch.running or batch.waiting:
            found += [step for _, step in batch.step()]
    assert [isinstance(step, NumericalFault) for step in found] == [True, False, False]
    assert model.rows == 40 + 40 + (40 - 2 * BLOCK)
    assert pool.available == pool.blocks


def test_what_nothing_sound_was_predicted_from_is_not_shared() -> None:
    """A broken number shows in what is predicted; whoever leaves before that may leave broken blocks behind."""
    model, pool = Sums(20), BlockPool(20)
    batch = Batch(model, pool, prompt_tokens=32, rows=1)
    prompt = tuple(range(1, 41))
    gone = Answer(prompt, 1)
    batch.add(gone)
    assert batch.step() == []
    batch.drop(gone)
    batch.add(Answer(prompt, 1))
    while batch.running or batch.waiting:
        batch.step()
    assert model.rows == 32 + 40
    assert pool.available == pool.blocks


def test_the_longest_idle_beginning_makes_room() -> None:
    pool = BlockPool(4)
    for first in (1, 2, 3):
        room = pool.take([first] * 33, 33)
        assert room is not None
        pool.note(room, [first] * 33)
        pool.give_back(room)
    assert pool.available == 4
    kept = pool.take([3] * 33, 33)
    assert kept is not None
    assert kept.known == 2 * BLOCK
    pool.give_back(kept)
    lost = pool.take([1] * 33, 33)
    assert lost is not None
    assert lost.known == 0
    assert BlockPool(4).take([1] * 33, 65) is None


def unbroken(count: int, tokens: int) -> list[tuple[int, ...]]:
    """Prompts that the model answers with so many tokens or more."""
    draws = ((n, n // 49 + 1, 3) for n in range(1, 40_000))
    long = (prompt for prompt in draws if len(expected(prompt, tokens) or ()) == tokens)
    return [next(long) for _ in range(count)]


@pytest.mark.parametrize("reuse", [True, False])
def test_who_came_last_is_put_back_when_there_is_no_room_and_says_the_same(reuse: bool) -> None:
    model, pool = Sums(8), BlockPool(8)
    batch = Batch(model, pool, prompt_tokens=6, rows=4, reuse=reuse)
    answers = [Answer(prompt, 100) for prompt in unbroken(4, 100)]
    for answer in answers:
        batch.add(answer)
    got: dict[Answer, list[int]] = {answer: [] for answer in answers}
    ended: list[Answer] = []
    at_once = 0
    for _ in range(2000):
        if not batch.running and not batch.waiting:
            break
        for answer, step in batch.step():
            assert isinstance(step, Step)
            got[answer].append(step.token_id)
            ended += [answer] * answer.done
        at_once = max(at_once, len(batch.running))
    assert [got[answer] for answer in answers] == [expected(answer.prompt, 100) for answer in answers]
    assert at_once > 1, "there is room for one whole answer, and for more of them while they are short"
    assert batch.put_back > 0
    assert ended == answers, "who came first always has room"
    assert pool.available == pool.blocks


@pytest.mark.parametrize("tokens", [40, 30])
def test_a_cache_that_holds_no_whole_answer_is_an_error_and_no_endless_wait(tokens: int) -> None:
    pool = BlockPool(2)
    server = Server(Batch(Sums(2), pool, prompt_tokens=64, rows=2))
    [ids] = unbroken(1, 40)
    with pytest.raises(EngineError, match="engine_cache_tokens"):
        list(server.submit(Answer(ids, tokens)))
    assert pool.available == pool.blocks


class Broken(Sums):
    def states_of(self, segments: Sequence[Segment]) -> torch.Tensor:
        if any(49 in segment.ids for segment in segments):
            raise RuntimeError("out of memory")
        return super().states_of(segments)


def test_a_failed_pass_is_told_to_all_and_the_server_goes_on() -> None:
    pool = BlockPool(20)
    server = Server(Batch(Broken(20), pool, prompt_tokens=64, rows=4))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(server.submit(Answer((1, 49), 5)))
    answer = Answer((1, 2), 5)
    assert [step.token_id for step in server.submit(answer)] == expected((1, 2), 5)
    assert pool.available == pool.blocks


def test_who_goes_away_leaves_no_blocks_behind() -> None:
    pool = BlockPool(40)
    server = Server(Batch(Sums(40), pool, prompt_tokens=8, rows=3))
    found: list[list[int]] = []

    def ask(number: int) -> None:
        ticket = server.submit(Answer((number, 5, 7), 60))
        steps = iter(ticket)
        try:
            tokens = [next(steps).token_id]
        except (StopIteration, NumericalFault):
            tokens = []
        ticket.gone.set()
        found.append(tokens)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 12
    list(server.submit(Answer((1, 2), 1)))  # behind all of them
    assert pool.available == pool.blocks
