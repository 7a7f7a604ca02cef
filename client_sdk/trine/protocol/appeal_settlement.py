"""What an appeal of one leaf leads to: bonds, jurors' fees and fines, the prize. The twin of `Appeals.conclude` and of
what `Finality.concludeAppeal` gives it, for operators who have the stake that is taken.

A batch's own money is in `settlement`; this adds to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trine.errors import InvalidInput
from trine.protocol.appeals import LeafVote
from trine.protocol.settlement import Ballot, Silence, Terms, conclude
from trine.protocol.votes import Vote, settle

JURIES = (7, 15)
"""Seats of the first appeal and of the second."""
SHARED_DIVISOR = 2
"""Of what is taken from stake, half is burned."""

JurorBallot = LeafVote | Silence
CLAIMS = (LeafVote.ACCEPTED, LeafVote.REJECTED)


@dataclass(frozen=True, slots=True)
class AppealTerms:
    """Those of the parameters that a case follows, in wei."""

    bond_per_seat: int
    fee_per_seat: int
    wrong_vote_penalty: int
    no_reveal_penalty: int
    no_commit_penalty: int
    overturned_fine: int

    def bond(self, level: int) -> int:
        """Of the first appeal (0) or the second (1)."""
        return JURIES[level] * self.bond_per_seat


@dataclass(frozen=True, slots=True)
class Level:
    """One appeal: what its appellant says of the leaf, and its jury's votes; no ballots if none was drawn in time."""

    claim: LeafVote
    ballots: tuple[JurorBallot, ...]


@dataclass(frozen=True, slots=True)
class Juror:
    """What a juror gets and loses, in wei."""

    paid: int
    penalty: int


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that an appealed leaf leads to besides its batch's own settlement; amounts in wei."""

    verdict: LeafVote
    jurors: tuple[tuple[Juror, ...], ...]
    """By level and seat."""
    returned: tuple[int, ...]
    """Of each level's bond, to its appellant."""
    winner: int | None
    """The level whose appellant has the prize."""
    prize: int
    cleared: int
    """To the node, where nobody won and its answer was found good."""
    burned: int
    """Of bonds and of the halves that appeals got. The other halves of fines are burned besides."""


def outcome(before: LeafVote, ballots: Sequence[JurorBallot]) -> LeafVote:
    """What a jury that is heard makes of a verdict (`Appeals.resolve`)."""
    if len(ballots) not in JURIES:
        raise InvalidInput(f"a jury has {JURIES[0]} or {JURIES[1]} seats, not {len(ballots)}")
    quorum = len(ballots) // 2 + 1
    if ballots.count(LeafVote.ACCEPTED) >= quorum:
        return LeafVote.ACCEPTED
    if ballots.count(LeafVote.REJECTED) >= quorum:
        return LeafVote.REJECTED
    if ballots.count(LeafVote.UNAVAILABLE) >= quorum and before is not LeafVote.REJECTED:
        return LeafVote.UNAVAILABLE
    return before


