"""Clients that ask one node, again and again, and keep every answer that they hold a receipt for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from trine import Answer, Client
from trine.errors import NotReady, TrineError
from trine_devnet.network import TOKEN, Devnet

DEPOSIT = 200 * TOKEN
TIMEOUT_SECONDS = 60.0
"""For one order, with all that it is tried again."""
AFTER_ERROR_SECONDS = 1.0
JOIN_SECONDS = 90.0
FIRST_SECONDS = 180.0
QUESTIONS = (
    "Name a river in {}.",
    "Name a colour, and a thing in {} that has it.",
    "Who lives in {}?",
    "What grows in {}?",
    "Is it cold in {}?",
)
PLACES = ("France", "Peru", "Kenya", "Japan", "Iceland", "Egypt", "Canada", "Fiji")


@dataclass(frozen=True, slots=True)
class Held:
    """An answer whose receipt a client has checked, and when, in seconds since the start."""

    client: str
    answer: Answer
    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An order that came to nothing. `is_foreseen`: it is one of the errors that clients are told of."""

    client: str
    error: str
    is_foreseen: bool
    at: float


class Traffic:
    """Use as a context manager: leaving it ends the orders."""

    def __init__(self, net: Devnet, node: str, clients: int, max_tokens: int, pause_seconds: float) -> None:
        self.held: list[Held] = []
        self.failed: list[Failed] = []
        self.accounts: dict[str, LocalAccount] = {}
        self._net, self._node = net, node
        self._max_tokens, self._pause_seconds = max_tokens, pause_seconds
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._threads = []
        for number in range(clients):
            name = f"client-{number + 1}"
            self.accounts[name] = net.create_client(name, 2 * DEPOSIT)
            self._threads.append(threading.Thread(target=self._ask_on, args=(name,), name=name, daemon=True))

    def __enter__(self) -> Traffic:
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Asks nothing more, and waits for what was asked."""
        self._stop.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def wait_for(self, answers: int) -> None:
        """Until clients hold so many. Raises NotReady."""
        deadline = time.monotonic() + FIRST_SECONDS
        while len(self.held) < answers:
            if time.monotonic() > deadline:
                raise NotReady(f"{len(self.held)} of {answers} answers in {FIRST_SECONDS:.0f} s: {dict(self.errors)}")
            time.sleep(0.1)

    @property
    def errors(self) -> Counter[str]:
        return Counter(failed.error for failed in list(self.failed))

    def client(self, name: str) -> Client:
        """To be closed by who asks for it."""
        return Client(
            rpc_url=self._net.rpc_url,
            deployment=self._net.deployment_file,
            account=self.accounts[name],
            node=self._net.operators[self._node].endpoint,
            deposit_wei=DEPOSIT,
            timeout=TIMEOUT_SECONDS,
        )

    def _ask_on(self, name: str) -> None:
        client: Client | None = None
        asked = 0
        while not self._stop.is_set():
            question = QUESTIONS[asked % len(QUESTIONS)].format(PLACES[asked // len(QUESTIONS) % len(PLACES)])
            pause = self._pause_seconds
            try:
                client = client or self.client(name)
                answer = client.chat(question, max_tokens=self._max_tokens)
                self.held.append(Held(name, answer, self._now()))
                asked += 1
            except TrineError as error:
                self._fail(name, type(error).__name__, error, is_foreseen=True)
                pause = AFTER_ERROR_SECONDS
            except Exception as error:  # noqa: BLE001  (a finding: clients are promised TrineErrors; the run goes on)
                self._fail(name, type(error).__name__, error, is_foreseen=False)
                pause = AFTER_ERROR_SECONDS
            self._stop.wait(pause)
        if client:
            client.close()

    def _fail(self, name: str, kind: str, error: Exception, *, is_foreseen: bool) -> None:
        self.failed.append(Failed(name, f"{kind}: {str(error)[:120]}", is_foreseen, self._now()))

    def _now(self) -> float:
        return time.monotonic() - self._started
