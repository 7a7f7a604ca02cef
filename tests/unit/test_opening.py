"""An operator's start: what it waits for, and what it does not."""

import threading

import pytest

from trine.chain import Role
from trine.errors import ChainUnreachable, NotReady
from trine_operator import opening


@pytest.fixture
def tries(monkeypatch):
    """What each try to open comes to; without a pause between them."""
    outcomes, made = [], []

    def open_once(settings, role, load_engine, open_store):
        made.append(load_engine("model"))
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(opening, "_open_operator", open_once)
    monkeypatch.setattr(opening, "ENDPOINT_PAUSE_SECONDS", (0.0, 0.0))
    return outcomes, made


def opened(stop=None, load=lambda model: object()):
    return opening.open_operator(None, Role.NODE, load, None, stop or threading.Event())


def test_an_operator_waits_for_an_endpoint_that_is_away_when_it_starts(tries):
    outcomes, made = tries
    outcomes += [ChainUnreachable("restarts"), ChainUnreachable("restarts"), "operator"]
    assert opened() == "operator"
    assert len(made) == 3
    assert len(set(made)) == 1, "the engine is loaded once"


def test_it_does_not_wait_for_ever(tries, monkeypatch):
    outcomes, made = tries
    monkeypatch.setattr(opening, "ENDPOINT_PATIENCE_SECONDS", 0.0)
    outcomes += [ChainUnreachable("gone"), "too late"]
    with pytest.raises(ChainUnreachable, match="gone"):
        opened()
    assert len(made) == 1


def test_a_signal_ends_the_wait(tries):
    outcomes, made = tries
    stop = threading.Event()
    stop.set()
    outcomes += [ChainUnreachable("gone"), "too late"]
    with pytest.raises(ChainUnreachable, match="gone"):
        opened(stop)
    assert len(made) == 1


def test_what_only_the_operator_can_put_right_is_said_at_once(tries):
    outcomes, made = tries
    outcomes += [NotReady("has no stake"), "not asked for"]
    with pytest.raises(NotReady, match="has no stake"):
        opened()
    assert len(made) == 1
