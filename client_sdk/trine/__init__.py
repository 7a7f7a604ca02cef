"""Verifiable inference, for developers: ask, keep the receipt, check the certificate.

from trine import Client
answer = Client(rpc_url=…, deployment=…, account=…).chat("Why is the sky blue?", wait=True)
print(answer.text, answer.certificate.result)
"""

from typing import TYPE_CHECKING

from trine import _recursion  # noqa: F401  (for what it does)
from trine.errors import (
    BadSignature,
    ChainError,
    ChainUnreachable,
    InvalidField,
    InvalidInput,
    NodeError,
    NodeRefused,
    NodeUnreachable,
    NoGasMoney,
    NotReady,
    PaymentRequired,
    ProtocolError,
    SpendLimitReached,
    TransactionReverted,
    TrineError,
    VerificationFailed,
    WrongChain,
)
from trine.lazy import lazily

if TYPE_CHECKING:
    from trine._answer import Answer
    from trine._async_client import AsyncClient
    from trine._client import Client, ClientOptions, TextStream
    from trine._options import Options
    from trine._streaming import AsyncTextStream
    from trine.chain import Chain, Deployment, create_keystore, load_keystore
    from trine.protocol.certificate import Certificate
    from trine.protocol.messages import Receipt, Request
    from trine.protocol.portable import PortableCertificate
    from trine.protocol.tools import ToolCall
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "Answer": "trine._answer",
            "AsyncClient": "trine._async_client",
            "AsyncTextStream": "trine._streaming",
            "Certificate": "trine.protocol.certificate",
            "Chain": "trine.chain",
            "Client": "trine._client",
            "ClientOptions": "trine._client",
            "Deployment": "trine.chain",
            "Options": "trine._options",
            "PortableCertificate": "trine.protocol.portable",
            "Receipt": "trine.protocol.messages",
            "Request": "trine.protocol.messages",
            "TextStream": "trine._client",
            "ToolCall": "trine.protocol.tools",
            "create_keystore": "trine.chain",
            "load_keystore": "trine.chain",
        },
    )

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncTextStream",
    "BadSignature",
    "Certificate",
    "Chain",
    "ChainError",
    "ChainUnreachable",
    "Client",
    "ClientOptions",
    "Deployment",
    "InvalidField",
    "InvalidInput",
    "NoGasMoney",
    "NodeError",
    "NodeRefused",
    "NodeUnreachable",
    "NotReady",
    "Options",
    "PaymentRequired",
    "PortableCertificate",
    "ProtocolError",
    "Receipt",
    "Request",
    "SpendLimitReached",
    "TextStream",
    "ToolCall",
    "TransactionReverted",
    "TrineError",
    "VerificationFailed",
    "WrongChain",
    "create_keystore",
    "load_keystore",
]
