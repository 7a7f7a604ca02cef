"""What all contracts' calls stand on: an endpoint, an account, view functions, transactions, events, blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from eth_utils.abi import event_abi_to_log_topic
from eth_utils.address import is_address, to_checksum_address

from trine.chain.deployment import Deployment, abi
from trine.chain.endpoint import without_secrets
from trine.chain.follower import ChainClock, Follower, Head
from trine.chain.named import members_of, record
from trine.chain.records import Event
from trine.chain.transactions import Call, EncodedCall
from trine.chain.views import Views
from trine.errors import ChainError, InvalidInput, WrongChain
from trine.protocol.messages import Domain

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3
    from web3.contract import Contract
    from web3.contract.contract import ContractFunction
    from web3.types import TxReceipt

    from trine.chain.gateway import Gateway
    from trine.chain.logs import LogReader
    from trine.chain.sender import Sends


RPC_TIMEOUT_SECONDS = 20.0
RECKONING_SECONDS = 60.0
"""How long a block's time is counted on from by who follows no blocks."""
POOL_PAGE = 256
PAGE = 256
"""Entries of the directory in one call: as many as it gives."""
KNOWN_BLOCKHASHES = 256
UNLIMITED = 2**256 - 1
"""An allowance that using does not lower (ERC-20 as OpenZeppelin has it)."""
CACHED = 4096
K = TypeVar("K")
T = TypeVar("T")


