"""Alembic's entry: it runs this module for each command, with the connection of `runner`."""

from alembic import context

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", transaction_per_migration=True)
else:
    given = context.config.attributes
    context.configure(
        connection=given["connection"],
        version_table=given.get("version_table", "alembic_version"),
        transaction_per_migration=True,
    )

with context.begin_transaction():
    context.run_migrations()
