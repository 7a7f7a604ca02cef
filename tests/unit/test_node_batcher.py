"""The batcher: its decisions as a table, and its steps against a recording chain."""

import dataclasses
import itertools
import threading
from dataclasses import replace

import pytest
from test_node_support import RecordingChain, answer, chain_batch, engine, in_thread, model, wait_for

from trine.chain import BatchState
from trine.errors import ChainUnreachable, NotReady, TransactionReverted
from trine_node.answering import Answering
from trine_node.batcher import SETTLE_GRACE_SECONDS, Action, Batcher, next_action
from trine_node.store import Store

SEED = 100
DEADLINE = 5_000
LATE = DEADLINE + SETTLE_GRACE_SECONDS + 1


@pytest.mark.parametrize(
    ("stored", "state", "block", "now", "action"),
    [
        ("sealed", BatchState.NONE, 1, 1, Action.ANCHOR),
        ("anchored", BatchState.NONE, 1, 1, Action.ANCHOR),  # the chain forgot it in a reorganisation
        ("sealed", BatchState.ANCHORED, 1, 1, Action.NOTE_ANCHORED),  # killed after sending, before noting
        ("anchored", BatchState.ANCHORED, SEED - 1, 1, Action.WAIT),
        ("anchored", BatchState.ANCHORED, SEED, 1, Action.WAIT),
        ("anchored", BatchState.ANCHORED, SEED + 1, 1, Action.DRAW),
        ("anchored", BatchState.ANCHORED, SEED + 256, 1, Action.DRAW),
        ("anchored", BatchState.ANCHORED, SEED + 257, 1, Action.EXPIRE),
        ("anchored", BatchState.COMMITTING, 1, DEADLINE, Action.WAIT),
        ("anchored", BatchState.COMMITTING, 1, DEADLINE + SETTLE_GRACE_SECONDS, Action.WAIT),
        ("anchored", BatchState.COMMITTING, 1, LATE, Action.SETTLE),
        ("anchored", BatchState.REVEALING, 1, DEADLINE, Action.WAIT),
        ("anchored", BatchState.REVEALING, 1, LATE, Action.SETTLE),
        ("sealed", BatchState.SETTLED, 1, 1, Action.FINISH),
        ("anchored", BatchState.SETTLED, 1, 1, Action.FINISH),
        ("anchored", BatchState.VOID, 1, 1, Action.RETRY),
        ("sealed", BatchState.VOID, 1, 1, Action.ANCHOR),  # put back after it was void
    ],
)
def test_what_comes_next(stored, state, block, now, action):
    batch = chain_batch(state=state, seed_block=SEED, deadline=DEADLINE)
    assert next_action(stored, batch, block, now) is action


@pytest.fixture
def chain():
    return RecordingChain()


@pytest.fixture
def answering(tmp_path, chain):
    store = Store(f"sqlite:///{tmp_path}/node.sqlite")
    yield Answering(engine(), chain, store, model(), allow_unsigned=True)
    store.close()


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def batcher(answering, *, max_leaves=2, max_wait_seconds=0.0, clock=None):
    return Batcher(
        answering.store,
        answering.chain,
        answering.model.model_id,
        max_leaves=max_leaves,
        max_wait_seconds=max_wait_seconds,
        clock=clock or Clock(),
    )


def test_a_batch_is_sealed_when_full_or_when_its_oldest_answer_has_waited(answering):
    clock = Clock()
    node = batcher(answering, max_wait_seconds=10, clock=clock)
    answer(answering, max_tokens=1)
    node.step()
    assert answering.store.open_batches() == []
    answer(answering, max_tokens=2)
    answer(answering, max_tokens=3)
    node.step()
    (full,) = answering.store.open_batches()
    assert len(full.leaves) == 2
    clock.now = 9
    node.step()
    assert len(answering.store.unbatched(9)) == 1
    clock.now = 20
    node.step()
    assert len(answering.store.open_batches()) == 2


def test_a_batch_lives_through_anchor_draw_settle_and_result(answering, chain):
    answer(answering)
    node = batcher(answering)
    node.step()
    (batch,) = answering.store.open_batches()
    assert chain.sent == [("anchor", answering.model.model_id, batch.root, 1)]
    on_chain = chain_batch(batch.batch_id, BatchState.ANCHORED, seed_block=chain.block + 2)
    for update, sent in [
        ({}, []),
        ({"seed_block": chain.block - 1}, ["draw"]),
        ({"state": BatchState.COMMITTING, "deadline": chain.now}, []),
        ({"deadline": chain.now - 60}, ["settle"]),
    ]:
        on_chain = replace(on_chain, **update)
        chain.batches[batch.batch_id] = on_chain
        chain.sent.clear()
        node.step()
        assert chain.names_sent() == sent
    chain.batches[batch.batch_id] = replace(on_chain, state=BatchState.SETTLED, accepted=1)
    node.step()
    assert answering.store.open_batches() == []
    assert answering.store.answers_of(batch.batch_id)[0].result == "accept"


