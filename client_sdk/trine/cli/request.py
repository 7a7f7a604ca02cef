"""`trine request …`: ask by a transaction, as contracts do, and get the fee back when nobody answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trine.cli.groups import group
from trine.cli.options import (
    DEFAULT_DEPLOYMENT,
    DEFAULT_RPC_URL,
    AsJson,
    Choices,
    DeploymentFile,
    Keystore,
    MinP,
    PasswordFile,
    Regex,
    RpcUrl,
    Schema,
    Seed,
    Temperature,
    TopK,
    TopP,
    account_chain,
    read_chain,
    shape,
    token_wei,
)
from trine.cli.output import fail_cleanly, note, print_json, say, tokens
from trine.errors import InvalidInput, NotReady

if TYPE_CHECKING:
    from trine.chain import Chain, Event, ModelEntry
    from trine.protocol.requests import Posted

app = group("Ask by a transaction, as contracts do: post, look, refund.")
Name = Annotated[str, typer.Argument(help="The request's id, 0x and 64 hexadecimal digits.")]
ModelName = Annotated[str | None, typer.Option(help="Name of a registered model; default: the newest.")]
LOOK_SECONDS = 1.0


@app.command()
@fail_cleanly
def post(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    fee: Annotated[str, typer.Option(help="Whole tokens that wait for the answer; what is not taken comes back.")],
    model: ModelName = None,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1, max=(1 << 17))] = 64,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    seed: Seed = None,
    schema: Schema = None,
    choice: Choices = None,
    regex: Regex = None,
    node: Annotated[str | None, typer.Option(help="Address of the node that is to answer; default: any.")] = None,
    hours: Annotated[float, typer.Option(help="Until when it must be answered.", min=0.01, max=8_760)] = 24.0,
    final: Annotated[bool, typer.Option(help="Only an answer that no appeal can change any more.")] = True,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0)] = 0.0,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Posts a request on the chain and leaves its fee there. A node that it pays answers it."""
    wei = token_wei(fee)
    from trine._ordering import as_input
    from trine.protocol.requests import MAX_INPUT_BYTES

    asked = as_input(
        question,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        **shape(schema, choice, regex),
    ).canonical()
    if len(asked) > MAX_INPUT_BYTES:
        raise InvalidInput(
            f"the question takes {len(asked)} bytes, a request has room for {MAX_INPUT_BYTES}: shorten it"
        )
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    from trine.chain.calls import checksum
    from trine.protocol.messages import ZERO_ADDRESS
    from trine.protocol.requests import Order

    held = chain.token_balance(chain.address)
    if held < wei:
        raise InvalidInput(f"{chain.address} has {tokens(held)} tokens, the fee is {tokens(wei)}: send it more")
    order = Order(
        request_id=bytes(32),
        requester=chain.address,
        model_id=_model(chain, model).model_id,
        node=checksum(node) if node else ZERO_ADDRESS,
        input=asked,
        max_tokens=max_tokens,
        max_fee_wei=wei,
        deadline=chain.timestamp() + round(hours * 3_600),
        callback_gas=0,
        wait_for_final=final,
    )
    chain.allow("Requests", wei)
    request_id, transaction = chain.post_request(order)
    if not json:
        note(f"posted in transaction 0x{transaction.hex()}; {tokens(wei)} tokens wait for the answer")
    until = time.monotonic() + wait
    while (posted := _posted(chain, request_id)).state.name == "OPEN" and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if json:
        print_json({"transaction": "0x" + transaction.hex(), **_document(chain, request_id, posted)})
        return
    say(f"0x{request_id.hex()}")
    _show(chain, request_id, posted)


@app.command()
@fail_cleanly
def price(
    question_tokens: Annotated[int, typer.Option(help="Tokens of the question, about.", min=1, max=24_576)] = 64,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1, max=(1 << 17))] = 64,
    callback_gas: Annotated[int, typer.Option(help="Gas of the contract's callback.", min=0, max=2_000_000)] = 0,
    model: ModelName = None,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """Asks nodes what must wait for an answer of that size, as gas costs now, cheapest first."""
    from trine.chain import Role
    from trine.posted_price import ask_price

    chain = read_chain(rpc_url, deployment)
    nodes = [each for each in chain.operators(_model(chain, model).model_id, Role.NODE, 1) if each.calibrated]
    prices = ask_price([each.endpoint for each in nodes if each.endpoint], question_tokens, max_tokens, callback_gas)
    if not prices:
        raise NotReady("no node says what it takes for a posted request: none may answer any at present")
    if json:
        print_json([{"node": endpoint, "maxFeeWei": str(wei)} for wei, endpoint in prices])
        return
    for wei, endpoint in prices:
        say(f"{wei / 10**18:.6f} tokens  {endpoint}")


