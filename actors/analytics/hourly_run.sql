-- name: close_rows(limit)$
-- Rows that a batch of events has locked are left. An event that comes meanwhile makes a new live row.
with due as (
    select hour, metric, subject_id from live_stats
    where hour < date_trunc('hour', statement_timestamp(), 'UTC')
    order by hour, metric, subject_id limit :limit for update skip locked
), closed as (
    delete from live_stats l using due d
    where l.hour = d.hour and l.metric = d.metric and l.subject_id = d.subject_id
    returning l.*
), added as (
    insert into aggregated_stats (metric, hour, subject_id, sum, count, min, max)
    select metric, hour, subject_id, sum, count, min, max from closed
    on conflict (metric, hour, subject_id) do update
    set sum = aggregated_stats.sum + excluded.sum, count = aggregated_stats.count + excluded.count,
        min = least(aggregated_stats.min, excluded.min), max = greatest(aggregated_stats.max, excluded.max)
    returning 1
), changed as (
    update stat_generation set generation = generation + 1 where exists (select from added)
)
select count(*) from added;
