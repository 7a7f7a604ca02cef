"""The batcher: its decisions as a table, and its steps against a recording chain."""

import dataclasses
import itertools
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_node_support import (
    APPEAL_SECONDS,
    FEE_PER_LEAF,
    REVEAL_SECONDS,
    WINDOW,
    RecordingChain,
    answer,
    ballots,
    chain_batch,
    engine,
    in_thread,
    model,
    result_of,
    wait_for,
)

from trine.chain import AppealPhase, BatchState, Marks
from trine.chain.follower import Follower, Head
from trine.errors import ChainUnreachable, NotReady, TransactionReverted
from trine.protocol import merkle
from trine_node.answering import Answering
from trine_operator.batcher import SETTLE_GRACE_SECONDS, Action, Batcher, fitting, next_action
from trine_operator.credit import ALLOW, Credit
from trine_operator.loops import keep_doing
from trine_operator.staying import ENDING_BLOCKS
from trine_operator.store import Store

SEED = 100
DEADLINE = 5_000
GRACE = SETTLE_GRACE_SECONDS
LATE = DEADLINE + GRACE + 1
NOTHING, COMMITTED, REVEALED = 0, 1, 2


@pytest.mark.parametrize(
    ("stored", "state", "block", "action"),
    [
        ("sealed", BatchState.NONE, 1, Action.ANCHOR),
        ("anchored", BatchState.NONE, 1, Action.ANCHOR),  # the chain forgot it in a reorganisation
        ("sealed", BatchState.ANCHORED, 1, Action.NOTE_ANCHORED),  # killed after sending, before noting
        ("anchored", BatchState.ANCHORED, SEED - 1, Action.WAIT),
        ("anchored", BatchState.ANCHORED, SEED, Action.DRAW),  # for the next block, if the endpoint can try it there
        ("anchored", BatchState.ANCHORED, SEED + 1, Action.DRAW),
        ("anchored", BatchState.ANCHORED, SEED + WINDOW, Action.DRAW),
        ("anchored", BatchState.ANCHORED, SEED + WINDOW + 1, Action.EXPIRE),
        ("sealed", BatchState.SETTLED, 1, Action.FINISH),
        ("anchored", BatchState.SETTLED, 1, Action.FINISH),
        ("anchored", BatchState.FINAL, 1, Action.FINISH),
        ("anchored", BatchState.VOID, 1, Action.RETRY),
        ("sealed", BatchState.VOID, 1, Action.ANCHOR),  # put back after it was void
    ],
)
def test_what_comes_next(stored, state, block, action):
    assert next_(stored, chain_batch(state=state, clock=SEED), block, 1) is action


@pytest.mark.parametrize(
    ("seats", "now", "action"),
    [
        # Too few have committed: there is nothing to wait for after the deadline.
        ((NOTHING, NOTHING, NOTHING), DEADLINE + GRACE, Action.WAIT),
        ((NOTHING, NOTHING, COMMITTED), LATE, Action.SETTLE),
        # Two have: they may reveal until the end.
        ((COMMITTED, COMMITTED, NOTHING), LATE, Action.WAIT),
        ((COMMITTED, COMMITTED, NOTHING), LATE + REVEAL_SECONDS, Action.SETTLE),
        ((REVEALED, REVEALED, NOTHING), LATE, Action.SETTLE),
        # All have, at the time of the clock.
        ((COMMITTED, REVEALED, REVEALED), LATE, Action.WAIT),
        ((COMMITTED, REVEALED, REVEALED), LATE + REVEAL_SECONDS, Action.SETTLE),
    ],
)
def test_a_node_settles_what_verifiers_have_left(seats, now, action):
    batch = chain_batch(state=BatchState.DRAWN, clock=DEADLINE, ballots=ballots(*seats))
    assert next_("anchored", batch, 1, now) is action


