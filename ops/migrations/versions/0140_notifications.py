"""Notifications to users, and their preferences."""

from callboard.ops.migrations.sql import execute

revision = "0140"
down_revision = "0131"


def upgrade() -> None:
    """Make both tables."""
    execute("""
        create table notification_settings (
            user_id    uuid        primary key references users on delete cascade,
            digest     text        not null default 'off' constraint notification_settings_digest_check
                                   check (digest in ('off', 'daily', 'weekly')),
            channels   jsonb       not null default '{}',
            last_seq   bigint      not null default 0,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now()
        );
        create trigger notification_settings_touch before update on notification_settings
            for each row execute function touch_updated_at();
        create table notifications (
            notification_id uuid        primary key,
            user_id         uuid        not null references users on delete cascade,
            seq             bigint      not null,
            kind            text        not null,
            data            jsonb       not null default '{}',
            created_at      timestamptz not null default now(),
            read_at         timestamptz,
            waits           boolean     not null default false,
            digest_id       uuid
        );
        create unique index notifications_seq_key on notifications (user_id, seq desc);
        create index notifications_unread_idx on notifications (user_id, seq desc) where read_at is null;
        create index notifications_waiting_idx on notifications (user_id) where waits;
        create index notifications_digest_idx on notifications (digest_id) where digest_id is not null;
        create index notifications_created_idx on notifications (created_at);
    """)


def downgrade() -> None:
    """Drop them."""
    execute("drop table notifications; drop table notification_settings;")
