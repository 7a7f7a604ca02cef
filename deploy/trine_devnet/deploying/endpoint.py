"""The JSON-RPC endpoint that Ignition talks to while it deploys: the network's, but that it signs, by the rules.

On the loopback interface, under a path that nobody else knows, for as long as the deployment runs.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from trine.errors import ChainError, InvalidInput, TrineError
from trine_devnet.deploying.facts import Endpoint
from trine_devnet.deploying.record import Record, Sent
from trine_devnet.deploying.rules import checked_transaction, contract_of
from trine_devnet.deploying.signing import Signer, Transaction, checked

MAX_BODY_BYTES = 1 << 20
MAX_CALLS = 64
READ_SECONDS = 30.0
REFUSED = -32_000
FORBIDDEN = ("eth_sign", "eth_sendRaw", "personal_", "account_", "debug_", "admin_", "miner_", "anvil_", "evm_")
"""Prefixes of methods that are nobody's business here."""


class SigningEndpoint:
    """Use as a context manager. `told` gets a line for every transaction that is sent."""

    def __init__(
        self, network: Endpoint, signer: Signer, record: Record, rules: dict[str, Any], told: Callable[[str], None]
    ) -> None:
        """`rules`: keyword arguments of `checked_transaction`."""
        self._network = network
        self._signer = signer
        self._record = record
        self._rules = rules
        self._told = told
        self._lock = threading.Lock()
        self._path = f"/{secrets.token_hex(16)}"
        self._server = _Server(self.answer, self._path)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.refusals: list[str] = []
        """Why something was not sent, in the order in which it was asked for."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self._path}"

    def answer(self, document: Any) -> Any:
        """A JSON-RPC answer, or a list of them."""
        calls = document if isinstance(document, list) else [document]
        if not calls or len(calls) > MAX_CALLS or not all(isinstance(call, dict) for call in calls):
            return _refusal(None, "a request is a call, or a list of a few")
        answers = [self._answer(call) for call in calls]
        return answers if isinstance(document, list) else answers[0]

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        number, method, parameters = call.get("id"), call.get("method"), call.get("params", [])
        if not isinstance(method, str) or not isinstance(parameters, list):
            return _refusal(number, "a call has a method and a list of parameters")
        try:
            return {"jsonrpc": "2.0", "id": number, "result": self._result(method, parameters)}
        except TrineError as error:
            return _refusal(number, str(error))

    def _result(self, method: str, parameters: list[Any]) -> Any:
        if method in ("eth_accounts", "eth_requestAccounts"):
            return [self._signer.address]
        if method == "eth_sendTransaction":
            return self._send(parameters[0] if parameters else None)
        if method.startswith(FORBIDDEN):
            raise InvalidInput(f"{method} is not offered while a deployment runs")
        return self._network.ask(method, *parameters)

    def _send(self, asked: Any) -> str:
        try:
            with self._lock:  # one at a time: a person may be confirming on a device
                transaction = checked_transaction(asked, **self._rules)
                sent = self._record.same(transaction) or self._signed(transaction)
                return self.hand_over(sent)
        except TrineError as error:
            self.refusals.append(str(error))
            raise

    def _signed(self, transaction: Transaction) -> Sent:
        raw = checked(self._signer.sign(transaction), transaction, self._signer.address)
        sent = Sent(transaction["nonce"], contract_of(transaction), transaction, raw)
        self._record.add(sent)
        return sent

    def hand_over(self, sent: Sent) -> str:
        """Sends what was signed, again if need be. Raises ChainError."""
        try:
            self._network.ask("eth_sendRawTransaction", "0x" + sent.raw.hex())
        except ChainError:
            # It may be there already: handed over before a crash, or the endpoint's answer was lost.
            if self._network.ask("eth_getTransactionByHash", sent.hash) is None:
                raise
        self._told(f"sent: {sent.contract}, nonce {sent.nonce}, {sent.hash}")
        return sent.hash


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Any], Any], path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.path = path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = READ_SECONDS
    server: _Server

    def do_POST(self) -> None:
        # What is refused is read, too, up to a bound: closing before can take the answer from who is still sending.
        given = self.headers.get("content-length", "")[:20]
        body = self.rfile.read(min(int(given), MAX_BODY_BYTES + 1)) if given.isdecimal() else b""
        if not hmac.compare_digest(self.path.encode(), self.server.path.encode()):
            self._send(404, b"")
            return
        try:
            if not 0 < len(body) <= MAX_BODY_BYTES:
                raise ValueError
            document = json.loads(body)
        except (ValueError, RecursionError):
            self._send(400, b"")
            return
        self._send(200, json.dumps(self.server.answer(document)).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if status != 200:
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The path is a secret."""


def _refusal(number: Any, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": REFUSED, "message": message}}
