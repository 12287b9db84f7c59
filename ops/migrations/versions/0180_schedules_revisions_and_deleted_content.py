"""Schedules and revisions of content, and deleted content that can be restored. 0181 makes the indexes of `content`."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0180"
down_revision = "0170"


def upgrade() -> None:
    """Add the columns, the revisions and their count."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget schedules and revisions. Deleted content is deleted at once, as the release before does."""
    execute("""
        delete from content where deleted_at is not null;
        delete from content_transitions where action in ('schedule', 'unschedule', 'delete', 'undelete');
        alter table content_transitions drop constraint content_transitions_action_check;
        alter table content_transitions add constraint content_transitions_action_check check (action in
            ('submit_for_review', 'approve', 'reject', 'publish', 'archive', 'restore', 'edit')) not valid;
        drop table content_revisions;
        drop function count_revision();
        alter table user_usage drop column revision_bytes;
        alter table content drop column publish_at, drop column expire_at, drop column deleted_at, drop column revision,
            drop column edited_at;
    """)
