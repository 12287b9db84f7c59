"""Indexes by which a page of comments passes over deleted and hidden ones, made while comments are read and written.

Nothing here is in a transaction, so each step can be repeated: an index whose build was interrupted is made anew.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0232"
down_revision = "0215"

LISTED = "(replies > 0 or (deleted_at is null and hidden_at is null))"
HIDDEN = "hidden_at is not null and deleted_at is null and replies = 0"
OF_ARTICLE, OF_COMMENT = "(content_id, created_at, comment_id)", "(parent_id, created_at, comment_id)"
INDEXES = {
    "comments_listed_idx": f"on comments {OF_ARTICLE} where parent_id is null and {LISTED}",
    "comments_replies_idx": f"on comments {OF_COMMENT} where parent_id is not null and {LISTED}",
    "comments_hidden_idx": f"on comments {OF_ARTICLE} where parent_id is null and {HIDDEN}",
    "comments_hidden_replies_idx": f"on comments {OF_COMMENT} where parent_id is not null and {HIDDEN}",
    "comments_own_hidden_idx": f"on comments (author_id, content_id, created_at, comment_id) where {HIDDEN}",
}
EARLIER = (
    "create index comments_top_idx on comments (content_id, created_at, comment_id) "
    "where parent_id is null and (replies > 0 or deleted_at is null)"
)


def upgrade() -> None:
    """Make the indexes one by one, and drop the one that they replace."""
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            execute(f"drop index concurrently if exists {name}")
            execute(f"create index concurrently {name} {definition}")
        execute("drop index concurrently if exists comments_top_idx")


def downgrade() -> None:
    """Make the earlier index again, and drop these."""
    execute(EARLIER)
    execute(f"drop index if exists {', '.join(INDEXES)}")
