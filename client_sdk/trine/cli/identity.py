"""`trine identity …`: an operator as an agent of ERC-8004, and what the registries say of one."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trine.cli.groups import group
from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    DeploymentFile,
    Keystore,
    PasswordFile,
    RpcUrl,
    account_chain,
    read_chain,
)
from trine.cli.output import fail_cleanly, note, print_json, say
from trine.errors import InvalidInput

if TYPE_CHECKING:
    from trine.agents import AgentReport
    from trine.chain import Chain
    from trine.identity import Registered

app = group("Agents of ERC-8004: register an operator, read what the registries say, give feedback.")

File = Annotated[Path, typer.Option("--file", help="The registration file: the setting `registration_file` serves it.")]
Url = Annotated[
    str | None,
    typer.Option(help="Where the file is going to be; default: below the operator's registered endpoint."),
]
OnChain = Annotated[bool, typer.Option("--on-chain", help="Put the file itself on the chain, as a data: URI.")]
Services = Annotated[
    list[str] | None,
    typer.Option("--service", help="NAME=ENDPOINT or NAME@VERSION=ENDPOINT, e.g. MCP@2025-06-18=https://…; repeat it."),
]
DEFAULT_FILE = Path("agent-registration.json")


@app.command()
@fail_cleanly
def register(
    name: Annotated[str, typer.Option(help="What the agent is called.")],
    description: Annotated[str, typer.Option(help="What it does, in a sentence or two.")],
    image: Annotated[str, typer.Option(help="Address of a picture.")] = "",
    service: Services = None,
    url: Url = None,
    on_chain: OnChain = False,
    file: File = DEFAULT_FILE,
    agent: Annotated[int | None, typer.Option(help="An agent that the account owns already.", min=0)] = None,
    another: Annotated[bool, typer.Option("--another", help="A new agent though the account has one.")] = False,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Makes the operator an agent: mints it, links it, lets the adapter ask for validations, writes the file.

    Safe to repeat: what is on the chain already is not sent again.
    """
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    from trine import identity
    from trine.registration import Service

    where = _where(chain, url, on_chain)
    endpoint = chain.endpoint_of(chain.address)
    more = tuple(Service.of(each) for each in service or ())
    said = identity.described(name, description, endpoint, chain.address, chain.deployment.chain_id, more)
    done = identity.register(chain, replace(said, image=image), where, agent_id=agent, another=another)
    identity.write_file(file, done.registration)
    _tell(done, file, where, json)


