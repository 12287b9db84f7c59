"""Erase deleted accounts, and count what each user has and does."""

from callboard.ops.migrations.sql import execute

revision = "0071"
down_revision = "0070"


def upgrade() -> None:
    """Add the mark and the indexes of erasure, and the counters, which begin with what there is."""
    execute("""
alter table users add column erased_at timestamptz
    constraint users_erased_at_check check (erased_at is null or deleted_at is not null);
create index users_erasure_idx on users (deleted_at) where deleted_at is not null and erased_at is null;
create index dead_letters_key_idx on dead_letters using hash (key);
create index mails_recipient_idx on mails (lower(recipient), created_at);

-- How much a user has, kept by triggers in the transaction of each change: nothing is counted anew, and whoever holds
-- the row counts alone.
create table user_usage (
    user_id       uuid    primary key references users on delete cascade,
    content_rows  bigint  not null default 0,
    content_bytes bigint  not null default 0
);

create function content_size(content) returns bigint language sql immutable as
    'select (octet_length($1.title) + octet_length($1.body) + octet_length($1.body_html))::bigint';

create function count_content() returns trigger language plpgsql as $$
declare
    row_count  bigint := 0;
    byte_count bigint := 0;
begin
    if tg_op <> 'DELETE' then
        row_count := 1;
        byte_count := content_size(new);
    end if;
    if tg_op <> 'INSERT' then
        row_count := row_count - 1;
        byte_count := byte_count - content_size(old);
    end if;
    if row_count <> 0 or byte_count <> 0 then
        insert into user_usage (user_id, content_rows, content_bytes)
        values (coalesce(new.author_id, old.author_id), row_count, byte_count)
        on conflict (user_id) do update
        set content_rows = user_usage.content_rows + excluded.content_rows,
            content_bytes = user_usage.content_bytes + excluded.content_bytes;
    end if;
    return null;
end $$;
create trigger content_usage after insert or delete or update of title, body, body_html on content
    for each row execute function count_content();

-- How often a user has done what may be done so often in a period. Only ever added to: deleting what was made takes
-- nothing back.
create table user_rates (
    user_id  uuid        not null references users on delete cascade,
    name     text        not null,
    period   timestamptz not null,             -- its beginning
    used     integer     not null,
    previous integer     not null default 0,   -- in the period before
    primary key (user_id, name)
);

insert into user_usage (user_id, content_rows, content_bytes)
select author_id, count(*), sum(content_size(content)) from content group by author_id;
    """)


def downgrade() -> None:
    """Take them away."""
    execute("""
        drop trigger content_usage on content;
        drop function count_content();
        drop function content_size(content);
        drop table user_rates;
        drop table user_usage;
        drop index mails_recipient_idx;
        drop index dead_letters_key_idx;
        alter table users drop column erased_at;
    """)
