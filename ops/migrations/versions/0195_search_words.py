"""Keep the words of published articles, and search no names of markup: a job rebuilds every search in batches."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0195"
down_revision = "0191"


def upgrade() -> None:
    """Mark all articles as outdated, and enqueue the job if any is published."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget the words. Articles keep the search that the release before understands."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