def next_(stored, batch, block, now):
    return next_action(stored, batch, block, now, draw_window_blocks=WINDOW, reveal_seconds=REVEAL_SECONDS)


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


def batcher(answering, *, max_leaves=2, max_wait_seconds=0.0, clock=None, credit_target_wei=0):
    return Batcher(
        answering.store,
        answering.chain,
        answering.chain.outbox,
        answering.model.model_id,
        max_leaves=max_leaves,
        max_wait_seconds=max_wait_seconds,
        credit_target_wei=credit_target_wei,
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


def test_a_batch_holds_no_more_tokens_than_the_chain_allows(answering, chain):
    """The rest is sealed at the next step: it has waited long enough."""
    for tokens in (4, 5, 6):
        answer(answering, max_tokens=tokens)
    sizes = [tokens_of(a) for a in answering.store.unbatched(9)]
    chain.max_batch_tokens = sizes[0] + sizes[1]
    node = batcher(answering, max_leaves=9)
    for _ in range(2):
        node.step()
    batches = answering.store.open_batches()
    assert sorted(len(batch.leaves) for batch in batches) == [1, 2]
    assert sorted(merkle.tokens_of(batch.root) for batch in batches) == sorted([sizes[0] + sizes[1], sizes[2]])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(0, 120))
def test_batches_take_the_oldest_answers_that_fit(sizes, most):
    answers = [sized(size) for size in sizes]
    fit = fitting(answers, most)
    assert fit == answers[: len(fit)]
    assert fit
    assert len(fit) == 1 or sum(map(tokens_of, fit)) <= most
    assert len(fit) == len(answers) or sum(map(tokens_of, answers[: len(fit) + 1])) > most


def tokens_of(stored):
    receipt = stored.evidence.receipt
    return receipt.prompt_tokens + receipt.output_tokens


def sized(tokens):
    receipt = SimpleNamespace(prompt_tokens=1, output_tokens=tokens - 1)
    return SimpleNamespace(evidence=SimpleNamespace(receipt=receipt))


def test_a_batch_lives_through_anchor_draw_settle_and_result(answering, chain):
    answer(answering)
    node = batcher(answering)
    node.step()
    (batch,) = answering.store.open_batches()
    assert chain.sent == [("anchor", answering.model.model_id, batch.root, batch.canary, 1)]
    on_chain = chain_batch(batch.batch_id, BatchState.ANCHORED, clock=chain.block + 2)
    for update, sent in [
        ({}, []),
        ({"clock": chain.block - 1}, ["draw"]),
        ({"state": BatchState.DRAWN, "clock": chain.seconds}, []),
        ({"clock": chain.seconds - 60}, ["settle"]),
    ]:
        on_chain = replace(on_chain, **update)
        chain.batches[batch.batch_id] = on_chain
        chain.sent.clear()
        node.step()
        assert chain.names_sent() == sent
    chain.batches[batch.batch_id] = replace(on_chain, state=BatchState.SETTLED, clock=chain.seconds, accepted=1)
    node.step()
    assert answering.store.open_batches() == []
    assert answering.store.answers_of(batch.batch_id)[0].result == "accept"


@pytest.mark.parametrize("seed", [False, NotReady("no endpoint answers")])
def test_a_batch_without_a_seed_is_drawn_later(answering, chain, seed):
    answer(answering)
    clock = Clock()
    node = batcher(answering, clock=clock)
    node.step()
    (batch,) = answering.store.open_batches()
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.ANCHORED, clock=chain.block - 1)
    chain.sent.clear()
    chain.seed = seed
    node.step()
    assert chain.sent == []
    chain.seed = True
    clock.now += 60
    node.step()
    assert chain.names_sent() == ["draw"]


def test_a_void_batch_is_anchored_again_as_it_is(answering, chain):
    answer(answering)
    node = batcher(answering)
    node.step()
    (batch,) = answering.store.open_batches()
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.ANCHORED, clock=chain.block)
    node.step()
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, BatchState.VOID)
    chain.sent.clear()
    node.step()
    node.step()
    chain.outbox.in_flight = frozenset(chain.outbox.acts[-1].names)
    node.step()
    assert chain.sent == [("anchor", answering.model.model_id, batch.root, batch.canary, 1)]


