"""Data keys of evidence that is sealed at rest; what was kept before stays readable until it is pruned."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("answers", sa.Column("data_key", sa.String(120)))
    op.add_column("kept_answers", sa.Column("data_key", sa.String(120)))