def bounty(
    ballots: Sequence[Ballot], leaf_count: int, terms: Terms, final: Vote, judged: int, leaf: int, canaries: int = 0
) -> int:
    """What `Finality.concludeAppeal` hands to the appeal of `leaf`: half of the seats' fines for it and of the node's
    stake that is no client's. `final` is the result with this leaf's verdict, `judged` a word of the leaves whose
    appeals were concluded before."""
    bit = 1 << leaf
    before, after = (_penalties(ballots, leaf_count, terms, final, word, canaries) for word in (judged, judged | bit))
    total = sum((later - sooner) // SHARED_DIVISOR for sooner, later in zip(before, after, strict=True))
    if (final.rejects | final.unavailable) & ~canaries & bit:
        total += (terms.stake_per_leaf - SHARED_DIVISOR * terms.refund_per_leaf) // SHARED_DIVISOR
    return total


def conclude_case(
    settled: LeafVote, levels: Sequence[Level], seats_bounty: int, terms: AppealTerms, *, shown: int = 0
) -> Case:
    """`settled` is the batch's verdict on the leaf, `seats_bounty` what `bounty` says. A jury that nobody hears is
    drawn again: its last committee counts, and if that was not heard either the verdict stays and the bond is back.
    `shown` counts the batch's leaves that had been unavailable and that earlier appeals have found good or bad.

    Raises InvalidInput for claims that the contracts refuse.
    """
    if not 1 <= len(levels) <= len(JURIES):
        raise InvalidInput(f"a leaf is appealed once or twice, not {len(levels)} times")
    verdict, verdicts, heard = settled, [], []
    for number, level in enumerate(levels):
        if level.claim not in CLAIMS or level.claim is verdict:
            raise InvalidInput(f"{level.claim.name} cannot be claimed of a leaf that is {verdict.name}")
        if level.ballots and len(level.ballots) != JURIES[number]:
            raise InvalidInput(f"jury {number + 1} has {JURIES[number]} seats, not {len(level.ballots)}")
        heard.append(not level.ballots or 2 * _spoke(level) > len(level.ballots))
        verdict = outcome(verdict, level.ballots) if level.ballots and heard[-1] else verdict
        verdicts.append(verdict)
    decided = verdict is not LeafVote.UNAVAILABLE and any(
        ok and max(level.ballots.count(claim) for claim in CLAIMS) > len(level.ballots) // 2
        for ok, level in zip(heard, levels, strict=True)
    )
    unseen = settled is LeafVote.UNAVAILABLE
    judged = [decided and ok for ok in heard]
    right = [_votes_for(level, verdict) if ok else 0 for ok, level in zip(judged, levels, strict=True)]
    wrong = [_votes_for(level, _opposite(verdict)) if ok else 0 for ok, level in zip(judged, levels, strict=True)]
    fines = seats_bounty + sum(wrong) * (terms.wrong_vote_penalty // SHARED_DIVISOR)
    before = [settled, *verdicts]
    returned = [
        terms.bond(number) if not ok or _keeps_bond(level, before[number], verdicts[number], verdict, decided) else 0
        for number, (ok, level) in enumerate(zip(heard, levels, strict=True))
    ]
    bonds = sum(terms.bond(number) for number, back in enumerate(returned) if not back)
    winner = _winner(levels, before, verdict)
    fee, jurors_right = terms.fee_per_seat, sum(right)
    # Else two seats could say it of a whole batch, and have its node pay for a jury each.
    if winner is not None and unseen and (shown + 1) * terms.overturned_fine <= terms.wrong_vote_penalty:
        missing = min(max(fee * jurors_right - bonds - fines, 0), terms.bond(0))
        returned[winner] -= missing
        bonds += missing
    if jurors_right:
        fee = min(fee, (bonds + fines) // jurors_right)
    prize = bonds + fines - fee * jurors_right
    cleared = max(prize - fines, 0) if winner is None and verdict is LeafVote.ACCEPTED else 0
    return Case(
        verdict=verdict,
        jurors=tuple(
            tuple(_juror(ballot, verdict, ok, fee, terms) for ballot in level.ballots)
            for ok, level in zip(judged, levels, strict=True)
        ),
        returned=tuple(returned),
        winner=winner,
        prize=prize if winner is not None else 0,
        cleared=cleared,
        burned=prize - cleared if winner is None else 0,
    )


def _penalties(
    ballots: Sequence[Ballot], leaf_count: int, terms: Terms, final: Vote, leaves: int, canaries: int
) -> list[int]:
    """Of the seats, for their votes on these leaves only (`Finality._debtOf`)."""

    def on(vote: Vote) -> Vote:
        return Vote(vote.accepts & leaves, vote.rejects & leaves, vote.unavailable & leaves)

    votes = [on(ballot) if isinstance(ballot, Vote) else ballot for ballot in ballots]
    seats = conclude(votes, leaf_count, terms, on(final), canaries=canaries).seats
    return [seat.penalty if isinstance(ballot, Vote) else 0 for ballot, seat in zip(ballots, seats, strict=True)]


def _opposite(verdict: LeafVote) -> LeafVote | None:
    return {LeafVote.ACCEPTED: LeafVote.REJECTED, LeafVote.REJECTED: LeafVote.ACCEPTED}.get(verdict)


def _votes_for(level: Level, verdict: LeafVote | None) -> int:
    return level.ballots.count(verdict) if verdict in CLAIMS else 0


def _spoke(level: Level) -> int:
    return sum(isinstance(ballot, LeafVote) for ballot in level.ballots)


def _keeps_bond(level: Level, before: LeafVote, after: LeafVote, verdict: LeafVote, decided: bool) -> bool:
    """`Appeals._settleBond`, of a level that was heard or never drawn; `before` and `after` are the verdicts between
    which it lies."""
    if not level.ballots:
        return False
    hidden = 2 * level.ballots.count(LeafVote.UNAVAILABLE) > _spoke(level)
    if hidden and level.claim is LeafVote.ACCEPTED:
        return False
    if verdict is not LeafVote.UNAVAILABLE:
        return not decided or level.claim is verdict
    if before is LeafVote.UNAVAILABLE:
        # A jury that was shown it and could not tell has shown nobody to be right or wrong.
        return after is LeafVote.UNAVAILABLE and not hidden
    return level.claim is LeafVote.REJECTED


def _winner(levels: Sequence[Level], verdicts: Sequence[LeafVote], verdict: LeafVote) -> int | None:
    """`Appeals._winnerOf`: whose appeal led to the verdict, the first if there are two. `verdicts` begins with the one
    that was appealed."""
    for number, level in enumerate(levels):
        if verdicts[number + 1] is not verdict:
            continue
        hidden = verdict is LeafVote.UNAVAILABLE and verdicts[number] is not LeafVote.UNAVAILABLE
        exposed = hidden and level.claim is LeafVote.REJECTED
        if exposed or level.claim is verdict:
            return number
    return None


def _juror(ballot: JurorBallot, verdict: LeafVote, judged: bool, fee: int, terms: AppealTerms) -> Juror:
    if ballot is Silence.NO_COMMIT:
        return Juror(0, terms.no_commit_penalty)
    if ballot is Silence.NO_REVEAL:
        return Juror(0, terms.no_reveal_penalty)
    if not judged:
        return Juror(0, 0)
    if ballot is verdict:
        return Juror(fee, 0)
    return Juror(0, terms.wrong_vote_penalty if ballot is _opposite(verdict) else 0)


def verdict_on(ballots: Sequence[Ballot], leaf: int) -> LeafVote:
    """What a batch's seats say of a leaf."""
    words = settle([ballot if isinstance(ballot, Vote) else None for ballot in ballots])
    return {
        "accept": LeafVote.ACCEPTED,
        "reject": LeafVote.REJECTED,
        "unavailable": LeafVote.UNAVAILABLE,
        "inconclusive": LeafVote.INCONCLUSIVE,
    }[words.on(leaf)]
