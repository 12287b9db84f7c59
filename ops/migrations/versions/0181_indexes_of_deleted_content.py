"""The indexes of deleted content, and the constraints of 0180, made while the tables are read and written."""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0181"
down_revision = "0180"

INDEXES = {
    "content_deleted_idx": "on content (deleted_at, content_id) where deleted_at is not null",
    "content_author_deleted_idx": "on content (author_id, deleted_at, content_id) where deleted_at is not null",
}
CONSTRAINTS = {
    "content": ("content_publish_at_check", "content_expire_at_check", "content_deleted_at_check"),
    "content_transitions": ("content_transitions_action_check",),
}


def upgrade() -> None:
    """Make the indexes one by one, and validate the constraints. Each step can be repeated."""
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            execute(f"drop index concurrently if exists {name}")
            execute(f"create index concurrently {name} {definition}")
        for table, constraints in CONSTRAINTS.items():
            for name in constraints:
                execute(f"alter table {table} validate constraint {name}")


def downgrade() -> None:
    """0180 drops the indexes with their columns."""
