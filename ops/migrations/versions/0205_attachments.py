"""Attachments of content, and avatars: both are uploads."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0205"
down_revision = "0200"


def upgrade() -> None:
    """Add the tables."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget attachments and avatars; the uploads stay."""
    execute("drop table content_attachments, avatars; drop function delete_attached_upload()")
