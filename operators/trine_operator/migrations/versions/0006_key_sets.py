"""Key sets of epochs, as verifiers hand over between them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "key_sets",
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("epoch"),
    )
