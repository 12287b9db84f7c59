alter table aggregated_stats
    drop constraint aggregated_stats_pkey,
    add column min double precision not null default '-infinity',
    add column max double precision not null default 'infinity';
alter table aggregated_stats add primary key (metric, hour, subject_id);
create index aggregated_stats_subject_idx on aggregated_stats (subject_id, hour desc, metric);

-- Until now '' was a subject like any other; from now on it is the total.
insert into aggregated_stats (metric, subject_id, hour, sum, count)
select metric, '', hour, sum(sum), sum(count) from aggregated_stats group by metric, hour
on conflict (metric, hour, subject_id) do update set sum = excluded.sum, count = excluded.count;

create table live_stats (
    metric     text             not null check (length(metric) between 1 and 100),
    subject_id text             not null check (length(subject_id) <= 200),
    hour       timestamptz      not null check (hour = date_trunc('hour', hour, 'UTC')),
    sum        double precision not null,
    count      bigint           not null check (count > 0),
    min        double precision not null,
    max        double precision not null,
    primary key (hour, metric, subject_id)
);
create index live_stats_subject_idx on live_stats (subject_id, hour desc, metric);

create table stat_metrics (
    metric     text        primary key check (length(metric) between 1 and 100),
    source     text        not null check (length(source) <= 400),
    created_at timestamptz not null default now()
);
create index stat_metrics_created_idx on stat_metrics (created_at);
insert into stat_metrics (metric, source) select distinct metric, '' from aggregated_stats;

create table stat_generation (
    only_row   boolean primary key default true check (only_row),
    generation bigint  not null default 0
);
insert into stat_generation default values;
