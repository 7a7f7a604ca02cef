"""What the tournament is played under: the shipped parameters, what is assumed besides, and who is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb

from trine.errors import InvalidInput
from trine.protocol.appeal_settlement import JURIES, AppealTerms
from trine.protocol.merkle import MAX_LEAVES
from trine.protocol.settlement import SEATS, Silence, Terms, conclude
from trine.protocol.votes import Vote
from trine_research.study.incentives import ETHER, SHIPPED, Setting

SHIPPED_APPEALS = AppealTerms(
    bond_per_seat=4 * ETHER,
    fee_per_seat=ETHER // 2,
    wrong_vote_penalty=SHIPPED.wrong_vote_penalty,
    no_reveal_penalty=SHIPPED.no_reveal_penalty,
    no_commit_penalty=SHIPPED.no_commit_penalty,
    overturned_fine=SHIPPED.overturned_fine,
)
"""The parameters of `deploy/trine_devnet/deployment.json`, as are the following."""
MAX_BATCH_TOKENS = 65_536
MAX_ROUNDS = 3
MIN_VERIFIER_STAKE = 200 * ETHER
UNBONDING_SECONDS = 2 * 86_400
RELEASE_SECONDS = 7 * 86_400
"""`Staking.RELEASE_SECONDS`."""
INCLUSION_BOND = ETHER
"""What a client puts down to claim that its answer was not anchored."""
CHECK_PER_TOKEN = ETHER // 200 // 256
"""Half of the fee that an answer of 256 tokens brings a seat."""
MIN_POOL = SEATS + sum(JURIES)


@dataclass(frozen=True, slots=True)
class World:
    """Costs are wei, shares and rates chances. Everything that is no parameter is an assumption."""

    tokens: int = 256
    """Of a leaf, prompt and answer."""
    price_per_token: int = 4 * 10**14
    """What a client pays."""
    compute_per_token: int = 10**14
    """What an honest answer costs its node."""
    check_per_token: int = CHECK_PER_TOKEN
    """What checking costs a verifier."""
    cheat_saves: Fraction = Fraction(9, 10)
    """Of the node's compute."""
    cheats: Fraction = Fraction(0)
    """Of the leaves that a verifier meets."""
    canaries: Fraction = Fraction(1, 1000)
    appealed: Fraction = Fraction(1, 100)
    """Chance that a client checks its answer, and appeals."""
    canary_appealed: Fraction = Fraction(1)
    """Chance that whoever planted a canary appeals where it was accepted: there is a prize."""
    dissents: Fraction = Fraction(1)
    """Chance that an honest seat that has seen a bad answer accepted appeals."""
    again: Fraction = Fraction(1)
    """Chance that whoever lost a right appeal appeals again. `trine verifier` does not by itself."""
    blind: Fraction = Fraction(0)
    """Chance that an honest seat appeals what others accepted and it was not shown."""
    claimed: Fraction = Fraction(1, 2)
    """Chance that a client claims an answer that is in no batch."""
    right_appeals: Fraction = Fraction(1, 2)
    """Of the appeals that a juror meets, those of wrong verdicts."""
    common: Fraction = Fraction(0)
    """Chance that all honest checks of a leaf err, or not, as one."""
    pool: int | None = None
    """So many equal verifiers, drawn without repetition; None: very many."""
    examiner_reward: int = ETHER // 10
    """Of a confirmed canary, from a budget for as many as there are at the rate."""
    terms: Terms = SHIPPED
    appeals: AppealTerms = SHIPPED_APPEALS

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MAX_BATCH_TOKENS:
            raise InvalidInput(f"a leaf has 1 to {MAX_BATCH_TOKENS:,} tokens, not {self.tokens:,}")
        rates = (
            self.cheat_saves, self.cheats, self.canaries, self.appealed, self.canary_appealed, self.dissents,
            self.again, self.blind, self.claimed, self.right_appeals, self.common,
        )  # fmt: skip
        if not all(0 <= rate <= 1 for rate in rates):
            raise InvalidInput("shares and chances are 0 to 1")
        costs = (self.price_per_token, self.compute_per_token, self.check_per_token, self.examiner_reward)
        if min(costs) < 0:
            raise InvalidInput("costs are not negative")
        if self.pool is not None and not MIN_POOL <= self.pool <= 1_000_000:
            raise InvalidInput(
                f"a committee and two juries need {MIN_POOL} verifiers, at most a million are reckoned with"
            )

    @property
    def leaves(self) -> int:
        """Of a full batch."""
        return min(MAX_LEAVES, MAX_BATCH_TOKENS // self.tokens)

    @property
    def price(self) -> int:
        """Of a leaf, wei: at most what its rejection costs can be collected (`Payments`)."""
        return min(self.price_per_token * self.tokens, self.terms.stake_per_leaf)

    @property
    def compute(self) -> int:
        return self.compute_per_token * self.tokens

    @property
    def saved(self) -> Fraction:
        """By a cheated leaf."""
        return self.cheat_saves * self.compute

    @property
    def fee(self) -> int:
        """Of a leaf's verifiers together."""
        return conclude([Vote(1, 0)] * SEATS, 1, self.terms, tokens=self.tokens).fee

    @property
    def juries_paid(self) -> int:
        """For so many leaves of a batch that its seats were not shown, who shows them to a jury pays it."""
        fine = self.appeals.overturned_fine
        return min(self.leaves, self.appeals.wrong_vote_penalty // fine) if fine else self.leaves

    @property
    def setting(self) -> Setting:
        """Of a verifier's seat."""
        return Setting(
            cost=self.check_per_token * self.tokens,
            cheats=self.cheats,
            canaries=self.canaries,
            appealed=self.appealed,
            canary_appealed=self.canary_appealed,
            common=self.common,
            leaves=self.leaves,
            tokens=self.leaves * self.tokens,
            terms=self.terms,
        )

    def seated(self, share: Fraction, seats: int, drawn: int = 0, own: int = 0) -> tuple[Fraction, ...]:
        """Chances that none, one, ... of so many seats are a coalition's with that share of the stake, after `drawn`
        others, `own` of them its own, have sat: draws are linear in stake."""
        if self.pool is None:
            return _binomial(seats, share)
        members = int(share * self.pool)
        return _hypergeometric(self.pool - drawn, max(members - own, 0), seats)

    def silence(self, kind: Silence) -> int:
        """What a silent seat pays."""
        return conclude([kind, Vote(1, 0), Vote(1, 0)], 1, self.terms).seats[0].penalty


@lru_cache(maxsize=4096)
def _binomial(trials: int, chance: Fraction) -> tuple[Fraction, ...]:
    return tuple(comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(trials + 1))


@lru_cache(maxsize=4096)
def _hypergeometric(population: int, members: int, trials: int) -> tuple[Fraction, ...]:
    total = comb(population, trials)
    return tuple(Fraction(comb(members, k) * comb(population - members, trials - k), total) for k in range(trials + 1))


def binomial(trials: int, chance: Fraction) -> tuple[Fraction, ...]:
    """Chances of none, one, ... of so many."""
    return _binomial(trials, chance)


@dataclass(frozen=True, slots=True)
class Play:
    """What a strategy gains, wei, a batch or what `unit` says."""

    role: str
    strategy: str
    gain: Fraction
    unit: str = "batch"
    honest: bool = False
