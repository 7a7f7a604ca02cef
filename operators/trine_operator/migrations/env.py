"""What Alembic runs. The connection, in a transaction that its giver ends, comes from `trine_operator.schema`."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    target_metadata=attributes.get("metadata"),  # only a new revision needs the tables
    render_as_batch=True,  # SQLite cannot change a table: Alembic copies it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
