"""`Chain`: one object that reads and writes a deployment's contracts.

Reads return records (see `records`), writes wait for their receipt. Thread-safe. Documents that the registry only
hashes (manifest, policy, prompt set) are fetched from the events of the block that the registry names, and checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from eth_abi.abi import encode
from eth_utils.abi import event_abi_to_log_topic
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from trine.chain.deployment import Deployment, abi
from trine.chain.endpoint import without_secrets
from trine.chain.follower import ChainClock, Follower, Head
from trine.chain.named import members_of, record
from trine.chain.records import (
    Account,
    Anchoring,
    AppealCase,
    Batch,
    BatchState,
    CalibrationResult,
    Challenge,
    Event,
    Model,
    ModelEntry,
    OperatorEntry,
    Parameters,
    RegistryEntry,
    ReputationRecord,
    Result,
    Role,
    Seat,
    Stake,
    Ticket,
    Verdict,
)
from trine.chain.views import Views
from trine.errors import ChainError, InvalidInput, NotReady, VerificationFailed, WrongChain
from trine.protocol import committee
from trine.protocol.committee import Member
from trine.protocol.header import Header, batch_id
from trine.protocol.messages import Domain, Voucher
from trine.protocol.votes import Vote

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3
    from web3.contract import Contract
    from web3.contract.contract import ContractFunction
    from web3.types import TxReceipt

    from trine.chain.logs import LogReader
    from trine.chain.sender import Sender

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


class Chain:
    """A deployment seen through one RPC endpoint, optionally with an account that sends.

    View functions are asked without web3, which is imported when something else is needed.
    """

    def __init__(self, deployment: Deployment, rpc_url: str, signer: LocalAccount | None = None) -> None:
        self.deployment = deployment
        self._rpc_url = rpc_url
        self._views = Views(rpc_url, RPC_TIMEOUT_SECONDS)
        self._sender = self._make_sender(signer) if signer else None
        self._contracts: dict[str, Contract] = {}
        self._models: dict[bytes, Model] = {}
        self._headers: dict[bytes, Header] = {}
        self._seats: dict[int, tuple[Seat, ...]] = {}  # by the committee's hash
        self._parameters: dict[int, Parameters] = {}
        self._epoch_blocks: int | None = None
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

    # Token and stake

    def token_balance(self, address: str) -> int:
        return int(self._read("TrineToken", "balanceOf", checksum(address)))

    def transfer(self, to: str, amount: int) -> TxReceipt:
        return self._write("TrineToken", "transfer", checksum(to), amount)

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

    def stake(self, amount: int) -> TxReceipt:
        return self._write("Staking", "stake", amount)

    def delegate(self, operator: str, amount: int) -> TxReceipt:
        return self._write("Staking", "delegate", checksum(operator), amount)

    def unbond(self, operator: str, amount: int) -> TxReceipt:
        """Starts taking the account's stake with the operator out: its own, or what it delegated."""
        return self._write("Staking", "unbond", checksum(operator), amount)

    def withdraw_stake(self, operator: str) -> TxReceipt:
        return self._write("Staking", "withdraw", checksum(operator))

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

    def set_commission(self, commission_bps: int) -> TxReceipt:
        return self._write("Staking", "setCommission", commission_bps)

    def credit_of(self, account: str) -> int:
        """What an account has prepaid for verification."""
        return int(self._read("Staking", "creditOf", checksum(account)))

    def add_credit(self, amount: int) -> TxReceipt:
        return self._write("Staking", "addCredit", amount)

    def withdraw_credit(self) -> TxReceipt:
        return self._write("Staking", "withdrawCredit")

    def unbonding_delay(self) -> int:
        return int(self._read("Staking", "unbondingDelay"))

    def endpoint_of(self, operator: str) -> str:
        return str(self._read("Staking", "endpointOf", checksum(operator)))

    def set_endpoint(self, endpoint: str) -> TxReceipt:
        return self._write("Staking", "setEndpoint", endpoint)

    # Models

    def register_model(
        self,
        name: str,
        source: str,
        manifest: bytes,
        policy: bytes,
        prompts: bytes,
        prompt_count: int,
        price_per_token_wei: int,
    ) -> TxReceipt:
        return self._write(
            "ModelRegistry", "register", name, source, manifest, policy, prompts, prompt_count, price_per_token_wei
        )

    def model(self, model_id: bytes) -> Model:
        """A registered model with its documents. Raises TransactionReverted when unknown, VerificationFailed when
        the RPC endpoint returns documents that do not hash to the record."""
        entry = self._record(RegistryEntry, "ModelRegistry", "modelOf", model_id)
        with self._cache_lock:
            cached = self._models.get(model_id)
        if cached and (keccak(cached.policy), keccak(cached.prompts)) == (entry.policy_hash, entry.prompt_set_hash):
            return cached
        event = self._document("ModelRegistered", model_id, entry.registered_block, "manifest", entry.content_hash)
        policy = self._document("PolicySet", model_id, entry.policy_block, "policy", entry.policy_hash)
        prompts = self._document("PromptSetSet", model_id, entry.prompt_set_block, "prompts", entry.prompt_set_hash)
        model = Model(
            model_id=model_id,
            name=event["name"],
            source=event["source"],
            content_hash=entry.content_hash,
            manifest=event["manifest"],
            policy=policy["policy"],
            policy_version=entry.policy_version,
            policy_block=entry.policy_block,
            prompts=prompts["prompts"],
            prompt_count=entry.prompt_count,
            price_per_token_wei=entry.price_per_token_wei,
        )
        with self._cache_lock:
            self._models[model_id] = model
        return model

    def models(self) -> list[ModelEntry]:
        """All registered models, oldest first: one call for 256 of them."""
        return self._listed(ModelEntry, "models")

    def operators(self, model_id: bytes, role: Role) -> list[OperatorEntry]:
        """Everybody who has ever passed in the role, who first passed first: one call for 256 of them."""
        return self._listed(OperatorEntry, "operators", model_id, int(role))

    def model_ids(self) -> list[bytes]:
        """All registered models, oldest first."""
        return [entry.model_id for entry in self.models()]

    def _listed(self, kind: type[T], function: str, *of: Any) -> list[T]:
        entries: list[T] = []
        components = members_of("Directory", function)[0]["components"]
        while True:
            page, total = self._read("Directory", function, *of, len(entries), PAGE)
            entries += [record(kind, components, values) for values in page]
            if not page or len(entries) >= total:
                return entries

    def policy_at(self, model_id: bytes, block: int, log_index: int) -> bytes:
        """The policy in force at a place in the chain: what a batch that was anchored there is judged by.

        Raises InvalidInput when the model had none yet.
        """
        model = self.model(model_id)
        if model.policy_block < block:
            return model.policy
        found = None
        for event in self.events("ModelRegistry", "PolicySet", to_block=block, modelId=model_id):
            if (event.block, event.log_index) < (block, log_index) and keccak(event.args["policy"]) == event.args[
                "policyHash"
            ]:
                found = bytes(event.args["policy"])
        if found is None:
            raise InvalidInput(f"model 0x{model_id.hex()} had no policy at block {block}")
        return found

    # Batches

    def batch_id_of(self, header: Header) -> bytes:
        return batch_id(self.deployment.chain_id, self.deployment.address("Batches"), header)

    def batch(self, batch_id: bytes) -> Batch:
        """The batch with its header; of state NONE if the chain does not know it."""
        batch = self._record(Batch, "Batches", "batchOf", batch_id, also={"batch_id": batch_id, "header": None})
        return batch if batch.state == BatchState.NONE else replace(batch, header=self._header(batch_id))

    def anchoring(self, batch_id: bytes) -> Anchoring:
        """Where a batch was anchored, the last time. Raises NotReady for a batch that the chain does not know."""
        event = self.newest_event("Batches", "BatchAnchored", batchId=batch_id)
        if event is None:
            raise NotReady(f"batch 0x{batch_id.hex()} is not anchored on this chain")
        return Anchoring(event.block, event.log_index, bytes(event.args["challengeId"]), int(event.args["terms"]))

    def seats(self, batch: Batch) -> tuple[Seat, ...]:
        """The drawn committee in order of its seats; none while there is none.

        Raises VerificationFailed when the RPC endpoint shows no committee that hashes to the record.
        """
        if not batch.committee:
            return ()
        with self._cache_lock:
            cached = self._seats.get(batch.committee)
        if cached:
            return cached
        drawn = self.newest_event("Batches", "CommitteeDrawn", batchId=batch.batch_id)
        shown = tuple(Seat(seat["verifier"], seat["locked"]) for seat in drawn.args["seats"]) if drawn else ()
        if _committee_hash(shown) != batch.committee and batch.signed:
            # Settled by signatures before anybody drew: the verifiers that a draw would have named, nothing locked.
            shown = tuple(Seat(verifier, 0) for verifier in self.draw_again(batch))
        if _committee_hash(shown) != batch.committee:
            raise VerificationFailed(f"the RPC endpoint has no committee of batch 0x{batch.batch_id.hex()}")
        self._remember(self._seats, batch.committee, shown)
        return shown

    def draw_again(self, batch: Batch) -> tuple[str, ...]:
        """The committee that public data give for the batch's round. Raises TransactionReverted when the chain has
        forgotten the weights of that epoch."""
        name = "CommitteeRedrawn" if batch.round else "BatchAnchored"
        event = self.newest_event("Batches", name, batchId=batch.batch_id)
        if event is None:
            raise NotReady(f"batch 0x{batch.batch_id.hex()} waits for no committee")
        seed_block, header = int(event.args["seedBlock"]), batch.known_header
        epoch = committee.epoch_at(seed_block, self.epoch_blocks())
        pools = [self.pool(header.model_id, calibrated, epoch) for calibrated in (True, False)]
        pool = committee.pool_for(*pools, calibration=batch.is_calibration)
        return committee.draw(
            committee.seed(self.block_hash(seed_block), batch.batch_id, batch.round), pool, [header.node]
        )

    def vote(self, batch: Batch, seat: int) -> Vote | None:
        """A seat's vote, once it is revealed."""
        revealed, accepts, rejects = self._read("Batches", "voteOf", batch.batch_id, batch.round, seat)
        return Vote(accepts, rejects) if revealed else None

    def result(self, batch_id: bytes) -> Result:
        """The batch's words as decided so far."""
        return self._record(Result, "Finality", "resultOf", batch_id)

    def verdict(self, batch_id: bytes, leaf: int) -> tuple[Verdict, bool]:
        """A leaf's verdict, and whether nothing can change it any more."""
        verdict, is_final = self._read("Finality", "verdictOf", batch_id, leaf)
        return Verdict(verdict), bool(is_final)

    def parameters(self, version: int | None = None) -> Parameters:
        """The values in force now, or those of a version."""
        if version is None:
            return self._record(Parameters, "Parameters", "current")
        if version not in self._parameters:
            self._parameters[version] = self._record(Parameters, "Parameters", "valuesOf", version)
        return self._parameters[version]

    def anchor(self, model_id: bytes, root: bytes, canary: bytes, leaf_count: int) -> TxReceipt:
        return self._write("Batches", "anchor", model_id, root, canary, leaf_count)

    def anchor_calibration(self, challenge_id: bytes, root: bytes, canary: bytes, output_tokens: int) -> TxReceipt:
        return self._write("Batches", "anchorCalibration", challenge_id, root, canary, output_tokens)

    def draw(self, header: Header) -> TxReceipt:
        return self._write("Batches", "draw", header.values())

    def expire(self, header: Header) -> TxReceipt:
        return self._write("Batches", "expire", header.values())

    def commit(self, batch_id: bytes, seats: Sequence[Seat], seat: int, commitment: bytes) -> TxReceipt:
        return self._write("Batches", "commit", batch_id, [s.values() for s in seats], seat, commitment)

    def reveal(
        self, header: Header, seats: Sequence[Seat], seat: int, vote: Vote, distance_ppm: int, salt: bytes
    ) -> TxReceipt:
        drawn = [s.values() for s in seats]
        return self._write(
            "Batches", "reveal", header.values(), drawn, seat, vote.accepts, vote.rejects, distance_ppm, salt
        )

    def settle(self, header: Header, seats: Sequence[Seat]) -> TxReceipt:
        return self._write("Batches", "settle", header.values(), [s.values() for s in seats])

    def finalize(self, batches: Sequence[tuple[Header, Sequence[Seat]]]) -> TxReceipt:
        """Settled batches with their committees, whose time to appeal is over."""
        headers = [header.values() for header, _ in batches]
        return self._write("Finality", "finalize", headers, [[s.values() for s in seats] for _, seats in batches])

    # Appeals

    def appeal_bond(self, level: int, terms: int) -> int:
        """What an appeal to a level costs under a version of the parameters, wei."""
        return int(self._read("Appeals", "bondOf", level, terms))

    def appeal_case(self, batch_id: bytes, leaf: int) -> AppealCase:
        """Of phase NONE if the leaf was not appealed."""
        names = {"batch_id": batch_id, "leaf": leaf}
        return self._record(AppealCase, "Appeals", "caseOf", batch_id, leaf, also=names)

    def appeal_seats(self, case: AppealCase, level: int) -> tuple[Seat, ...]:
        """The committee of a level, in order of its seats; none if there is none. Raises VerificationFailed."""
        committee_ = case.levels[level - 1].committee
        if not committee_:
            return ()
        drawn = [
            tuple(Seat(seat["verifier"], seat["locked"]) for seat in event.args["seats"])
            for event in self.events(
                "Appeals",
                "AppealDrawn",
                from_block=self.anchoring(case.batch_id).block,
                batchId=case.batch_id,
                leafIndex=case.leaf,
            )
        ]
        for seats in drawn:
            if _committee_hash(seats) == committee_:
                return seats
        raise VerificationFailed(f"the RPC endpoint has no committee of the appeal of leaf {case.leaf}")

    def appeal(self, header: Header, seats: Sequence[Seat], leaf: int, claim: Verdict) -> TxReceipt:
        return self._write("Appeals", "appeal", header.values(), [s.values() for s in seats], leaf, int(claim))

    def appeal_again(self, batch_id: bytes, leaf: int, claim: Verdict) -> TxReceipt:
        return self._write("Appeals", "appealAgain", batch_id, leaf, int(claim))

    def draw_appeal(self, header: Header, leaf: int, judges: Sequence[Sequence[Seat]]) -> TxReceipt:
        """`judges`: the batch's seats, then those of the first appeal if this is the second."""
        shown = [[s.values() for s in seats] for seats in judges]
        return self._write("Appeals", "draw", header.values(), leaf, shown)

    def commit_appeal(
        self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, commitment: bytes
    ) -> TxReceipt:
        return self._write("Appeals", "commit", batch_id, leaf, [s.values() for s in seats], seat, commitment)

    def reveal_appeal(
        self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, vote: int, salt: bytes
    ) -> TxReceipt:
        return self._write("Appeals", "reveal", batch_id, leaf, [s.values() for s in seats], seat, int(vote), salt)

    def resolve_appeal(self, header: Header, leaf: int, seats: Sequence[Seat]) -> TxReceipt:
        return self._write("Appeals", "resolve", header.values(), leaf, [s.values() for s in seats])

    def conclude_appeal(self, header: Header, leaf: int, committees: Sequence[Sequence[Seat]]) -> TxReceipt:
        """`committees`: the batch's seats, then each level's."""
        shown = [[s.values() for s in seats] for seats in committees]
        return self._write("Appeals", "conclude", header.values(), leaf, shown)

    def appeal_credit_of(self, account: str) -> int:
        """What concluded appeals owe an account."""
        return int(self._read("Appeals", "creditOf", checksum(account)))

    def withdraw_appeal_credit(self) -> TxReceipt:
        return self._write("Appeals", "withdrawCredit")

    # Calibration and reputation

    def request_calibration(self, model_id: bytes, role: Role, hardware_class: bytes) -> bytes:
        """Opens a challenge and returns its id. `hardware_class` is the engine's class, 32 bytes."""
        from web3.logs import DISCARD

        receipt = self._write("Calibration", "request", model_id, int(role), hardware_class)
        (event,) = self._contract("Calibration").events.ChallengeRequested().process_receipt(receipt, DISCARD)
        return bytes(event["args"]["challengeId"])

    def seal_calibration(self, challenge_id: bytes) -> bytes:
        """Stores the challenge's seed (or finds it stored) and returns it."""
        seed = self.challenge(challenge_id).seed
        if not any(seed):
            self._write("Calibration", "seal", challenge_id)
            seed = self.challenge(challenge_id).seed
        return seed

    def challenge(self, challenge_id: bytes) -> Challenge:
        return self._record(Challenge, "Calibration", "challengeOf", challenge_id)

    def calibration(self, operator: str, role: Role, model_id: bytes) -> CalibrationResult:
        who = (checksum(operator), int(role), model_id)
        return self._record(CalibrationResult, "Calibration", "resultOf", *who)

    def is_calibrated(self, operator: str, role: Role, model_id: bytes) -> bool:
        return bool(self._read("Calibration", "isCalibrated", checksum(operator), int(role), model_id))

    def claimed_tokens(self, challenge_id: bytes) -> int:
        """How many tokens the answers to a challenge have by the operator's own count. Raises NotReady."""
        event = self.newest_event("Calibration", "ChallengeAnswered", challengeId=challenge_id)
        if event is None:
            raise NotReady(f"challenge 0x{challenge_id.hex()} is not answered")
        return int(event.args["outputTokens"])

    def reputation(self, operator: str, role: Role, model_id: bytes, block: int | None = None) -> ReputationRecord:
        """As of now, or as of a block."""
        arguments = (checksum(operator), int(role), model_id)
        score = {"score_bps": self._read("Reputation", "scoreBps", *arguments, block=block)}
        return self._record(ReputationRecord, "Reputation", "recordOf", *arguments, block=block, also=score)

    def half_life_seconds(self) -> int:
        """In which reputation fades to one half."""
        return int(self._read("Reputation", "halfLifeSeconds"))

    # Committees

    def pool(self, model_id: bytes, calibrated: bool, epoch: int) -> list[Member]:
        """All members by position, those without weight too; see `trine.protocol.committee`."""
        members: list[Member] = []
        while True:
            page = self._read("Committees", "poolOf", model_id, calibrated, epoch, len(members), POOL_PAGE)
            members += [Member(*row) for row in zip(*page, strict=True)]
            if len(page[0]) < POOL_PAGE:
                return members

    def eligible(self, model_id: bytes, calibrated: bool, epoch: int) -> int:
        """How many of the pool's members have weight in the epoch, which may be the next one."""
        return int(self._read("Committees", "eligible", model_id, calibrated, epoch))

    def epoch_blocks(self) -> int:
        """Blocks in an epoch."""
        if self._epoch_blocks is None:
            self._epoch_blocks = int(self._read("Committees", "epochBlocks"))
        return self._epoch_blocks

    def draw_window_blocks(self) -> int:
        """Blocks after its seed block within which a committee must be drawn."""
        return min(self.epoch_blocks(), KNOWN_BLOCKHASHES)

    # Payments

    def deposit(self, payee: str, amount: int) -> TxReceipt:
        return self._write("Payments", "deposit", checksum(payee), amount)

    def request_withdrawal(self, payee: str, amount: int) -> TxReceipt:
        return self._write("Payments", "requestWithdrawal", checksum(payee), amount)

    def withdraw_deposit(self, payee: str) -> TxReceipt:
        return self._write("Payments", "withdraw", checksum(payee))

    def account(self, payer: str, payee: str) -> Account:
        return self._record(Account, "Payments", "accountOf", checksum(payer), checksum(payee))

    def collect(self, voucher: Voucher, up_to_wei: int, signature: bytes) -> TxReceipt:
        return self._write("Payments", "collect", voucher.values(), up_to_wei, signature)

    def refund(self, batch_id: bytes, opening: tuple[Any, ...]) -> TxReceipt:
        """Refunds a rejected answer out of the node's stake, once its verdict is final. See `Certificate.opening`."""
        return self._write("Payments", "refund", batch_id, opening)

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

    def _make_sender(self, signer: LocalAccount) -> Sender:
        from trine.chain.sender import Sender

        return Sender(self._web3, signer, self._rpc_url)

    def _require_sender(self) -> Sender:
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
        receipt = self._require_sender().send(self._contract(contract).functions[function](*arguments))
        if self._follower:
            self._follower.refresh()
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

    def _header(self, batch_id: bytes) -> Header:
        """From the event; believed because it hashes to the id. Raises VerificationFailed."""
        with self._cache_lock:
            cached = self._headers.get(batch_id)
        if cached:
            return cached
        event = self.newest_event("Batches", "BatchAnchored", batchId=batch_id)
        if event is not None:
            args = event.args
            header = Header(args["node"], bytes(args["modelId"]), bytes(args["root"]), bytes(args["canary"]))
            if self.batch_id_of(header) == batch_id:
                self._remember(self._headers, batch_id, header)
                return header
        raise VerificationFailed(f"the RPC endpoint has no header of batch 0x{batch_id.hex()}")

    def _remember(self, cache: dict[K, T], key: K, value: T) -> None:
        """What follows from its key never changes; the oldest is forgotten."""
        with self._cache_lock:
            cache[key] = value
            if len(cache) > CACHED:
                del cache[next(iter(cache))]

    def _document(self, event: str, model_id: bytes, block: int, field: str, expected: bytes) -> dict[str, Any]:
        for found in self.events("ModelRegistry", event, from_block=block, to_block=block, modelId=model_id):
            if keccak(found.args[field]) == expected:
                return found.args
        raise VerificationFailed(f"the RPC endpoint has no {field} that hashes to the registry's 0x{expected.hex()}")


def _committee_hash(seats: Sequence[Seat]) -> int:
    """The upper 160 bits of keccak256 over the seats, two words each. `SeatsLib.hash` is its twin."""
    encoded = b"".join(encode(["address", "uint96"], seat.values()) for seat in seats)
    return int.from_bytes(keccak(encoded)[:20], "big")


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
