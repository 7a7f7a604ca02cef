"""web3 over the endpoints that everything else reads from: it fails over with them, within the same bounds."""

from __future__ import annotations

import json
from typing import Any, cast

from web3 import Web3
from web3.middleware import ExtraDataToPOAMiddleware
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from trine.chain.endpoints import Endpoints
from trine.chain.views import CODEC


class EndpointsProvider(JSONBaseProvider):
    """Asks with patience, but for logs, whose reader has its own. Sends transactions to all endpoints."""

    global_ccip_read_enabled = False  # an endpoint must not make us fetch addresses that it names (EIP-3668)

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__()
        self._endpoints = endpoints

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Raises EndpointFailed, which is an OSError."""
        encoded = json.loads(self.encode_rpc_request(method, params))["params"]  # web3's types, as JSON has them
        if method == "eth_sendRawTransaction":
            answer = self._endpoints.broadcast(encoded[0])
        else:
            answer = self._endpoints.call(method, encoded, patient=method != "eth_getLogs")
        return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, **answer})


def web3_over(endpoints: Endpoints) -> Web3:
    """Proof-of-authority chains put more into `extraData` than web3 takes without the middleware. Strings that are no
    UTF-8 are read as `views` does: one operator's must not spoil an event or an answer for all."""
    web3 = Web3(EndpointsProvider(endpoints))
    web3.codec = CODEC
    web3.middleware_onion.inject(cast(Any, ExtraDataToPOAMiddleware), layer=0)
    return web3
