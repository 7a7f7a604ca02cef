"""An examiner's process: a node's, with planting and opening beside it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from eth_account.signers.local import LocalAccount

from trine import Client
from trine.chain.keystore import load_keystore
from trine.errors import InvalidInput
from trine.protocol.evidence import Anchor
from trine.protocol.inputs import Input
from trine.protocol.policy import Policy
from trine.protocol.verdict import Outcome
from trine_node.engines.base import Engine
from trine_node.run import Extension, run_node
from trine_operator.opening import Operator
from trine_operator.store import Store, StoredAnswer
from trine_research.examining.opening import Committing, Opening
from trine_research.examining.planting import Habits, Planting, PlantingEngine
from trine_research.examining.prompts import corpus, everyday
from trine_research.examining.record import Record
from trine_research.examining.settings import ExaminerSettings
from trine_verifier.checking import check_leaf


def run_examiner(settings: ExaminerSettings) -> None:
    """Serves, plants and opens until SIGTERM or SIGINT. Raises InvalidInput before anything is begun."""
    opened = [load_keystore(file, settings.password_file) for file in settings.clients]
    clients = {str(account.address): account for account in opened}
    if str(load_keystore(settings.keystore, settings.password_file).address) in clients:
        raise InvalidInput("clients: the node's own key is among them, and everybody knows whose that is: take another")
    lot = random.SystemRandom()
    prompts = corpus(settings.prompts, lot) if settings.prompts else everyday(lot)
    record = Record(settings.record)

    def extend(operator: Operator[Engine, Store]) -> Extension:
        chain = operator.chain
        engine = PlantingEngine(operator.engine)
        ordering = Ordering(settings, clients, record)
        habits = Habits(settings.order_seconds, settings.canary_rate, settings.answer_tokens, settings.kinds)
        planting = Planting(engine, record, prompts, habits, ordering, lot)
        opening = Opening(
            chain,
            operator.store,
            operator.outbox,
            record,
            operator.model.model_id,
            clients,
            partial(_is_bad, operator),
        )
        return Extension(
            wrap_engine=lambda _honest: engine,
            commit=Committing(chain, record, frozenset(clients)),
            steps={"planting": planting.step, "opening": opening.step},
        )

    run_node(settings, extend=extend)


class Ordering:
    """Orders as a client that nobody knows as the examiner's yet; as the last one when all are known."""

    def __init__(self, settings: ExaminerSettings, accounts: Mapping[str, LocalAccount], record: Record) -> None:
        self._settings = settings
        self._accounts = accounts
        self._record = record
        self._opened: dict[str, Client] = {}

    def __call__(self, prompt: Input, max_tokens: int) -> None:
        """Raises TrineError. The input goes as it is: with the salt by which it is known again."""
        self._client(self._address()).chat(prompt, model=self._settings.model, max_tokens=max_tokens)

    def _address(self) -> str:
        *_, last = self._accounts
        return next((each for each in self._accounts if not self._record.is_known(each)), last)

    def _client(self, address: str) -> Client:
        if address not in self._opened:
            settings = self._settings
            self._opened[address] = Client(
                rpc_url=settings.rpc_url,
                deployment=settings.deployment,
                account=self._accounts[address],
                node=settings.endpoint,
                deposit_wei=settings.deposit_wei,
            )
        return self._opened[address]


def _is_bad(operator: Operator[Engine, Store], answer: StoredAnswer, anchor: Anchor) -> bool:
    """As a verifier of the examiner's own class would judge it, by the policy of now."""
    if answer.leaf is None:
        return False
    batch = operator.store.batch(answer.batch_id) if answer.batch_id else None
    if batch is None:
        return False
    policy = Policy.from_bytes(operator.model.policy)
    leaf = batch.leaves[answer.leaf]
    verdict = check_leaf(answer.evidence, answer.leaf, leaf, anchor, operator.engine, policy)
    return verdict.outcome is Outcome.REJECT
