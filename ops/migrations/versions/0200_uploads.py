"""Keep uploads, and the objects of the store that no upload names any more."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0200"
down_revision = "0196"


def upgrade() -> None:
    """Add the tables, and the usage of uploads to users' quotas."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget uploads: their bytes stay in the store."""
    execute("""
        drop table uploads;
        drop table discarded_objects;
        drop function count_uploads();
        alter table user_usage drop column upload_rows, drop column upload_bytes;
    """)
