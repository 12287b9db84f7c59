"""Validate the bound of an article's tags, and leave deleted content out of the index of lists by state.

Nothing here is in a transaction, so each step can be repeated.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0186"
down_revision = "0185"

ALL = "(status, created_at desc, content_id desc)"


def upgrade() -> None:
    """Validate the constraint, and make the index anew."""
    with op.get_context().autocommit_block():
        execute("alter table content validate constraint content_tags_check")
        _replace_index(f"{ALL} where deleted_at is null")


def downgrade() -> None:
    """Make the index for all content. 0185 drops the column."""
    with op.get_context().autocommit_block():
        _replace_index(ALL)


def _replace_index(definition: str) -> None:
    """Make the index under another name first: lists have one at any time."""
    execute("drop index concurrently if exists content_status_new_idx")
    execute(f"create index concurrently content_status_new_idx on content {definition}")
    execute("drop index concurrently if exists content_status_idx")
    execute("alter index content_status_new_idx rename to content_status_idx")
