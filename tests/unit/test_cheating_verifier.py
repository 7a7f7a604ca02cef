"""How a cheating verifier takes its orders; what comes of them is in `tests/e2e/test_dishonest_verifiers.py`."""

import threading

import pytest
from test_node_support import RECORD, chain_batch
from typer.testing import CliRunner

from trine.errors import InvalidInput
from trine.protocol.header import Header
from trine.protocol.verdict import Outcome, Reason, Verdict
from trine_devnet.cheating_verifier import CHEATS, Seated, Told
from trine_devnet.cheats import NODE_CHEATS, VERIFIER_CHEATS
from trine_devnet.cli import app
from trine_devnet.orders import MAX_ORDERS_BYTES, Orders
from trine_research.adversaries import ADVERSARIES
from trine_verifier.voting import Voting

FRIEND, STRANGER = "0x" + "11" * 20, "0x" + "22" * 20
FIRST, SECOND = b"\1" * 32, b"\2" * 32


@pytest.fixture
def orders(tmp_path):
    return tmp_path / "orders"


def voting(kind=Voting, *before):
    return kind(*before, None, Store(), None, None, RECORD.model_id, threading.Event(), lambda: None)


class Store:
    def __init__(self):
        self.open = [(FIRST, 0), (SECOND, 0)]

    def duties(self):
        return self.open


def test_orders_are_read_as_they_were_written(orders):
    given = Orders("colluding", frozenset({FRIEND, STRANGER}))
    given.write(orders)
    assert Orders.read(orders) == given


@pytest.mark.parametrize("text", ["", "kind", "colluding 0x12", "honest " + " " * MAX_ORDERS_BYTES, "honést"])
def test_orders_that_are_none_are_refused(orders, text):
    orders.write_text(text, "utf-8")
    with pytest.raises(InvalidInput):
        Orders.read(orders)


def test_the_cheats_are_those_that_the_command_names():
    assert tuple(CHEATS) == VERIFIER_CHEATS


def test_orders_count_from_the_next_batch_on(orders, monkeypatch):
    done = []
    for name in ("honest", "colluding"):
        monkeypatch.setitem(CHEATS, name, _recording(name, done))
    told = voting(Told, orders, "")
    Orders("honest").write(orders)
    told.advance(FIRST, 0)
    Orders("colluding").write(orders)
    told.advance(SECOND, 0)
    told.advance(FIRST, 0)
    assert done == [("honest", FIRST), ("colluding", SECOND), ("honest", FIRST)]
    told.store.open.remove((FIRST, 0))
    told.advance(FIRST, 0)
    told.advance(FIRST, 0)
    assert done[-1] == ("colluding", FIRST)  # a round that is over is forgotten


@pytest.mark.parametrize(
    ("cheat", "friend", "stranger"),
    [
        ("honest", Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ("always-accept", Outcome.ACCEPT, Outcome.ACCEPT),
        ("colluding", Outcome.ACCEPT, Outcome.INCONCLUSIVE),
        ("slandering", Outcome.ACCEPT, Outcome.REJECT),
    ],
)
def test_what_a_cheat_says_of_friends_and_strangers(cheat, friend, stranger, monkeypatch):
    """Where it judges honestly the verdict is the honest one, which is inconclusive here."""
    honest = [Verdict(Outcome.INCONCLUSIVE, Reason.BETWEEN, 1)]
    monkeypatch.setattr(Voting, "judge", lambda *_: honest)
    seat = CHEATS[cheat](voting(), Orders(cheat, frozenset({FRIEND})), "")
    for node, expected in ((FRIEND, friend), (STRANGER, stranger)):
        batch = chain_batch(FIRST, header=Header(node, RECORD.model_id, bytes(32), bytes(32)))
        assert [verdict.outcome for verdict in seat.judge(batch, None, 0)] == [expected] * batch.leaf_count


def test_the_command_line_knows_every_adversary():
    assert tuple(ADVERSARIES) == NODE_CHEATS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cheating-verifier", "kind"], "choose from"),
        (["--cheating-verifier", "copying"] * 5, "5 cheating verifiers of 4"),
        (["--verifier-dtype", "fp32"] * 3, "3 verifiers cannot calibrate one another, 4 can"),
        (["--cheat", "int3-weights"], "no adversary 'int3-weights': choose from int8-weights,"),
    ],
)
def test_a_demo_without_sense_does_not_start(arguments, said):
    shown = CliRunner().invoke(app, ["demo", *arguments])
    assert shown.exit_code != 0
    assert said in " ".join(shown.output.split())


def _recording(name, done):
    class Recording(Seated):
        def advance(self, batch_id, round_):
            done.append((name, batch_id))

    return Recording
