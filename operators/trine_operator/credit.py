"""Keeps an operator's credit with `Staking` filled: from it the chain takes the verifiers' fees of every batch.

Tops up early, so that no batch has to wait for it; refuses clearly when the account has too few tokens.
"""

from __future__ import annotations

import structlog

from trine.chain import Chain
from trine.chain.staking import UNLIMITED
from trine.chain.writes import CALLS
from trine.errors import NotReady
from trine_operator.outbox import Act, Submits

log = structlog.get_logger()

TOKEN = 10**18


ALLOW, ADD = "allow Staking", "add credit"
"""Names of what is sent for it."""


class Credit:
    """Of one account."""

    def __init__(self, chain: Chain, outbox: Submits, target_wei: int) -> None:
        self.chain = chain
        self.outbox = outbox
        self.target_wei = target_wei

    def covers(self, leaves: int, tokens: int) -> bool:
        """Whether a batch of so many leaves and tokens is paid for. If not, or soon not, credit is on its way then.

        Raises NotReady, naming what is missing; TransactionReverted.
        """
        in_flight = self.outbox.open_names()
        needed = self.chain.parameters().verifier_fee(leaves, tokens)
        credit = self.chain.credit_of(self.chain.address)
        if credit < max(needed, self.target_wei // 2) and not in_flight & {ALLOW, ADD}:
            self._top_up(leaves, tokens, needed, credit)
        return credit >= needed

    def _top_up(self, leaves: int, tokens: int, needed: int, credit: int) -> None:
        chain = self.chain
        balance = chain.token_balance(chain.address)
        if credit + balance < needed:
            raise NotReady(
                f"{chain.address} has {credit / TOKEN:g} tokens of credit and {balance / TOKEN:g} more, the verifiers' "
                f"fees of {leaves} answers with {tokens} tokens are {needed / TOKEN:g}: send it tokens"
            )
        amount = min(max(needed, self.target_wei) - credit, balance)
        if amount == 0:
            return
        # Without limit, and before the credit is taken: see `StakingCalls.allow`.
        if chain.allowance(chain.address, "Staking") < max(amount, UNLIMITED // 2):
            self.outbox.submit(Act((ALLOW,), CALLS.approve(chain.deployment.address("Staking"), UNLIMITED)))
            return
        self.outbox.submit(Act((ADD,), CALLS.add_credit(amount)))
        log.info("credit_added", wei=amount, credit_wei=credit + amount)
