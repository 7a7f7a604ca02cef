"""Evidence that verifiers were shown and pass on, and appeals of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "kept_answers",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("leaf", sa.Integer(), nullable=False),
        sa.Column("client", sa.String(length=42), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "leaf"),
    )
    op.create_table(
        "kept_batches",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("leaves", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("batch_id"),
    )
    op.create_table(
        "own_appeals",
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("leaf", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("bond_wei", sa.String(length=78), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "leaf", "level"),
    )
