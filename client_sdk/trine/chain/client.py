"""`Chain`: one object that reads and writes a deployment's contracts.

Reads return records (see `records`), writes wait for their receipt. Thread-safe. Documents that the registry only
hashes (manifest, policy, prompt set) are fetched from the events of the block that the registry names, and checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar, cast

import requests.exceptions
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, Web3Exception
from web3.logs import DISCARD
from web3.types import TxReceipt

from trine.chain import logs
from trine.chain.deployment import CONTRACTS, Deployment, abi
from trine.chain.records import (
    Account,
    Batch,
    BatchState,
    CalibrationResult,
    Challenge,
    Event,
    Model,
    Parameters,
    ReputationRecord,
    Role,
    Seat,
    Stake,
)
from trine.chain.sender import Sender, require_account, reverted, unreachable
from trine.errors import ChainError, InvalidInput, VerificationFailed, WrongChain
from trine.protocol.messages import Domain, Voucher

RPC_TIMEOUT_SECONDS = 20.0
T = TypeVar("T")


class Chain:
    """A deployment seen through one RPC endpoint, optionally with an account that sends."""

    def __init__(self, web3: Web3, deployment: Deployment, signer: LocalAccount | None = None) -> None:
        self._web3 = web3
        self.deployment = deployment
        self._sender = Sender(web3, signer) if signer else None
        self._contracts: dict[str, Contract] = {
            name: web3.eth.contract(address=cast(Any, deployment.address(name)), abi=abi(name)) for name in CONTRACTS
        }
        self._models: dict[bytes, Model] = {}
        self._cache_lock = threading.Lock()

    @classmethod
    def connect(cls, deployment: Deployment, rpc_url: str, signer: LocalAccount | None = None) -> Self:
        """Connects and checks the chain id. Raises ChainUnreachable or WrongChain."""
        web3 = Web3(HTTPProvider(rpc_url, request_kwargs={"timeout": RPC_TIMEOUT_SECONDS}))
        try:
            chain_id = web3.eth.chain_id
        except (requests.exceptions.RequestException, OSError, Web3Exception) as error:
            raise unreachable(error) from None
        if chain_id != deployment.chain_id:
            raise WrongChain(f"the RPC endpoint serves chain {chain_id}, the deployment is on {deployment.chain_id}")
        return cls(web3, deployment, signer)

    # Who and where

    @property
    def address(self) -> str:
        return require_account(self._sender).address

    @property
    def domain(self) -> Domain:
        """EIP-712 domain of requests and receipts."""
        return Domain(self.deployment.chain_id, self.deployment.address("Batches"))

    @property
    def payments_domain(self) -> Domain:
        """EIP-712 domain of vouchers."""
        return Domain(self.deployment.chain_id, self.deployment.address("Payments"))

    def sign(self, digest: bytes) -> bytes:
        return require_account(self._sender).sign(digest)

    def block_number(self) -> int:
        return self._ask(lambda: int(self._web3.eth.block_number))

    def timestamp(self) -> int:
        """Time of the newest block, seconds."""
        return self._ask(lambda: int(self._web3.eth.get_block("latest")["timestamp"]))

    def block_timestamp(self, block: int) -> int:
        return self._ask(lambda: int(self._web3.eth.get_block(block)["timestamp"]))

    def block_hash(self, block: int) -> bytes:
        return self._ask(lambda: bytes(self._web3.eth.get_block(block)["hash"]))

    def gas_balance(self, address: str) -> int:
        return self._ask(lambda: int(self._web3.eth.get_balance(checksum(address))))

    def gas_used(self, transaction: bytes) -> int:
        """Gas that a mined transaction used."""
        return self._ask(lambda: int(self._web3.eth.get_transaction_receipt(HexBytes(transaction))["gasUsed"]))

    # Token and stake

    def token_balance(self, address: str) -> int:
        return int(self._read("TrineToken", "balanceOf", checksum(address)))

    def transfer(self, to: str, amount: int) -> TxReceipt:
        return self._write("TrineToken", "transfer", checksum(to), amount)

    def approve(self, spender_contract: str, amount: int) -> TxReceipt:
        """Lets one of the deployment's contracts, by name, take up to `amount` of the account's tokens."""
        return self._write("TrineToken", "approve", self.deployment.address(spender_contract), amount)

    def allowance(self, owner: str, spender_contract: str) -> int:
        return int(self._read("TrineToken", "allowance", checksum(owner), self.deployment.address(spender_contract)))

    def stake_of(self, operator: str) -> Stake:
        return Stake(*self._read("Staking", "stakeOf", checksum(operator)))

    def stake(self, amount: int) -> TxReceipt:
        return self._write("Staking", "stake", amount)

    def unbond(self, amount: int) -> TxReceipt:
        return self._write("Staking", "unbond", amount)

    def withdraw_stake(self) -> TxReceipt:
        return self._write("Staking", "withdraw")

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
        record = self._read("ModelRegistry", "modelOf", model_id)
        (content_hash, policy_hash, prompts_hash, registered, policy_at, prompts_at, count, version, price) = record
        with self._cache_lock:
            cached = self._models.get(model_id)
        if cached and (keccak(cached.policy), keccak(cached.prompts)) == (policy_hash, prompts_hash):
            return cached
        event = self._document("ModelRegistered", model_id, registered, "manifest", content_hash)
        policy = self._document("PolicySet", model_id, policy_at, "policy", policy_hash)
        prompts = self._document("PromptSetSet", model_id, prompts_at, "prompts", prompts_hash)
        model = Model(
            model_id=model_id,
            name=event["name"],
            source=event["source"],
            content_hash=content_hash,
            manifest=event["manifest"],
            policy=policy["policy"],
            policy_version=version,
            prompts=prompts["prompts"],
            prompt_count=count,
            price_per_token_wei=price,
        )
        with self._cache_lock:
            self._models[model_id] = model
        return model

    def model_ids(self) -> list[bytes]:
        """All registered models, oldest first."""
        return [bytes(e.args["modelId"]) for e in self.events("ModelRegistry", "ModelRegistered")]

    def policy(self, model_id: bytes, version: int) -> bytes:
        """The policy's bytes as of `version`: what a batch anchored under it is judged by."""
        model = self.model(model_id)
        if model.policy_version == version:
            return model.policy
        for event in self.events("ModelRegistry", "PolicySet", modelId=model_id):
            if event.args["version"] == version and keccak(event.args["policy"]) == event.args["policyHash"]:
                return bytes(event.args["policy"])
        raise InvalidInput(f"model 0x{model_id.hex()} has no policy of version {version}")

    # Batches

    def batch_id_of(self, node: str, root: bytes) -> bytes:
        return bytes(self._read("Batches", "batchIdOf", checksum(node), root))

    def batch(self, batch_id: bytes) -> Batch:
        """The batch; of state NONE if the chain does not know it."""
        fields = self._read("Batches", "batchOf", batch_id)
        (node, leaves, round_, state, model_id, root, challenge, at, at_block, seed_block, deadline, version) = fields[
            :12
        ]
        stake_per_leaf, fee, accepted, rejected = fields[12:]
        return Batch(
            batch_id, node, leaves, round_, BatchState(state), model_id, root, challenge, at, at_block, seed_block,
            deadline, version, stake_per_leaf, fee, accepted, rejected,
        )  # fmt: skip

    def seats(self, batch_id: bytes) -> tuple[Seat, ...]:
        return tuple(Seat(*seat) for seat in self._read("Batches", "seatsOf", batch_id))

    def parameters(self) -> Parameters:
        return Parameters(*self._read("Batches", "parameters"))

    def anchor(self, model_id: bytes, root: bytes, leaf_count: int) -> TxReceipt:
        return self._write("Batches", "anchor", model_id, root, leaf_count)

    def anchor_calibration(self, challenge_id: bytes, root: bytes) -> TxReceipt:
        return self._write("Batches", "anchorCalibration", challenge_id, root)

    def draw(self, batch_id: bytes) -> TxReceipt:
        return self._write("Batches", "draw", batch_id)

    def expire(self, batch_id: bytes) -> TxReceipt:
        return self._write("Batches", "expire", batch_id)

    def commit(self, batch_id: bytes, commitment: bytes) -> TxReceipt:
        return self._write("Batches", "commit", batch_id, commitment)

    def reveal(self, batch_id: bytes, accepts: int, rejects: int, salt: bytes) -> TxReceipt:
        return self._write("Batches", "reveal", batch_id, accepts, rejects, salt)

    def settle(self, batch_id: bytes) -> TxReceipt:
        return self._write("Batches", "settle", batch_id)

    def credit_of(self, account: str) -> int:
        return int(self._read("Batches", "creditOf", checksum(account)))

    def withdraw_credit(self) -> TxReceipt:
        return self._write("Batches", "withdrawCredit")

    # Calibration and reputation

    def request_calibration(self, model_id: bytes, role: Role) -> bytes:
        """Opens a challenge and returns its id."""
        receipt = self._write("Calibration", "request", model_id, int(role))
        (event,) = self._contracts["Calibration"].events.ChallengeRequested().process_receipt(receipt, DISCARD)
        return bytes(event["args"]["challengeId"])

    def seal_calibration(self, challenge_id: bytes) -> bytes:
        """Stores the challenge's seed (or finds it stored) and returns it."""
        seed = self.challenge(challenge_id).seed
        if not any(seed):
            self._write("Calibration", "seal", challenge_id)
            seed = self.challenge(challenge_id).seed
        return seed

    def challenge(self, challenge_id: bytes) -> Challenge:
        operator, role, *rest = self._read("Calibration", "challengeOf", challenge_id)
        return Challenge(operator, Role(role), *rest)

    def calibration(self, operator: str, role: Role, model_id: bytes) -> CalibrationResult:
        return CalibrationResult(*self._read("Calibration", "resultOf", checksum(operator), int(role), model_id))

    def is_calibrated(self, operator: str, role: Role, model_id: bytes) -> bool:
        return bool(self._read("Calibration", "isCalibrated", checksum(operator), int(role), model_id))

    def prompts_per_challenge(self) -> int:
        return int(self._read("Calibration", "promptsPerChallenge"))

    def reputation(self, operator: str, role: Role, model_id: bytes) -> ReputationRecord:
        arguments = (checksum(operator), int(role), model_id)
        accepted, rejected, missed, updated_at = self._read("Reputation", "recordOf", *arguments)
        score_bps = self._read("Reputation", "scoreBps", *arguments)
        return ReputationRecord(accepted, rejected, missed, updated_at, score_bps)

    def pool(self, model_id: bytes, calibrated: bool = True) -> list[tuple[str, int]]:
        """(verifier, weight) by position in the model's pool; see `trine.protocol.committee`."""
        verifiers, weights = self._read("Committees", "poolOf", model_id, calibrated)
        return list(zip(verifiers, weights, strict=True))

    # Payments

    def deposit(self, amount: int) -> TxReceipt:
        return self._write("Payments", "deposit", amount)

    def account(self, payer: str) -> Account:
        return Account(*self._read("Payments", "accountOf", checksum(payer)))

    def collected(self, payer: str, payee: str) -> int:
        """What `payee` has collected from `payer` in all."""
        return int(self._read("Payments", "collectedOf", checksum(payer), checksum(payee)))

    def collect(self, voucher: Voucher, up_to_wei: int, signature: bytes) -> TxReceipt:
        return self._write("Payments", "collect", voucher.values(), up_to_wei, signature)

    def refund(self, batch_id: bytes, index: int, receipt_values: tuple[Any, ...], proof: list[bytes]) -> TxReceipt:
        return self._write("Payments", "refund", batch_id, index, receipt_values, proof)

    # Events

    def events(
        self, contract: str, name: str, *, from_block: int | None = None, to_block: int | None = None, **filters: Any
    ) -> Iterator[Event]:
        """Events of one kind, oldest first, from the deployment's first block to now unless told otherwise."""
        start = self.deployment.block if from_block is None else from_block
        end = self.block_number() if to_block is None else to_block
        return logs.read(self._contracts[contract], name, start, end, filters)

    # How

    def _read(self, contract: str, function: str, *arguments: Any) -> Any:
        call: ContractFunction = self._contracts[contract].functions[function](*arguments)
        try:
            return self._ask(call.call)
        except ContractLogicError as error:
            raise reverted(function, error) from None

    def _write(self, contract: str, function: str, *arguments: Any) -> TxReceipt:
        return require_account(self._sender).send(self._contracts[contract].functions[function](*arguments))

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except ContractLogicError:
            raise
        except (requests.exceptions.RequestException, OSError) as error:
            raise unreachable(error) from None
        except Web3Exception as error:
            raise ChainError(str(error)) from None

    def _document(self, event: str, model_id: bytes, block: int, field: str, expected: bytes) -> dict[str, Any]:
        for found in self.events("ModelRegistry", event, from_block=block, to_block=block, modelId=model_id):
            if keccak(found.args[field]) == expected:
                return found.args
        raise VerificationFailed(f"the RPC endpoint has no {field} that hashes to the registry's 0x{expected.hex()}")


def checksum(address: str) -> Any:
    """The address in EIP-55 form. Raises InvalidInput for anything that is no address."""
    if not is_address(address):
        raise InvalidInput(f"{address!r} is no address: expected 0x and 40 hexadecimal digits")
    return to_checksum_address(address)
