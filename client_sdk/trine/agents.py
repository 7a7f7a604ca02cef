"""What the registries of ERC-8004 and an agent's own file say, held against the chain and against Trine's record.

Registries may be upgraded by their owner, files are written by whoever is praised in them: each claim is shown with
what contradicts it. An agent chooses which of its batches are published, so what was left out is shown beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trine.chain.agents import FINAL_TAG, NOBODY, Agent, Validation
from trine.chain.records import Role
from trine.errors import ChainError, ChainUnreachable, InvalidInput, NotReady, TransactionReverted
from trine.fetching import fetch
from trine.identity import place_of
from trine.registration import MAX_FILE_BYTES, Place, Registration, in_data_uri

if TYPE_CHECKING:
    from trine.audit import OperatorReport, Work
    from trine.chain import Chain, Event

CHECKED = 64
"""Published verdicts that are compared with the registry, the newest first."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a node's final work is published, and whether it is the better part of it."""

    final: int  # batches
    published: int
    accepted: float  # answers, of all final batches
    judged: float
    accepted_published: float
    judged_published: float
    others: int = 0  # published batches that are not the operator's: the agent was another's before

    @property
    def shares(self) -> tuple[float, float]:
        """Accepted share of all work and of what was published."""
        return (_share(self.accepted, self.judged), _share(self.accepted_published, self.judged_published))

    @property
    def is_flattering(self) -> bool:
        """Whether what was published looks better than all of it by a hundredth or more."""
        every, shown = self.shares
        return self.published > 0 and shown >= every + 0.01


@dataclass(frozen=True, slots=True)
class AgentReport:
    """`validations` (count, mean) and `feedback` (count, value, decimals) are the registries' own summaries of what
    came through the adapter; None where a registry gives none."""

    agent: Agent
    place: Place
    operator: str | None
    endpoint: str
    registration: Registration | None
    validations: tuple[int, int] | None
    feedback: tuple[int, int, int] | None
    published: tuple[bytes, ...]  # batches, final verdicts only
    coverage: Coverage | None
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "agentId": self.agent.agent_id,
            "agentRegistry": self.place.agent_registry,
            "owner": self.agent.owner,
            "wallet": self.agent.wallet,
            "uri": self.agent.uri,
            "operator": self.operator,
            "endpoint": self.endpoint,
            "registration": self.registration.to_json() if self.registration else None,
            "validations": dict(zip(("count", "mean"), self.validations, strict=True)) if self.validations else None,
            "feedback": dict(zip(("count", "value", "decimals"), self.feedback, strict=True))
            if self.feedback
            else None,
            "published": ["0x" + batch_id.hex() for batch_id in self.published],
            "coverage": _coverage_json(self.coverage) if self.coverage else None,
            "problems": list(self.problems),
        }


def agent_report(
    chain: Chain, agent_id: int, *, local: bool = False, record: OperatorReport | None = None
) -> AgentReport:
    """Reads and checks. `local`: whether a file on this machine or in a private network is fetched; `record`: what
    Trine's own chain says of the agent's operator, if it is known already.

    Raises NotReady where the chain has no registry, InvalidInput for an agent that does not exist.
    """
    try:
        agent = chain.agent(agent_id)
    except TransactionReverted:
        raise InvalidInput(f"the identity registry has no agent {agent_id}") from None
    place, problems = place_of(chain, agent_id), list[str]()
    operator = _operator_of(chain, agent_id)
    if operator is None:
        problems.append("no operator of this network has linked the agent: nothing here is its work")
    endpoint = chain.endpoint_of(operator) if operator else ""
    if agent.wallet == NOBODY:
        problems.append("the agent has no wallet: it was transferred, and its new owner has set none")
    registration = _registration(agent, local, problems)
    if registration:
        problems += _contradictions(registration, place, endpoint)
    events = chain.publications_of(agent_id)
    _check_published(chain, agent_id, events, problems)
    published = tuple(bytes(event.args["batchId"]) for event in events if event.args["isFinal"])
    coverage = _coverage(chain, operator, published, record) if operator else None
    if coverage and coverage.is_flattering:
        every, shown = coverage.shares
        problems.append(
            f"what is published looks better than all of it: {shown:.1%} accepted, where all final work has {every:.1%}"
        )
    if coverage and coverage.others:
        problems.append(
            f"{coverage.others} of the published batches are not this operator's: the agent was another's before"
        )
    return AgentReport(
        agent,
        place,
        operator,
        endpoint,
        registration,
        _asked(lambda: chain.validation_summary(agent_id), "validation", problems),
        _asked(lambda: chain.feedback_summary(agent_id), "reputation", problems),
        published,
        coverage,
        tuple(problems),
    )


