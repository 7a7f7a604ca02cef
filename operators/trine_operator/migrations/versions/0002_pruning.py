"""When batches and votes were over, and what of them is gone. Copies no row of `answers`, however many there are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _batches_and_answers()
    for table in ("votes", "appeal_votes"):
        op.add_column(table, sa.Column("ended_at", sa.BigInteger))
        op.create_index(f"ix_{table}_ended_at", table, ["ended_at"])
    _vouchers()
    # Releases that know no revisions read this, and would take the store for their own.
    schema = sa.table("schema", sa.column("version", sa.Integer))
    op.execute(schema.update().values(version=4))


def _batches_and_answers() -> None:
    for table in ("batches", "answers"):
        op.add_column(table, sa.Column("is_pruned", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("batches", sa.Column("ended_at", sa.BigInteger))
    op.create_index("prunable", "batches", ["is_pruned", "ended_at", "batch_id"])
    op.create_index("ix_batches_challenge_id", "batches", ["challenge_id"])


def _vouchers() -> None:
    """The payer as `balances` names it, so that what is due is joined by an index."""
    op.add_column("vouchers", sa.Column("client", sa.String(42), nullable=False, server_default=""))
    vouchers = sa.table("vouchers", sa.column("payer", sa.String), sa.column("client", sa.String))
    op.execute(vouchers.update().values(client=sa.func.lower(vouchers.c.payer)))
    op.create_index("ix_vouchers_client", "vouchers", ["client"])
