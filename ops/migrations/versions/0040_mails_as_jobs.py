"""Send mails by jobs, and count the copies of a mail that left without a reply. What was queued keeps its attempts."""

from callboard.ops.migrations.sql import execute

revision = "0040"
down_revision = "0030"


def upgrade() -> None:
    """Make a job of each mail that waits; one that is being sent is due when its claim has lapsed."""
    execute("""
        alter table mails add column copies smallint not null default 0;
        alter table mails add column copied_at timestamptz;
        insert into jobs (kind, priority, run_at, attempts, max_attempts, deadline, payload, created_at)
        select 'mail', 1, greatest(due_at, now()), least(attempts, 2), 3, expires_at,
               jsonb_build_object('mail_id', mail_id), created_at
        from mails where status in ('queued', 'sending');
        update mails set status = 'queued', due_at = 'infinity' where status in ('queued', 'sending');
    """)


def downgrade() -> None:
    """Let the senders of the earlier release find what waits."""
    execute("""
        update mails set due_at = now() where status = 'queued';
        delete from jobs where kind = 'mail';
        alter table mails drop column copied_at;
        alter table mails drop column copies;
    """)
