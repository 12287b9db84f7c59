"""Comments: threads, moderation, reports, and the number of visible comments of each article."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0190"
down_revision = "0187"


def upgrade() -> None:
    """Add columns and tables, and count the comments that there are."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget replies, hidden comments, reports and moderation."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
