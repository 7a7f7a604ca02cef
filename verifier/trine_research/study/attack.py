"""What it costs to buy verdicts: stake, slashed stake, and the value of a cheat at which buying pays.

For a batch with one cheated leaf. More cheated leaves multiply what the node wins and loses; a seat's fines grow with
them up to a cap, so per leaf they only shrink. Chances come from `majority`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from scipy.optimize import brentq
from scipy.stats import binom

from trine.errors import InvalidInput
from trine.protocol.committee import SEATS
from trine_research.study.majority import CHAIN, Ending, Model, chain

MAX_TOKENS = 1e12


@dataclass(frozen=True, slots=True)
class Prices:
    """In whole tokens. Defaults are those of `deploy/trine_devnet/deployment.json`, named there as here (`…Wei`)."""

    stake_per_leaf: float = 5
    dissent_fine: float = 0.1
    """Of a seat, for a leaf whose verdict no appeal turned."""
    overturned_fine: float = 5
    """Of a seat, for a leaf whose verdict an appeal turned."""
    wrong_vote_penalty: float = 20
    """Of a juror; and the most that a seat pays in a batch."""
    min_verifier_stake: float = 200
    appeal_bond_per_seat: float = 4
    honest_stake: float = 20_000
    """Not a parameter: a hundred verifiers with `min_verifier_stake`."""
    newcomer_factor: float = 0.25
    """A bought token's weight by an honest one's of the best reputation: `Committees.NEWCOMER_BPS`."""

    def __post_init__(self) -> None:
        fines = (self.dissent_fine, self.overturned_fine, self.wrong_vote_penalty)
        amounts = (self.stake_per_leaf, *fines, self.min_verifier_stake, self.appeal_bond_per_seat)
        if not all(0 <= amount <= MAX_TOKENS for amount in amounts):
            raise InvalidInput(f"amounts are 0 to {MAX_TOKENS:g} tokens")
        if not (0 < self.honest_stake <= MAX_TOKENS and 0 < self.newcomer_factor <= 1):
            raise InvalidInput("honest stake is above 0, a newcomer's weight above 0 and at most 1")

    def to_buy(self, share: float) -> float:
        """Tokens that give `share` of the weight, 0 <= share < 1; two seats take two verifiers at least."""
        bought = self.honest_stake * share / (1 - share) / self.newcomer_factor
        return max(bought, (SEATS // 2 + 1) * self.min_verifier_stake)


def share_for(chance: float) -> float:
    """Share of the weight with which colluders have 2 of 3 seats with this chance, among many verifiers.

    Inverts P(Binomial(3, s) >= 2) = 3 s^2 - 2 s^3. Raises InvalidInput unless 0 < chance < 1.
    """
    if not 0 < chance < 1:
        raise InvalidInput(f"the chance of a capture is between 0 and 1, not {chance}")
    return float(brentq(lambda share: binom.sf(SEATS // 2, SEATS, share) - chance, 0, 1, xtol=1e-15))


def price(model: Model, prices: Prices, chance: float) -> dict[str, Any]:
    """The attack that captures a committee with `chance`. Colluders are careful: in a minority they vote as the
    honest do, since the draw is public before they commit."""
    share = share_for(chance)
    judged = replace(model, share=share, verifiers=None, careful=True)
    once, appealed = chain(judged, CHAIN[:1]), chain(judged)
    reckless = chain(replace(judged, careful=False), CHAIN[:1])
    return {
        "chance": chance,
        "share": share,
        "stake_to_buy": prices.to_buy(share),
        "without_appeals": _line(once, prices),
        "reckless": _line(reckless, prices),
        "with_appeals": _line(appealed, prices),
        "bonds_of_two_appeals": prices.appeal_bond_per_seat * sum(CHAIN[1:]),
    }


def _line(ending: Ending, prices: Prices) -> dict[str, float | None]:
    """Per try and until the first success, in tokens; None where no try ever succeeds."""
    dissents = ending.penalised - ending.overturned - ending.jurors
    fines = prices.dissent_fine * dissents + prices.overturned_fine * ending.overturned
    lost = prices.stake_per_leaf * ending.right + fines + prices.wrong_vote_penalty * ending.jurors
    return {
        "chance": ending.wrong,
        "batches": 1 / ending.wrong if ending.wrong else None,
        "slashed_a_batch": lost,
        # A cheat of value v pays if v * P(wrong) is more than what a try loses.
        "break_even_value": lost / ending.wrong if ending.wrong else None,
    }
