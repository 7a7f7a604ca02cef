"""Disagreeing with a verdict: puts up the bond, has the larger committee drawn, sees the appeal through."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from trine.chain import AppealCase, AppealPhase, Chain, Seat, Verdict
from trine.chain.writes import CALLS
from trine.errors import InvalidInput, NotReady, TransactionReverted
from trine.protocol.certificate import Certificate
from trine.protocol.committee import Member
from trine.protocol.header import Header

POLL_SECONDS = 0.5
SEATS = {1: 7, 2: 15}
"""Of each level's committee."""
LEVELS = len(SEATS)


@dataclass(frozen=True, slots=True)
class Appealed:
    """What an appeal has come to."""

    verdict: Verdict
    is_final: bool
    credit_wei: int  # that the account may withdraw


def open_appeal(chain: Chain, certificate: Certificate, claim: Verdict) -> int:
    """Appeals the certified answer's verdict, or the outcome of its first appeal; returns the bond in wei.

    Raises InvalidInput for a claim that is none, NotReady when too few verifiers are left to judge, because an appeal
    that cannot be drawn loses its bond, and TransactionReverted when the chain does not take the appeal.
    """
    if claim not in (Verdict.ACCEPTED, Verdict.REJECTED):
        raise InvalidInput("an appeal claims that an answer is to be accepted, or rejected")
    batch = chain.batch(certificate.batch_id)
    case = chain.appeal_case(certificate.batch_id, certificate.index)
    level = case.level + 1
    if level > LEVELS:
        raise InvalidInput("this answer was appealed twice: there is no larger committee")
    judged = [seat.verifier for seats in committees(chain, case) for seat in seats]
    require_judges(chain, certificate.header, judged, level)
    bond = chain.appeal_bond(level, batch.terms)
    chain.allow("Appeals", bond)
    if level == 1:
        chain.appeal(certificate.header, chain.seats(batch), certificate.index, claim)
    else:
        chain.appeal_again(certificate.batch_id, certificate.index, claim)
    return bond


def require_judges(chain: Chain, header: Header, judged: Iterable[str], level: int) -> None:
    """Raises NotReady when too few are left for a committee of that level besides the node and who has judged."""
    excluded = [header.node, *judged]
    epoch = chain.contracts_block_number() // chain.epoch_blocks()
    for drawn_from in (epoch, epoch + 1):  # the seed block may be in either
        left = could_judge(chain.pool(header.model_id, True, drawn_from), excluded, chain.timestamp())
        if left < SEATS[level]:
            raise NotReady(
                f"{left} verifiers could judge this appeal, {SEATS[level]} are needed: the bond would be lost"
            )


def could_judge(pool: Iterable[Member], excluded: Iterable[str], at: int) -> int:
    """How many verifiers with weight, calibrated at that time (seconds), are neither the node nor among those who
    judged before."""
    barred = {address.lower() for address in excluded}
    return len({member.address.lower() for member in pool if member.may_sit(at)} - barred)


def see_through(chain: Chain, certificate: Certificate, *, timeout: float) -> Appealed:
    """Draws the committee whenever one is to be drawn, until the verdict is final. Raises NotReady.

    Whoever appealed should: an appeal that nobody draws in time is lost.
    """
    deadline = time.monotonic() + timeout
    while True:
        verdict, is_final = chain.verdict(certificate.batch_id, certificate.index)
        case = chain.appeal_case(certificate.batch_id, certificate.index)
        if case.phase == AppealPhase.CONCLUDED and is_final:
            return Appealed(verdict, is_final, chain.appeal_credit_of(chain.address))
        if time.monotonic() > deadline:
            raise NotReady(f"the appeal was not concluded within {timeout:.0f} s")
        if case.phase == AppealPhase.OPEN and chain.contracts_block_number() > case.clock:
            _draw(chain, certificate, case)
        time.sleep(POLL_SECONDS)


def committees(chain: Chain, case: AppealCase) -> list[tuple[Seat, ...]]:
    """Who has judged: the batch's seats, then those of each level that was drawn."""
    levels = [chain.appeal_seats(case, level) for level in range(1, case.level + 1)]
    return [chain.seats(chain.batch(case.batch_id)), *levels]


def _draw(chain: Chain, certificate: Certificate, case: AppealCase) -> None:
    try:
        judges = committees(chain, case)[: case.level]
        call = CALLS.draw_appeal(certificate.header, certificate.index, judges)
        chain.send_seeded(call, case.clock, case.fixed_at)
    except NotReady:
        return  # the seed is not there yet, or the beacon does not answer: asked for again until the time is up
    except TransactionReverted as error:
        if "WrongPhase" not in error.reason:  # else somebody was faster
            raise
