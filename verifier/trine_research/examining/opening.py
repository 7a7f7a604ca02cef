"""The chain's side of an examiner: what its batches commit to, and what it does about them once they are judged.

Within the time to appeal it opens the canaries, with its clients' signatures, and appeals those that the committee has
accepted, if its own check rejects them. When all is final it has itself paid. A restart goes on from record and chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import structlog
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from trine.appeal import SEATS, committees, could_judge
from trine.chain import AppealCase, AppealPhase, Batch, BatchState, Chain, Verdict
from trine.chain.staking import UNLIMITED
from trine.chain.transactions import Call
from trine.chain.writes import CALLS
from trine.errors import NotReady, TransactionReverted
from trine.protocol import canaries, merkle
from trine.protocol.evidence import Anchor
from trine.protocol.header import Header, batch_id
from trine.protocol.messages import Receipt
from trine_operator.apart import Apart
from trine_operator.outbox import Act, Due, Submits
from trine_operator.outbox.acts import NOT_DUE
from trine_operator.store import Store, StoredAnswer, StoredBatch
from trine_research.examining.record import Planted, Record

log = structlog.get_logger()

ALLOW = "allow Appeals"
MAX_PAUSE_SECONDS = 60.0
LEFT_SECONDS = 30
"""With less of the time to appeal left, nothing is begun."""

IsBad = Callable[[StoredAnswer, Anchor], bool]
"""Whether the examiner's own check, as a verifier's, rejects the answer."""


def salt_of(chain: Chain, root: bytes) -> bytes:
    """Of a batch's commitment: known to who has the account's key, again after a restart."""
    purpose = keccak(encode(["string", "bytes32"], ["Trine canary salt", root]))
    return bytes(keccak(chain.sign(bytes(purpose))))


class Committing:
    """Makes the canary words of an examiner's batches."""

    def __init__(self, chain: Chain, record: Record, clients: frozenset[str]) -> None:
        self._chain = chain
        self._record = record
        self._clients = clients

    def __call__(self, root: bytes, receipts: Sequence[Receipt]) -> bytes:
        """As long and as random to others with canaries as without."""
        leaves = tuple(
            leaf
            for leaf, receipt in enumerate(receipts)
            if receipt.client in self._clients and self._record.is_planted(receipt.input_hash)
        )
        word = canaries.commitment(leaves, salt_of(self._chain, root))
        if leaves:
            self._record.commit(Planted(root, word, leaves))
        return word


