"""What a verifier does about leaves on which its vote lost: it appeals where it can expect to gain by that.

Whether it can is a pure function of its verdict's strength, of what an appeal costs and of what a right one earns. The
first appeal of a batch is of one leaf, the surest: if it turns the verdict, the time to appeal begins anew
(`Batch.reopened`), and the others follow while they pay. So a machine that is wrong about a batch loses one bond.
Whoever appealed has the committee drawn, whoever opened the appeal (`trine appeal` does with the same account).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from trine.appeal import SEATS, committees, require_judges
from trine.chain import AppealCase, AppealPhase, Batch, Chain, Marks, Parameters, Seat, Verdict
from trine.chain.staking import UNLIMITED
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.protocol.verdict import Outcome, Reason
from trine.protocol.votes import Vote
from trine_operator.apart import Apart
from trine_operator.outbox import Act, Due, Guard, Submits
from trine_operator.outbox.acts import NOT_DUE
from trine_operator.outbox.protection import claim_guard
from trine_operator.staying import Staying
from trine_verifier.duties import MAX_PAUSE_SECONDS
from trine_verifier.seats import DRAW_SHARE
from trine_verifier.store import OwnAppeal, StoredVote, VerifierStore
from trine_verifier.willing import Willing

log = structlog.get_logger()

TOKEN = 10**18
PROVABLE = (Reason.STRUCTURE, Reason.PROMPT, Reason.TEXT, Reason.BINDING)
"""What is rejected for it everybody rejects who is shown the leaf: no model is asked."""
SCATTER = 0.1
"""How far another machine's measurement of the same answer is off ours: standard deviation of its natural logarithm."""
OWN_FAULT = 0.02
"""Chance that a verdict that rests on measurements is wrong because this machine is."""
SHARED_DIVISOR = 2
"""Half of what is taken from stake goes to who was right: `Appeals.SHARED_DIVISOR`."""
LAST_SECONDS = 5
"""Before the time to appeal is over: what is sent later comes too late."""
ALLOW, WITHDRAW = "allow Appeals", "withdraw appeal credit"


@dataclass(frozen=True, slots=True)
class Prospect:
    """A leaf that could be appealed."""

    leaf: int
    claim: Verdict
    chance: float
    gain_wei: float  # expected


