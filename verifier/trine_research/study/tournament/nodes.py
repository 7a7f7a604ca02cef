"""A node's strategies against honest verifiers, none of whom it knows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import JURIES
from trine.protocol.settlement import SEATS, conclude
from trine_research.study.incentives import ACCEPT, HIDDEN, REJECT, Leaf
from trine_research.study.tournament.juries import ACCEPTED, UNAVAILABLE, case
from trine_research.study.tournament.world import Play, World


@dataclass(frozen=True, slots=True)
class Node:
    """What a node does with the leaves of a batch."""

    name: str
    cheats: Fraction = Fraction(0)
    """Of its leaves."""
    withheld: int = 0
    """Seats that it shows nothing."""
    shows_jury: bool = False
    """It appeals what was unavailable and shows it then."""
    anchors: bool = True
    """Else its leaves are in no batch, whatever their receipts say."""
    anchors_cheats: bool = True
    answers_claims: bool = False
    """Once a client has claimed an answer, it is anchored after all."""
    expired: int = 0
    """Draws that it lets expire before one that it takes."""


HONEST_NODE = Node("honest")
LATE = Node("anchors once it is claimed", anchors=False, answers_claims=True)
NODES = (
    HONEST_NODE,
    Node("cheats on every leaf", cheats=Fraction(1)),
    Node("cheats on a tenth", cheats=Fraction(1, 10)),
    Node("cheats on a hundredth", cheats=Fraction(1, 100)),
    Node("withholds from all", withheld=3),
    Node("withholds from all, shows the jury", withheld=3, shows_jury=True),
    Node("cheats, withholds from all", cheats=Fraction(1), withheld=3),
    Node("stalls: anchors nothing", anchors=False),
    Node("anchors its honest leaves only, cheats on a tenth", cheats=Fraction(1, 10), anchors_cheats=False),
    Node("lets a draw expire", expired=1),
)


@lru_cache(maxsize=4096)
def fate(world: World, leaf: Leaf, withheld: int) -> tuple[Fraction, Fraction]:
    """(chance that the leaf is accepted in the end, expected wei that its node loses).

    Whoever has a leaf's evidence passes it on, so it is hidden from all three seats or from none.
    """
    if not 0 <= withheld <= SEATS:
        raise InvalidInput(f"a committee has {SEATS} seats, not {withheld}")
    accepted, lost = Fraction(0), Fraction(0)
    truth = ACCEPT if leaf is Leaf.GOOD else REJECT
    setting = world.setting
    for weight, says in [(Fraction(1), {HIDDEN: Fraction(1)})] if withheld == SEATS else setting.views(leaf):
        for votes in product(says.items(), repeat=SEATS):
            ballots = [vote for vote, _ in votes]
            chance = weight
            for _, part in votes:
                chance *= part
            settled = conclude(ballots, 1, world.terms).settled
            turned = Fraction(0) if settled in (truth, HIDDEN) else setting.put_right(leaf)
            for final, part in ((settled, 1 - turned), (truth, turned)):
                if chance * part:
                    accepted += chance * part * (final.accepts & 1)
                    lost += chance * part * conclude(ballots, 1, world.terms, final).node_lost
    return accepted, lost


def leaf_gain(world: World, node: Node, leaf: Leaf) -> Fraction:
    """Wei of one leaf."""
    spent = world.compute - (world.saved if leaf is Leaf.CHEAT else 0)
    if not node.anchors or (leaf is Leaf.CHEAT and not node.anchors_cheats):
        if node.answers_claims:
            claimed = world.price - world.fee  # and no bond: what is anchored late shows that nobody claimed falsely
            return world.claimed * claimed - spent
        # `Inclusion.conclude`: a leaf's stake and the fee of the answer.
        return -spent - world.claimed * (world.terms.stake_per_leaf + world.price)
    accepted, lost = fate(world, leaf, node.withheld)
    value = accepted * world.price - lost
    if node.withheld == SEATS and node.shows_jury:
        voted = ACCEPTED if leaf is Leaf.GOOD else UNAVAILABLE
        paid = Fraction(world.juries_paid, world.leaves)
        value = Fraction(0)
        for shown, share in ((0, paid), (world.juries_paid, 1 - paid)):
            end = case(world, UNAVAILABLE, ACCEPTED, (voted,) * JURIES[0], shown=shown)
            value += share * (end.returned[0] + end.prize - world.appeals.bond(0))
        value += world.price if voted is ACCEPTED else -world.terms.stake_per_leaf
    return value - spent - world.fee


def node_gain(world: World, node: Node) -> Fraction:
    """Wei of a full batch. A draw that expires costs the fee and a leaf's stake (`Batches._void`)."""
    good = (1 - node.cheats) * leaf_gain(world, node, Leaf.GOOD)
    bad = node.cheats * leaf_gain(world, node, Leaf.CHEAT) if node.cheats else Fraction(0)
    return world.leaves * (good + bad) - node.expired * expiry(world)


def expiry(world: World) -> int:
    return world.leaves * world.fee + world.terms.stake_per_leaf


def node_plays(world: World) -> list[Play]:
    claimed, some = "node that is claimed against", "node that withholds from some"
    return [
        *(Play("node", node.name, node_gain(world, node), honest=node == HONEST_NODE) for node in NODES),
        Play("node", "serves nobody", Fraction(0)),
        Play(some, "shows all", node_gain(world, HONEST_NODE), honest=True),
        Play(some, "withholds from 1 of 3", node_gain(world, Node("", withheld=1))),
        Play(some, "withholds from 2 of 3", node_gain(world, Node("", withheld=2))),
        Play(claimed, "anchors in time", node_gain(world, HONEST_NODE), honest=True),
        Play(claimed, "anchors once it is claimed", node_gain(world, LATE)),
    ]


def safe_value(world: World, node: Node) -> Fraction | None:
    """What somebody would have to pay the node for every cheated leaf that is accepted, wei, for the strategy to pay;
    None if none is accepted."""
    accepted = fate(world, Leaf.CHEAT, node.withheld)[0] if node.anchors_cheats and node.anchors else Fraction(0)
    if not accepted or not node.cheats:
        return None
    short = node_gain(world, HONEST_NODE) - node_gain(world, node)
    return short / (world.leaves * node.cheats * accepted)
