"""`Staking` and the token: stake, delegation, credit for verification, endpoints."""

from __future__ import annotations

from trine.chain.calls import Calls, checksum
from trine.chain.records import Stake, Ticket

UNLIMITED = 2**256 - 1
"""An allowance that using does not lower (ERC-20 as OpenZeppelin has it)."""


class StakingCalls(Calls):
    """Reads and writes `Staking` and `TrineToken`."""

    def token_balance(self, address: str) -> int:
        return int(self._read("TrineToken", "balanceOf", checksum(address)))

    def allow(self, spender_contract: str, amount: int) -> None:
        """Lets one of the deployment's contracts, by name, take at least `amount` of the account's tokens.

        Once and without limit, so that clients of one account cannot take each other's allowance away. These contracts
        are immutable, and take from nobody but who calls them.
        """
        # One of an amount, from elsewhere, could be used up by another client in between.
        if self.allowance(self.address, spender_contract) < max(amount, UNLIMITED // 2):
            self._write("TrineToken", "approve", self.deployment.address(spender_contract), UNLIMITED)

    def allowance(self, owner: str, spender_contract: str) -> int:
        return int(self._read("TrineToken", "allowance", checksum(owner), self.deployment.address(spender_contract)))

    def stake_of(self, operator: str) -> Stake:
        return self._record(Stake, "Staking", "stakeOf", checksum(operator))

    def delegation_limit_of(self, operator: str) -> int:
        """How much others may delegate to the operator in all, in wei; zero: it takes no delegations."""
        return int(self._read("Staking", "delegationLimitOf", checksum(operator)))

    def ticket_of(self, operator: str, holder: str) -> Ticket:
        (_shares, releasable_at), amount = self._read("Staking", "ticketOf", checksum(operator), checksum(holder))
        return Ticket(amount, releasable_at)

    def delegation_of(self, operator: str, holder: str) -> int:
        """What a holder's active stake with an operator is worth now."""
        amount, _shares = self._read("Staking", "delegationOf", checksum(operator), checksum(holder))
        return int(amount)

    def commission_of(self, operator: str) -> int:
        """In basis points."""
        return int(self._read("Staking", "commissionOf", checksum(operator)))

    def announced_commission_of(self, operator: str) -> tuple[int, int]:
        """What the operator has set last, in basis points, and from when on that counts: past, or to come."""
        commission, effective_at = self._read("Staking", "announcedCommissionOf", checksum(operator))
        return int(commission), int(effective_at)

    def credit_of(self, account: str) -> int:
        """What an account has prepaid for verification."""
        return int(self._read("Staking", "creditOf", checksum(account)))

    def unbonding_delay(self) -> int:
        return int(self._read("Staking", "unbondingDelay"))

    def endpoint_of(self, operator: str) -> str:
        return str(self._read("Staking", "endpointOf", checksum(operator)))
