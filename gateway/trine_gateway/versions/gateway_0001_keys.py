"""Keys, budgets, answers, verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("budget_wei", sa.String(length=78), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("spent_wei", sa.String(length=78), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("unavailable", sa.BigInteger(), nullable=False),
        sa.Column("inconclusive", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "reservations",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=12), nullable=False),
        sa.Column("wei", sa.String(length=78), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("reservations_of_key", "reservations", ["key_id"])
    op.create_table(
        "answers",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=12), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("node", sa.String(length=42), nullable=False),
        sa.Column("held", sa.Text(), nullable=False),
        sa.Column("fee_wei", sa.String(length=78), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("is_final", sa.Boolean(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("answers_of_key", "answers", ["key_id", "sequence"])
    op.create_index("ix_answers_look_at", "answers", ["look_at"])
    op.create_table(
        "repeats",
        sa.Column("key_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", "name"),
    )
    op.create_index("ix_repeats_created_at", "repeats", ["created_at"])
    op.create_table(
        "cut_off",
        sa.Column("node", sa.String(length=42), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("node"),
    )
    probe = op.create_table(
        "probe",
        sa.Column("name", sa.String(length=8), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.bulk_insert(probe, [{"name": "probe", "times": 0}])
