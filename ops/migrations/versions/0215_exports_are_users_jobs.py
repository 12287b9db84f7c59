"""Exports are users' jobs: those that are in progress get the row that shows their progress."""

from callboard.ops.migrations.sql import execute

revision = "0215"
down_revision = "0210"


def upgrade() -> None:
    """Add the rows; an export without a job in the queue is over."""
    execute("""
        insert into user_jobs (job_id, kind, user_id, queue_id)
        select e.export_id, 'export', e.user_id, j.job_id
        from exports e join jobs j on j.kind = 'export' and j.payload ->> 'export_id' = e.export_id::text
        where e.status in ('queued', 'running')
        on conflict do nothing
    """)


def downgrade() -> None:
    """Forget them: the exports go on."""
    execute("delete from user_jobs where kind = 'export'")
