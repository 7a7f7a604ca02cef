"""ERC-8004: agents in the registries, and Trine's adapter to them.

The registries belong to others and may be upgraded: what they say is shown as theirs, and nothing else depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from trine.chain.batches import BatchCalls
from trine.chain.calls import checksum
from trine.chain.records import Event
from trine.errors import NotReady, TransactionReverted

NOBODY = "0x" + "00" * 20
REGISTRIES = ("Erc8004Identity", "Erc8004Reputation", "Erc8004Validation")
"""What the adapter's `registries` returns, in this order, by the names of their ABIs."""
FINAL_TAG = "hard"
"""Of responses about batches that nothing changes any more; the others have `soft`."""


class Publication(IntEnum):
    """Where a batch stands with the adapter. See `IErc8004Adapter.Status`."""

    NONE = 0
    PENDING = 1
    SETTLED = 2
    SOFT = 3
    FINAL = 4
    VOID = 5


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as the identity registry has it. `wallet` is NOBODY's after a transfer, until the owner sets one."""

    agent_id: int
    owner: str
    wallet: str
    uri: str


@dataclass(frozen=True, slots=True)
class Validation:
    """What the validation registry holds of a request."""

    validator: str
    agent_id: int
    response: int
    response_hash: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """One client's word on one answer, as the adapter passed it on."""

    batch_id: bytes
    leaf: int
    client: str
    value: int
    block: int


class AgentCalls(BatchCalls):
    """Reads `Erc8004Adapter` and the registries that it names."""

    def registry(self, name: str) -> str:
        """The address of one of REGISTRIES. Raises NotReady where the deployment's adapter has none."""
        if name not in self.deployment.contracts:
            found = zip(REGISTRIES, self._read("Erc8004Adapter", "registries"), strict=True)
            known = {each: checksum(address) for each, address in found if int(address, 16)}
            self.deployment = replace(self.deployment, contracts={**self.deployment.contracts, **known})
        if name not in self.deployment.contracts:
            kind = name.removeprefix("Erc8004").lower()
            raise NotReady(
                f"this deployment's adapter knows no {kind} registry of ERC-8004: the chain had none when it was made"
            )
        return self.deployment.address(name)

    def has_registry(self, name: str) -> bool:
        try:
            return bool(self.registry(name))
        except NotReady:
            return False

    def agent(self, agent_id: int) -> Agent:
        """Raises TransactionReverted for an agent that does not exist."""
        self.registry("Erc8004Identity")
        owner, wallet, uri = self._read_all(
            [("Erc8004Identity", name, (agent_id,)) for name in ("ownerOf", "getAgentWallet", "tokenURI")]
        )
        return Agent(agent_id, checksum(owner), checksum(wallet), str(uri))

    def agent_of(self, operator: str) -> int | None:
        """The agent that the operator has linked and still controls."""
        linked, agent_id = self._read("Erc8004Adapter", "agentOf", checksum(operator))
        return int(agent_id) if linked else None

    def agents_of(self, owner: str) -> list[int]:
        """Agents that the account has registered and still owns, oldest first."""
        self.registry("Erc8004Identity")
        made = self.events("Erc8004Identity", "Registered", owner=checksum(owner))
        ids = [int(event.args["agentId"]) for event in made]
        return [agent_id for agent_id in ids if self._owner_of(agent_id) == checksum(owner)]

    def is_approved(self, agent: Agent) -> bool:
        """Whether the adapter may ask for validations of the agent's work."""
        self.registry("Erc8004Identity")
        adapter = self.deployment.address("Erc8004Adapter")
        one = checksum(self._read("Erc8004Identity", "getApproved", agent.agent_id))
        return one == adapter or bool(self._read("Erc8004Identity", "isApprovedForAll", agent.owner, adapter))

    def publication(self, batch_id: bytes) -> Publication:
        return Publication(self._read("Erc8004Adapter", "statusOf", batch_id))

    def request_hash(self, batch_id: bytes, salt: bytes = bytes(32), *, is_final: bool = True) -> bytes:
        """The validation request under which the adapter publishes the batch."""
        return bytes(self._read("Erc8004Adapter", "requestHashOf", batch_id, is_final, salt))

    def validation(self, request_hash: bytes) -> Validation | None:
        """None for a request that nobody has made."""
        self.registry("Erc8004Validation")
        try:
            validator, agent_id, response, response_hash, tag, _ = self._read(
                "Erc8004Validation", "getValidationStatus", request_hash
            )
        except TransactionReverted:
            return None
        return Validation(checksum(validator), int(agent_id), int(response), bytes(response_hash), str(tag))

    def validation_summary(self, agent_id: int, tag: str = FINAL_TAG) -> tuple[int, int]:
        """How many responses of the adapter with this tag the registry has, and their mean."""
        self.registry("Erc8004Validation")
        adapter = self.deployment.address("Erc8004Adapter")
        count, mean = self._read("Erc8004Validation", "getSummary", agent_id, (adapter,), tag)
        return int(count), int(mean)

    def feedback_summary(self, agent_id: int, tag: str = "", verdict: str = "") -> tuple[int, int, int]:
        """Feedback of clients whose answers were judged: how much, its mean, and the mean's decimals."""
        self.registry("Erc8004Reputation")
        author = checksum(self._read("Erc8004Adapter", "feedbackAuthor"))
        count, value, decimals = self._read("Erc8004Reputation", "getSummary", agent_id, (author,), tag, verdict)
        return int(count), int(value), int(decimals)

    def publications_of(self, agent_id: int) -> list[Event]:
        """What the adapter has published of an agent's work: `ValidationPublished`, oldest first."""
        return list(self.events("Erc8004Adapter", "ValidationPublished", agentId=agent_id))

    def feedback_of(self, agent_id: int) -> list[Feedback]:
        """What clients have said through the adapter, oldest first."""
        return [
            Feedback(
                bytes(event.args["batchId"]),
                int(event.args["leafIndex"]),
                checksum(event.args["client"]),
                int(event.args["value"]),
                event.block,
            )
            for event in self.events("Erc8004Adapter", "FeedbackForwarded", agentId=agent_id)
        ]

    def _owner_of(self, agent_id: int) -> str:
        try:
            return str(checksum(self._read("Erc8004Identity", "ownerOf", agent_id)))
        except TransactionReverted:  # burned
            return NOBODY