def agent_report_of(chain: Chain, record: OperatorReport, *, local: bool = False) -> tuple[AgentReport | None, str]:
    """The report of an operator's agent, if it has one; or why there is none: strangers' code may fail in any way, and
    what Trine's own chain says does not depend on it."""
    try:
        agent_id = chain.agent_of(record.operator)
        return (None, "") if agent_id is None else (agent_report(chain, agent_id, local=local, record=record), "")
    except ChainUnreachable:
        raise
    except (ChainError, NotReady, InvalidInput) as error:
        return None, f"the registries of ERC-8004 cannot be read: {str(error)[:200]}"


def coverage_of(record: OperatorReport, published: tuple[bytes, ...]) -> Coverage:
    """Of a node's record, with the batches that were published."""
    work = {
        each.batch_id: each for standing in record.standings if standing.role is Role.NODE for each in standing.work
    }
    known = frozenset(published)
    shown = [work[batch_id] for batch_id in known & work.keys()]
    return Coverage(
        final=len(work),
        published=len(shown),
        accepted=sum(each.accepted for each in work.values()),
        judged=sum(map(_judged, work.values())),
        accepted_published=sum(each.accepted for each in shown),
        judged_published=sum(map(_judged, shown)),
        others=len(known - work.keys()),
    )


def _judged(work: Work) -> float:
    return work.accepted + work.rejected + work.missed


def _coverage(chain: Chain, operator: str, published: tuple[bytes, ...], record: OperatorReport | None) -> Coverage:
    from trine.audit import operator_report

    return coverage_of(record or operator_report(chain, operator), published)


def _operator_of(chain: Chain, agent_id: int) -> str | None:
    """Who has linked the agent last, if it still is that operator's."""
    linked = chain.newest_event("Erc8004Adapter", "AgentLinked", agentId=agent_id)
    if linked is None:
        return None
    operator = str(linked.args["operator"])
    return operator if chain.agent_of(operator) == agent_id else None


def _registration(agent: Agent, local: bool, problems: list[str]) -> Registration | None:
    """What the URI leads to; why there is none is a problem."""
    if not agent.uri:
        problems.append("the agent has no registration file: its URI is empty")
        return None
    try:
        is_data = agent.uri.startswith("data:")
        raw = in_data_uri(agent.uri) if is_data else fetch(agent.uri, MAX_FILE_BYTES, local=local)
        return Registration.parse(raw)
    except (InvalidInput, NotReady, ValueError) as error:
        problems.append(f"registration file: {error}")
        return None


def _contradictions(registration: Registration, place: Place, endpoint: str) -> list[str]:
    found = []
    if not registration.names(place):
        found.append(f"the file is not this agent's: it does not name {place.agent_registry} with {place.agent_id}")
    if endpoint and not registration.reaches(endpoint):
        found.append(f"the file does not name the endpoint that the operator has registered, {endpoint}")
    if not registration.active:
        found.append("the file says that the agent is not active")
    return found


def _check_published(chain: Chain, agent_id: int, events: list[Event], problems: list[str]) -> None:
    """What the adapter said must be what the registry holds. Its owner may have replaced the registry's code."""
    if not events or not chain.has_registry("Erc8004Validation"):
        return
    adapter = chain.deployment.address("Erc8004Adapter")
    differ = 0
    for event in events[-CHECKED:]:
        held = _held(chain, bytes(event.args["requestHash"]))
        expected = (adapter, agent_id, int(event.args["response"]), FINAL_TAG if event.args["isFinal"] else "soft")
        differ += held is None or (held.validator, held.agent_id, held.response, held.tag) != expected
    if differ:
        problems.append(f"the validation registry contradicts {differ} of the verdicts that the adapter has published")


def _held(chain: Chain, request_hash: bytes) -> Validation | None:
    """Code that burns all gas is no answer, and no revert either."""
    try:
        return chain.validation(request_hash)
    except ChainUnreachable:
        raise
    except ChainError:
        return None


def _asked(question: Any, registry: str, problems: list[str]) -> Any:
    """A summary walks through all that was ever said: an RPC endpoint may stop it."""
    try:
        return question()
    except NotReady as error:
        problems.append(str(error))
    except ChainUnreachable:
        raise
    except ChainError as error:
        problems.append(f"the {registry} registry gives no summary: {str(error)[:200]}")
    return None


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _coverage_json(coverage: Coverage) -> dict[str, Any]:
    every, shown = coverage.shares
    return {
        "finalBatches": coverage.final,
        "publishedBatches": coverage.published,
        "acceptedShare": every,
        "acceptedShareOfPublished": shown,
    }
