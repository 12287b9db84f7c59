"""Give each version of an article since its publication a second of its own in updated_at."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0210"
down_revision = "0205"


def upgrade() -> None:
    """Add the trigger; what is published already stays as it is."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Drop it."""
    execute("""
        drop trigger content_touch_apart on content;
        drop function keep_seconds_apart();
    """)
