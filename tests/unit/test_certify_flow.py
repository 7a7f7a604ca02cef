"""Waiting for a certificate: a node that is away for a while is waited for, within the time allowed."""

from types import SimpleNamespace

import httpx2
import pytest

from trine import _flow
from trine._flow import Fetch, Pause, Work, certify
from trine.errors import NodeUnreachable

ANSWER = SimpleNamespace(node_url="http://127.0.0.1:9", digest=bytes(32), certificate=None)


def driven(monkeypatch, answers, timeout):
    """What the flow ends with, when the node's first `answers` requests are met by nothing."""
    clock, asked = [0.0], []
    monkeypatch.setattr(_flow.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_flow, "placed_certificate", lambda *_: "place")
    core = SimpleNamespace(chain=SimpleNamespace(domain=None), settled=lambda place, final: f"certificate of {place}")
    steps = certify(core, ANSWER, False, timeout)
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
                step = steps.send(step.call())
    except StopIteration as end:
        return end.value


def test_a_node_that_is_started_again_is_asked_again(monkeypatch):
    assert driven(monkeypatch, 30, timeout=600) == "certificate of place"


def test_a_node_that_stays_away_is_named_and_the_answer_stands(monkeypatch):
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1:9.*the answer stands"):
        driven(monkeypatch, 10**6, timeout=60)
