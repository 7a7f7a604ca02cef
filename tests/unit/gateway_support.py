"""A gateway on a loopback port before real nodes' services; of the chain only what a client reads is stood in for."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from eth_account import Account as EthAccount
from test_client_parallel import FakeChain
from test_node_support import MESSAGES, NAME, RECORD

from trine import AsyncClient
from trine._core import Core
from trine._http import Http
from trine_gateway.records import Kept
from trine_gateway.service import create_app
from trine_gateway.settings import GatewaySettings
from trine_gateway.store import GatewayStore
from trine_operator.batcher import Batcher
from trine_operator.process import BackgroundServer

REQUIRED = {"deployment": "d.json", "keystore": "k.json", "password_file": "p"}
TOKENS = 10**18
CHAT = "/v1/chat/completions"
REGISTERED_AT = 1_700_000_000


class GatewayChain(FakeChain):
    """Also says which verdicts are final, and what time the last block has."""

    def timestamp(self):
        return self.now()

    def registered_at(self, model_ids):
        return dict.fromkeys(model_ids, REGISTERED_AT)

    def verdict(self, batch_id, leaf):
        result = self._node.chain.result(batch_id)
        return result.on(leaf), result.is_final


@dataclass
class Gateway:
    url: str
    store: GatewayStore
    client: AsyncClient
    app: Any
    http: httpx2.Client

    def key(self, name: str = "somebody", **options: Any) -> str:
        options = {"budget_wei": None, "requests_per_minute": 10_000, **options}
        return self.store.add_key(name, **options)[1]

    def stock(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key(), max_retries=0)

    def usage(self, key: str) -> dict[str, Any]:
        return self.http.get("/usage", headers=bearer(key)).json()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def client_before(*places: tuple[str, str], node: Any, timeout: float = 60.0) -> AsyncClient:
    """A client of nodes at these (address, endpoint); `node`'s chain is read."""
    made: AsyncClient = object.__new__(AsyncClient)
    chain = GatewayChain(node, EthAccount.create())
    core = Core(chain, None, 0)
    core.nodes = lambda *_: list(places)  # type: ignore[method-assign]
    made._set(chain, core, Http(timeout), timeout)
    return made


@contextmanager
def gateway_before(node: Any, folder: Path | str, *places: tuple[str, str], store_url: str = "", **settings: Any):
    """A gateway before a node's service, or before nodes at these places."""
    chosen = GatewaySettings.load(None, **{**REQUIRED, **settings})
    store = GatewayStore(store_url or f"sqlite:///{folder}/gateway.sqlite")
    client = client_before(*(places or ((node.chain.address, node.url),)), node=node)
    app = create_app(client, store, chosen)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = BackgroundServer(app, "127.0.0.1", port)
    server.start()
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, timeout=60) as http:
            yield Gateway(url, store, client, app, http)
    finally:
        app.state.openai.closing = True
        server.stop()
        store.close()


def seal(node: Any) -> bytes:
    """The node's answers go into a batch; returns its id."""
    batcher = Batcher(node.store, node.chain, node.chain.outbox, RECORD.model_id, max_leaves=256, max_wait_seconds=0)
    batcher.step()
    return node.store.open_batches()[-1].batch_id


def body(max_tokens: int = 4, **fields: Any) -> dict[str, Any]:
    """A chat's request."""
    return {"model": NAME, "messages": MESSAGES, "max_tokens": max_tokens, **fields}


def post(
    gateway: Gateway, key: str, path: str = CHAT, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    """Sends the fields, or a chat's request without any."""
    return gateway.http.post(path, json=fields or body(), headers={**bearer(key), **(headers or {})})


def kept(number: int, fee: int = 1) -> Kept:
    """An answer, as far as a store minds."""
    return Kept(number.to_bytes(32, "big"), "m", "0x" + "11" * 20, "{}", fee)