class Opening:
    """Sees the batches with canaries through."""

    def __init__(
        self,
        chain: Chain,
        store: Store,
        outbox: Submits,
        record: Record,
        model_id: bytes,
        clients: Mapping[str, LocalAccount],
        is_bad: IsBad,
    ) -> None:
        self.chain = chain
        self.store = store
        self.outbox = outbox
        self.record = record
        self.model_id = model_id
        self._clients = clients
        self._is_bad = is_bad
        self._found_bad: dict[tuple[bytes, int], bool] = {}  # by root and leaf
        self._apart = Apart(MAX_PAUSE_SECONDS)
        self._forget_unsealed()

    def _forget_unsealed(self) -> None:
        """The last process ended between record and store: these answers are sealed otherwise, if they are not yet."""
        for planted in self.record.open_batches():
            name = batch_id(self.chain.domain.chain_id, self.chain.domain.verifying_contract, self._header(planted))
            if self.store.batch(name) is None:
                log.warning("planted_batch_was_not_sealed", root=planted.root.hex())
                self.record.end(planted.root)

    def _header(self, planted: Planted) -> Header:
        return Header(self.chain.address, self.model_id, planted.root, planted.canary)

    def step(self) -> None:
        """Does what is due, for each batch whatever becomes of the others."""
        for planted in self.record.open_batches():
            self._apart.run(planted.root, partial(self._advance, planted), root=planted.root.hex())

    def _advance(self, planted: Planted) -> None:
        chain = self.chain
        header = self._header(planted)
        name = batch_id(chain.domain.chain_id, chain.domain.verifying_contract, header)
        stored = self.store.batch(name)
        if stored is None:
            return  # it is sealed just now
        in_flight = self.outbox.open_names()
        batch = chain.batch(name)
        if batch.state == BatchState.SETTLED:
            self._open(planted, stored, batch, in_flight)
        elif batch.state == BatchState.FINAL:
            self._end(planted, stored, header, in_flight)

    def _open(self, planted: Planted, stored: StoredBatch, batch: Batch, in_flight: frozenset[str]) -> None:
        deadline = batch.clock + self.chain.parameters(batch.terms).appeal_window_seconds
        if not self.chain.has_canaries_open(batch.batch_id):
            if self.chain.timestamp() <= deadline:
                self._open_canaries(planted, stored, batch, Due(at=deadline), in_flight)
            return
        answers = [self.store.answer_at(stored.batch_id, leaf) for leaf in planted.leaves]
        for answer in answers:
            if answer is not None and answer.leaf is not None:
                self._see_to(answer, answer.leaf, stored, batch, deadline, in_flight)

    def _open_canaries(
        self, planted: Planted, stored: StoredBatch, batch: Batch, due: Due, in_flight: frozenset[str]
    ) -> None:
        chain, header = self.chain, batch.known_header
        openings, signatures = [], []
        for leaf in planted.leaves:
            answer = self.store.answer_at(stored.batch_id, leaf)
            if answer is None:
                raise NotReady(f"the store has no answer for leaf {leaf} of batch 0x{stored.batch_id.hex()}")
            proof = merkle.proof(list(stored.leaves), leaf)
            openings.append((stored.root, stored.canary, leaf, answer.receipt.values(), list(proof)))
            client = self._clients[answer.receipt.client]
            # Known as an examiner's from now on, whether the transaction gets in or not.
            self.record.expose(answer.receipt.client)
            digest = canaries.digest(chain.canaries_domain, stored.batch_id, leaf)
            signatures.append(bytes(client.unsafe_sign_hash(cast(Any, digest)).signature))
        word = canaries.word_of(planted.leaves)
        call = CALLS.open_canaries(header, word, salt_of(chain, stored.root), openings, signatures)
        self._submit("open canaries", stored.batch_id, call, in_flight, due)

    def _see_to(
        self,
        answer: StoredAnswer,
        leaf: int,
        stored: StoredBatch,
        batch: Batch,
        deadline: int,
        in_flight: frozenset[str],
    ) -> None:
        """Appeals a canary that a majority has accepted; afterwards has its jury drawn."""
        chain = self.chain
        if batch.result(leaf) == "reject":
            return
        case = chain.appeal_case(stored.batch_id, leaf)
        if case.phase == AppealPhase.NONE:
            if chain.timestamp() + LEFT_SECONDS < deadline and self._would_win(answer, stored, batch, leaf):
                self._appeal(batch, leaf, deadline, in_flight)
        elif case.phase == AppealPhase.OPEN and chain.contracts_block_number() > case.clock:
            self._draw(batch, leaf, case, in_flight)

    def _would_win(self, answer: StoredAnswer, stored: StoredBatch, batch: Batch, leaf: int) -> bool:
        """A cheat may have come out right, and juries may be too small: the bond would be lost."""
        key = stored.root, leaf
        if key not in self._found_bad:
            anchor = Anchor(self.chain.domain, self.chain.address, self.model_id, stored.root, batch.leaf_count)
            self._found_bad[key] = self._is_bad(answer, anchor)
            if not self._found_bad[key]:
                log.info("canary_is_good", batch=stored.batch_id.hex(), leaf=leaf)
        if not self._found_bad[key]:
            return False
        barred = [self.chain.address, *(seat.verifier for seat in self.chain.seats(batch))]
        epoch, now = self.chain.contracts_block_number() // self.chain.epoch_blocks(), self.chain.timestamp()
        pools = [self.chain.pool(self.model_id, True, each) for each in (epoch, epoch + 1)]
        return all(could_judge(pool, barred, now) >= SEATS[1] for pool in pools)

    def _appeal(self, batch: Batch, leaf: int, deadline: int, in_flight: frozenset[str]) -> None:
        """Raises NotReady when the account cannot put up the bond."""
        chain = self.chain
        bond = chain.appeal_bond(1, batch.terms)
        if chain.token_balance(chain.address) < bond:
            raise NotReady(
                f"{chain.address} has too few tokens for the bond of an appeal, {bond / 10**18:g}: send it some"
            )
        if chain.allowance(chain.address, "Appeals") < bond:
            if ALLOW not in in_flight:
                approve = CALLS.approve(chain.deployment.address("Appeals"), UNLIMITED)
                self.outbox.submit(Act((ALLOW,), approve, Due(at=deadline)))
            return
        call = CALLS.appeal(batch.known_header, chain.seats(batch), leaf, Verdict.REJECTED)
        self._submit(f"appeal canary {leaf} of", batch.batch_id, call, in_flight, Due(at=deadline))

    def _draw(self, batch: Batch, leaf: int, case: AppealCase, in_flight: frozenset[str]) -> None:
        judges = committees(self.chain, case)[: case.level]
        call = CALLS.draw_appeal(batch.known_header, leaf, judges)
        due = Due(block=case.clock + self.chain.draw_window_blocks())
        self._submit(f"draw on canary {leaf} of", batch.batch_id, call, in_flight, due)

    def _end(self, planted: Planted, stored: StoredBatch, header: Header, in_flight: frozenset[str]) -> None:
        """Once nothing can change any more: the bounty, and what appeals have brought."""
        chain = self.chain
        if not chain.result(stored.batch_id).is_final:
            batch = chain.batch(stored.batch_id)
            for leaf in planted.leaves:  # of leaves under appeal a second committee may be due
                case = chain.appeal_case(stored.batch_id, leaf)
                if case.phase == AppealPhase.OPEN and chain.contracts_block_number() > case.clock:
                    self._draw(batch, leaf, case, in_flight)
            return
        if chain.appeal_credit_of(chain.address) > 0:
            self._submit("withdraw credit after", stored.batch_id, CALLS.withdraw_appeal_credit(), in_flight)
        if chain.is_bounty_paid(stored.batch_id):
            log.info("examiner_paid", batch=stored.batch_id.hex(), wei=chain.bounty_paid(stored.batch_id))
            self._forget(planted)
            return
        due = chain.bounty_due(header)
        if due == 0:
            log.info("nothing_to_be_paid", batch=stored.batch_id.hex())
            self._forget(planted)
        elif due <= chain.bounty_available():  # else another day
            self._submit("claim bounty of", stored.batch_id, CALLS.claim_bounty(header), in_flight)

    def _forget(self, planted: Planted) -> None:
        self.record.end(planted.root)
        for leaf in planted.leaves:
            self._found_bad.pop((planted.root, leaf), None)

    def _submit(self, verb: str, name: bytes, call: Call, in_flight: frozenset[str], due: Due = NOT_DUE) -> None:
        act = f"{verb} {name.hex()}"
        if act in in_flight:
            return
        try:
            self.outbox.submit(Act((act,), call, due))
        except TransactionReverted as error:
            log.warning("refused", act=act, reason=error.reason)
            raise
        log.info("examining", batch=name.hex(), action=verb)
