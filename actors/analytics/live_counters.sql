-- name: examine(metrics)^
select statement_timestamp() as now, array(select metric from stat_metrics where metric = any(:metrics::text[])) as known;

-- name: lock_metrics()!
select pg_advisory_xact_lock(hashtext('stat_metrics'));

-- name: admit(metrics, sources, most, most_of_source)
-- New metrics in their order, as far as there is room; the metrics that others have just added come back too.
with asked as (
    select * from unnest(:metrics::text[], :sources::text[]) with ordinality as a (metric, source, n)
), known as (
    select a.metric from asked a join stat_metrics m using (metric)
), new as (
    select a.*, row_number() over (partition by a.source order by a.n) + coalesce(s.metrics, 0) as of_source
    from asked a
    left join (select source, count(*) as metrics from stat_metrics group by source) as s using (source)
    where a.metric not in (select metric from known)
), allowed as (
    select *, row_number() over (order by n) + (select count(*) from stat_metrics) as of_all
    from new where of_source <= :most_of_source
), added as (
    insert into stat_metrics (metric, source) select metric, source from allowed where of_all <= :most
    returning metric
)
select metric from known union all select metric from added;

-- name: add_totals(hours, metrics, subject_ids, sums, counts, mins, maxs)!
-- One row for each key, however many events the batch has. They are sorted, so that two simultaneous batches lock them
-- in one order.
insert into live_stats (hour, metric, subject_id, sum, count, min, max)
select * from unnest(:hours::timestamptz[], :metrics::text[], :subject_ids::text[], :sums::float8[], :counts::bigint[],
                     :mins::float8[], :maxs::float8[])
on conflict (hour, metric, subject_id) do update
set sum = live_stats.sum + excluded.sum, count = live_stats.count + excluded.count,
    min = least(live_stats.min, excluded.min), max = greatest(live_stats.max, excluded.max);

-- name: add_subjects(hours, metrics, subject_ids, sums, counts, mins, maxs, most)
-- The subjects that the hour has already, and new ones while there is room. The caller holds the rows of their totals.
with given as (
    select * from unnest(:hours::timestamptz[], :metrics::text[], :subject_ids::text[], :sums::float8[],
                         :counts::bigint[], :mins::float8[], :maxs::float8[])
        as g (hour, metric, subject_id, sum, count, min, max)
), found as (
    select g.*,
           exists (select from live_stats l
                   where l.hour = g.hour and l.metric = g.metric and l.subject_id = g.subject_id)
           or exists (select from aggregated_stats a
                      where a.hour = g.hour and a.metric = g.metric and a.subject_id = g.subject_id) as known
    from given g
), used as (
    select k.hour, k.metric, (
        select count(*) from (
            select subject_id from live_stats where hour = k.hour and metric = k.metric and subject_id <> ''
            union
            select subject_id from aggregated_stats where hour = k.hour and metric = k.metric and subject_id <> ''
            limit :most) as s) as subjects
    from (select distinct hour, metric from found where not known) as k
), numbered as (
    select f.*, row_number() over (partition by f.hour, f.metric, f.known order by f.subject_id) as n from found f
)
insert into live_stats (hour, metric, subject_id, sum, count, min, max)
select n.hour, n.metric, n.subject_id, n.sum, n.count, n.min, n.max
from numbered n left join used u using (hour, metric)
where n.known or n.n + u.subjects <= :most
order by n.hour, n.metric, n.subject_id
on conflict (hour, metric, subject_id) do update
set sum = live_stats.sum + excluded.sum, count = live_stats.count + excluded.count,
    min = least(live_stats.min, excluded.min), max = greatest(live_stats.max, excluded.max)
returning hour, metric, subject_id;

-- name: purge_metrics(limit)$
-- A metric without values for a month makes room for another.
with gone as (
    delete from stat_metrics where metric in (
        select m.metric from stat_metrics m
        where m.created_at < now() - interval '30 days'
              and not exists (select from live_stats l
                              where l.subject_id = '' and l.metric = m.metric and l.hour > now() - interval '30 days')
              and not exists (select from aggregated_stats a
                              where a.subject_id = '' and a.metric = m.metric and a.hour > now() - interval '30 days')
        order by m.created_at limit :limit)
    returning 1)
select count(*) from gone;
