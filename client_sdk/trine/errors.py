"""Everything that Trine raises on purpose, in one tree.

TrineError
├── InvalidInput            the caller's argument, file or setting is wrong
│   └── InvalidField        a field of a request asks for what is not served; `field` names it
├── ProtocolError           bytes from another party break the protocol
│   ├── BadSignature        a signature is not by the party it names
│   └── VerificationFailed  a receipt, proof or certificate does not hold
├── NodeError               a node refused, failed or could not be reached
│   ├── NodeUnreachable
│   ├── NodeRefused         the node answered with an error; `status` and `code` say which
│   └── PaymentRequired
├── ChainError
│   ├── ChainUnreachable
│   ├── WrongChain
│   ├── NoGasMoney          the account cannot pay for a transaction
│   └── TransactionReverted `reason` is the contract's error with its arguments
├── NotReady                waited as long as allowed, and it is not there yet
└── SpendLimitReached       it could cost more than the caller allows; nothing was signed for it
"""

from __future__ import annotations


class TrineError(Exception):
    """Base of all errors that Trine raises on purpose. The message is meant for people."""


class InvalidInput(TrineError, ValueError):
    """The caller's argument, file or setting is wrong."""


class InvalidField(InvalidInput):
    """A field of a request asks for what is not served."""

    def __init__(self, message: str, *, field: str, code: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.code = code  # as OpenAI names the fault


class ProtocolError(TrineError):
    """Bytes from another party break the protocol."""


class BadSignature(ProtocolError):
    """A signature is not by the party it names."""


class VerificationFailed(ProtocolError):
    """A receipt, proof or certificate does not hold."""


class NodeError(TrineError):
    """A node refused, failed or could not be reached."""


class NodeUnreachable(NodeError):
    """No answer from the node within the time allowed."""

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent  # for certain: no connection was made


class NodeRefused(NodeError):
    """The node answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        said: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after  # seconds, where the node says so
        self.param = param  # the field at fault, where the node says so
        self.said = said or message  # the node's own words


class PaymentRequired(NodeRefused):
    """The node wants a signed request, a voucher or a deposit that covers the fee."""

    def hinted(self, hint: str) -> PaymentRequired:
        """The same: the node's words, and what whoever reads them can do."""
        return PaymentRequired(
            f"the node refused ({self.status}): {self.said}{hint}",
            status=self.status,
            code=self.code,
            retry_after=self.retry_after,
            param=self.param,
            said=self.said,
        )


class ChainError(TrineError):
    """The chain could not be read or written."""


class ChainUnreachable(ChainError):
    """No answer from the RPC endpoint within the time allowed."""


class WrongChain(ChainError):
    """The RPC endpoint serves another chain than the deployment is on."""


class NoGasMoney(ChainError):
    """The account that was to send a transaction has too little of the chain's currency to pay for its gas."""

    def __init__(self, what: str, address: str) -> None:
        super().__init__(
            f"{what}: {address} has too little gas money for it: send it some of the chain's currency (`trine devnet "
            f"fund {address}` on a devnet)"
        )
        self.address = address


class TransactionReverted(ChainError):
    """A contract refused a transaction."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotReady(TrineError):
    """Waited as long as allowed, and it is not there yet."""


class SpendLimitReached(TrineError):
    """It could cost more than the caller allows; nothing was signed for it."""


def what_is_wrong(error: Exception) -> str:
    """With a document, in words for people: Python's own errors name types and not what to look for."""
    if isinstance(error, KeyError):
        return f"it has no field {str(error)[:80]}"
    if isinstance(error, TypeError | AttributeError):
        return "a field in it is of another type than it should be"
    return f"{error!s:.300}"
