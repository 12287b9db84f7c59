"""Lead by a lease that is fenced, and let a row of the outbox that no broker takes wait without the others."""

from callboard.ops.migrations.sql import execute

revision = "0051"
down_revision = "0050"


def upgrade() -> None:
    """Add the leases, what a refused row needs, and the indexes by which the relay finds its work."""
    execute("""
        create table leases (
            name        text        primary key,
            holder      text        not null,
            backend_pid integer     not null,
            fence       bigint      not null,
            expires_at  timestamptz not null
        );
        alter table outbox add column refusals integer not null default 0;
        alter table outbox add column error text;
        alter table outbox add column retry_at timestamptz;
        create index outbox_ready_idx on outbox (topic, outbox_id) where published_at is null and retry_at is null;
        create index outbox_refused_idx on outbox (topic, key, outbox_id)
            where published_at is null and retry_at is not null;
        drop index outbox_pending_idx;
    """)


def downgrade() -> None:
    """Forget refusals: every row is tried at once."""
    execute("""
        create index outbox_pending_idx on outbox (outbox_id) where published_at is null;
        drop index outbox_refused_idx;
        drop index outbox_ready_idx;
        alter table outbox drop column retry_at;
        alter table outbox drop column error;
        alter table outbox drop column refusals;
        drop table leases;
    """)
