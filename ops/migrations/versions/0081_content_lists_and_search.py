"""The states, lists and search of content: `pending_review`, the last editor, languages, and an index for every list.

All rows stay. What is searched of content is made anew later, by a job.
"""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0081"
down_revision = "0080"


def upgrade() -> None:
    """Make columns, functions and indexes."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Take it back. The last editors, languages, descriptions and beginnings of subscriptions are lost."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
