"""What an operator makes of the committee's verdict on its calibration."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
from test_node_support import RECORD, chain_batch

from trine.chain import BatchState, Role
from trine_operator import calibrate as calibrating
from trine_operator.calibrate import NOTED_LOOKS, CalibrationRejected, Candidate, Opened, calibrate

BATCH_ID, CHALLENGE_ID = bytes([1]) * 32, bytes([2]) * 32


class Judged:
    """A chain that shows a verdict, and from some look on what came of it."""

    address = "0x" + "11" * 20

    def __init__(self, calibrated_after, **result):
        self.batch_ = chain_batch(BATCH_ID, BatchState.SETTLED, is_calibration=True, **result)
        self._calibrated_after, self.looks = calibrated_after, 0

    def is_calibrated(self, *_):
        self.looks += 1
        return self._calibrated_after is not None and self.looks > self._calibrated_after

    def batch(self, _):
        return self.batch_


def judged(monkeypatch, chain):
    monkeypatch.setattr(calibrating, "_open_challenge", lambda *_: Opened(CHALLENGE_ID, bytes(32)))
    kept = SimpleNamespace(batch_id=BATCH_ID, state="settled")
    store = SimpleNamespace(batch_of_challenge=lambda _: kept, batch=lambda _: kept)
    numbers = count()
    blocks = SimpleNamespace(wait=lambda *_: next(numbers))
    candidate = Candidate(chain, store, SimpleNamespace(model_id=RECORD.model_id), "cpu-fp32", lambda _: None)
    calibrate(candidate, Role.NODE, blocks)


@pytest.mark.parametrize("late", [1, 2, NOTED_LOOKS])
def test_a_verdict_that_is_shown_before_what_came_of_it_ends_no_operator(monkeypatch, late):
    judged(monkeypatch, Judged(late, accepted=1))


def test_what_was_accepted_and_is_never_noted_says_what_to_look_at(monkeypatch):
    with pytest.raises(CalibrationRejected, match=r"all 1 calibration answers were accepted.*own stake"):
        judged(monkeypatch, Judged(None, accepted=1))


def test_what_was_rejected_is_not_waited_for(monkeypatch):
    chain = Judged(None, rejected=1)
    with pytest.raises(CalibrationRejected, match="0 of 1 calibration answers were accepted, 1 rejected"):
        judged(monkeypatch, chain)
    assert chain.looks <= 3
