"""The token that x402 pays in, as the chain shows it. Any with EIP-3009, the deployment's own or another.

Decides nothing; says at start what a token lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from trine.chain import Chain, Event
from trine.chain.calls import checksum
from trine.chain.transactions import Call
from trine.errors import ChainUnreachable, InvalidInput
from trine_node.x402.authorization import Authorization

INTERFACE = "TrineToken"
"""Whose interface every token with EIP-3009 and EIP-712 shares as far as it is asked here."""
DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


@dataclass(frozen=True, slots=True)
class End:
    """Of an authorization: the transaction that executed it, whoever sent that; None when the payer took it back."""

    executed: bytes | None


class Asset:
    """One token on the node's chain."""

    def __init__(self, chain: Chain, address: str) -> None:
        """Raises InvalidInput for what is no address."""
        self._chain = chain
        self.address = str(checksum(address))

    def domain(self, name: str | None, version: str | None) -> tuple[str, str]:
        """The name and version that payers sign by: as the token tells (EIP-5267), or as given.

        Raises InvalidInput when the token lacks what x402 needs, or goes by others.
        """
        if self._chain.read_at(INTERFACE, self.address, "authorizationState", self._chain.address, bytes(32)) is None:
            raise InvalidInput(
                f"settings: x402: the token {self.address} has no EIP-3009 authorizations on this chain, which x402 "
                "pays by: name one that has as x402.asset, for instance the chain's USDC"
            )
        told = self._chain.read_at(INTERFACE, self.address, "eip712Domain")
        name, version = name or (told[1] if told else None), version or (told[2] if told else None)
        if name is None or version is None:
            raise InvalidInput(
                f"settings: x402: the token {self.address} does not tell its EIP-712 domain: set x402.asset_name and "
                "x402.asset_version"
            )
        separator = self._chain.read_at(INTERFACE, self.address, "DOMAIN_SEPARATOR")
        if separator != self._separator(name, version):
            raise InvalidInput(
                f"settings: x402: signatures for the name {name!r} and version {version!r} are none to the token "
                f"{self.address}: correct x402.asset_name and x402.asset_version"
            )
        return name, version

    def balance(self, holder: str) -> int:
        """Raises ChainUnreachable."""
        return int(self._asked("balanceOf", holder))

    def is_used(self, authorization: Authorization) -> bool:
        """Whether the authorization was executed or cancelled. Raises ChainUnreachable."""
        return bool(self._asked("authorizationState", authorization.payer, authorization.nonce))

    def end_of(self, authorization: Authorization, from_block: int) -> End | None:
        """What became of one that is used, in blocks that stay; None while these do not show it."""
        who = {"authorizer": authorization.payer, "nonce": authorization.nonce}
        confirmed = self._chain.confirmed_block()
        for kind in ("AuthorizationUsed", "AuthorizationCanceled"):
            for event in self._chain.events_at(INTERFACE, self.address, kind, from_block, **who):
                if event.block <= confirmed:
                    return End(event.transaction if self._has_paid(authorization, event) else None)
        return None

    def _has_paid(self, authorization: Authorization, event: Event) -> bool:
        """Whether the transaction of an event has paid what was authorized: a nonce may pay somebody else, too."""
        parties = {"from": authorization.payer, "to": authorization.pay_to}
        # A contract can execute many of a payer's nonces at once: each has the transfer behind it, up to the next.
        used = self._chain.events_at(
            INTERFACE, self.address, "AuthorizationUsed", event.block, authorizer=authorization.payer
        )
        after = [e.log_index for e in used if e.transaction == event.transaction and e.log_index > event.log_index]
        behind = range(event.log_index + 1, min(after, default=1 << 62))
        return any(
            transfer.transaction == event.transaction
            and transfer.log_index in behind
            and transfer.args["value"] == authorization.value
            for transfer in self._chain.events_at(INTERFACE, self.address, "Transfer", event.block, **parties)
        )

    def _separator(self, name: str, version: str) -> bytes:
        words = (DOMAIN_TYPE, keccak(text=name), keccak(text=version), self._chain.domain.chain_id, self.address)
        return bytes(keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], words)))

    def _asked(self, function: str, *arguments: object) -> Any:
        answer = self._chain.read_at(INTERFACE, self.address, function, *arguments)
        if answer is None:
            raise ChainUnreachable(f"the RPC endpoint does not tell {function} of the token {self.address}")
        return answer


def execution(authorization: Authorization) -> Call:
    """The transaction that takes the payer's money."""
    return Call(INTERFACE, "transferWithAuthorization", authorization.arguments(), at=authorization.asset)
