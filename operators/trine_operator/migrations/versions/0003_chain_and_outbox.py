"""Events of the last blocks, transactions, what was signed, which process holds the store."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "chain_blocks",
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("reader", "number"),
    )
    op.create_table(
        "chain_events",
        sa.Column("reader", sa.String(length=32), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_hash", sa.String(length=64), nullable=False),
        sa.Column("transaction", sa.String(length=64), nullable=False),
        sa.Column("contract", sa.String(length=42), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("reader", "block", "log_index"),
    )
    op.create_table(
        "instance",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("instance", sa.String(length=32), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("process", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "outbox_account",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "outbox_acts",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("function", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=42), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("due_block", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("gas_factor", sa.Integer(), nullable=False),
        sa.Column("executed", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("is_reported", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("outbox_acts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_acts_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_outbox_acts_nonce"), ["nonce"], unique=False)
        batch_op.create_index(batch_op.f("ix_outbox_acts_state"), ["state"], unique=False)

    op.create_table(
        "protection",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject"),
    )
    op.create_table(
        "outbox_names",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("act", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["act"],
            ["outbox_acts.number"],
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    with op.batch_alter_table("outbox_names", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_names_act"), ["act"], unique=False)

    op.create_table(
        "outbox_transactions",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("act", sa.Integer(), nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("gas", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_wei", sa.String(length=78), nullable=False),
        sa.Column("priority_fee_wei", sa.String(length=78), nullable=True),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["act"],
            ["outbox_acts.number"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("hash"),
    )
    with op.batch_alter_table("outbox_transactions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_transactions_act"), ["act"], unique=False)
        batch_op.create_index(batch_op.f("ix_outbox_transactions_nonce"), ["nonce"], unique=False)