def chance_of(verdict: dict[str, Any], jurors: int = SEATS[1]) -> float:
    """Chance that a jury says what a stored verdict says, 0 to 1. Pure.

    A provable rejection is certain. A measured verdict of strength s (by which factor the bound is passed, or kept to:
    see `trine.protocol.verdict.decide`) is shared by a juror, whose measurement is off ours by a factor of logarithm
    N(0, SCATTER^2), with the chance q = Phi(ln s / SCATTER), so by a majority of n jurors with

        (1 - OWN_FAULT) * sum over k > n / 2 of C(n, k) q^k (1 - q)^(n - k).

    Anything else, and what older versions have stored without a strength, has none.
    """
    outcome, reason = verdict.get("outcome"), verdict.get("reason")
    if outcome == Outcome.REJECT and reason in PROVABLE:
        return 1.0
    strength = float(verdict.get("strength", 0.0))
    if outcome not in (Outcome.ACCEPT, Outcome.REJECT) or strength <= 0:
        return 0.0
    q = (1 + math.erf(math.log(strength) / SCATTER / math.sqrt(2))) / 2
    majority = sum(math.comb(jurors, k) * q**k * (1 - q) ** (jurors - k) for k in range(jurors // 2 + 1, jurors + 1))
    return (1 - OWN_FAULT) * majority


def prize_wei(claim: Verdict, terms: Parameters, owed: Sequence[int]) -> int:
    """What a right first appeal earns besides its bond, wei. Pure.

    `owed`: how much of `wrong_vote_penalty` is left, for this batch, of each seat that voted against the claim. Half of
    what they lose, min(overturned_fine, owed), and where the claim is that the answer is bad half of what the node
    loses beyond twice the refund, less the fees of all jurors; never less than nothing. `Appeals.conclude` and
    `Finality._slashNode` are its twins.
    """
    fines = sum(min(terms.overturned_fine, each) // SHARED_DIVISOR for each in owed)
    beyond = max(terms.stake_per_leaf - 2 * terms.refund_per_leaf, 0) if claim is Verdict.REJECTED else 0
    return max(fines + beyond // SHARED_DIVISOR - SEATS[1] * terms.appeal_fee_per_seat, 0)


def prospect(leaf: int, claim: Verdict, verdict: dict[str, Any], terms: Parameters, owed: Sequence[int]) -> Prospect:
    """What to expect of an appeal of one leaf. Pure: with p = `chance_of` the verdict,

        gain = p * (prize + dissent_fine) - (1 - p) * bond

    where the prize is `prize_wei`, the bond that of seven seats, and `dissent_fine` what the own vote costs if the
    verdict stands. An appeal without a decision costs nothing and earns nothing; it counts as lost.
    """
    chance = chance_of(verdict)
    right = prize_wei(claim, terms, owed) + terms.dissent_fine
    return Prospect(leaf, claim, chance, chance * right - (1 - chance) * bond_wei(terms))


def bond_wei(terms: Parameters) -> int:
    """Of a first appeal. `Appeals.bondOf` is its twin."""
    return SEATS[1] * terms.appeal_bond_per_seat


def dissents(vote: Vote, batch: Batch) -> dict[int, Verdict]:
    """Leaves on which the vote lost against the opposite, and what it claims. Pure."""
    lost = dict.fromkeys(leaves_in(vote.rejects & batch.accepted), Verdict.REJECTED)
    return lost | dict.fromkeys(leaves_in(vote.accepts & batch.rejected), Verdict.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Words:
    """What is decided, with appeals that are not over as if they were right."""

    accepted: int
    rejected: int

    def turned(self, leaf: int, claim: Verdict) -> Words:
        bit = 1 << leaf
        if claim is Verdict.REJECTED:
            return Words(self.accepted & ~bit, self.rejected | bit)
        return Words(self.accepted | bit, self.rejected & ~bit)


def owed_by(
    votes: Sequence[Vote | None], leaf: int, claim: Verdict, batch: Batch, now: Words, terms: Parameters
) -> list[int]:
    """How much of the batch's cap is left of each seat that voted against the claim, wei. Pure.

    What appeals turn costs each seat `overturned_fine` a leaf of those on which it was wrong.
    """
    turned = (now.accepted & ~batch.accepted) | (now.rejected & ~batch.rejected)
    left = []
    for vote in votes:
        if vote is None:
            continue
        against = vote.accepts if claim is Verdict.REJECTED else vote.rejects
        if against >> leaf & 1:
            wrong = (vote.accepts & now.rejected | vote.rejects & now.accepted) & turned
            left.append(max(terms.wrong_vote_penalty - wrong.bit_count() * terms.overturned_fine, 0))
    return left


def leaves_in(word: int) -> list[int]:
    """The bits that are set."""
    return [leaf for leaf in range(word.bit_length()) if word >> leaf & 1]


class Dissenting:
    """The own appeals of one verifier account. One thread uses it."""

    def __init__(self, chain: Chain, store: VerifierStore, outbox: Submits, willing: Willing | None = None) -> None:
        self.chain = chain
        self.store = store
        self.outbox = outbox
        self.willing = willing or Willing()
        self._apart = Apart(MAX_PAUSE_SECONDS)
        self._staying = Staying(chain)
        self._watched: set[bytes] = set()
        self._hopeless: dict[bytes, object] = {}  # watched, and not worth an appeal as things are
        self._in_flight: frozenset[str] = frozenset()

    def watches(self, batch_id: bytes) -> bool:
        """Whether an appeal may still be due: the batch is to be looked at again."""
        return batch_id in self._watched

    def step(self) -> None:
        """Sees the appeals through that this account has opened."""
        self._in_flight = self.outbox.open_names()
        own = self.store.own_appeals()
        with self.chain.reading_ahead([("Appeals", "caseOf", (each.batch_id, each.leaf)) for each in own]):
            for each in own:
                see_through = partial(self._see_through, each)
                self._apart.run(each, see_through, batch=each.batch_id.hex(), leaf=each.leaf, level=each.level)

    def consider(self, batch: Batch, seats: Sequence[Seat], stored: StoredVote, terms: Parameters) -> None:
        """Opens what appeals are worth it now, of a settled batch. Raises NotReady, TransactionReverted."""
        lost = {} if batch.is_calibration or not self.willing.appeals else dissents(stored.vote, batch)
        deadline = batch.clock + terms.appeal_window_seconds
        marks = self.chain.marks(batch) if lost else None
        if marks is None:
            self._forget(batch)
            return
        self._watched.add(batch.batch_id)
        for leaf in (leaf for leaf in lost if marks.open >> leaf & 1):
            # Whoever made the verdict could appeal it itself and have no jury drawn, so that nobody else can.
            self._draw_if_due(self.chain.appeal_case(batch.batch_id, leaf), DRAW_SHARE)
        left = [leaf for leaf in lost if not marks.appealed >> leaf & 1]
        if not left or self.chain.timestamp() > deadline - LAST_SECONDS:
            if not marks.open:  # nothing can reopen the batch any more
                self._forget(batch)
            return
        if not batch.reopened and self._has_tried(batch, leaves_in(marks.appealed)):
            return
        if self._hopeless.get(batch.batch_id) == (batch.clock, marks):
            return
        found = self._prospects(batch, lost, marks, stored, terms)
        if not found:
            self._hopeless[batch.batch_id] = (batch.clock, marks)
            return
        room = self._room(bond_wei(terms))
        for each in found[: room if batch.reopened else min(room, 1)]:
            self._appeal(batch, seats, each, terms, deadline)

    def _forget(self, batch: Batch) -> None:
        self._watched.discard(batch.batch_id)
        self._hopeless.pop(batch.batch_id, None)

    def _prospects(
        self, batch: Batch, claims: dict[int, Verdict], marks: Marks, stored: StoredVote, terms: Parameters
    ) -> list[Prospect]:
        """Those that are worth it, the surest first: each uses up fines that the next would be paid from."""
        votes = [self.chain.vote(batch, seat) for seat in range(3)]
        result = self.chain.result(batch.batch_id)
        now = Words(result.accepted, result.rejected)
        for leaf, claim in claims.items():
            if marks.open >> leaf & 1:
                now = now.turned(leaf, claim)
        found = []
        left = [leaf for leaf in claims if not marks.appealed >> leaf & 1]
        for leaf in sorted(left, key=lambda each: -chance_of(stored.verdicts[each])):
            claim = claims[leaf]
            if claim is Verdict.ACCEPTED and self.store.kept.answer_at(batch.batch_id, leaf) is None:
                continue  # who calls good what nobody then shows to the jury loses the bond
            owed = owed_by(votes, leaf, claim, batch, now, terms)
            seen = prospect(leaf, claim, stored.verdicts[leaf], terms, owed)
            if seen.chance >= self.willing.least_chance and seen.gain_wei > 0:
                found.append(seen)
                now = now.turned(leaf, claim)
        return found

    def _has_tried(self, batch: Batch, appealed: Sequence[int]) -> bool:
        """Whether an appeal of ours of this batch is on its way, open, or over and has turned nothing."""
        if any(name.startswith(f"appeal {batch.batch_id.hex()}/") for name in self._in_flight):
            return True
        cases = (self.chain.appeal_case(batch.batch_id, leaf) for leaf in appealed)
        return any(case.levels[0].appellant == self.chain.address for case in cases)

    def _room(self, bond: int) -> int:
        """How many more bonds may be put up: of what is allowed to be at risk, and of the tokens at hand."""
        open_ = {f"appeal {each.batch_id.hex()}/{each.leaf}": each.bond_wei for each in self.store.own_appeals()}
        sent = {name: bond for name in self._in_flight if name.startswith("appeal ")}
        at_risk, unpaid = sum((sent | open_).values()), sum(sent[name] for name in sent.keys() - open_.keys())
        at_hand = self.chain.token_balance(self.chain.address) - unpaid
        return max(min(self.willing.at_risk_wei - at_risk, at_hand) // bond, 0) if bond else 256

    def _appeal(self, batch: Batch, seats: Sequence[Seat], chosen: Prospect, terms: Parameters, deadline: int) -> None:
        chain, leaf = self.chain, chosen.leaf
        require_judges(chain, batch.known_header, [seat.verifier for seat in seats], 1)
        # Without limit: see `StakingCalls.allow`.
        if chain.allowance(chain.address, "Appeals") < max(bond_wei(terms), UNLIMITED // 2):
            self._submit(ALLOW, CALLS.approve(chain.deployment.address("Appeals"), UNLIMITED))
            return
        name = f"appeal {batch.batch_id.hex()}/{leaf}"
        call = CALLS.appeal(batch.known_header, seats, leaf, chosen.claim)
        guard = claim_guard(batch.batch_id, leaf, int(chosen.claim))
        if self._submit(name, call, Due(at=deadline), (guard,)):
            log.info(
                "dissent_appealed",
                batch=batch.batch_id.hex(),
                leaf=leaf,
                claim=chosen.claim.name.lower(),
                chance=round(chosen.chance, 4),
                gain_tokens=round(chosen.gain_wei / TOKEN, 4),
                bond_tokens=bond_wei(terms) / TOKEN,
            )

    def _see_through(self, own: OwnAppeal) -> None:
        """Has the committee drawn; takes out what was won."""
        chain = self.chain
        case = chain.appeal_case(own.batch_id, own.leaf)
        if case.phase == AppealPhase.CONCLUDED:
            if self._staying.stays(own, case.phase):
                if chain.appeal_credit_of(chain.address) > 0:
                    self._submit(WITHDRAW, CALLS.withdraw_appeal_credit())
                self.store.end_own_appeal(own)
            return
        self._staying.forget(own)
        if case.level == own.level:
            self._draw_if_due(case)

    def _draw_if_due(self, case: AppealCase, share: float = 0.0) -> None:
        """When so much of the time for it is over."""
        chain = self.chain
        if case.phase != AppealPhase.OPEN:
            return
        window = chain.draw_window_blocks()
        block, last_block = chain.contracts_block_number(), case.clock + window
        if not case.clock + window * share < block <= last_block:
            return
        header = chain.batch(case.batch_id).known_header
        judges = committees(chain, case)[: case.level]
        name = f"draw appeal {case.batch_id.hex()}/{case.leaf}/{case.level}/{case.current.round}"
        call = chain.with_seed(CALLS.draw_appeal(header, case.leaf, judges), case.clock, case.fixed_at)
        if call is not None:
            self._submit(name, call, Due(block=last_block))

    def _submit(self, name: str, call: Call, due: Due = NOT_DUE, guards: tuple[Guard, ...] = ()) -> bool:
        """Queues what is not in flight already. Raises TransactionReverted when it was refused the last time."""
        if name in self._in_flight:
            return False
        self.outbox.submit(Act((name,), call, due, guards))
        self._in_flight |= {name}
        return True
