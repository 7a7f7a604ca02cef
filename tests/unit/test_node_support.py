"""What the node's tests share: a real engine that is small enough for a test, a real server, a recording chain.

The engine is `TransformersEngine` over a Llama of two narrow layers with fixed random weights and the model's
own tokenizer. `RecordingChain` stands in for the chain where only HTTP and validation are tested; tests/e2e has the
real one.
"""

import copy
import functools
import secrets
import socket
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace

import httpx2
import torch
from eth_account import Account as EthAccount
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from trine.chain import (
    Account,
    AppealCase,
    AppealLevel,
    AppealPhase,
    Batch,
    BatchState,
    Header,
    Marks,
    Model,
    Parameters,
    Result,
    Seat,
    Verdict,
)
from trine.chain.follower import Head
from trine.models import load_record
from trine.protocol.access import access_header, account_digest
from trine.protocol.committee import FOR_EVER, Member
from trine.protocol.inputs import chat_input, text_input
from trine.protocol.messages import ZERO_ADDRESS, Domain, Request, Voucher
from trine_node.answering import Answering
from trine_node.engines.transformers_engine import TransformersEngine
from trine_node.models import prepare
from trine_node.orders import Order
from trine_node.service import create_app
from trine_node.settings import Limits
from trine_operator.process import BackgroundServer
from trine_operator.store import Store, sealed_batch

RECORD = load_record("smollm2-135m-instruct")
NAME = RECORD.name
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Name three primary colours."}]
PRICE_WEI = 10
WINDOW = 256
REVEAL_SECONDS = 60
APPEAL_SECONDS = 600
FEE_PER_LEAF = 30
MAX_BATCH_TOKENS = 65_536
# Only what the node reads of them is not zero.
PARAMETERS = Parameters(
    **{
        **{field.name: 0 for field in fields(Parameters)},
        "reveal_seconds": REVEAL_SECONDS,
        "appeal_window_seconds": APPEAL_SECONDS,
        "verifier_fee_per_leaf": FEE_PER_LEAF,
        "max_batch_tokens": MAX_BATCH_TOKENS,
        "check_tokens_per_second": 1000,
        "prompts_per_challenge": 1,
    }
)


@functools.cache
def engine():
    """Never stops by itself: its weights predict no end of sequence."""
    tokenizer = AutoTokenizer.from_pretrained(prepare(RECORD.source), local_files_only=True)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    model = LlamaForCausalLM(config).requires_grad_(False).train(False)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    return TransformersEngine(model, tokenizer, model_name=NAME, model_id=RECORD.model_id, dtype="fp32")


class SlowEngine:
    """The engine, at a given pace: a test needs time to interfere."""

    def __init__(self, seconds_per_token):
        self._engine = engine()
        self._seconds = seconds_per_token
        self.produced = 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def generate(self, prompt_ids, max_tokens, cancelled=None, decoding=None):
        for step in self._engine.generate(prompt_ids, max_tokens, cancelled, decoding):
            time.sleep(self._seconds)
            self.produced += 1
            yield step


def model(price_per_token_wei=PRICE_WEI):
    return Model(
        model_id=RECORD.model_id,
        name=NAME,
        source=RECORD.source,
        content_hash=bytes(32),
        manifest=RECORD.manifest,
        policy=RECORD.policy,
        policy_version=1,
        policy_block=1,
        prompts=RECORD.prompts,
        prompt_count=RECORD.prompt_count,
        price_per_token_wei=price_per_token_wei,
    )


class RecordingOutbox:
    """Notes what is submitted with the chain; its transactions are over at once."""

    def __init__(self, chain):
        self._chain = chain
        self.acts = []
        self.in_flight = frozenset()

    def submit(self, act):
        self._chain._send(act.call.function, *act.call.arguments)
        self.acts.append(act)

    def open_names(self):
        return self.in_flight


