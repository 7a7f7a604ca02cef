"""Keeps an operator's credit with `Staking` filled: from it the chain takes the verifiers' fees of every batch.

Tops up early, so that no batch has to wait for it; refuses clearly when the account has too few tokens.
"""

from __future__ import annotations

import structlog

from trine.chain import Chain
from trine.errors import NotReady

log = structlog.get_logger()

TOKEN = 10**18


class Credit:
    """Of one account."""

    def __init__(self, chain: Chain, target_wei: int) -> None:
        self.chain = chain
        self.target_wei = target_wei

    def ensure(self, leaves: int, tokens: int) -> None:
        """Returns when a batch of so many leaves and tokens is paid for. Raises NotReady, naming what is missing."""
        chain = self.chain
        needed = chain.parameters().verifier_fee(leaves, tokens)
        credit = chain.credit_of(chain.address)
        if credit >= max(needed, self.target_wei // 2):
            return
        wanted = max(needed, self.target_wei) - credit
        balance = chain.token_balance(chain.address)
        if credit + balance < needed:
            raise NotReady(
                f"{chain.address} has {credit / TOKEN:g} tokens of credit and {balance / TOKEN:g} more, the verifiers' "
                f"fees of {leaves} answers with {tokens} tokens are {needed / TOKEN:g}: send it tokens"
            )
        amount = min(wanted, balance)
        if amount == 0:
            return
        chain.allow("Staking", amount)
        chain.add_credit(amount)
        log.info("credit_added", wei=amount, credit_wei=credit + amount)
