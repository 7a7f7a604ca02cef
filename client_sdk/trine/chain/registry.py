"""`ModelRegistry` and `Directory`: models with their documents, and what can be listed in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from eth_utils.crypto import keccak

from trine.chain.calls import Calls
from trine.chain.deployment import Deployment
from trine.chain.named import members_of, record
from trine.chain.records import Model, ModelEntry, OperatorEntry, RegistryEntry, Role
from trine.errors import InvalidInput, VerificationFailed

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3.types import TxReceipt


T = TypeVar("T")
PAGE = 256
"""Entries of the directory in one call: as many as it gives."""


class RegistryCalls(Calls):
    """Reads and writes `ModelRegistry`, reads `Directory`.

    Documents that the registry only hashes are fetched from the events of the block that it names, and checked.
    """

    def __init__(self, deployment: Deployment, rpc_url: str, signer: LocalAccount | None = None) -> None:
        super().__init__(deployment, rpc_url, signer)
        self._models: dict[bytes, Model] = {}

    def register_model(
        self,
        name: str,
        source: str,
        manifest: bytes,
        policy: bytes,
        classes: Sequence[bytes],
        prompts: bytes,
        prompt_count: int,
        price_per_token_wei: int,
    ) -> TxReceipt:
        """`classes`: the engine classes that may be calibrated, 32 bytes each, ascending."""
        documents = (manifest, policy, list(classes), prompts)
        return self._write("ModelRegistry", "register", name, source, *documents, prompt_count, price_per_token_wei)

    def classes_of(self, model_id: bytes) -> list[bytes]:
        """The engine classes of the model's policy: those that may be calibrated."""
        return [bytes(word) for word in self._read("ModelRegistry", "classesOf", model_id)]

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

    def _document(self, event: str, model_id: bytes, block: int, field: str, expected: bytes) -> dict[str, Any]:
        for found in self.events("ModelRegistry", event, from_block=block, to_block=block, modelId=model_id):
            if keccak(found.args[field]) == expected:
                return found.args
        raise VerificationFailed(f"the RPC endpoint has no {field} that hashes to the registry's 0x{expected.hex()}")
