"""Committees settle by signatures, and by votes when a seat falls silent: real processes on a real chain."""

import os
import signal
from contextlib import contextmanager

from test_faults import penalties
from waiting import eventually

from trine.chain import BatchState

BATCHES = 10


def test_nine_of_ten_batches_of_honest_verifiers_settle_signed(net, ask):
    """Whatever the verdict: this node's first answers are cheats, which all three reject."""
    client = ask("cheater")
    chain = client.chain
    before = chain.block_number()
    answers = []
    for number in range(BATCHES):
        answers.append(client.chat(f"Say {number}.", max_tokens=2))
        eventually(lambda: client.batch_of(answers[-1]) is not None, "the answer to be sealed")
    batches = {client.certify(answer).batch_id for answer in answers}
    assert len(batches) == BATCHES
    settled = [
        event for event in chain.events("Batches", "BatchSettled", from_block=before)
        if bytes(event.args["batchId"]) in batches
    ]  # fmt: skip
    signed = [event for event in settled if event.args["signed"]]
    assert len(signed) >= 0.9 * len(batches)
    # The contract has compared keys and signatures; who reads the batch sees three votes that are the result.
    batch = chain.batch(bytes(signed[0].args["batchId"]))
    assert {chain.vote(batch, seat) for seat in range(3)} == {chain.vote(batch, 0)}
    said = [running.child.log.read_text() for running in net.operators.values()]
    assert sum(log.count('"event": "batch_settled"') for log in said) >= 3 * len(signed)


@contextmanager
def frozen(net, name):
    """The process neither ends nor answers; what connects to it waits."""
    os.kill(net.operators[name].child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(net.operators[name].child.pid, signal.SIGCONT)


def test_a_seat_that_falls_silent_sends_the_others_to_votes_and_nobody_is_penalised(net, ask):
    client, name = ask("cheater"), "verifier-1"
    chain, before = client.chain, penalties(net)
    silent = net.operators[name].account.address
    for _ in range(8):
        with frozen(net, name):
            answer = client.chat("Name a lake.", max_tokens=2)
            eventually(lambda: client.batch_of(answer) is not None, "the answer to be sealed")  # noqa: B023
            batch_id = client.batch_of(answer)
            eventually(lambda: chain.batch(batch_id).state >= BatchState.DRAWN, "the committee")  # noqa: B023
            batch = chain.batch(batch_id)
            if silent not in [seat.verifier for seat in chain.seats(batch)]:
                continue
            half = chain.parameters(batch.terms).commit_seconds // 2
            net.pass_time(max(0, batch.clock - half - chain.timestamp()))
            eventually(lambda: chain.batch(batch_id).committed == 2, "the others to vote")  # noqa: B023
        break
    assert client.certify(answer).result in ("accept", "reject")
    batch = chain.batch(batch_id)
    assert (batch.signed, batch.revealed) == (False, 3)
    assert penalties(net) == before
