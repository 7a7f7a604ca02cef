"""Whether a posted request is worth an answer, when, and for how much. Pure; amounts in wei of the token unless said
otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from eth_utils.crypto import keccak

from trine.chain import Parameters
from trine.protocol.messages import ZERO_ADDRESS
from trine.protocol.requests import MAX_OUTPUT_BYTES, Order

FULFIL_GAS = 260_000
"""What `Requests.fulfil` takes besides the callback and the answer's text (docs/gas.md), a deep proof and a pool with
delegators included."""
GAS_PER_BYTE = 64
"""Of the answer's text: as calldata (EIP-7623's floor), hashed, in the event, and handed to the callback."""
CALLBACK_DENOMINATOR = 63
"""A call is given at most 63 of 64 parts of the gas that is left."""
BYTES_PER_TOKEN = 8
"""Of text, reckoned before there is any. What is longer costs more, and is given up where the escrow has no more."""
CHARACTERS_PER_TOKEN = 2
"""Of a prompt, reckoned before it is rendered; few texts have less."""
GAS_PRICE_MARGIN = 2
"""Gas may be so many times as dear when the answer is brought, after its verdict."""
MICRO = 10**6


@dataclass(frozen=True, slots=True)
class Terms:
    """What this node asks for."""

    node: str
    model_id: bytes
    price_per_token_wei: int
    least_profit_wei: int
    coin_micro: int  # what one coin of gas money is worth in tokens, in millionths
    max_callback_gas: int
    max_tokens: int
    batch_wait_seconds: int
    margin_seconds: int

    def gas_cost(self, gas: int, gas_price_wei: int) -> int:
        """What so much gas costs, in wei of the token, rounded up. `gas_price_wei`: of the chain's coin."""
        return -(-gas * gas_price_wei * self.coin_micro // MICRO)


@dataclass(frozen=True, slots=True)
class Costs:
    """What others ask for now."""

    gas_price_wei: int  # of the chain's coin
    verifiers_leaf_wei: int  # what a committee takes for a leaf, and for each of its tokens
    verifiers_token_wei: int


class Ruling(Enum):
    """What to do with a request now."""

    ANSWER = "answer"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    ruling: Ruling
    why: str = ""


ANSWER = Decision(Ruling.ANSWER)


def fulfil_gas(callback_gas: int, output_bytes: int) -> int:
    """Gas that bringing an answer takes, at most."""
    reserved = -(-callback_gas * (CALLBACK_DENOMINATOR + 1) // CALLBACK_DENOMINATOR)
    return FULFIL_GAS + reserved + output_bytes * GAS_PER_BYTE


def charge(terms: Terms, costs: Costs, callback_gas: int, tokens: int, output_bytes: int) -> int:
    """What an answer of so many tokens, its prompt's included, costs besides them: the gas that brings it, the fee of
    those who check it, and the least profit.

    Whoever asks chooses the callback's gas, so whoever asks pays for it: a price of tokens alone could be made a loss
    by a short answer with a dear callback.
    """
    gas = fulfil_gas(callback_gas, output_bytes)
    committee = costs.verifiers_leaf_wei + tokens * costs.verifiers_token_wei
    return terms.gas_cost(gas, GAS_PRICE_MARGIN * costs.gas_price_wei) + committee + terms.least_profit_wei


def worst_fee(terms: Terms, costs: Costs, prompt_tokens: int, max_tokens: int, callback_gas: int) -> int:
    """What the answer may cost: as many tokens as are asked for, of the usual length."""
    output_bytes = min(max_tokens * BYTES_PER_TOKEN, MAX_OUTPUT_BYTES)
    tokens = prompt_tokens + max_tokens
    return terms.price_per_token_wei * tokens + charge(terms, costs, callback_gas, tokens, output_bytes)


def surplus(terms: Terms, costs: Costs, order: Order) -> int:
    """What is offered over what the answer will cost, by the length of its input: the order in which they go."""
    prompt_tokens = len(order.input) // CHARACTERS_PER_TOKEN
    return order.max_fee_wei - worst_fee(terms, costs, prompt_tokens, order.max_tokens, order.callback_gas)


def concerns(terms: Terms, order: Order, now: int) -> bool:
    """Whether a request is for this node at all, and still open: the rest is not even kept."""
    mine = order.node.lower() in (ZERO_ADDRESS, terms.node.lower())
    return mine and order.model_id == terms.model_id and order.deadline > now


def needed_seconds(terms: Terms, chain: Parameters, order: Order) -> int:
    """From the decision to answer until the answer can be brought, with one appeal where the verdict must be final."""
    vote = chain.commit_seconds + chain.reveal_seconds
    settled = terms.batch_wait_seconds + vote + terms.margin_seconds
    return settled + (vote + 2 * chain.appeal_window_seconds if order.wait_for_final else 0)


def ranking(order: Order, nodes: Sequence[str]) -> list[str]:
    """The nodes that could answer a request for any, lower-case, in the order of their turns: by lot for each request.

    The lot is a hash of the request's id, which nobody knows before it is posted, and the node's address.
    """

    def lot(node: str) -> bytes:
        return bytes(keccak(order.request_id + bytes.fromhex(node.removeprefix("0x"))))

    return sorted({node.lower() for node in nodes}, key=lot)


def turn_of(order: Order, node: str, ranked: Sequence[str]) -> int:
    """The node's place in a `ranking`, from zero. A node that is named comes first, one that is not listed last."""
    if order.node.lower() == node.lower():
        return 0
    return ranked.index(node.lower()) if node.lower() in ranked else len(ranked)


def decide(
    terms: Terms,
    costs: Costs,
    chain: Parameters,
    order: Order,
    *,
    prompt_tokens: int,
    since: int,
    turn_seconds: int,
    turn: int,
    now: int,
) -> Decision:
    """Whether to answer now. `since`, when the request was first seen to stay, and `now`: the chain's seconds."""
    if order.max_tokens > terms.max_tokens:
        return _refused(f"{order.max_tokens} tokens are asked for, this node gives {terms.max_tokens}")
    if order.callback_gas > terms.max_callback_gas:
        return _refused(f"a callback with {order.callback_gas} gas, this node brings up to {terms.max_callback_gas}")
    worst = worst_fee(terms, costs, prompt_tokens, order.max_tokens, order.callback_gas)
    if worst > order.max_fee_wei:
        return _refused(f"it may cost {worst} wei, {order.max_fee_wei} wait for the answer")
    if worst > chain.stake_per_leaf:
        return _refused(f"it may cost {worst} wei, more than the stake behind an answer, {chain.stake_per_leaf}")
    starts = since + turn * turn_seconds
    if max(starts, now) + needed_seconds(terms, chain, order) > order.deadline:
        return _refused(f"no verdict is certain by the deadline, {order.deadline}")
    return ANSWER if now >= starts else Decision(Ruling.WAIT, f"{turn} nodes come first")


def fee_of(terms: Terms, costs: Costs, order: Order, tokens: int, output_bytes: int) -> int | None:
    """What the receipt of the finished answer says; None when the escrow does not pay for it."""
    if output_bytes > MAX_OUTPUT_BYTES:
        return None
    fee = terms.price_per_token_wei * tokens + charge(terms, costs, order.callback_gas, tokens, output_bytes)
    return fee if fee <= order.max_fee_wei else None


def is_worth_bringing(terms: Terms, costs: Costs, order: Order, fee_wei: int, output_bytes: int) -> bool:
    """Whether the fee pays for the gas as it is now. If not it waits: what the answer cost is spent in any case."""
    return terms.gas_cost(fulfil_gas(order.callback_gas, output_bytes), costs.gas_price_wei) <= fee_wei


def kept(waiting: Sequence[tuple[bytes, int]], limit: int) -> set[bytes]:
    """Of requests with their surplus, those that stay in a queue of that length: the best paid, then the oldest."""
    ranked = sorted(enumerate(waiting), key=lambda entry: (-entry[1][1], entry[0]))
    return {request_id for _, (request_id, _) in ranked[:limit]}


def _refused(why: str) -> Decision:
    return Decision(Ruling.REFUSE, why)
