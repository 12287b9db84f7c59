"""Add tags of articles; give categories a version, a deletion, and names that differ by more than their case."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0185"
down_revision = "0181"


def upgrade() -> None:
    """Add the columns, the tables that lists by tag read, and the view of a list's rows. No article has a tag yet."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget the tags. The articles of deleted categories have none."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
