"""Final batches that are to be published, and gas that an act may take at most."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "publications",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("batch_id"),
    )
    op.add_column("outbox_acts", sa.Column("max_gas", sa.BigInteger(), nullable=True))
