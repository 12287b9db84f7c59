-- name: add_up(metrics, subject_ids, hours, sums, counts)!
-- One row for each metric, subject and hour, however many events the batch has. The rows are sorted, so that two
-- simultaneous batches lock them in one order.
insert into aggregated_stats (metric, subject_id, hour, sum, count)
select * from unnest(:metrics::text[], :subject_ids::text[], :hours::timestamptz[], :sums::float8[], :counts::bigint[])
on conflict (metric, subject_id, hour) do update
set sum = aggregated_stats.sum + excluded.sum, count = aggregated_stats.count + excluded.count;

-- name: stats(since, until, metric, subject_id, limit)
select metric, hour, sum(sum) as sum, sum(count)::bigint as count
from aggregated_stats
where hour >= :since and hour < :until
  and (:metric::text is null or metric = :metric)
  and (:subject_id::text is null or subject_id = :subject_id)
group by metric, hour
order by hour desc, metric
limit :limit;
