"""What version 3 of the store had. A store that has it already keeps it; a node's lacks the verifier's tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _schema()
    _node()
    _verifier()


def _schema() -> None:
    op.create_table(
        "schema",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    schema = sa.table("schema", sa.column("name", sa.String), sa.column("version", sa.Integer))
    if op.get_bind().scalar(sa.select(schema.c.version).where(schema.c.name == "trine")) is None:
        op.execute(schema.insert().values(name="trine", version=3))


def _node() -> None:
    op.create_table("owner", sa.Column("owner", sa.String(160), primary_key=True), if_not_exists=True)
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("canary", sa.String(64), nullable=False),
        sa.Column("leaves", sa.Text, nullable=False),
        sa.Column("challenge_id", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("accepted", sa.String(64), nullable=False),
        sa.Column("rejected", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_batches_state", "batches", ["state"], if_not_exists=True)
    op.create_table(
        "answers",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("request_hash", sa.String(64), unique=True),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("client", sa.String(42), nullable=False),
        sa.Column("fee_wei", sa.String(78), nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("batch_id", sa.String(64), sa.ForeignKey("batches.batch_id")),
        sa.Column("leaf", sa.Integer),
        sa.Column("result", sa.String(16)),
        if_not_exists=True,
    )
    op.create_index("answers_of_batch", "answers", ["batch_id", "leaf"], if_not_exists=True)
    op.create_index("waiting", "answers", ["batch_id", "sequence"], if_not_exists=True)
    op.create_table(
        "balances",
        sa.Column("client", sa.String(42), primary_key=True),
        sa.Column("owed_wei", sa.String(78), nullable=False),
        sa.Column("earned_wei", sa.String(78), nullable=False),
        sa.Column("collected_wei", sa.String(78), nullable=False),
        sa.Column("is_due", sa.Boolean, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_balances_is_due", "balances", ["is_due"], if_not_exists=True)
    op.create_table(
        "vouchers",
        sa.Column("payer", sa.String(42), primary_key=True),
        sa.Column("cumulative_wei", sa.String(78), nullable=False),
        sa.Column("signature", sa.String(130), nullable=False),
        if_not_exists=True,
    )


def _verifier() -> None:
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("block", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "duties",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        if_not_exists=True,
    )
    op.create_table(
        "votes",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("accepts", sa.String(64), nullable=False),
        sa.Column("rejects", sa.String(64), nullable=False),
        sa.Column("distance_ppm", sa.Integer, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("verdicts", sa.Text, nullable=False),
        if_not_exists=True,
    )
    seat = ("leaf", "level", "round")
    op.create_table(
        "appeal_duties",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in seat),
        if_not_exists=True,
    )
    op.create_table(
        "appeal_votes",
        sa.Column("batch_id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in seat),
        sa.Column("vote", sa.Integer, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        if_not_exists=True,
    )
