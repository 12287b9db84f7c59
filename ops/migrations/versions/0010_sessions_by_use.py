"""Find the sessions that were used lately by an index: they are counted for the metrics twice a minute."""

from callboard.ops.migrations.sql import execute

revision = "0010"
down_revision = "0001"


def upgrade() -> None:
    """Add the index."""
    execute("create index sessions_used_idx on sessions (used_at) where ended_at is null")


def downgrade() -> None:
    """Drop it; nothing is lost."""
    execute("drop index sessions_used_idx")
