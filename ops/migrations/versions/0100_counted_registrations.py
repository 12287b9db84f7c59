"""Count new accounts by their events: those of earlier accounts are not new."""

from callboard.ops.migrations.sql import execute

revision = "0100"
down_revision = "0099"


def upgrade() -> None:
    """Note the events that are there as counted."""
    execute("""
        insert into consumed_events (consumer, source, event_id)
        select 'registrations', 'callboard', event_id::text from outbox where type = 'user.registered'
        on conflict do nothing
    """)


def downgrade() -> None:
    """Forget what was counted."""
    execute("delete from consumed_events where consumer = 'registrations'")
