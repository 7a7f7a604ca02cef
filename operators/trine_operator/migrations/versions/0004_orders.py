"""What answers' orders say of payment, what of it clients have acknowledged, and claims that are to be answered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("answers", sa.Column("deadline", sa.BigInteger))
    op.add_column("answers", sa.Column("signed_order", sa.Text))
    op.add_column("answers", sa.Column("is_opened", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("orders_of_client", "answers", ["client", "deadline"])
    for name, kind in (
        ("earned_wei", sa.String(78)),
        ("as_of", sa.BigInteger),
        ("acknowledged_cumulative_wei", sa.String(78)),
        ("acknowledged_earned_wei", sa.String(78)),
        ("acknowledged_as_of", sa.BigInteger),
    ):
        op.add_column("vouchers", sa.Column(name, kind, nullable=False, server_default="0"))
    op.create_table(
        "inclusion_claims",
        sa.Column("receipt_hash", sa.String(64), nullable=False),
        sa.Column("answer_by", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("receipt_hash"),
    )
    op.add_column("vouchers", sa.Column("acknowledged_signature", sa.String(130), nullable=False, server_default=""))
    op.add_column("vouchers", sa.Column("seen_at", sa.BigInteger, nullable=False, server_default="0"))
