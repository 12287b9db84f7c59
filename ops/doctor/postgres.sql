-- name: server()^
select current_setting('server_version_num')::int as version, current_setting('server_version') as shown,
       current_setting('server_encoding') as encoding,
       pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool as read_only,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0) as connections,
       (select rolconnlimit from pg_roles where rolname = current_user) as of_role,
       (select datconnlimit from pg_database where datname = current_database()) as of_database,
       current_user as role, has_schema_privilege('public', 'create') as may_create,
       extract(epoch from clock_timestamp())::float8 as now;

-- name: missing_extensions(names)
select name, exists (select from pg_available_extensions a where a.name = n.name) as available
from unnest(:names::text[]) as n (name)
where not exists (select from pg_extension e where e.extname = n.name);

-- name: forbidden_tables(names)
select c.relname as name
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any(:names::text[])
    and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert'))
order by c.relname;

-- name: invalid_indexes()
select i.relname as name
from pg_index x join pg_class i on i.oid = x.indexrelid
where i.relnamespace = 'public'::regnamespace and not x.indisvalid
    and not exists (select from pg_stat_progress_create_index p where p.index_relid = x.indexrelid)
order by i.relname;

-- name: relay_lead()^
select (select holder from leases where name = 'relay' and expires_at > now()) as holder,
       (select extract(epoch from now() - min(occurred_at))::float8 from outbox
        where published_at is null and retry_at is null) as waiting_s;

-- name: oldest_transaction()^
select pid, extract(epoch from clock_timestamp() - xact_start)::float8 as age_s
from pg_stat_activity
where datname = current_database() and state = 'idle in transaction'
order by xact_start limit 1;
