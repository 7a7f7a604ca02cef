"""`Requests`: what contracts, or anyone, ask by a transaction."""

from __future__ import annotations

from trine.chain.calls import Calls, checksum
from trine.errors import ChainError
from trine.protocol.requests import Order, Posted, RequestState


class RequestCalls(Calls):
    """Reads and writes `Requests`."""

    def posted_request(self, request_id: bytes) -> Posted | None:
        """None for an id under which nothing was posted."""
        posted = self._record(Posted, "Requests", "requestOf", request_id)
        return None if posted.state is RequestState.NONE else posted

    def request_credit(self, account: str) -> int:
        """What is left of the account's fees and can be withdrawn, wei."""
        return int(self._read("Requests", "creditOf", checksum(account)))

    def post_request(self, order: Order) -> tuple[bytes, bytes]:
        """Posts the order, whose own id is not looked at, from the account, which has allowed `Requests` its fee.
        Returns the id that it got, and the transaction."""
        from web3.logs import DISCARD

        receipt = self._write("Requests", "post", order.values())
        found = self._contract("Requests").events.RequestPosted().process_receipt(receipt, DISCARD)
        if not found:
            raise ChainError("post: the receipt shows no RequestPosted event")
        return bytes(found[0]["args"]["requestId"]), bytes(receipt["transactionHash"])
