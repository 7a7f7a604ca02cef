"""What all contracts' calls stand on: an endpoint, an account, view functions, transactions, events, blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from eth_utils.abi import event_abi_to_log_topic
from eth_utils.address import is_address, to_checksum_address

from trine.chain.block_header import checked_header, encoded_header
from trine.chain.confirmations import LATEST, Confirmations, Confirming
from trine.chain.deployment import Deployment, abi
from trine.chain.endpoint import addresses_of, without_secrets
from trine.chain.endpoints import Endpoints
from trine.chain.follower import ChainClock, Follower, Head
from trine.chain.health import Fault
from trine.chain.named import members_of, record
from trine.chain.records import Event
from trine.chain.transactions import Call, EncodedCall
from trine.chain.transport import EndpointFailed
from trine.chain.views import Question, Views
from trine.errors import ChainError, ChainUnreachable, InvalidInput, WrongChain
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


FIRST_STEP_BLOCKS = 128
"""Back from the newest block, where an older one is looked for."""
AHEAD_SECONDS = 4.0
"""What was asked ahead is used for so long."""
SAME_NUMBERS = 64
"""Contracts see the RPC's block numbers when theirs are no farther off: an endpoint may be many servers."""


class Calls:
    """A deployment seen through RPC endpoints, optionally with an account that sends. Thread-safe.

    View functions are asked without web3, which is imported when something else is needed.
    """

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
        """`rpc_url`: one address, or several, as a list or with commas or white space between."""
        self.deployment = deployment
        self._endpoints = Endpoints(addresses_of(rpc_url), RPC_TIMEOUT_SECONDS)
        self._rpc_url = self._endpoints.addresses
        self._views = Views(self._endpoints)
        self._confirming = Confirming(LATEST, self._views.tagged_block)
        self._own_numbers: bool | None = None
        self._ahead = threading.local()
        self._signer = signer
        self._sender: Sends | None = self._make_sender() if signer else None
        self._contracts: dict[str, Contract] = {}
        self._follower: Follower | None = None
        self._clock = ChainClock()
        self._cache_lock = threading.Lock()

    @classmethod
    def connect(
        cls,
        deployment: Deployment,
        rpc_url: str | Sequence[str],
        signer: LocalAccount | None = None,
        confirmations: int | str = 0,
    ) -> Self:
        """Connects and checks the chain id, of each endpoint before it answers anything else.

        `confirmations`: see `trine.chain.confirmations`. Raises InvalidInput, ChainUnreachable or WrongChain.
        """
        chain = cls(deployment, rpc_url, signer)
        chain._confirming = Confirming(Confirmations.of(confirmations), chain._views.tagged_block)
        chain._endpoints.expect(deployment.chain_id)
        while True:
            chain_id = chain._views.chain_id() or chain._chain_id_by_web3()
            if chain_id == deployment.chain_id:
                return chain
            if not chain._endpoints.leave_current(Fault.WRONG_CHAIN):
                raise WrongChain(
                    f"the RPC endpoint serves chain {chain_id}, the deployment is on {deployment.chain_id}"
                )

    # Who and where

    @property
    def address(self) -> str:
        return self._require_sender().address

    @property
    def has_account(self) -> bool:
        """Whether there is an account that signs and sends."""
        return self._signer is not None

    @property
    def domain(self) -> Domain:
        """EIP-712 domain of requests and receipts."""
        return Domain(self.deployment.chain_id, self.deployment.address("Batches"))

    @property
    def canaries_domain(self) -> Domain:
        """EIP-712 domain of what a canary's client signs."""
        return Domain(self.deployment.chain_id, self.deployment.address("Canaries"))

    @property
    def payments_domain(self) -> Domain:
        """EIP-712 domain of vouchers."""
        return Domain(self.deployment.chain_id, self.deployment.address("Payments"))

    def sign(self, digest: bytes) -> bytes:
        return self._require_sender().sign(digest)

    def follow(self, poll_seconds: float) -> Follower:
        """From now on one thread asks for the newest block, and everybody else is told. For processes that stay.

        Another one compares the endpoints now and then, if there are several. Raises ChainUnreachable. To be stopped by
        who has asked for it.
        """
        from trine.chain.subscription import announced_heads

        def heads() -> Iterator[Head | None]:
            """Of the endpoint that answers, for as long as it is the one."""
            address = self._endpoints.current
            for head in announced_heads(address):
                if self._endpoints.current != address:
                    return
                if head:
                    self._endpoints.note_head(head.number)
                yield head

        self._follower = follower = Follower(self._newest_block, poll_seconds, heads)
        follower.start()
        follower.latest()
        contracts = sorted(self.deployment.contracts.values())
        self._endpoints.watch(contracts, self.deployment.block, follower.ended)
        return follower

    def head(self) -> Head:
        """The newest block that is known, with its hash and its parent's as far as the endpoint shows them."""
        return self._latest()

    @property
    def endpoint_changes(self) -> int:
        """Grows when another RPC endpoint takes over: what was read from the one before may not be all."""
        return self._endpoints.changes

    def block_number(self) -> int:
        return self._latest().number

    def confirmed_block(self) -> int:
        """Number of the newest block that is taken to stay, by the setting `confirmations`; -1 where there is none."""
        return self._confirming.block(self.block_number())

    def contracts_block_number(self) -> int:
        """What contracts see as `block.number` in the newest block: seed blocks, windows and epochs are counted in it.

        Mostly the chain's own number, which costs no call; on Arbitrum that of another chain.
        """
        head = self._latest()
        if head.contracts_number is not None:
            return head.contracts_number
        if self.has_own_numbers:
            return head.number
        theirs = self._views.contracts_number()
        if theirs is None:
            raise ChainUnreachable("the RPC endpoint does not tell which block number contracts see")
        return theirs

    @property
    def has_own_numbers(self) -> bool:
        """Whether contracts see the block numbers that the RPC endpoint has. Asked once."""
        if self._own_numbers is None:
            head = self._newest_block()
            theirs = self._views.contracts_number() if head.contracts_number is None else head.contracts_number
            self._own_numbers = theirs is None or abs(theirs - head.number) <= SAME_NUMBERS
        return self._own_numbers

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
        known = self._views.block(block)
        return known.timestamp if known else self._ask(lambda: int(self._web3.eth.get_block(block)["timestamp"]))

    def block_before(self, timestamp: int) -> int:
        """A block older than that, by the chain's seconds, and not much older: steps back from the newest one double.

        The deployment's first block where none is.
        """
        newest, back = self._newest_block().number, FIRST_STEP_BLOCKS
        while newest - back > self.deployment.block:
            if self.block_timestamp(newest - back) < timestamp:
                return newest - back
            back *= 2
        return self.deployment.block

    def block_hash(self, block: int) -> bytes:
        known = self._views.block(block)
        if known and known.hash:
            return known.hash
        return self._ask(lambda: bytes(self._web3.eth.get_block(block)["hash"]))

    def block_hashes(self, blocks: Sequence[int]) -> list[bytes | None]:
        """Hashes of several blocks, asked together; None for those that the endpoint does not show.

        Raises ChainUnreachable where it shows none at all, not even the newest.
        """
        found = [known.hash if known and known.hash else None for known in self._views.blocks(blocks)]
        if blocks and not any(found):
            self._newest_block()  # or it does not answer, and nothing follows from what it does not show
        return found

    def raw_header(self, block: int) -> bytes:
        """A block's header, RLP-encoded, which hashes to the block's hash. Raises ChainUnreachable or ChainError."""
        shown = self._views.shown_block(block)
        if shown is None:
            raise ChainUnreachable(f"the RPC endpoint does not show block {block}")
        try:
            return encoded_header(shown)
        except ChainError:
            known = self._views.block(block)
            whole = checked_header(self._views.raw_header(block), known.hash) if known else None
            if whole is None:
                raise
            return whole

    def broadcast(self, raw_transaction: bytes) -> bytes:
        """Sends a signed transaction to all endpoints that are well; returns its hash.

        web3's `send_raw_transaction` over this chain does the same. Raises what that does.
        """
        return self._ask(lambda: bytes(self._web3.eth.send_raw_transaction(raw_transaction)))

    def gas_balance(self, address: str) -> int:
        return self._ask(lambda: int(self._web3.eth.get_balance(checksum(address))))

    def has_code(self, contract: str) -> bool:
        """Whether there is anything at the address of one of CONTRACTS."""
        return self._ask(lambda: bool(self._web3.eth.get_code(checksum(self.deployment.address(contract)))))

    def gas_used(self, transaction: bytes) -> int:
        """Gas that a mined transaction used."""
        from hexbytes import HexBytes

        return self._ask(lambda: int(self._web3.eth.get_transaction_receipt(HexBytes(transaction))["gasUsed"]))

    def transaction_input(self, transaction: bytes) -> bytes:
        """What a transaction called its contract with. Raises ChainError."""
        from hexbytes import HexBytes

        return self._ask(lambda: bytes(HexBytes(self._web3.eth.get_transaction(HexBytes(transaction))["input"])))

    # Sending

    def gateway(self) -> Gateway:
        """The account at this endpoint, for who sends its transactions. Raises InvalidInput without an account."""
        from trine.chain.gateway import Gateway

        if self._signer is None:
            raise InvalidInput("this needs an account, which signs and pays: pass `account=`")
        return Gateway(self._web3, self._signer, self._rpc_url, self.deployment.chain_id)

    def send_through(self, sender: Sends) -> None:
        """From now on `sender` sends what this object writes: a process has one for an account."""
        self._sender = sender

    def encoded(self, call: Call) -> EncodedCall:
        """Raises what web3 does for arguments that do not fit."""
        contract = self._contract(call.contract)
        data = contract.encode_abi(call.function, args=list(call.arguments))
        return EncodedCall(call.function, call.at or self.deployment.address(call.contract), bytes.fromhex(data[2:]))

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

    def events_of(
        self, kinds: Sequence[tuple[str, str]], from_block: int, to_block: int, indexed: Sequence[str | None] = ()
    ) -> Iterator[Event]:
        """Events of several kinds, (contract, name) each, oldest first: one question for all of them.

        `indexed`: what the first indexed arguments of all of them must be, as topics; None where it does not matter.
        For who asks at every block: an endpoint that is busy is not waited for. Raises ChainUnreachable.
        """
        addresses, topics = self._watched(tuple(kinds))
        # Asked at every block, and mostly there are none.
        if self._views.has_no_logs(addresses, [topics, *indexed], from_block, to_block):
            return iter(())
        contracts = [(self._contract(contract), name) for contract, name in kinds]
        return self._logs.read_kinds(self._web3, contracts, from_block, to_block, indexed=tuple(indexed), patient=False)

    def _watched(self, kinds: tuple[tuple[str, str], ...]) -> tuple[list[str], list[str]]:
        """Addresses of the contracts, topics of their events."""
        addresses = sorted({self.deployment.address(contract) for contract, _ in kinds})
        return addresses, sorted({topic_of(contract, name) for contract, name in kinds})

    def events_at(self, contract: str, address: str, name: str, from_block: int, **filters: Any) -> list[Event]:
        """Events of another contract that has one of CONTRACTS' interface, from a block to now."""
        deployed = self._web3.eth.contract(address=cast(Any, checksum(address)), abi=abi(contract))
        return list(self._logs.read(deployed, name, from_block, self._newest_block().number, filters))

    def read_at(self, contract: str, address: str, function: str, *arguments: Any) -> Any:
        """What a view function of one of CONTRACTS returns at another address that has it.

        None where the address has no such function, or the endpoint gives no plain answer.
        """
        return self._views.call(contract, checksum(address), function, arguments, None)

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
        from trine.chain.provider import web3_over

        return web3_over(self._endpoints)

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
            raise InvalidInput("this needs an account, which signs and pays: pass `account=`")
        return self._sender

    def _chain_id_by_web3(self) -> int:
        from web3.exceptions import Web3Exception

        from trine.chain.sender import unreachable

        try:
            return int(self._web3.eth.chain_id)
        except EndpointFailed as error:
            raise _unreachable(error) from None
        except (OSError, ValueError, TypeError, Web3Exception) as error:
            raise unreachable(error, self._rpc_url) from None

    @contextmanager
    def reading_ahead(self, questions: Sequence[tuple[str, str, tuple[Any, ...]]]) -> Iterator[None]:
        """Asks several view functions, (contract, function, arguments) each, in one request.

        The next `_read` of each within this thread and block takes its answer from there, if it comes soon.
        """
        known = {}
        if len(questions) > 1:
            answers = self._views.call_all([self._question(*each) for each in questions])
            known = {q: answer for q, answer in zip(questions, answers, strict=True) if answer is not None}
        self._ahead.answers, self._ahead.until = known, time.monotonic() + AHEAD_SECONDS
        try:
            yield
        finally:
            self._ahead.answers = {}

    def _read_all(self, questions: Sequence[tuple[str, str, tuple[Any, ...]]]) -> list[Any]:
        """What several view functions return, asked together where the endpoint takes that."""
        with self.reading_ahead(questions):
            return [self._read(contract, function, *arguments) for contract, function, arguments in questions]

    def _question(self, contract: str, function: str, arguments: tuple[Any, ...], block: int | None = None) -> Question:
        return Question(contract, self.deployment.address(contract), function, arguments, block)

    def _known_ahead(self, contract: str, function: str, arguments: tuple[Any, ...]) -> Any:
        """Each answer once: who asks again wants to know what has changed."""
        answers = getattr(self._ahead, "answers", None)
        if not answers or time.monotonic() > self._ahead.until:
            return None
        try:
            return answers.pop((contract, function, arguments), None)
        except TypeError:  # arguments that cannot be a key were not asked ahead
            return None

    def _read(self, contract: str, function: str, *arguments: Any, block: int | None = None) -> Any:
        if block is None:
            known = self._known_ahead(contract, function, arguments)
            if known is not None:
                return known
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
        head = self._views.newest_block() or self._ask(lambda: _head_of(self._web3.eth.get_block("latest")))
        self._endpoints.note_head(head.number)
        return head

    def _ask(self, question: Callable[[], T]) -> T:
        import requests.exceptions
        from web3.exceptions import ContractLogicError, Web3Exception

        from trine.chain.sender import unreachable

        try:
            return question()
        except ContractLogicError:
            raise
        except EndpointFailed as error:
            raise _unreachable(error) from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error, self._rpc_url) from None
        except Web3Exception as error:
            raise ChainError(without_secrets(str(error), self._rpc_url)) from None
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
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
    """Of a block as web3 has it."""
    block_hash, parent = block.get("hash"), block.get("parentHash")
    return Head(int(block["number"]), int(block["timestamp"]), bytes(block_hash or b""), bytes(parent or b""))


def _unreachable(error: EndpointFailed) -> ChainUnreachable:
    return ChainUnreachable(f"{error}: is the chain running, and the RPC endpoint right?")


def checksum(address: str) -> Any:
    """The address in EIP-55 form. Raises InvalidInput for anything that is no address."""
    if not is_address(address):
        raise InvalidInput(f"{address!r} is no address: expected 0x and 40 hexadecimal digits")
    return to_checksum_address(address)
