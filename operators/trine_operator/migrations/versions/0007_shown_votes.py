"""Whom votes were shown before they were on the chain, and who has kept its own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "mistrusted",
        sa.Column("verifier", sa.String(length=42), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("verifier"),
    )
    op.create_table(
        "shown_votes",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("verifier", sa.String(length=42), nullable=False),
        sa.Column("commitment", sa.String(length=64), nullable=False),
        sa.Column("opened", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "round", "verifier"),
    )
