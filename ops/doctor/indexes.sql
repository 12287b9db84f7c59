-- name: bloated_indexes(times, bytes)
-- For each row a B-tree needs its key (from the statistics), 8 bytes of a tuple and 4 of a pointer, in pages that are
-- 90 % full. An estimate: a tree of twice this size lost entries by deletions and was not filled again.
with sized as (
    select i.oid, i.relname as index, t.relname as table, pg_relation_size(i.oid) as bytes, i.reltuples,
           (select coalesce(sum(coalesce(s.avg_width, 16)), 16) from pg_attribute a
            left join pg_stats s on s.schemaname = n.nspname and s.tablename = t.relname and s.attname = a.attname
            where a.attrelid = i.oid) as width
    from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
    join pg_namespace n on n.oid = i.relnamespace join pg_am am on am.oid = i.relam
    where n.nspname = 'public' and am.amname = 'btree' and i.reltuples >= 0
), estimated as (
    select *, 8192 + ceil(reltuples * (((width + 7)::int / 8) * 8 + 12) / 0.9) as needed from sized
)
select index, "table", pg_size_pretty(bytes) as size, pg_size_pretty(needed::bigint) as needed
from estimated
where bytes >= :bytes and bytes > :times * needed
order by bytes - needed desc;

-- name: unused_indexes()
-- Unique indexes and those of foreign keys are left out: they serve even if nothing reads by them.
select i.relname as index, t.relname as table, pg_size_pretty(pg_relation_size(i.oid)) as size
from pg_stat_user_indexes s join pg_index x on x.indexrelid = s.indexrelid
join pg_class i on i.oid = s.indexrelid join pg_class t on t.oid = s.relid
where s.schemaname = 'public' and s.idx_scan = 0 and not x.indisunique
  and not exists (select from pg_constraint c where c.contype = 'f' and c.conrelid = x.indrelid and x.indkey[0] = c.conkey[1])
order by pg_relation_size(i.oid) desc, i.relname;

-- name: counted_since()$
select coalesce(stats_reset, pg_postmaster_start_time()) from pg_stat_database where datname = current_database();
