"""Transactions by name. What becomes of a call is up to who writes: `Chain` sends it and waits for its receipt, `CALLS`
gives it back, for who queues it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from trine.chain.calls import checksum
from trine.chain.records import Seat, Verdict
from trine.chain.transactions import Call
from trine.protocol.header import Header
from trine.protocol.messages import Receipt, Request, Voucher
from trine.protocol.votes import Vote

R_co = TypeVar("R_co", covariant=True)


class Writes(Generic[R_co]):
    """All that takes one transaction, but what only a network's owner sends."""

    def _write(self, contract: str, function: str, *arguments: Any) -> R_co:
        raise NotImplementedError

    # Batches

    def anchor(self, model_id: bytes, root: bytes, canary: bytes, leaf_count: int) -> R_co:
        return self._write("Batches", "anchor", model_id, root, canary, leaf_count)

    def anchor_calibration(self, challenge_id: bytes, root: bytes, canary: bytes, output_tokens: int) -> R_co:
        return self._write("Batches", "anchorCalibration", challenge_id, root, canary, output_tokens)

    def draw(self, header: Header) -> R_co:
        return self._write("Batches", "draw", header.values())

    def expire(self, header: Header) -> R_co:
        return self._write("Batches", "expire", header.values())

    def commit(self, batch_id: bytes, seats: Sequence[Seat], seat: int, commitment: bytes) -> R_co:
        return self._write("Batches", "commit", batch_id, [s.values() for s in seats], seat, commitment)

    def reveal(
        self, header: Header, seats: Sequence[Seat], seat: int, vote: Vote, distance_ppm: int, salt: bytes
    ) -> R_co:
        drawn = [s.values() for s in seats]
        return self._write("Batches", "reveal", header.values(), drawn, seat, *vote.words, distance_ppm, salt)

    def settle(self, header: Header, seats: Sequence[Seat]) -> R_co:
        return self._write("Batches", "settle", header.values(), [s.values() for s in seats])

    def settle_signed(
        self, header: Header, seats: Sequence[Seat], epoch: int, result: Vote, keys: bytes, signature: bytes
    ) -> R_co:
        """All three seats' signature over the result, which has no unavailable leaf. `keys`: theirs, 256 bytes each,
        in order of the seats. `epoch`: the one whose weights drew them."""
        drawn, words = [s.values() for s in seats], (result.accepts, result.rejects)
        return self._write("Batches", "settleSigned", header.values(), drawn, epoch, *words, keys, signature)

    def finalize(self, batches: Sequence[tuple[Header, Sequence[Seat]]]) -> R_co:
        """Settled batches with their committees, whose time to appeal is over."""
        headers = [header.values() for header, _ in batches]
        return self._write("Finality", "finalize", headers, [[s.values() for s in seats] for _, seats in batches])

    def open_canaries(
        self,
        header: Header,
        leaves: int,
        salt: bytes,
        openings: Sequence[tuple[Any, ...]],
        signatures: Sequence[bytes],
    ) -> R_co:
        """`leaves`: bit i is leaf i. Openings as `Certificate.opening` has them, and their clients' signatures over
        `trine.protocol.canaries.digest`, one for each leaf, in order."""
        return self._write("Canaries", "open", header.values(), leaves, salt, list(openings), list(signatures))

    def claim_bounty(self, header: Header) -> R_co:
        """Has a batch's node paid for its confirmed canaries, once all is final."""
        return self._write("Examiners", "claim", header.values())

    # Appeals

    def appeal(self, header: Header, seats: Sequence[Seat], leaf: int, claim: Verdict) -> R_co:
        return self._write("Appeals", "appeal", header.values(), [s.values() for s in seats], leaf, int(claim))

    def appeal_again(self, batch_id: bytes, leaf: int, claim: Verdict) -> R_co:
        return self._write("Appeals", "appealAgain", batch_id, leaf, int(claim))

    def draw_appeal(self, header: Header, leaf: int, judges: Sequence[Sequence[Seat]]) -> R_co:
        """`judges`: the batch's seats, then those of the first appeal if this is the second."""
        shown = [[s.values() for s in seats] for seats in judges]
        return self._write("Appeals", "draw", header.values(), leaf, shown)

    def expire_appeal(self, batch_id: bytes, leaf: int) -> R_co:
        """Of a committee that was not drawn in time."""
        return self._write("Appeals", "expire", batch_id, leaf)

    def commit_appeal(self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, commitment: bytes) -> R_co:
        return self._write("Appeals", "commit", batch_id, leaf, [s.values() for s in seats], seat, commitment)

    def reveal_appeal(
        self, batch_id: bytes, leaf: int, seats: Sequence[Seat], seat: int, vote: int, salt: bytes
    ) -> R_co:
        return self._write("Appeals", "reveal", batch_id, leaf, [s.values() for s in seats], seat, int(vote), salt)

    def resolve_appeal(self, header: Header, leaf: int, seats: Sequence[Seat]) -> R_co:
        return self._write("Appeals", "resolve", header.values(), leaf, [s.values() for s in seats])

    def conclude_appeal(self, header: Header, leaf: int, committees: Sequence[Sequence[Seat]]) -> R_co:
        """`committees`: the batch's seats, then each level's."""
        shown = [[s.values() for s in seats] for seats in committees]
        return self._write("Appeals", "conclude", header.values(), leaf, shown)

    def withdraw_appeal_credit(self) -> R_co:
        return self._write("Appeals", "withdrawCredit")

    # Token and stake

    def transfer(self, to: str, amount: int) -> R_co:
        return self._write("TrineToken", "transfer", checksum(to), amount)

    def approve(self, spender: str, amount: int) -> R_co:
        return self._write("TrineToken", "approve", checksum(spender), amount)

    def stake(self, amount: int) -> R_co:
        return self._write("Staking", "stake", amount)

    def delegate(self, operator: str, amount: int, max_commission_bps: int) -> R_co:
        """Reverts if the operator keeps, or is going to keep, more than that of its rewards."""
        return self._write("Staking", "delegate", checksum(operator), amount, max_commission_bps)

    def open_delegation(self, limit: int, commission_bps: int) -> R_co:
        """Lets others delegate to the account, up to `limit` wei together; zero closes."""
        return self._write("Staking", "openDelegation", limit, commission_bps)

    def unbond(self, operator: str, amount: int) -> R_co:
        """Starts taking the account's stake with the operator out: its own, or what it delegated."""
        return self._write("Staking", "unbond", checksum(operator), amount)

    def withdraw_stake(self, operator: str) -> R_co:
        return self._write("Staking", "withdraw", checksum(operator))

    def set_commission(self, commission_bps: int) -> R_co:
        return self._write("Staking", "setCommission", commission_bps)

    def add_credit(self, amount: int) -> R_co:
        return self._write("Staking", "addCredit", amount)

    def withdraw_credit(self) -> R_co:
        return self._write("Staking", "withdrawCredit")

    def set_endpoint(self, endpoint: str) -> R_co:
        return self._write("Staking", "setEndpoint", endpoint)

    # Keys

    def set_key(self, key: bytes, proof: bytes) -> R_co:
        """Registers the account's BLS key in place of the one before, if any. See `verifier_keys.register_key`."""
        return self._write("VerifierKeys", "register", key, proof)

    # Payments

    def deposit(self, payee: str, amount: int) -> R_co:
        return self._write("Payments", "deposit", checksum(payee), amount)

    def request_withdrawal(self, payee: str, amount: int) -> R_co:
        return self._write("Payments", "requestWithdrawal", checksum(payee), amount)

    def withdraw_deposit(self, payee: str) -> R_co:
        return self._write("Payments", "withdraw", checksum(payee))

    def collect(self, voucher: Voucher, signature: bytes) -> R_co:
        """Collects what the voucher acknowledges."""
        return self._write("Payments", "collect", voucher.values(), signature)

    def collect_opened(
        self,
        voucher: Voucher,
        signature: bytes,
        requests: Sequence[Request],
        openings: Sequence[tuple[Any, ...]],
    ) -> R_co:
        """The same, and accepted answers to later orders besides. See `Certificate.opening`."""
        asked = [request.values() for request in requests]
        return self._write("Payments", "collectOpened", voucher.values(), signature, asked, list(openings))

    def refund(self, batch_id: bytes, opening: tuple[Any, ...]) -> R_co:
        """Refunds a rejected answer out of the node's stake, once its verdict is final. See `Certificate.opening`."""
        return self._write("Payments", "refund", batch_id, opening)

    # Requests

    def fulfil_request(self, request_id: bytes, batch_id: bytes, opening: tuple[Any, ...], output: bytes) -> R_co:
        """Brings the accepted answer to a posted request. See `Certificate.opening`; `output` is its text, UTF-8."""
        return self._write("Requests", "fulfil", request_id, batch_id, opening, output)

    def expire_request(self, request_id: bytes) -> R_co:
        """Credits the requester with the fee of a request that nobody has answered in time."""
        return self._write("Requests", "expire", request_id)

    def withdraw_request_credit(self) -> R_co:
        return self._write("Requests", "withdrawCredit")

    # Inclusion

    def claim_inclusion(self, receipt: Receipt, signature: bytes) -> R_co:
        """Claims that the receipt is in no batch; `signature` is the node's. Takes the bond."""
        return self._write("Inclusion", "claim", receipt.values(), signature)

    def answer_inclusion(self, opening: tuple[Any, ...]) -> R_co:
        """Shows the receipt of an open claim in a batch."""
        return self._write("Inclusion", "answer", opening)

    def conclude_inclusion(self, receipt: Receipt) -> R_co:
        """Slashes the node that has not answered a claim in time."""
        return self._write("Inclusion", "conclude", receipt.values())

    # ERC-8004

    def register_agent(self, uri: str) -> R_co:
        """Mints an agent whose owner and wallet is the account. See `AgentCalls.registry`, to be asked before."""
        return self._write("Erc8004Identity", "register", uri)

    def set_agent_uri(self, agent_id: int, uri: str) -> R_co:
        return self._write("Erc8004Identity", "setAgentURI", agent_id, uri)

    def approve_for_agent(self, agent_id: int, spender: str) -> R_co:
        """Makes somebody an operator of this one agent, in the place of who was that; zero: nobody."""
        return self._write("Erc8004Identity", "approve", checksum(spender), agent_id)

    def link_agent(self, agent_id: int) -> R_co:
        """Tells the adapter that the account's work is this agent's."""
        return self._write("Erc8004Adapter", "link", agent_id)

    def unlink_agent(self) -> R_co:
        return self._write("Erc8004Adapter", "unlink")

    def publish(self, header: Header, salt: bytes = bytes(32)) -> R_co:
        """Has the verdict of a settled batch of an operator with an agent in the validation registry."""
        return self._write("Erc8004Adapter", "publishUnder", header.values(), salt)

    def give_feedback(self, batch_id: bytes, opening: tuple[Any, ...], value: int, decimals: int, tag: str) -> R_co:
        """Of the client of an answer, once it was judged. See `Certificate.opening`."""
        return self._write("Erc8004Adapter", "giveFeedback", batch_id, opening, value, decimals, tag)


class _Named(Writes[Call]):
    def _write(self, contract: str, function: str, *arguments: Any) -> Call:
        return Call(contract, function, arguments)


CALLS: Writes[Call] = _Named()
