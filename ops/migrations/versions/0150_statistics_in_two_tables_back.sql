insert into aggregated_stats (metric, subject_id, hour, sum, count)
select metric, subject_id, hour, sum, count from live_stats
on conflict (metric, hour, subject_id) do update
set sum = aggregated_stats.sum + excluded.sum, count = aggregated_stats.count + excluded.count;
drop table live_stats, stat_metrics, stat_generation;

-- Events of no subject are the difference between the total and the subjects.
create temporary table parts on commit drop as
select metric, hour, sum(sum) as sum, sum(count) as count from aggregated_stats where subject_id <> '' group by metric, hour;
delete from aggregated_stats a using parts p
where a.subject_id = '' and (a.metric, a.hour) = (p.metric, p.hour) and a.count <= p.count;
update aggregated_stats a set sum = a.sum - p.sum, count = a.count - p.count from parts p
where a.subject_id = '' and (a.metric, a.hour) = (p.metric, p.hour);
drop table parts;

drop index aggregated_stats_subject_idx;
alter table aggregated_stats drop constraint aggregated_stats_pkey, drop column min, drop column max;
alter table aggregated_stats add primary key (metric, subject_id, hour);
