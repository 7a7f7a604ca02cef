"""Agents of ERC-8004 for operators and their clients: register one, keep it up to date, give feedback.

An agent is registered in up to four transactions. Each is sent only where the chain does not show its outcome yet, so
whoever was interrupted calls again and goes on, and never has two agents by mistake.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING

from trine.chain.agents import Agent, Publication
from trine.errors import InvalidInput, NotReady, VerificationFailed
from trine.registration import MAX_FILE_BYTES, MAX_URI, WELL_KNOWN, Place, Registration, Service, require_web_address

if TYPE_CHECKING:
    from trine.chain import Chain
    from trine.protocol.certificate import Certificate

MAX_DECIMALS = 18
MAX_VALUE = 10**38
MAX_TAG_BYTES = 64
MAX_CHARACTERS = 64
"""Of a number, as it is given."""
UNPUBLISHED = {
    Publication.NONE: "this chain knows no such batch",
    Publication.PENDING: "it is not settled yet",
    Publication.FINAL: "its final verdict is published already",
    Publication.VOID: "nobody judged it, so there is no verdict",
}
"""Why there is nothing to publish of a batch."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent that is linked with the account, what its file is to say, and what was sent for it just now."""

    agent: Agent
    registration: Registration
    transactions: tuple[bytes, ...]


def place_of(chain: Chain, agent_id: int) -> Place:
    return Place(chain.deployment.chain_id, chain.registry("Erc8004Identity"), agent_id)


def file_url(chain: Chain, given: str | None, operator: str | None = None) -> str:
    """Where an operator's registration file is: `given`, or below the endpoint that it has registered.

    Raises InvalidInput.
    """
    if given:
        return require_web_address("the file's address", given)
    endpoint = chain.endpoint_of(operator or chain.address)
    if not endpoint:
        raise InvalidInput(
            "the account has registered no endpoint yet, so the file has no address: start the operator once, give "
            "the address by --url, or put the file on the chain with --on-chain"
        )
    return require_web_address("the operator's endpoint", endpoint) + WELL_KNOWN


def described(
    name: str, description: str, endpoint: str, wallet: str, chain_id: int, more: tuple[Service, ...] = ()
) -> Registration:
    """The registration of an operator at an endpoint, if it has one; its agent's number is not in it yet."""
    own = [Service("web", endpoint), Service("OpenAI", f"{endpoint.rstrip('/')}/v1")] if endpoint else []
    own.append(Service("wallet", f"eip155:{chain_id}:{wallet}"))
    named = {service.name for service in more}
    return Registration(name, description, services=(*(s for s in own if s.name not in named), *more))


def register(
    chain: Chain, registration: Registration, url: str | None, *, agent_id: int | None = None, another: bool = False
) -> Registered:
    """Has the account's agent in the identity registry, linked with it, and the adapter allowed to ask for validations.

    `url`: where the file is going to be; None puts the file itself on the chain. `agent_id`: an agent that the account
    owns already; without, the one that it has, or a new one. `another`: a new one in any case.
    """
    if url is not None and len(url) > MAX_URI:
        raise InvalidInput(f"the file's address has {len(url)} characters, at most {MAX_URI}")
    chain.registry("Erc8004Identity")
    sent: list[bytes] = []
    if agent_id is None and not another:
        agent_id = _the_one(chain)
    if agent_id is None:
        receipt = chain.register_agent(url or "")
        sent.append(bytes(receipt["transactionHash"]))
        agent_id = _minted(chain, int(receipt["blockNumber"]), sent[0])
    agent = _own(chain, agent_id)
    if chain.agent_of(chain.address) != agent_id:
        sent.append(bytes(chain.link_agent(agent_id)["transactionHash"]))
    if not chain.is_approved(agent):
        adapter = chain.deployment.address("Erc8004Adapter")
        sent.append(bytes(chain.approve_for_agent(agent_id, adapter)["transactionHash"]))
    done = update(chain, agent_id, registration, url)
    return replace(done, transactions=(*sent, *done.transactions))


def update(chain: Chain, agent_id: int, registration: Registration, url: str | None) -> Registered:
    """Sees to it that the agent's URI leads to the file, or holds it. Sends nothing where it does already."""
    agent, place = _own(chain, agent_id), place_of(chain, agent_id)
    if not registration.names(place):
        registration = replace(registration, registrations=(*registration.registrations, place))
    if len(registration.to_text().encode()) > MAX_FILE_BYTES:
        raise InvalidInput(f"the registration file has more than {MAX_FILE_BYTES} bytes")
    uri = url if url is not None else registration.data_uri()
    if agent.uri == uri:
        return Registered(agent, registration, ())
    transaction = bytes(chain.set_agent_uri(agent_id, uri)["transactionHash"])
    return Registered(replace(agent, uri=uri), registration, (transaction,))