def test_a_restart_between_seal_and_anchor_anchors_the_same_batch(answering, chain):
    answer(answering)
    chain.failures["anchor"] = ChainUnreachable("killed here")
    batcher(answering).step()
    (sealed,) = answering.store.open_batches()
    chain.failures.clear()
    answer(answering, max_tokens=3)  # a new answer does not change what was sealed
    batcher(answering, max_leaves=9, max_wait_seconds=1000).step()
    assert chain.sent == [("anchor", answering.model.model_id, sealed.root, sealed.canary, 1)]


def test_one_batch_that_is_refused_does_not_hold_up_the_next(answering, chain):
    node = batcher(answering, max_leaves=1)
    chain.failures["anchor"] = TransactionReverted("anchor: BatchesNotCalibrated", reason="BatchesNotCalibrated")
    answer(answering, max_tokens=1)
    node.step()
    del chain.failures["anchor"]
    answer(answering, max_tokens=2)
    node.step()
    assert chain.names_sent() == ["anchor"]
    assert len(answering.store.open_batches()) == 2


def test_a_refused_batch_is_tried_again_after_growing_pauses(answering, chain):
    clock, tried = Clock(), []
    node = batcher(answering, clock=clock)

    def submit(_act):
        tried.append(clock.now)
        if len(tried) < 8:
            raise TransactionReverted("anchor: no", reason="no")

    chain.outbox.submit = submit
    answer(answering)
    while len(tried) < 8:
        node.step()
        clock.now += 0.5
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps == [1, 2, 4, 8, 16, 30, 30]


def test_nothing_is_anchored_while_no_committee_could_be_drawn(answering, chain):
    """An undrawn batch expires, which costs stake: every time it is tried."""
    chain.verifiers = (*chain.verifiers[:2], chain.address)
    answer(answering)
    node = batcher(answering)
    node.step()
    assert chain.sent == []
    assert [b.state for b in answering.store.open_batches()] == ["sealed"]
    chain.verifiers = RecordingChain().verifiers
    node.step()
    assert chain.names_sent() == ["anchor"]


def test_verifiers_whose_calibration_is_about_to_end_are_not_counted_on(answering, chain):
    chain.calibrated_until = chain.seconds + 30
    answer(answering)
    node = batcher(answering)
    node.step()
    assert chain.sent == []
    chain.calibrated_until = chain.seconds + 3600
    node.step()
    assert chain.names_sent() == ["anchor"]


def test_verifiers_that_count_from_the_next_epoch_on_are_waited_for(answering, chain):
    """Also those that count now only: the draw may come in either epoch."""
    three = chain.verifiers
    for chain.verifiers, chain.next_verifiers in ((three[:2], three), (three, three[:2])):
        node = batcher(answering)
        answer(answering)
        node.step()
        assert chain.sent == []
    chain.verifiers = chain.next_verifiers = three
    node.step()
    assert set(chain.names_sent()) == {"anchor"}


def test_credit_is_topped_up_before_it_is_needed(answering, chain):
    chain.credit, chain.tokens = 40, 1000
    answer(answering)
    batcher(answering, credit_target_wei=100).step()
    (approved, anchored) = chain.sent
    assert approved == ("approve", chain.deployment.address("Staking"), 2**256 - 1)
    assert anchored[0] == "anchor"  # the credit that is left will do for it
    chain.allowed = 2**256 - 1
    chain.outbox.in_flight = frozenset({ALLOW})
    assert Credit(chain, chain.outbox, 100).covers(1, 0)
    assert len(chain.sent) == 2
    chain.outbox.in_flight = frozenset()
    assert Credit(chain, chain.outbox, 100).covers(1, 0)
    assert chain.sent[2:] == [("addCredit", 60)]


