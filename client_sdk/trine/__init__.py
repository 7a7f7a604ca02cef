"""Verifiable inference, for developers: ask, keep the receipt, check the certificate.

from trine import Client
answer = Client(rpc_url=…, deployment=…, account=…).chat("Why is the sky blue?", wait=True)
print(answer.text, answer.certificate.result)
"""

from trine import _recursion  # noqa: F401  (for what it does)
from trine._answer import Answer
from trine._client import AsyncClient, Client, TextStream
from trine.chain import Chain, Deployment, create_keystore, load_keystore
from trine.errors import (
    BadSignature,
    ChainError,
    ChainUnreachable,
    InvalidInput,
    NodeError,
    NodeRefused,
    NodeUnreachable,
    NotReady,
    PaymentRequired,
    ProtocolError,
    TransactionReverted,
    TrineError,
    VerificationFailed,
    WrongChain,
)
from trine.protocol.certificate import Certificate
from trine.protocol.messages import Receipt, Request

__all__ = [
    "Answer",
    "AsyncClient",
    "BadSignature",
    "Certificate",
    "Chain",
    "ChainError",
    "ChainUnreachable",
    "Client",
    "Deployment",
    "InvalidInput",
    "NodeError",
    "NodeRefused",
    "NodeUnreachable",
    "NotReady",
    "PaymentRequired",
    "ProtocolError",
    "Receipt",
    "Request",
    "TextStream",
    "TransactionReverted",
    "TrineError",
    "VerificationFailed",
    "WrongChain",
    "create_keystore",
    "load_keystore",
]
