"""`Client`: ask a node, check what it signs, wait for the chain's certificate.

`AsyncClient` does it; this one waits for it, in any number of threads.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Required, Self, TypedDict, Unpack, overload

import httpx2

from trine._answer import Answer
from trine._async_client import AsyncClient
from trine._choosing import Preference, Speed
from trine._core import Core
from trine._loop import LoopThread
from trine._options import CERTIFICATE_TIMEOUT_SECONDS, Options, Wait
from trine._ordering import Messages
from trine._streaming import AsyncTextStream
from trine.chain import Deployment, InclusionClaim
from trine.protocol.certificate import Certificate
from trine.protocol.portable import PortableCertificate

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


class ClientOptions(TypedDict, total=False):
    """What a client is made with."""

    rpc_url: Required[str | Sequence[str]]
    """One address of the chain, or several that stand in for one another."""
    deployment: Required[str | Path | Deployment]
    """The contracts' addresses: a file, or what was read from one."""
    account: LocalAccount | None
    """Signs and pays. Without one there is only what needs neither."""
    node: str | None
    """Pins one endpoint."""
    deposit_wei: int
    """Deposited with a node whenever what the account has with it does not cover the next order; 0: never."""
    timeout: float
    """Seconds that an order may take, busy nodes and others included."""
    prefer: Preference
    """Which of the nodes of good reputation is asked first: "reputation", the best one, by default; "speed", the one
    that was measured to be fastest; "price", one that the account has a deposit with (a token costs the same at every
    node, and a new deposit takes a transaction)."""
    spend_limit_wei: int | None
    """What all orders of this client may cost together. One of which nobody knows what it cost counts as its worst."""
    salted: bool
    """On by default: nobody guesses from a receipt's hashes what was asked and answered (`Answer.salt`). Without it, a
    contract can compare them with a text of its own."""
    sealed: bool
    """Nobody between client and node reads what they send each other; only nodes that show a key for it are asked."""
    state: str | Path | None
    """A file, which is made if need be, that remembers orders with an `idempotency_key` and their answers: who asks
    again after a crash, by the same account, pays once."""
    http_client: httpx2.AsyncClient | None
    """To ask nodes by: with a proxy, certificates or hooks of your own. The client closes it."""