def test_a_node_without_tokens_says_what_it_lacks(answering, chain):
    chain.credit, chain.tokens = FEE_PER_LEAF - 10, 5
    answer(answering)
    node = batcher(answering)
    node.step()
    assert chain.sent == []
    with pytest.raises(NotReady, match=r"1 answers with 0 tokens are .*: send it tokens"):
        Credit(chain, chain.outbox, 0).covers(1, 0)
    chain.tokens = 10
    for chain.allowed, chain.credit in ((0, FEE_PER_LEAF - 10), (2**256 - 1, FEE_PER_LEAF - 10), (0, FEE_PER_LEAF)):
        batcher(answering).step()
    assert chain.names_sent() == ["approve", "addCredit", "anchor"]


def settled_batch(answering, chain, **changes):
    """A batch that the chain has settled and the node has noted."""
    answer(answering)
    node = batcher(answering)
    node.step()
    (batch,) = answering.store.open_batches()
    settled = chain_batch(batch.batch_id, BatchState.SETTLED, clock=chain.seconds, accepted=1, **changes)
    chain.batches[batch.batch_id] = settled
    node.step()
    chain.sent.clear()
    return node, batch, settled


def test_a_batch_is_finalized_once_its_time_to_appeal_is_over(answering, chain):
    node, batch, settled = settled_batch(answering, chain)
    chain.seconds += APPEAL_SECONDS
    node.step()
    assert chain.sent == []
    chain.seconds += 1
    node.step()
    assert chain.sent == [("finalize", [settled.header.values()], [[]])]
    chain.outbox.in_flight = frozenset(chain.outbox.acts[-1].names)
    node.step()
    assert len(chain.sent) == 1
    chain.batches[batch.batch_id] = replace(settled, state=BatchState.FINAL)
    until_it_stays(node, chain)
    assert answering.store.batch(batch.batch_id).state == "final"
    assert answering.store.settled_batches() == []


def until_it_stays(node, chain):
    node.step()
    chain.block += ENDING_BLOCKS
    node.step()


def test_a_finalization_that_a_reorg_takes_back_is_sent_again(answering, chain):
    """Nobody did, and the stake of all stayed locked."""
    node, batch, settled = settled_batch(answering, chain)
    chain.seconds += APPEAL_SECONDS + 1
    chain.batches[batch.batch_id] = replace(settled, state=BatchState.FINAL)
    node.step()
    chain.batches[batch.batch_id] = settled
    chain.block += ENDING_BLOCKS
    node.step()
    assert chain.names_sent() == ["finalize"]
    assert answering.store.batch(batch.batch_id).state == "settled"


@pytest.mark.parametrize(("state", "sent"), [(BatchState.NONE, ["anchor"]), (BatchState.DRAWN, [])])
def test_a_verdict_that_a_reorg_takes_back_puts_its_batch_on_its_way_again(answering, chain, state, sent):
    node, batch, settled = settled_batch(answering, chain)
    chain.batches[batch.batch_id] = chain_batch(batch.batch_id, state, clock=chain.seconds + 60)
    node.step()
    assert answering.store.batch(batch.batch_id).state == "anchored"
    node.step()
    assert chain.names_sent() == sent
    chain.batches[batch.batch_id] = settled
    node.step()
    assert answering.store.batch(batch.batch_id).state == "settled"
    assert answering.store.answers_of(batch.batch_id)[0].result == "accept"


def test_an_open_appeal_keeps_a_batch_and_its_outcome_is_noted(answering, chain):
    node, batch, settled = settled_batch(answering, chain)
    final = replace(settled, state=BatchState.FINAL)
    chain.batches[batch.batch_id] = final
    chain.results[batch.batch_id] = replace(result_of(final), is_final=False)
    chain.seconds += APPEAL_SECONDS + 1
    node.step()
    assert answering.store.batch(batch.batch_id).state == "settled"
    chain.results[batch.batch_id] = replace(result_of(final), accepted=0, rejected=1)
    until_it_stays(node, chain)
    assert answering.store.batch(batch.batch_id).state == "final"
    assert answering.store.answers_of(batch.batch_id)[0].result == "reject"


