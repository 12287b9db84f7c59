-- name: hours(with_closed, since, until, metric, subject_id, limit)
-- Always a row, for the generation. The newest rows of both tables include the newest of their sums.
select g.generation, r.*
from stat_generation g left join (
    (select false as is_live, metric, hour, sum, count, min, max
     from aggregated_stats
     where :with_closed::boolean and subject_id = :subject_id and hour >= :since and hour < :until
           and (:metric::text is null or metric = :metric)
     order by hour desc, metric limit :limit)
    union all
    (select true, metric, hour, sum, count, min, max
     from live_stats
     where subject_id = :subject_id and hour >= :since and hour < :until and (:metric::text is null or metric = :metric)
     order by hour desc, metric limit :limit)) as r on true;

-- name: top_by_sum(metric, since, until, limit)
select subject_id, sum(sum) as sum, sum(count)::bigint as count, min(min) as min, max(max) as max
from (
    select subject_id, sum, count, min, max from aggregated_stats
    where metric = :metric and hour >= :since and hour < :until and subject_id <> ''
    union all
    select subject_id, sum, count, min, max from live_stats
    where metric = :metric and hour >= :since and hour < :until and subject_id <> '') as s
group by subject_id order by 2 desc, subject_id limit :limit;

-- name: top_by_count(metric, since, until, limit)
select subject_id, sum(sum) as sum, sum(count)::bigint as count, min(min) as min, max(max) as max
from (
    select subject_id, sum, count, min, max from aggregated_stats
    where metric = :metric and hour >= :since and hour < :until and subject_id <> ''
    union all
    select subject_id, sum, count, min, max from live_stats
    where metric = :metric and hour >= :since and hour < :until and subject_id <> '') as s
group by subject_id order by 3 desc, subject_id limit :limit;
