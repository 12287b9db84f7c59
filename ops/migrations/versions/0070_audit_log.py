"""Add the audit log: an append-only table of security events."""

from callboard.ops.migrations.sql import execute

revision = "0070"
down_revision = "0061"


def upgrade() -> None:
    """Create the table, its guards and the two functions that may change it."""
    execute("""
create table audit_log (
    audit_id    bigint      generated always as identity primary key,
    occurred_at timestamptz not null default clock_timestamp(),
    action      text        not null check (action ~ '^[a-z_]+\\.[a-z_]+$' and length(action) <= 60),
    actor       text        not null constraint audit_log_actor_check
                            check (actor in ('user', 'anonymous', 'operator', 'system')),
    actor_id    uuid        constraint audit_log_actor_id_check check ((actor_id is not null) = (actor = 'user')),
    user_id     uuid,                                -- whom it befell
    ip          inet,
    user_agent  text        check (length(user_agent) <= 400),
    trace_id    text        check (length(trace_id) <= 32),
    detail      jsonb       not null default '{}' check (octet_length(detail::text) <= 4096)
);
create index audit_log_time_idx on audit_log (occurred_at desc, audit_id desc);
create index audit_log_action_idx on audit_log (action, occurred_at desc, audit_id desc);
create index audit_log_user_idx on audit_log (user_id, occurred_at desc, audit_id desc) where user_id is not null;
create index audit_log_actor_idx on audit_log (actor_id, occurred_at desc, audit_id desc) where actor_id is not null;

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if current_setting('callboard.audit_maintenance', true) = 'on' then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    raise exception 'audit_log is append-only' using errcode = 'insufficient_privilege';
end $$;
create trigger audit_log_append_only before update or delete on audit_log
    for each row execute function refuse_audit_change();
create trigger audit_log_no_truncate before truncate on audit_log
    for each statement execute function refuse_audit_change();

-- Deletes entries that are older than they are kept, so many at most; failed logins have a time of their own.
create function purge_audit_log(kept interval, failures_kept interval, most integer) returns bigint
    language plpgsql set callboard.audit_maintenance = 'on' as $$
declare
    deleted bigint;
begin
    delete from audit_log where audit_id in (
        select audit_id from audit_log where occurred_at < clock_timestamp() - kept
        union all
        select audit_id from audit_log
        where action in ('login.failed', 'login.locked') and occurred_at < clock_timestamp() - failures_kept
        limit most);
    get diagnostics deleted = row_count;
    return deleted;
end $$;

-- Takes out of the entries what says where a person was and with what. That something happened, and when, stays.
create function erase_from_audit_log(person uuid) returns bigint
    language plpgsql set callboard.audit_maintenance = 'on' as $$
declare
    changed bigint;
begin
    update audit_log set ip = null, user_agent = null
    where actor_id = person and (ip is not null or user_agent is not null);
    get diagnostics changed = row_count;
    update audit_log set detail = detail - '{email,old_email,new_email}'::text[]
    where user_id = person and detail ?| '{email,old_email,new_email}';
    return changed;
end $$;
""")


def downgrade() -> None:
    """Drop them."""
    execute("""
        drop table audit_log;
        drop function refuse_audit_change();
        drop function purge_audit_log(interval, interval, integer);
        drop function erase_from_audit_log(uuid);
    """)