class Client:
    """Asks nodes and keeps them honest.

    `Client(rpc_url="http://127.0.0.1:8545", deployment="devnet.json", account=account).chat("Hello")`

    `ClientOptions` says what it is made with. Without `node=` the calibrated node of the best reputation is asked, and
    when it does not answer the next best, three at most. One that may have begun an order can be paid for it, up to its
    worst price: `Answer.tried` says so, and no later voucher forgets it. Deposits are with one node each. Thread-safe:
    no order waits for another, and connections to nodes are kept.
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self._wait_for(AsyncClient(**options))

    def _wait_for(self, client: AsyncClient) -> None:
        self._async = client
        self.chain = client.chain
        """The chain as this client's account sees it."""
        self._loop = LoopThread(client.close)
        weakref.finalize(self, LoopThread.close, self._loop)

    @property
    def _core(self) -> Core:
        return self._async._core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends connections, and what is on its way. Twice is once."""
        self._loop.close()

    def nodes(self, model: str | None = None) -> list[tuple[str, str]]:
        """(address, endpoint) of the calibrated nodes, best reputation first."""
        return self._loop.run(self._async.nodes(model))

    def speed(self, node: str) -> Speed | None:
        """What this node's answers took lately, as this client saw it; None where it was not measured."""
        return self._async.speed(node)

    @property
    def spent_wei(self) -> int:
        """What this client's finished orders have cost, or may have."""
        return self._async.spent_wei

    def avoid(self, node: str, seconds: float) -> None:
        """Asks this node, an address, nothing more for so long; 0 takes that back."""
        self._async.avoid(node, seconds)

    def worst_fee_wei(self, messages: Messages, **options: Unpack[Options]) -> int:
        """What the answer may cost at most, whichever node gives it. Raises InvalidInput."""
        return self._loop.run(self._async.worst_fee_wei(messages, **options))

    def deposit(self, amount_wei: int, *, model: str | None = None) -> None:
        """Deposits with the node that would be asked."""
        self._loop.run(self._async.deposit(amount_wei, model=model))

    def order(self, messages: Messages, **options: Unpack[Options]) -> dict[str, Any]:
        """A signed and paid order as the JSON body of `/v1/chat/completions`, for other HTTP clients.

        With the stock `openai` client pass its `trine` entry as `extra_body={"trine": …}`.
        """
        return self._loop.run(self._async.order(messages, **options))

    def chat(self, messages: Messages, *, wait: Wait = False, **options: Unpack[Options]) -> Answer:
        """The answer to a text or to OpenAI-style messages, with a receipt that was checked.

        What can be said of it is in `Options`. With `wait=True`, also with the certificate, once three verifiers have
        voted; with `wait="final"`, once no appeal can change that. Raises InvalidInput, SpendLimitReached, NodeError,
        VerificationFailed (also when `wait` ends in anything but acceptance), NotReady.
        """
        return self._loop.run(self._async.chat(messages, wait=wait, **options))

    def complete(self, prompt: str, *, wait: Wait = False, **options: Unpack[Options]) -> Answer:
        """How a plain text goes on, without a chat template; else as `chat`. Control tokens in it are control tokens:
        make it of your own text only."""
        return self._loop.run(self._async.complete(prompt, wait=wait, **options))

    def stream(self, messages: Messages, **options: Unpack[Options]) -> TextStream:
        """Iterate over it for the text as it comes; `.answer` holds the checked answer afterwards."""
        return TextStream(self._loop, self._async.stream(messages, **options))

    @overload
    def certify(
        self, answer: Answer, *, final: bool = False, hard: Literal[False] = False, timeout: float = ...
    ) -> Certificate: ...

    @overload
    def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: Literal[True],
        root_epoch: int | None = None,
        timeout: float = ...,
    ) -> PortableCertificate: ...

    def certify(
        self,
        answer: Answer,
        *,
        final: bool = False,
        hard: bool = False,
        root_epoch: int | None = None,
        timeout: float = CERTIFICATE_TIMEOUT_SECONDS,
    ) -> Certificate | PortableCertificate:
        """Waits until the answer's batch is settled; returns (and keeps) its certificate. Raises NotReady.

        With `final`, until no appeal can change the answer's verdict any more. With `hard`, returns the certificate
        that is checked without a chain, which `root_epoch` lets begin with the key set of an earlier epoch that its
        reader trusts; raises NotReady for a batch that was settled by votes.
        """
        if hard:
            return self._loop.run(
                self._async.certify(answer, final=final, hard=True, root_epoch=root_epoch, timeout=timeout)
            )
        return self._loop.run(self._async.certify(answer, final=final, timeout=timeout))

    def acknowledge(self, *, model: str | None = None) -> int:
        """Acknowledges what the node that would be asked has earned so far, in wei, so that it is paid. Every order
        does, for those before, and `certify` with `final`; a client that is done may."""
        return self._loop.run(self._async.acknowledge(model=model))

    def claim_inclusion(self, answer: Answer) -> InclusionClaim:
        """Claims on-chain that the node has anchored the answer nowhere, though its receipt promised to by
        `answer.receipt.anchor_by`: puts up a bond, and starts the time in which the node must show the answer in a
        batch. Call it again after `InclusionClaim.answer_by`: a node that has not is slashed, half of it for the
        client, who has the bond back.

        Raises NotReady when it is not time yet, InvalidInput when the answer is in a batch: the claim would lose its
        bond.
        """
        return self._loop.run(self._async.claim_inclusion(answer))

    def feedback(self, answer: Answer, value: int | float | str, tag: str = "quality") -> bytes:
        """Says on-chain, in ERC-8004's reputation registry, what the answer was worth; once an answer that was judged.

        `value`: any number, `tag`: what it measures; the verdict is put beside it. Returns the transaction. Raises
        InvalidInput before `certify`, NotReady where the node has no agent.
        """
        return self._loop.run(self._async.feedback(answer, value, tag))

    def batch_of(self, answer: Answer) -> bytes | None:
        """Id of the batch that the node has sealed the answer in; None while it has not. Raises NodeError."""
        return self._loop.run(self._async.batch_of(answer))


class TextStream:
    """An answer as it is generated: iterate over it, once. Who leaves before its end closes it, or uses it with `with`:
    then the node sees that nobody waits any more, and stops."""

    def __init__(self, loop: LoopThread, stream: AsyncTextStream) -> None:
        self._loop = loop
        self._stream = stream
        self._pieces: Generator[str, None, None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it. Twice is once."""
        if self._pieces is not None:
            self._pieces.close()

    def __iter__(self) -> Iterator[str]:
        """Raises InvalidInput the second time, which would order and pay again."""
        self._pieces = self._loop.iterate(self._stream.__aiter__())
        return self._pieces

    @property
    def answer(self) -> Answer | None:
        """The checked answer, once the text has ended."""
        return self._stream.answer

    @property
    def place(self) -> tuple[str, str] | None:
        """Address and endpoint of the node that was asked last."""
        return self._stream.place
