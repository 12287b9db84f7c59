"""Rebuild the search columns of older content by a job, in batches, while it is served."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0091"
down_revision = "0090"


def upgrade() -> None:
    """Mark what is outdated, and enqueue the job if anything is."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Make all of it anew at once, which the release before relies on: 200,000 articles take a quarter of an hour."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