@dataclass
class RecordingChain:
    """Answers from its fields, notes what was sent."""

    signer: object = field(default_factory=EthAccount.create)
    balance: int = 10**18
    leaving: int = 0
    collected_wei: int = 0
    as_of: int = 0  # the latest that was presented
    opened: tuple = ()  # hashes of orders
    committee: tuple = ()
    appeal_committee: tuple = ()
    marked: dict = field(default_factory=dict)  # by batch: its marks
    batches: dict = field(default_factory=dict)
    sent: list = field(default_factory=list)
    verifiers: tuple = ("0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20)
    next_verifiers: tuple | None = None  # of the next epoch, if others
    calibrated_until: int = FOR_EVER
    credit: int = 10**18
    tokens: int = 10**18
    results: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)  # by name of the transaction: what it raises
    block: int = 100
    max_batch_tokens: int = MAX_BATCH_TOKENS
    stake_per_leaf: int = 10**18
    seed: object = True  # whether there is one to draw by, or why not
    seconds: int = 1_000  # its time; nowhere near the machine's, which must not matter

    allowed: int = 0

    class deployment:  # noqa: N801
        block, chain_id = 0, 31337

        @staticmethod
        def address(_name):
            return "0x" + "44" * 20

    domain = Domain(31337, "0x5FbDB2315678afecb367f032d93F642f64180aa3")
    payments_domain = Domain(31337, "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512")

    @property
    def address(self):
        return self.signer.address

    def sign(self, digest):
        return bytes(self.signer.unsafe_sign_hash(digest).signature)

    def registered_at(self, model_ids):
        return dict.fromkeys(model_ids, 1_700_000_000)

    def account(self, _payer, _payee):
        return Account(self.balance, self.collected_wei, self.leaving, 0, self.as_of)

    def is_opened(self, _payee, request_hash):
        return request_hash in self.opened

    def seats(self, _batch):
        return tuple(Seat(address, 0) for address in self.committee)

    def batch(self, batch_id):
        return self.batches.get(batch_id) or chain_batch(batch_id)

    def appeal_case(self, batch_id, leaf):
        none = AppealLevel(ZERO_ADDRESS, Verdict.NONE, Verdict.NONE, 0, False, 0, 0, 0, 0, 0, 0)
        level = 1 if self.appeal_committee else 0
        phase = AppealPhase.DRAWN if level else AppealPhase.NONE
        return AppealCase(batch_id, leaf, phase, level, 1, 0, Verdict.ACCEPTED, (none, none))

    def appeal_seats(self, _case, _level):
        return tuple(Seat(address, 0) for address in self.appeal_committee)

    def marks(self, batch):
        return self.marked.get(batch.batch_id, Marks(0, 0, 0, 0, 0, 0))

    def result(self, batch_id):
        return self.results.get(batch_id) or result_of(self.batch(batch_id))

    def pool(self, _model_id, _calibrated, epoch):
        until = self.calibrated_until
        return [Member(address, 1, bytes(32), 0, until) for address in self._verifiers_in(epoch)]

    def eligible(self, _model_id, _calibrated, epoch):
        return len(self._verifiers_in(epoch))

    def _verifiers_in(self, epoch):
        later = epoch > self.block // WINDOW
        return self.next_verifiers if later and self.next_verifiers is not None else self.verifiers

    def epoch_blocks(self):
        return WINDOW

    def require_seeds(self):
        """This chain's can be shown."""

    def draw_window_blocks(self):
        return WINDOW

    def fixed_at(self, _batch_id):
        return self.seconds

    def with_seed(self, call, _seed_block, fixed_at):
        assert fixed_at == self.seconds
        if isinstance(self.seed, Exception):
            raise self.seed
        return call if self.seed else None

    def parameters(self, _version=None):
        return replace(PARAMETERS, max_batch_tokens=self.max_batch_tokens, stake_per_leaf=self.stake_per_leaf)

    def credit_of(self, _account):
        return self.credit

    def token_balance(self, _account):
        return self.tokens

    def allowance(self, _owner, _spender):
        return self.allowed

    @functools.cached_property
    def outbox(self):
        return RecordingOutbox(self)

    def block_number(self):
        return self.block

    endpoint_changes = 0

    def contracts_block_number(self):
        return self.block

    def confirmed_block(self):
        return self.block

    def head(self):
        return Head(self.block, self.seconds)

    def reading_ahead(self, _questions):
        return nullcontext()

    def timestamp(self):
        return self.seconds

    def now(self):
        return self.seconds

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self._send(name, *arguments)

    def _send(self, name, *arguments):
        if name in self.failures:
            raise self.failures[name]
        self.sent.append((name, *arguments))

    def names_sent(self):
        return [name for name, *_ in self.sent]


