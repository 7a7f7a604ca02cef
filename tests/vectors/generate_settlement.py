"""Writes `settlement.json`: batches from ballots to money, which Python and the contracts must agree on to the wei.

Same form as `protocol.json`; what there is three of a run is in one list, seat by seat.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trine.protocol.reputation import OUTCOME, Record
from trine.protocol.settlement import Ballot, Counts, Settlement, Silence, Terms, conclude
from trine.protocol.votes import Vote

RUNS = 48
APPEALED = 8  # of them
SIZES = (1, 2, 3, 5, 17, 64, 200, 255, 256)
ETHER = 10**18
HALF_LIFE = 30 * 24 * 3600
START = 1_100_000
ROUND = 3600  # seconds from one run to the next, at least
ACCEPTED, REJECTED, UNAVAILABLE = 2, 3, 5  # `IVerdicts.Verdict`
FILE = Path(__file__).with_name("settlement.json")


def vectors() -> dict[str, Any]:
    """All runs, from one fixed seed."""
    rng = random.Random(23)
    out: dict[str, list[str]] = {}
    record, now = Record(), START
    for run in range(RUNS):
        leaves = SIZES[run] if run < len(SIZES) else rng.randrange(1, 257)
        terms = _terms(rng)
        ballots = _ballots(rng, run, leaves)
        tokens = rng.choice((0, rng.randrange(65_537), 65_536))
        canaries = rng.getrandbits(leaves) & rng.getrandbits(leaves) if run % 4 == 1 else 0
        if run >= RUNS - APPEALED:
            canaries = 0
        settlement = conclude(ballots, leaves, terms, tokens=tokens, canaries=canaries)
        leaf, verdict = 0, 0
        if run >= RUNS - APPEALED:
            leaf, verdict, settlement = _appealed(rng, ballots, leaves, tokens, terms, settlement)
        _put(out, "leaves", leaves)
        _put(out, "tokens", tokens)
        _put(out, "canaries", canaries)
        for name in terms.__slots__:
            _put(out, name, getattr(terms, name))
        for ballot in ballots:
            _put(out, "kind", 2 if isinstance(ballot, Vote) else list(Silence).index(ballot))
            words = ballot.words if isinstance(ballot, Vote) else (0, 0)
            _put(out, "accepts", words[0])
            _put(out, "rejects", words[1])
        _put(out, "appealedLeaf", leaf)
        _put(out, "appealVerdict", verdict)
        for name, decided in (("settled", settlement.settled), ("final", settlement.final)):
            _put(out, f"{name}_accepted", decided.accepts)
            _put(out, f"{name}_rejected", decided.rejects)
            _put(out, f"{name}_unavailable", decided.unavailable)
        for seat in settlement.seats:
            _put(out, "paid", seat.paid)
            _put(out, "penalty", seat.penalty)
            _put(out, "counts", _packed(seat.counts))
        for name in ("fee", "fee_burned", "node_lost", "refunds"):
            _put(out, name, getattr(settlement, name))
        _put(out, "node_counts", _packed(settlement.node_counts))

        # A leaf under appeal is recorded when that is over, the others when the batch is final: later by the time to
        # appeal, which the turned verdict began anew.
        concluded = now + ROUND // 2
        now = concluded + (ROUND // 4 if leaf else 0) + rng.randrange(ROUND // 4)
        rest = settlement.node_counts
        if leaf:
            of_leaf = Counts(accepted=OUTCOME) if verdict == ACCEPTED else Counts(rejected=OUTCOME)
            record = record.add(concluded, HALF_LIFE, accepted=of_leaf.accepted, rejected=of_leaf.rejected)
            rest = Counts(rest.accepted - of_leaf.accepted, rest.rejected - of_leaf.rejected)
        record = record.add(now, HALF_LIFE, accepted=rest.accepted, rejected=rest.rejected)
        _put(out, "concluded_at", concluded)
        _put(out, "finalized_at", now)
        _put(out, "node_score", record.score_bps(now, HALF_LIFE))
        now += ROUND // 4 + rng.choice((0, rng.randrange(10 * ROUND)))
    return out


def render() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


def _terms(rng: random.Random) -> Terms:
    """Within the bounds of `Parameters`, and of what the test's operators have."""
    stake = rng.randrange(1, ETHER)
    wrong = rng.randrange(1, 20 * ETHER)
    overturned = rng.randrange(wrong + 1)
    return Terms(
        stake_per_leaf=stake,
        refund_per_leaf=rng.choice((0, stake // 2, rng.randrange(stake // 2 + 1))),
        fee_per_leaf=rng.choice((0, 1, rng.randrange(ETHER // 20), rng.randrange(ETHER // 20))),
        fee_per_token=rng.choice((0, 1, rng.randrange(10**14))),
        dissent_fine=rng.choice((0, 1, overturned, overturned // 80, overturned // 80)) if overturned else 0,
        overturned_fine=overturned,
        wrong_vote_penalty=wrong,
        no_reveal_penalty=rng.randrange(wrong, 25 * ETHER),
        no_commit_penalty=rng.choice((0, wrong, rng.randrange(wrong + 1))),
        canary_penalty=rng.randrange(wrong, 30 * ETHER),
    )


def _ballots(rng: random.Random, run: int, leaves: int) -> list[Ballot]:
    """Seats that mostly see the same, of every degree of trouble; in every third run one is silent, and in every fifth
    some answers are not shown, to some or to all."""
    bad = rng.choice((0.0, 0.0, 0.1, 0.5, 1.0))
    truth = [rng.random() >= bad for _ in range(leaves)]
    hidden = rng.getrandbits(leaves) & rng.getrandbits(leaves) if run % 5 == 0 else 0
    ballots: list[Ballot] = []
    for _ in range(3):
        wrong, unsure = rng.choice(((0.0, 0.0), (0.0, 0.0), (0.02, 0.0), (0.0, 0.3), (0.3, 0.3), (0.0, 1.0)))
        ballots.append(_vote(rng, truth, wrong, unsure, hidden & (rng.getrandbits(leaves) | -(run % 2))))
    if run % 3 == 2:
        ballots[rng.randrange(3)] = rng.choice(list(Silence))
    return ballots


def _vote(rng: random.Random, truth: list[bool], wrong: float, unsure: float, hidden: int) -> Vote:
    accepts = rejects = 0
    for leaf, good in enumerate(truth):
        if hidden >> leaf & 1 or rng.random() < unsure:
            continue
        if good != (rng.random() < wrong):
            accepts |= 1 << leaf
        else:
            rejects |= 1 << leaf
    return Vote(accepts, rejects, hidden)


def _appealed(
    rng: random.Random, ballots: list[Ballot], leaves: int, tokens: int, terms: Terms, settlement: Settlement
) -> tuple[int, int, Settlement]:
    """Leaf, counted from 1, the verdict that an appeal leads to, and what follows."""
    leaf = rng.randrange(leaves)
    bit = 1 << leaf
    settled = settlement.settled
    words = [word & ~bit for word in (settled.accepts, settled.rejects, settled.unavailable)]
    if settled.accepts & bit:
        verdict = rng.choice((REJECTED, UNAVAILABLE))
        words[1 if verdict == REJECTED else 2] |= bit
    else:
        verdict = ACCEPTED
        words[0] |= bit
    return leaf + 1, verdict, conclude(ballots, leaves, terms, Vote(*words), tokens=tokens)


def _packed(counts: Counts) -> int:
    """As `ReputationChanged` has them."""
    return counts.accepted << 128 | counts.rejected << 64 | counts.missed


def _put(out: dict[str, list[str]], name: str, number: int) -> None:
    out.setdefault(name, []).append("0x" + number.to_bytes(32, "big").hex())


if __name__ == "__main__":
    FILE.write_text(render())
    print(f"wrote {FILE}")
