"""What answers cost by x402, in which token, and for how long a payer's signature must be good. No I/O.

Knows the protocol's objects; decides nothing about a payment.
"""

from __future__ import annotations

from dataclasses import dataclass

from x402.http.utils import encode_payment_required_header
from x402.schemas import PaymentRequired, PaymentRequirements, ResourceInfo

from trine.chain import Parameters
from trine_operator.refusal import Refusal

SCHEME = "exact"
BLOCK_SECONDS = 12
"""As long as on Ethereum; where blocks come faster, a signature is good for longer than it needs to."""
DRAW_BLOCKS = 32
"""For a draw that is not called at once."""
APPEALS = 2
"""Levels: seven others, then fifteen."""
CLOCKS_SECONDS = 600
"""A payer's clock may be so far behind, and its request take so long."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one node. Amounts are in the token's smallest unit."""

    chain_id: int
    asset: str
    name: str  # of the token's EIP-712 domain, as is
    version: str
    pay_to: str
    units_per_million_tokens: int
    min_units: int
    valid_seconds: int  # that a signature must be good for when it arrives

    @property
    def network(self) -> str:
        """CAIP-2."""
        return f"eip155:{self.chain_id}"

    def units(self, tokens: int) -> int:
        """What an answer costs with its prompt, rounded up. At least one: a transfer of nothing pays nothing."""
        return max(-(-tokens * self.units_per_million_tokens // 10**6), self.min_units, 1)

    def requirements(self, units: int, lead_seconds: int) -> PaymentRequirements:
        """`lead_seconds`: how far the chain's time is ahead of this machine's, which payers' clocks agree with."""
        return PaymentRequirements(
            scheme=SCHEME,
            network=self.network,
            asset=self.asset,
            amount=str(units),
            pay_to=self.pay_to,
            max_timeout_seconds=self.valid_seconds + CLOCKS_SECONDS + max(0, lead_seconds),
            extra={"name": self.name, "version": self.version, "assetTransferMethod": "eip3009"},
        )

    def required(self, url: str, requirements: PaymentRequirements, refusal: Refusal | None = None) -> Refusal:
        """The answer 402 that says how to pay, or why what was paid is not enough."""
        said = str(refusal) if refusal else (
            f"this answer costs {requirements.amount} units of {self.asset}: pay by x402, or use the Trine client"
        )  # fmt: skip
        offer = PaymentRequired(
            error=said,
            resource=ResourceInfo(
                url=url,
                description="An answer that verifiers check; it is charged once they have accepted it for good.",
                mime_type="application/json",
            ),
            accepts=[requirements],
        )
        return Refusal(
            said,
            status=402,
            code=(refusal.code if refusal else None) or "payment_required",
            param=refusal.param if refusal else None,
            headers={"payment-required": encode_payment_required_header(offer)},
        )


def valid_seconds(terms: Parameters, anchor_within_seconds: int) -> int:
    """How long it may take from an answer to its final verdict: anchored at the last moment, redrawn as often as can
    be, appealed twice, each committee with the longest time to check."""
    judged = (
        (terms.draw_delay_blocks + DRAW_BLOCKS) * BLOCK_SECONDS
        + max(terms.commit_seconds, terms.max_check_seconds)
        + terms.reveal_seconds
    )
    appealed = terms.appeal_window_seconds + APPEALS * (judged + terms.appeal_window_seconds)
    return anchor_within_seconds + max(1, terms.max_rounds) * judged + appealed