class Calls:
    """A deployment seen through one RPC endpoint, optionally with an account that sends. Thread-safe.

    View functions are asked without web3, which is imported when something else is needed.
    """

    def __init__(self, deployment: Deployment, rpc_url: str, signer: LocalAccount | None = None) -> None:
        self.deployment = deployment
        self._rpc_url = rpc_url
        self._views = Views(rpc_url, RPC_TIMEOUT_SECONDS)
        self._signer = signer
        self._sender: Sends | None = self._make_sender() if signer else None
        self._contracts: dict[str, Contract] = {}
        self._follower: Follower | None = None
        self._clock = ChainClock()
        self._cache_lock = threading.Lock()

    @classmethod
    def connect(cls, deployment: Deployment, rpc_url: str, signer: LocalAccount | None = None) -> Self:
        """Connects and checks the chain id. Raises ChainUnreachable or WrongChain."""
        chain = cls(deployment, rpc_url, signer)
        chain_id = chain._views.chain_id() or chain._chain_id_by_web3()
        if chain_id != deployment.chain_id:
            raise WrongChain(f"the RPC endpoint serves chain {chain_id}, the deployment is on {deployment.chain_id}")
        return chain

    # Who and where

    @property
    def address(self) -> str:
        return self._require_sender().address

    @property
    def domain(self) -> Domain:
        """EIP-712 domain of requests and receipts."""
        return Domain(self.deployment.chain_id, self.deployment.address("Batches"))

    @property
    def payments_domain(self) -> Domain:
        """EIP-712 domain of vouchers."""
        return Domain(self.deployment.chain_id, self.deployment.address("Payments"))

    def sign(self, digest: bytes) -> bytes:
        return self._require_sender().sign(digest)

    def follow(self, poll_seconds: float) -> Follower:
        """From now on one thread asks for the newest block, and everybody else is told. For processes that stay.

        Raises ChainUnreachable. To be stopped by who has asked for it.
        """
        from trine.chain.subscription import announced_heads

        heads = partial(announced_heads, self._rpc_url)
        self._follower = follower = Follower(self._newest_block, poll_seconds, heads)
        follower.start()
        follower.latest()
        return follower

    def block_number(self) -> int:
        return self._latest().number

    def confirmed_block(self) -> int:
        """Number of the newest block that is taken to stay."""
        return self.block_number()

    def timestamp(self) -> int:
        """Time of the newest block, seconds."""
        return self._latest().timestamp

    def now(self) -> int:
        """The chain's time in seconds, between blocks too. Costs a call a minute, or none in a process that follows."""
        if self._follower:
            self._clock.note(self._follower.latest())
        elif self._clock.age_seconds > RECKONING_SECONDS:
            self._clock.note(self._newest_block())
        return self._clock.now()

    def forget_time(self) -> None:
        """Somebody else's blocks are far from what was reckoned: the chain is asked. Development chains jump."""
        self._clock = ChainClock()

    def _latest(self) -> Head:
        """May be older than what a view function has just been told, by a poll: no bound for events."""
        return self._follower.latest() if self._follower else self._newest_block()

    def block_timestamp(self, block: int) -> int:
        return self._ask(lambda: int(self._web3.eth.get_block(block)["timestamp"]))

    def block_hash(self, block: int) -> bytes:
        return self._ask(lambda: bytes(self._web3.eth.get_block(block)["hash"]))

    def gas_balance(self, address: str) -> int:
        return self._ask(lambda: int(self._web3.eth.get_balance(checksum(address))))

    def gas_used(self, transaction: bytes) -> int:
        """Gas that a mined transaction used."""
        from hexbytes import HexBytes

        return self._ask(lambda: int(self._web3.eth.get_transaction_receipt(HexBytes(transaction))["gasUsed"]))

    # Sending

    def gateway(self) -> Gateway:
        """The account at this endpoint, for who sends its transactions. Raises InvalidInput without an account."""
        from trine.chain.gateway import Gateway

        if self._signer is None:
            raise InvalidInput("this needs an account: connect with a signer")
        return Gateway(self._web3, self._signer, self._rpc_url)

    def send_through(self, sender: Sends) -> None:
        """From now on `sender` sends what this object writes: a process has one for an account."""
        self._sender = sender

    def encoded(self, call: Call) -> EncodedCall:
        """Raises what web3 does for arguments that do not fit."""
        contract = self._contract(call.contract)
        data = contract.encode_abi(call.function, args=list(call.arguments))
        return EncodedCall(call.function, self.deployment.address(call.contract), bytes.fromhex(data[2:]))

    def note_mined(self) -> None:
        """A transaction of ours was just mined: who follows the chain need not wait for the next poll."""
        if self._follower:
            self._follower.refresh()

    # Events

    def events(
        self, contract: str, name: str, *, from_block: int | None = None, to_block: int | None = None, **filters: Any
    ) -> Iterator[Event]:
        """Events of one kind, oldest first, from the deployment's first block to now unless told otherwise."""
        start = self.deployment.block if from_block is None else from_block
        end = self._newest_block().number if to_block is None else to_block
        return self._logs.read(self._contract(contract), name, start, end, filters)

    def events_of(self, kinds: Sequence[tuple[str, str]], from_block: int, to_block: int) -> Iterator[Event]:
        """Events of several kinds, (contract, name) each, oldest first: one question for all of them.

        For who asks at every block: an endpoint that is busy is not waited for. Raises ChainUnreachable.
        """
        addresses, topics = self._watched(tuple(kinds))
        # Asked at every block, and mostly there are none.
        if self._views.has_no_logs(addresses, topics, from_block, to_block):
            return iter(())
        contracts = [(self._contract(contract), name) for contract, name in kinds]
        return self._logs.read_kinds(self._web3, contracts, from_block, to_block, patient=False)

    def _watched(self, kinds: tuple[tuple[str, str], ...]) -> tuple[list[str], list[str]]:
        """Addresses of the contracts, topics of their events."""
        addresses = sorted({self.deployment.address(contract) for contract, _ in kinds})
        return addresses, sorted({topic_of(contract, name) for contract, name in kinds})

    def newest_event(self, contract: str, name: str, **filters: Any) -> Event | None:
        """The newest event of one kind, or None."""
        head = self._newest_block().number
        return self._logs.newest(self._contract(contract), name, self.deployment.block, head, filters)

    # How

    @cached_property
    def _logs(self) -> LogReader:
        from trine.chain.logs import LogReader

        return LogReader(self._rpc_url)

    @cached_property
    def _web3(self) -> Web3:
        from web3 import HTTPProvider, Web3

        return Web3(HTTPProvider(self._rpc_url, request_kwargs={"timeout": RPC_TIMEOUT_SECONDS}))

    def _contract(self, name: str) -> Contract:
        with self._cache_lock:
            known = self._contracts.get(name)
        if known is None:
            known = self._web3.eth.contract(address=cast(Any, self.deployment.address(name)), abi=abi(name))
            with self._cache_lock:
                self._contracts[name] = known
        return known

    def _make_sender(self) -> Sends:
        from trine.chain.sender import Sender

        return Sender(self.gateway())

    def _require_sender(self) -> Sends:
        if self._sender is None:
            raise InvalidInput("this needs an account: connect with a signer")
        return self._sender

    def _chain_id_by_web3(self) -> int:
        import requests.exceptions
        from web3.exceptions import Web3Exception

        from trine.chain.sender import unreachable

        try:
            return int(self._web3.eth.chain_id)
        except (requests.exceptions.RequestException, OSError, Web3Exception) as error:
            raise unreachable(error, self._rpc_url) from None

    def _read(self, contract: str, function: str, *arguments: Any, block: int | None = None) -> Any:
        answer = self._views.call(contract, self.deployment.address(contract), function, arguments, block)
        return self._read_by_web3(contract, function, *arguments, block=block) if answer is None else answer

    def _record(
        self,
        kind: type[T],
        contract: str,
        function: str,
        *arguments: Any,
        block: int | None = None,
        also: Mapping[str, Any] | None = None,
    ) -> T:
        """What a view function returns, as a record, by the names that the ABI gives."""
        values = self._read(contract, function, *arguments, block=block)
        return record(kind, members_of(contract, function), values, **(also or {}))

    def _read_by_web3(self, contract: str, function: str, *arguments: Any, block: int | None = None) -> Any:
        from web3.exceptions import ContractLogicError

        from trine.chain.sender import reverted

        call: ContractFunction = self._contract(contract).functions[function](*arguments)
        try:
            return self._ask(lambda: call.call(block_identifier="latest" if block is None else block))
        except ContractLogicError as error:
            raise reverted(function, error) from None

    def _write(self, contract: str, function: str, *arguments: Any) -> TxReceipt:
        receipt = self._require_sender().send(self.encoded(Call(contract, function, arguments)))
        self.note_mined()
        return receipt

    def _newest_block(self) -> Head:
        known = self._views.newest_block()
        if known:
            return Head(*known)
        return self._ask(lambda: _head_of(self._web3.eth.get_block("latest")))

    def _ask(self, question: Callable[[], T]) -> T:
        import requests.exceptions
        from web3.exceptions import ContractLogicError, Web3Exception

        from trine.chain.sender import unreachable

        try:
            return question()
        except ContractLogicError:
            raise
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error, self._rpc_url) from None
        except Web3Exception as error:
            raise ChainError(without_secrets(str(error), self._rpc_url)) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise ChainError(f"the RPC endpoint's answer makes no sense ({type(error).__name__})") from None

    def _remember(self, cache: dict[K, T], key: K, value: T) -> None:
        """What follows from its key never changes; the oldest is forgotten."""
        with self._cache_lock:
            cache[key] = value
            if len(cache) > CACHED:
                del cache[next(iter(cache))]


@cache
def topic_of(contract: str, name: str) -> str:
    """The first topic of a contract's event, in hexadecimal."""
    (event,) = (entry for entry in abi(contract) if entry["type"] == "event" and entry["name"] == name)
    return "0x" + event_abi_to_log_topic(cast(Any, event)).hex()


def _head_of(block: Any) -> Head:
    return Head(int(block["number"]), int(block["timestamp"]))


def checksum(address: str) -> Any:
    """The address in EIP-55 form. Raises InvalidInput for anything that is no address."""
    if not is_address(address):
        raise InvalidInput(f"{address!r} is no address: expected 0x and 40 hexadecimal digits")
    return to_checksum_address(address)
