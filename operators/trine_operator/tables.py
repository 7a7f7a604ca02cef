"""Tables of an operator's store. What they mean together, and how rows change, is in `store`; `migrations` makes them.

After a change here: `make migration M="what changed"`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Tables of the node; the verifier adds its own."""


class SchemaRow(Base):
    """What releases read that knew no migrations. They take 3, and nothing that a later release has touched."""

    __tablename__ = "schema"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    version: Mapped[int]


class OwnerRow(Base):
    """Whose answers these are: one account on one deployment."""

    __tablename__ = "owner"
    owner: Mapped[str] = mapped_column(String(160), primary_key=True)


class BatchRow(Base):
    """A batch of ours. States: sealed (order fixed, maybe not sent), anchored, settled, final, void."""

    __tablename__ = "batches"
    batch_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(64))
    root: Mapped[str] = mapped_column(String(64))
    canary: Mapped[str] = mapped_column(String(64))
    leaves: Mapped[str] = mapped_column(Text)
    challenge_id: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    accepted: Mapped[str] = mapped_column(String(64), default="0")
    rejected: Mapped[str] = mapped_column(String(64), default="0")
    ended_at: Mapped[int | None] = mapped_column(BigInteger)  # the chain's seconds when it was seen to be final or void
    is_pruned: Mapped[bool] = mapped_column(default=False, server_default=false())  # of all evidence

    __table_args__ = (Index("prunable", "is_pruned", "ended_at", "batch_id"),)


class AnswerRow(Base):
    """One signed answer with its evidence; when that was pruned, with its receipt alone."""

    __tablename__ = "answers"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    request_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    model_id: Mapped[str] = mapped_column(String(64))
    client: Mapped[str] = mapped_column(String(42))
    fee_wei: Mapped[str] = mapped_column(String(78))
    evidence: Mapped[str] = mapped_column(Text)
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("batches.batch_id"))
    leaf: Mapped[int | None]
    result: Mapped[str | None] = mapped_column(String(16))
    is_pruned: Mapped[bool] = mapped_column(default=False, server_default=false())
    deadline: Mapped[int | None] = mapped_column(BigInteger)  # of the client's order; none without one
    signed_order: Mapped[str | None] = mapped_column(Text)  # what payment needs: it does not read evidence
    is_opened: Mapped[bool] = mapped_column(default=False, server_default=false())  # paid without acknowledgement
    data_key: Mapped[str | None] = mapped_column(String(120))  # wrapped; what the evidence is sealed with, see `vault`

    __table_args__ = (
        Index("answers_of_batch", "batch_id", "leaf"),
        Index("waiting", "batch_id", "sequence"),
        Index("orders_of_client", "client", "deadline"),
    )


class BalanceRow(Base):
    """A client's running sums, kept with every answer and verdict: no request adds up all answers.

    Lower-case address. Amounts in wei, as text: they exceed 64 bits.
    """

    __tablename__ = "balances"
    client: Mapped[str] = mapped_column(String(42), primary_key=True)
    owed_wei: Mapped[str] = mapped_column(String(78), default="0")  # of accepted answers and of those not judged yet
    earned_wei: Mapped[str] = mapped_column(String(78), default="0")  # of accepted answers
    collected_wei: Mapped[str] = mapped_column(String(78), default="0")  # as far as it was noted; the chain knows
    is_due: Mapped[bool] = mapped_column(default=False, index=True)  # whether the two above differ


class ClaimRow(Base):
    """Somebody claims that a receipt of ours is in no batch; until the time to answer is over."""

    __tablename__ = "inclusion_claims"
    receipt_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    answer_by: Mapped[int] = mapped_column(BigInteger)  # the chain's seconds


class VoucherRow(Base):
    """Two vouchers of each payer: the one with the highest limit, and the one that acknowledges most."""

    __tablename__ = "vouchers"
    payer: Mapped[str] = mapped_column(String(42), primary_key=True)
    cumulative_wei: Mapped[str] = mapped_column(String(78))
    signature: Mapped[str] = mapped_column(String(130))
    client: Mapped[str] = mapped_column(String(42), index=True, server_default="")  # the payer as balances name it
    earned_wei: Mapped[str] = mapped_column(String(78), default="0", server_default="0")
    as_of: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    acknowledged_cumulative_wei: Mapped[str] = mapped_column(String(78), default="0", server_default="0")
    acknowledged_earned_wei: Mapped[str] = mapped_column(String(78), default="0", server_default="0")
    acknowledged_as_of: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    acknowledged_signature: Mapped[str] = mapped_column(String(130), default="", server_default="")
    seen_at: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # the chain's seconds


class PaymentRow(Base):
    """A payment by x402: an EIP-3009 authorization that a payer has signed for one answer.

    States: reserved (the answer is being made), answered, settled, dropped (the answer was not accepted), expired (no
    verdict in time), unpaid (the payer has not kept what it signed). Amounts in the token's units, as text.
    """

    __tablename__ = "x402_payments"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    ordered: Mapped[str] = mapped_column(String(64))  # hash of what it pays for
    asset: Mapped[str] = mapped_column(String(42))
    payer: Mapped[str] = mapped_column(String(42))
    pay_to: Mapped[str] = mapped_column(String(42))
    value: Mapped[str] = mapped_column(String(78))
    valid_after: Mapped[int] = mapped_column(BigInteger)
    valid_before: Mapped[int] = mapped_column(BigInteger)
    nonce: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(130))
    block: Mapped[int] = mapped_column(BigInteger)  # when it was taken: it was not used before
    state: Mapped[str] = mapped_column(String(8))
    answer: Mapped[str | None] = mapped_column(String(64))  # digest
    executed: Mapped[str | None] = mapped_column(String(64))  # hash of the transaction that settled it

    __table_args__ = (
        Index("payments_by_state", "state", "valid_before"),
        Index("payments_of_payer", "payer", "state"),
    )