def write_file(path: Path, registration: Registration) -> None:
    """Whole or not at all: a process may be serving it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(registration.to_text())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None


def read_file(path: Path) -> Registration:
    """Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    try:
        return Registration.parse(raw)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def feedback_value(given: int | float | str | Decimal) -> tuple[int, int]:
    """A number as the registry takes it: an integer and its decimals. Raises InvalidInput."""
    text = str(given).strip()
    try:
        with localcontext(prec=MAX_CHARACTERS):
            value = Decimal(text[: MAX_CHARACTERS + 1]).normalize()
            exponent = int(value.as_tuple().exponent)  # of infinity and NaN it is a letter
            decimals = max(0, -exponent)
            scaled = int(value.scaleb(decimals)) if decimals <= MAX_DECIMALS and exponent <= MAX_DECIMALS * 3 else None
    except (ArithmeticError, ValueError):
        raise InvalidInput(f"{text[:MAX_CHARACTERS]!r} is no number that the registry takes") from None
    if scaled is None or abs(scaled) > MAX_VALUE or len(text) > MAX_CHARACTERS:
        raise InvalidInput(
            f"{text[:MAX_CHARACTERS]!r}: at most {MAX_DECIMALS} decimals, and {MAX_VALUE:.0e} in units of the last"
        )
    return scaled, decimals


def give_feedback(
    chain: Chain, certificate: Certificate, value: int | float | str | Decimal, tag: str = "quality"
) -> bytes:
    """The client's word on an answer that was judged, in the reputation registry; returns the transaction.

    Once an answer; the verdict is put beside it. Raises InvalidInput, NotReady, VerificationFailed.
    """
    from trine.audit import certificate_report

    scaled, decimals = feedback_value(value)
    if len(tag.encode()) > MAX_TAG_BYTES:
        raise InvalidInput(f"the tag has {len(tag.encode())} bytes, at most {MAX_TAG_BYTES}")
    receipt = certificate.receipt
    if receipt.client.lower() != chain.address.lower():
        raise InvalidInput(f"feedback is the client's, and that is {receipt.client}, not {chain.address}")
    checked = certificate_report(chain, certificate).certificate
    if checked.result not in ("accept", "reject"):
        raise NotReady(f"the verdict is {checked.result}: feedback is given on what was accepted or rejected")
    chain.registry("Erc8004Reputation")
    agent_id = chain.agent_of(receipt.node)
    if agent_id is None:
        raise NotReady(f"{receipt.node} has no agent of ERC-8004: there is nobody to give feedback to")
    sent = chain.give_feedback(certificate.batch_id, certificate.opening(), scaled, decimals, tag)
    return bytes(sent["transactionHash"])


def publish(chain: Chain, batch_id: bytes) -> bytes:
    """Has the verdict of a settled batch in the validation registry; returns the transaction. Raises NotReady."""
    chain.registry("Erc8004Validation")
    state = chain.publication(batch_id)
    if state in (Publication.FINAL, Publication.NONE, Publication.PENDING, Publication.VOID):
        raise NotReady(f"batch 0x{batch_id.hex()}: {UNPUBLISHED[state]}")
    header = chain.batch(batch_id).known_header
    if chain.agent_of(header.node) is None:
        raise NotReady(f"{header.node} has no agent of ERC-8004")
    salt = free_salt(chain, batch_id, is_final=chain.result(batch_id).is_final)
    return bytes(chain.publish(header, salt)["transactionHash"])


def free_salt(chain: Chain, batch_id: bytes, *, is_final: bool) -> bytes:
    """Zero, unless somebody has taken the request's hash in the registry: then any other."""
    salt = bytes(32)
    if chain.validation(chain.request_hash(batch_id, salt, is_final=is_final)) is None:
        return salt
    return secrets.token_bytes(32)


def _the_one(chain: Chain) -> int | None:
    """The account's agent: the one that is linked, or else the only one that it has."""
    linked = chain.agent_of(chain.address)
    if linked is not None:
        return linked
    owned = chain.agents_of(chain.address)
    if len(owned) > 1:
        raise InvalidInput(f"the account has the agents {', '.join(map(str, owned))}: say which by --agent")
    return owned[0] if owned else None


def _minted(chain: Chain, block: int, transaction: bytes) -> int:
    made = chain.events("Erc8004Identity", "Registered", from_block=block, to_block=block, owner=chain.address)
    for event in made:
        if event.transaction == transaction:
            return int(event.args["agentId"])
    raise VerificationFailed("the identity registry shows no agent for the transaction that registered one")


def _own(chain: Chain, agent_id: int) -> Agent:
    """Raises InvalidInput unless it is the account's."""
    agent = chain.agent(agent_id)
    if agent.owner != chain.address:
        raise InvalidInput(f"agent {agent_id} belongs to {agent.owner}, not to {chain.address}")
    return agent
