"""Waiting for a certificate: a node that is away for a while is waited for, within the time allowed."""

from types import SimpleNamespace

import httpx2
import pytest

from trine import _flow
from trine._flow import Pause, Work, certify, certify_hard
from trine._reading import Fetch
from trine.certificates import BY_VOTES, NotSeenYet
from trine.errors import NodeUnreachable, NotReady

ANSWER = SimpleNamespace(
    node_url="http://127.0.0.1:9", digest=bytes(32), certificate=None, receipt=SimpleNamespace(node="0x0")
)


def driven(monkeypatch, answers, timeout, flow=lambda core, timeout: certify(core, ANSWER, False, timeout)):
    """What the flow ends with, when the node's first `answers` requests are met by nothing."""
    clock, asked = [0.0], []
    monkeypatch.setattr(_flow.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_flow, "placed_certificate", lambda *_: "place")
    core = SimpleNamespace(
        chain=SimpleNamespace(domain=None), seals=None, settled=lambda place, final: f"certificate of {place}"
    )
    steps = flow(core, timeout)
    step = next(steps)
    try:
        while True:
            if isinstance(step, Fetch):
                asked.append(step)
                down = len(asked) <= answers
                error = httpx2.ConnectError("refused")
                step = steps.throw(error) if down else steps.send(httpx2.Response(200, json={}))
            elif isinstance(step, Pause):
                clock[0] += step.seconds
                step = steps.send(None)
            else:
                assert isinstance(step, Work)
                try:
                    done = step.call()
                except NotReady as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
    except StopIteration as end:
        return end.value


def test_a_node_that_is_started_again_is_asked_again(monkeypatch):
    assert driven(monkeypatch, 30, timeout=600) == "certificate of place"


def test_a_node_that_stays_away_is_named_and_the_answer_stands(monkeypatch):
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1:9.*the answer stands"):
        driven(monkeypatch, 10**6, timeout=60)


@pytest.mark.parametrize("looks", [1, 5])
def test_a_settlement_whose_event_comes_later_than_its_result_is_waited_for(monkeypatch, looks):
    """One certificate in forty was refused though its batch was settled: results and events are asked one by one."""
    seen = []

    def portable(*_):
        seen.append(1)
        if len(seen) <= looks:
            raise NotSeenYet("batch 0x00 is not settled yet")
        return "file"

    monkeypatch.setattr(_flow, "portable_certificate", portable)
    assert driven(monkeypatch, 0, 600, hard) == "file"


def test_what_never_comes_or_was_settled_by_votes_ends(monkeypatch):
    for error, times in ((NotSeenYet("batch 0x00 is not settled yet"), 30), (NotReady(BY_VOTES), 1)):
        seen = []

        def portable(*_, error=error, seen=seen):
            seen.append(1)
            raise error

        monkeypatch.setattr(_flow, "portable_certificate", portable)
        with pytest.raises(NotReady, match=str(error)[:20]):
            driven(monkeypatch, 0, 60, hard)
        assert len(seen) >= times if times > 1 else len(seen) == 1


def hard(core, timeout):
    return certify_hard(core, ANSWER, False, None, timeout)
