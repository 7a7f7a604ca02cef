"""Requests that contracts post on the chain, as far as they are this node's."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "posted_requests",
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=42), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("max_tokens", sa.BigInteger(), nullable=False),
        sa.Column("max_fee_wei", sa.String(length=78), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("callback_gas", sa.BigInteger(), nullable=False),
        sa.Column("wait_for_final", sa.Boolean(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("why", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("posted_by_state", "posted_requests", ["state", "deadline"], unique=False)