@app.command()
@fail_cleanly
def update(
    file: File = DEFAULT_FILE,
    agent: Annotated[int | None, typer.Option(help="Default: the one that is linked.", min=0)] = None,
    url: Url = None,
    on_chain: OnChain = False,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Checks the edited file, and has the agent's URI lead to it, or hold it."""
    from trine import identity

    said = identity.read_file(file)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    linked = chain.agent_of(chain.address) if agent is None else agent
    if linked is None:
        raise InvalidInput("the account has linked no agent: `trine identity register`, or say which by --agent")
    where = _where(chain, url, on_chain)
    done = identity.update(chain, linked, said, where)
    identity.write_file(file, done.registration)
    _tell(done, file, where, json)


@app.command()
@fail_cleanly
def show(
    who: Annotated[str, typer.Argument(help="An agent's number, or an operator's address.")],
    allow_local: Annotated[
        bool, typer.Option("--allow-local", help="Fetch a file from this machine or a private network, too.")
    ] = False,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """What registries and file say of an agent, and what contradicts it. Exit code 7 when something does."""
    chain = read_chain(rpc_url, deployment)
    from trine.agents import agent_report

    report = agent_report(chain, _agent_id(chain, who), local=allow_local)
    if json:
        print_json(report.to_json())
    else:
        print_agent(report)
    if report.problems:
        raise typer.Exit(7)


@app.command()
@fail_cleanly
def unlink(
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
) -> None:
    """Ends the link between the operator and its agent. What was published stays."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    chain.unlink_agent()
    say(f"{chain.address} has no agent any more")


@app.command()
@fail_cleanly
def publish(
    batch: Annotated[str, typer.Argument(help="Id of a settled batch, of any operator with an agent.")],
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Has a batch's verdict in the validation registry. Anybody may, also what its node would rather not show."""
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    from trine.identity import publish as publish_batch

    transaction = publish_batch(chain, _batch_id(batch))
    if json:
        print_json({"transaction": "0x" + transaction.hex()})
    else:
        say(f"published in transaction 0x{transaction.hex()}")


@app.command()
@fail_cleanly
def feedback(
    file: Annotated[Path, typer.Argument(help="The answer's certificate as JSON.", exists=True, dir_okay=False)],
    value: Annotated[str, typer.Argument(help="A number, e.g. 87 or 4.5; after -- if it is negative.")],
    tag: Annotated[str, typer.Option(help="What the number measures, e.g. starred or responseTime.")] = "quality",
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """A client's word on an answer that was judged, in the reputation registry, once an answer."""
    from trine.identity import feedback_value, give_feedback
    from trine.protocol.certificate import Certificate

    feedback_value(value)
    try:
        certificate = Certificate.from_json(json_module.loads(file.read_text()))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is no certificate: {error}") from None
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    transaction = give_feedback(chain, certificate, value, tag)
    if json:
        print_json({"agentId": chain.agent_of(certificate.receipt.node), "transaction": "0x" + transaction.hex()})
    else:
        say(f"given in transaction 0x{transaction.hex()}")


def print_agent(report: AgentReport) -> None:
    """Its lines of `trine audit operator`, too."""
    agent, said = report.agent, report.registration
    say(f"agent      {agent.agent_id} of {report.place.agent_registry}")
    say(f"owner      {agent.owner}")
    say(f"operator   {report.operator or '-'}")
    say(f"file       {agent.uri if len(agent.uri) <= 100 else agent.uri[:97] + '…'}")
    if said:
        say(f"says       {said.name}: {said.description[:200]}")
        for each in said.services:
            say(f"           {each.name}: {each.endpoint[:200]}")
        say(f"trust      {', '.join(said.supported_trust) or '-'}")
    if report.validations:
        count, mean = report.validations
        say(f"validated  {count} final batches, {mean} % accepted in the mean, by the validation registry")
    if report.coverage:
        every, shown = report.coverage.shares
        say(
            f"published  {report.coverage.published} of {report.coverage.final} final batches; accepted: {shown:.2%} "
            f"of the published, {every:.2%} of all"
        )
    if report.feedback:
        count, value, decimals = report.feedback
        say(f"feedback   {count} of clients with a judged answer, {value / 10**decimals:g} in the mean")
    for problem in report.problems:
        say(f"PROBLEM    {problem}")


def _where(chain: Chain, url: str | None, on_chain: bool) -> str | None:
    """Where the file is going to be; None: on the chain."""
    from trine.identity import file_url

    if on_chain and url:
        raise InvalidInput("--on-chain and --url exclude one another")
    return None if on_chain else file_url(chain, url)


def _tell(done: Registered, file: Path, where: str | None, json: bool) -> None:
    sent = ["0x" + transaction.hex() for transaction in done.transactions]
    if json:
        print_json({"agentId": done.agent.agent_id, "uri": done.agent.uri, "file": str(file), "transactions": sent})
        return
    say(f"agent {done.agent.agent_id} of {done.agent.owner}, {len(sent)} transactions sent")
    if where:
        note(f"{file} is to be at {where}: the setting registration_file has the operator serve it")


def _agent_id(chain: Chain, who: str) -> int:
    if who.isdecimal() and len(who) < 79:
        return int(who)
    linked = chain.agent_of(who)
    if linked is None:
        raise InvalidInput(f"{who} has linked no agent")
    return linked


def _batch_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InvalidInput(f"{text[:80]!r} is no batch: expected 32 bytes in hexadecimal")
    return raw