@app.command()
@fail_cleanly
def show(
    request_id: Name,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    json: AsJson = False,
) -> None:
    """Shows what became of a request."""
    name = _id(request_id)
    chain = read_chain(rpc_url, deployment)
    posted = _posted(chain, name)
    if json:
        print_json(_document(chain, name, posted))
    else:
        _show(chain, name, posted)


@app.command()
@fail_cleanly
def refund(
    request_id: Name,
    rpc_url: RpcUrl = DEFAULT_RPC_URL,
    deployment: DeploymentFile = DEFAULT_DEPLOYMENT,
    keystore: Keystore = None,
    password_file: PasswordFile = None,
    json: AsJson = False,
) -> None:
    """Has the fee of a request credited that nobody answered in time, and takes out what the account is credited with.

    Anyone may call it for anyone's request; only who asked gets the tokens. A contract fetches its own: see
    `refundQuestion` of TrineConsumer.sol.
    """
    name = _id(request_id)
    chain = account_chain(rpc_url, deployment, keystore, password_file)
    posted = _posted(chain, name)
    if posted.state.name == "OPEN":
        left = posted.deadline - chain.timestamp()
        if left >= 0:
            raise NotReady(f"the request may still be answered, for {left} s: come again after its deadline")
        chain.expire_request(name)
    mine = posted.requester.lower() == chain.address.lower()
    credit = chain.request_credit(chain.address) if mine else 0
    if credit:
        chain.withdraw_request_credit()
    if json:
        print_json({"withdrawnWei": str(credit), **_document(chain, name, _posted(chain, name))})
    elif mine:
        say(f"{tokens(credit)} tokens are back with {chain.address}" if credit else "nothing is left to be taken out")
    else:
        say(f"{posted.requester} is credited with it")


def _model(chain: Chain, name: str | None) -> ModelEntry:
    entries = chain.models()
    found = next((entry for entry in reversed(entries) if name in (None, entry.name)), None)
    if found is None:
        known = ", ".join(sorted({entry.name for entry in entries})) or "none"
        raise InvalidInput(f"no model {name!r} is registered on this chain; registered: {known}")
    return found


def _id(given: str) -> bytes:
    try:
        name = bytes.fromhex(given.removeprefix("0x"))
    except ValueError:
        name = b""
    if len(name) != 32:
        raise InvalidInput(f"{given!r} is no request's id: expected 0x and 64 hexadecimal digits")
    return name


def _posted(chain: Chain, request_id: bytes) -> Posted:
    posted = chain.posted_request(request_id)
    if posted is None:
        raise InvalidInput(f"no request 0x{request_id.hex()} was posted on this chain")
    return posted


def _fulfilment(chain: Chain, request_id: bytes, posted: Posted) -> Event | None:
    if posted.state.name != "FULFILLED":
        return None
    return chain.newest_event("Requests", "RequestFulfilled", requestId=request_id)


def _document(chain: Chain, request_id: bytes, posted: Posted) -> dict[str, Any]:
    document: dict[str, Any] = {
        "requestId": "0x" + request_id.hex(),
        "state": posted.state.name.lower(),
        "requester": posted.requester,
        "deadline": posted.deadline,
        "escrowWei": str(posted.escrow),
        "paidWei": str(posted.paid),
    }
    event = _fulfilment(chain, request_id, posted)
    if event is not None:
        document |= {
            "node": event.args["node"],
            "batchId": "0x" + bytes(event.args["batchId"]).hex(),
            "leaf": int(event.args["leafIndex"]),
            "answer": bytes(event.args["output"]).decode("utf-8", "replace"),
            "fulfilledBy": "0x" + event.transaction.hex(),
        }
    return document


def _show(chain: Chain, request_id: bytes, posted: Posted) -> None:
    event = _fulfilment(chain, request_id, posted)
    if event is not None:
        say(bytes(event.args["output"]).decode("utf-8", "replace"))
        note(f"answered by {event.args['node']} for {tokens(posted.paid)} tokens")
        note(f"transaction 0x{event.transaction.hex()}")
        return
    state = posted.state.name.lower()
    if state == "open" and chain.timestamp() > posted.deadline:
        again = f"trine request refund 0x{request_id.hex()}"
        say(f"nobody answered in time; `{again}` gets {tokens(posted.escrow)} tokens back")
    elif state == "open":
        say(f"open: {tokens(posted.escrow)} tokens wait, for {posted.deadline - chain.timestamp()} s more")
    else:
        say(f"{state}: nobody answered in time, {tokens(posted.escrow)} tokens are credited to {posted.requester}")
