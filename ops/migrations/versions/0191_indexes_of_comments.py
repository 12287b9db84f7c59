"""The indexes and constraints of 0190, made while comments are read and written.

Nothing here is in a transaction, so each step can be repeated: an index whose build was interrupted is made anew.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0191"
down_revision = "0190"

INDEXES = {
    "comments_top_idx": "on comments (content_id, created_at, comment_id) "
    "where parent_id is null and (replies > 0 or deleted_at is null)",
    "comments_parent_idx": "on comments (parent_id, created_at, comment_id) where parent_id is not null",
    "comments_reported_idx": "on comments (reported_at, comment_id) where reported_at is not null",
    "comments_deleted_idx": "on comments (deleted_at) "
    "where deleted_at is not null and (replies = 0 or body is not null)",
}
CONSTRAINTS = (
    "comments_parent_id_fkey",
    "comments_depth_check",
    "comments_replies_check",
    "comments_version_check",
    "comments_text_check",
)


def upgrade() -> None:
    """Make the indexes one by one, and validate the constraints."""
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            execute(f"drop index concurrently if exists {name}")
            execute(f"create index concurrently {name} {definition}")
        for name in CONSTRAINTS:
            execute(f"alter table comments validate constraint {name}")


def downgrade() -> None:
    """Drop the indexes."""
    execute(f"drop index if exists {', '.join(INDEXES)}")
