"""The index by which the job of 0195 finds outdated articles, made while they are read and written."""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0196"
down_revision = "0195"


def upgrade() -> None:
    """Make it anew: the one before went with its column. Nothing is in a transaction, so this can be repeated."""
    _make("search_outdated and status = 'published'")


def downgrade() -> None:
    """Make that of the release before."""
    _make("search_outdated")


def _make(condition: str) -> None:
    with op.get_context().autocommit_block():
        execute("drop index concurrently if exists content_outdated_idx")
        execute(f"create index concurrently content_outdated_idx on content (published_at desc) where {condition}")
        execute("analyze content (search_outdated)")