def chain_batch(batch_id=bytes(32), state=BatchState.NONE, **changes):
    """A batch of one leaf, for whose votes nobody has done anything."""
    fields_ = {
        "batch_id": batch_id,
        "header": Header(ZERO_ADDRESS, RECORD.model_id, bytes(32), bytes(32)),
        "state": state,
        "is_calibration": False,
        "marked": False,
        "signed": False,
        "reopened": False,
        "round": 0,
        "terms": 1,
        "leaf_count": 1,
        "clock": 0,
        "ballots": 0,
        "penalised": 0,
        "committee": 0,
        "accepted": 0,
        "rejected": 0,
        "unavailable": 0,
    }
    return Batch(**{**fields_, **changes})


def ballots(*seats):
    """The word of three seats' ballots."""
    return sum(ballot << 2 * seat for seat, ballot in enumerate(seats))


def result_of(batch):
    return Result(
        batch.leaf_count,
        batch.accepted,
        batch.rejected,
        batch.unavailable,
        batch.is_decided,
        batch.state == BatchState.FINAL,
    )


def sealed(chain, answers, challenge_id=None):
    """The batch of stored answers, as a node of that chain seals it."""
    return sealed_batch(chain.domain, chain.address, RECORD.model_id, [a.evidence for a in answers], challenge_id)


def account_access(chain, client):
    """Headers with which a client asks for its account."""
    at = chain.now()
    return {"authorization": access_header(at, sign(client, account_digest(chain.domain, chain.address, at)))}


def account(node, client):
    """What the node says of the client's account."""
    return node.http.get(f"/v1/accounts/{client.address}", headers=account_access(node.chain, client)).json()


@dataclass
class Served:
    url: str
    chain: RecordingChain
    store: Store
    answering: Answering
    app: object
    http: httpx2.Client


@contextmanager
def serving(
    store_url,
    *,
    allow_unsigned=True,
    price=PRICE_WEI,
    engine_=None,
    chain=None,
    readiness=lambda: None,
    door=lambda chain, store: None,
    cors_origins=(),
    **limits,
):
    """A node's service on a loopback port."""
    chain = chain or RecordingChain()
    store = Store(store_url)
    answering = Answering(
        engine_ or engine(), chain, store, model(price), allow_unsigned=allow_unsigned, door=door(chain, store)
    )
    app = create_app(answering, Limits(**limits), readiness, cors_origins=cors_origins)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = BackgroundServer(app, "127.0.0.1", port)
    server.start()
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, timeout=60) as http:
            yield Served(url, chain, store, answering, app, http)
    finally:
        server.stop()
        store.close()


def body(max_tokens=4, **fields):
    return {"model": NAME, "messages": copy.deepcopy(MESSAGES), "max_tokens": max_tokens, **fields}


def signed_body(
    chain,
    client,
    *,
    max_tokens=4,
    cumulative=10**9,
    earned=0,
    as_of=0,
    prompt=None,
    voucher=True,
    price=PRICE_WEI,
    **changes,
):
    """A body with its signed order; `changes` replace fields of the request before it is signed."""
    asked = text_input(prompt) if prompt else chat_input(MESSAGES)
    fields = {
        "client": client.address,
        "model_id": RECORD.model_id,
        "input_hash": asked.hash(),
        "max_tokens": max_tokens,
        "max_fee_wei": price * 10_000,
        "nonce": secrets.randbits(256),
        "deadline": chain.now() + 600,
        **changes,
    }
    request = Request(**fields)
    extra = {"request": request.to_json(), "signature": "0x" + sign(client, request.digest(chain.domain)).hex()}
    if voucher:
        paid = Voucher(client.address, chain.address, cumulative, earned, as_of)
        extra["voucher"] = {
            "voucher": paid.to_json(),
            "signature": "0x" + sign(client, paid.digest(chain.payments_domain)).hex(),
        }
    shape = {"model": NAME, "prompt": prompt, "max_tokens": max_tokens} if prompt else body(max_tokens)
    return {**shape, "trine": extra}


def sign(account, digest):
    return bytes(account.unsafe_sign_hash(digest).signature)


def answer(answering, *, signed=None, max_tokens=2, asked=None):
    """Gives one stored answer without HTTP."""
    order = Order(asked or chat_input(MESSAGES), max_tokens, stream=False, include_usage=False, signed=signed)
    return list(answering.answer(answering.accept(order), lambda: False))[-1]


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        time.sleep(0.02)


@contextmanager
def ended(process):
    """Gone at the end, whatever happened: who waits for one that a failed test left running, waits forever."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
