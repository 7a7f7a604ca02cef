"""`ModelRegistry` and `Directory`: models with their documents, and what can be listed in pages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from eth_utils.crypto import keccak

from trine.chain.calls import Calls
from trine.chain.deployment import Deployment
from trine.chain.named import members_of, record
from trine.chain.records import Model, ModelEntry, OperatorEntry, RegistryEntry, Role
from trine.errors import InvalidInput, VerificationFailed
from trine.protocol.manifest import Manifest

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3.types import TxReceipt


T = TypeVar("T")
PAGE = 256
"""Entries of the directory in one call: as many as it gives."""
MAX_LISTED = 1 << 16
"""Entries that are read, whatever number of them an endpoint claims."""


class RegistryCalls(Calls):
    """Reads and writes `ModelRegistry`, reads `Directory`.

    Documents that the registry only hashes are fetched from the events of the block that it names, and checked.
    """

    def __init__(
        self, deployment: Deployment, rpc_url: str | Sequence[str], signer: LocalAccount | None = None
    ) -> None:
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
        """`classes`: the engine classes that may be calibrated, 32 bytes each, ascending.

        Raises InvalidInput for a manifest that no operator would take: malformed, or without a renderer.
        """
        Manifest.from_bytes(manifest).pinned_rendering(name)
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

    def registered_at(self, model_ids: Sequence[bytes]) -> dict[bytes, int]:
        """When these models were registered, seconds since 1970, by the blocks of it.

        Without those whose blocks the endpoint does not show, and without any where contracts count other blocks.
        """
        if not model_ids or not self.has_own_numbers:
            return {}
        asked = [("ModelRegistry", "modelOf", (model_id,)) for model_id in model_ids]
        with self.reading_ahead(asked):
            entries = [self._record(RegistryEntry, *each[:2], *each[2]) for each in asked]
        blocks = self._views.blocks([entry.registered_block for entry in entries])
        return {name: block.timestamp for name, block in zip(model_ids, blocks, strict=True) if block}

    def operators(self, model_id: bytes, role: Role, at_most_pages: int | None = None) -> list[OperatorEntry]:
        """Everybody who has ever passed in the role, who first passed first: one call for 256 of them.

        With `at_most_pages`, the first page and others by lot: enough to choose from, however many there are.
        """
        return self._listed(OperatorEntry, "operators", model_id, int(role), at_most_pages=at_most_pages)

    def model_ids(self) -> list[bytes]:
        """All registered models, oldest first."""
        return [entry.model_id for entry in self.models()]

    def _listed(self, kind: type[T], function: str, *of: Any, at_most_pages: int | None = None) -> list[T]:
        first, total = self._read("Directory", function, *of, 0, PAGE)
        starts: Sequence[int] = range(PAGE, min(total, MAX_LISTED), PAGE)
        if at_most_pages is not None and len(starts) >= at_most_pages:
            starts = sorted(random.sample(starts, at_most_pages - 1))
        more = self._read_all([("Directory", function, (*of, start, PAGE)) for start in starts])
        components = members_of("Directory", function)[0]["components"]
        return [record(kind, components, values) for page in (first, *(page for page, _ in more)) for values in page]

    def policy_at(self, model_id: bytes, block: int, log_index: int) -> bytes:
        """The policy in force at a place in the chain: what a batch that was anchored there is judged by.

        Raises InvalidInput when the model had none yet.
        """
        model = self.model(model_id)
        # The registry counts in the blocks that contracts see.
        if model.policy_block < block and self.has_own_numbers:
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
        def look(**where: int) -> dict[str, Any] | None:
            shown = self.events("ModelRegistry", event, **where, modelId=model_id)
            return next((found.args for found in shown if keccak(found.args[field]) == expected), None)

        found = look(from_block=block, to_block=block)
        if found is None and not self.has_own_numbers:
            found = look()  # the registry counts in other blocks than the RPC endpoint
        if found is not None:
            return found
        raise VerificationFailed(f"the RPC endpoint has no {field} that hashes to the registry's 0x{expected.hex()}")