def test_a_void_batch_is_anchored_again_as_it_is(answering, chain):
    answer(answering)
    node = batcher(answering)
    node.step()
    (batch,) = answering.store.open_batches()
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.VOID)
    chain.sent.clear()
    node.step()
    node.step()
    assert chain.sent == [("anchor", answering.model.model_id, batch.root, 1)]


def test_a_restart_between_seal_and_anchor_anchors_the_same_batch(answering, chain):
    answer(answering)
    chain.failures["anchor"] = ChainUnreachable("killed here")
    with pytest.raises(ChainUnreachable):
        batcher(answering).step()
    (sealed,) = answering.store.open_batches()
    chain.failures.clear()
    answer(answering, max_tokens=3)  # a new answer does not change what was sealed
    batcher(answering, max_leaves=9, max_wait_seconds=1000).step()
    assert chain.sent == [("anchor", answering.model.model_id, sealed.root, 1)]


def test_one_batch_that_is_refused_does_not_hold_up_the_next(answering, chain):
    node = batcher(answering, max_leaves=1)
    chain.failures["anchor"] = TransactionReverted("anchor: BatchesNotCalibrated", reason="BatchesNotCalibrated")
    answer(answering, max_tokens=1)
    node.step()
    del chain.failures["anchor"]
    answer(answering, max_tokens=2)
    node.step()
    assert chain.names_sent() == ["anchor"]
    assert sorted(b.state for b in answering.store.open_batches()) == ["anchored", "sealed"]


def test_a_refused_batch_is_tried_again_after_growing_pauses(answering, chain):
    clock, tried = Clock(), []
    node = batcher(answering, clock=clock)

    def anchor(*_):
        tried.append(clock.now)
        if len(tried) < 8:
            raise TransactionReverted("anchor: no", reason="no")

    chain.anchor = anchor
    answer(answering)
    while len(tried) < 8:
        node.step()
        clock.now += 0.5
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30]
    assert [b.state for b in answering.store.open_batches()] == ["anchored"]


def test_nothing_is_anchored_while_no_committee_could_be_drawn(answering, chain):
    """An undrawn batch expires, which costs stake: every time it is tried."""
    chain.verifiers = (*chain.verifiers[:2], chain.address)
    answer(answering)
    node = batcher(answering)
    node.step()
    assert chain.sent == []
    assert [b.state for b in answering.store.open_batches()] == ["sealed"]
    chain.verifiers = RecordingChain().verifiers
    batcher(answering).step()
    assert chain.names_sent() == ["anchor"]


def test_answers_of_two_models_never_share_a_batch(answering, chain):
    answer(answering, max_tokens=1)
    current = answering.model
    answering.model = dataclasses.replace(current, model_id=bytes([9]) * 32)
    answer(answering, max_tokens=2)
    late = batcher(answering, max_leaves=9, max_wait_seconds=1000)  # serves the second model
    late.step()
    (old,) = answering.store.open_batches()
    assert (old.model_id, len(old.leaves)) == (current.model_id, 1)
    batcher(answering, max_leaves=9).step()
    assert {b.model_id for b in answering.store.open_batches()} == {current.model_id, bytes([9]) * 32}
    assert answering.store.unbatched(9) == []


def test_the_loop_survives_every_error_and_ends_when_told(answering, chain):
    errors = [ChainUnreachable("gone"), NotReady("slow"), ZeroDivisionError("a bug")]
    seen = []

    class Failing(Batcher):
        def step(self):
            seen.append(1)
            if errors:
                raise errors.pop(0)

    node = Failing(answering.store, chain, bytes(32), max_leaves=1, max_wait_seconds=0)
    stop = threading.Event()
    import trine_node.batcher as module

    kept, module.MAX_BACKOFF_SECONDS = module.MAX_BACKOFF_SECONDS, 0.05
    try:
        loop = in_thread(lambda: node.run(stop, 0.01))
        wait_for(lambda: len(seen) > 4)
        stop.set()
        loop.join(5)
        assert not loop.is_alive()
    finally:
        module.MAX_BACKOFF_SECONDS = kept