def test_a_batch_with_an_open_appeal_is_not_sent_to_be_finalized_and_holds_up_no_other(answering, chain):
    node, batch, _ = settled_batch(answering, chain, marked=True)
    chain.marked[batch.batch_id] = Marks(1, 0, 0, 0, 0, 0)
    chain.seconds += APPEAL_SECONDS + 1
    node.step()
    assert chain.sent == []
    chain.marked[batch.batch_id] = Marks(1, 1, 1, 0, 0, 0)
    node.step()
    assert chain.names_sent() == ["finalize"]


def test_a_batch_that_was_reopened_is_finalized_when_its_second_time_to_appeal_is_over(answering, chain):
    node, batch, settled = settled_batch(answering, chain)
    node.step()
    chain.block += ENDING_BLOCKS
    node.step()  # until then it is not looked at
    chain.seconds += APPEAL_SECONDS
    reopened = replace(settled, clock=chain.seconds, reopened=True, marked=True)
    chain.batches[batch.batch_id] = reopened
    chain.marked[batch.batch_id] = Marks(1, 1, 0, 1, 0, 0)
    for seconds, sent in ((1, []), (APPEAL_SECONDS - 1, []), (1, ["finalize"])):
        chain.seconds += seconds
        node.step()
        assert chain.names_sent() == sent


@pytest.mark.parametrize(
    ("phase", "late", "sent"),
    [
        (AppealPhase.OPEN, {"block": 500}, ["expire"]),  # its appellant has not had the jury drawn
        (AppealPhase.OPEN, {}, []),
        (AppealPhase.RESOLVED, {"seconds": 4 * APPEAL_SECONDS}, ["conclude"]),  # no juror has
        (AppealPhase.RESOLVED, {}, []),
    ],
)
def test_an_appeal_that_nobody_sees_through_locks_nobodys_stake_for_ever(answering, chain, phase, late, sent):
    node, batch, _ = settled_batch(answering, chain, marked=True)
    chain.marked[batch.batch_id] = Marks(1, 0, 0, 0, 0, 0)
    chain.seconds += APPEAL_SECONDS + 1
    none = chain.appeal_case(batch.batch_id, 0)
    clock = chain.block if phase is AppealPhase.OPEN else chain.seconds
    chain.appeal_case = lambda batch_id, leaf: replace(none, phase=phase, level=1, clock=clock)
    chain.block += late.get("block", 0)
    chain.seconds += late.get("seconds", 0)
    node.step()
    assert chain.names_sent() == sent


def test_a_refused_finalization_is_tried_again_after_a_pause(answering, chain):
    clock = Clock()
    node, _batch, _settled = settled_batch(answering, chain)
    node._finalizing._clock = clock
    chain.seconds += APPEAL_SECONDS + 1
    chain.failures["finalize"] = TransactionReverted("finalize: no", reason="no")
    node.step()
    del chain.failures["finalize"]
    node.step()
    assert chain.sent == []
    clock.now += 60
    node.step()
    assert chain.names_sent() == ["finalize"]


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

    node = Failing(answering.store, chain, chain.outbox, bytes(32), max_leaves=1, max_wait_seconds=0)
    stop = threading.Event()
    blocks = Follower(lambda: Head(len(seen), 0), 0.01)
    blocks.start()
    loop = in_thread(lambda: keep_doing("batcher", node.step, blocks, stop, at_least_every=0.01, backoff=(0.01, 0.05)))
    wait_for(lambda: len(seen) > 4)
    stop.set()
    blocks.stop()
    loop.join(5)
    assert not loop.is_alive()
