-- Jobs ------------------------------------------------------------------------------------------------------------

-- What is done later. A job is waiting, blocked behind its order key, or running under a lease; one that has ended is
-- gone from here. Every write of its holder names the lease.
create sequence job_leases;

create table jobs (
    job_id              bigint      generated always as identity primary key,
    kind                text        not null,
    version             smallint    not null default 1,    -- of the payload: an older process leaves a newer one
    priority            smallint    not null constraint jobs_priority_check check (priority between 0 and 2),
    state               text        not null default 'waiting' constraint jobs_state_check
                                    check (state in ('waiting', 'blocked', 'running')),
    run_at              timestamptz not null default clock_timestamp(),
    deadline            timestamptz,
    attempts            smallint    not null default 0,    -- counted by the claim
    lost                smallint    not null default 0,    -- leases lost since it last ended an attempt by itself
    postponed           integer     not null default 0,
    max_attempts        smallint    not null,
    lease_id            bigint,
    worker              text,
    lease_until         timestamptz,
    unique_key          text,
    unique_active       boolean     not null default false,
    order_key           text,
    cancel_requested_at timestamptz,
    progress            jsonb,
    last_error          text        constraint jobs_last_error_check check (length(last_error) <= 500),
    payload             jsonb       not null constraint jobs_payload_check check (octet_length(payload::text) <= 16384),
    traceparent         text,
    created_at          timestamptz not null default clock_timestamp(),
    constraint jobs_lease_check check ((state = 'running') = (lease_id is not null)),
    constraint jobs_lease_until_check check ((lease_id is null) = (lease_until is null))
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
create index jobs_due_idx on jobs (kind, priority, run_at, job_id) where state = 'waiting' and lost = 0;
create index jobs_suspect_idx on jobs (run_at, job_id) where state = 'waiting' and lost > 0;
create index jobs_leased_idx on jobs (lease_until) where state = 'running';
create unique index jobs_unique_key on jobs (kind, unique_key)
    where unique_key is not null and (state <> 'running' or unique_active);
create unique index jobs_order_head_key on jobs (kind, order_key) where order_key is not null and state <> 'blocked';
create index jobs_blocked_idx on jobs (kind, order_key, job_id) where state = 'blocked';

-- How a job ended, kept as long as its kind says.
create table finished_jobs (
    job_id      bigint      primary key,
    kind        text        not null,
    outcome     text        not null constraint finished_jobs_outcome_check
                            check (outcome in ('done', 'dead', 'cancelled', 'expired', 'superseded')),
    attempts    smallint    not null,
    created_at  timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    keep_until  timestamptz not null
);
create index finished_jobs_keep_idx on finished_jobs (keep_until);

-- Jobs that failed for good, until somebody replays or discards them, or 30 days have passed.
create table dead_jobs (
    job_id       bigint      primary key,
    kind         text        not null,
    version      smallint    not null,
    priority     smallint    not null,
    attempts     smallint    not null,
    postponed    integer     not null,
    max_attempts smallint    not null,
    unique_key   text,
    unique_active boolean    not null,
    order_key    text,
    halts        boolean     not null default false,    -- holds the rest of its order key back
    payload      jsonb       not null,
    progress     jsonb,
    reason       text        not null check (length(reason) <= 100),   -- without what differs from job to job
    error        text        not null check (length(error) <= 500),
    traceparent  text,
    deadline     timestamptz,
    created_at   timestamptz not null,
    died_at      timestamptz not null default clock_timestamp(),
    replayed_as  bigint,
    discarded_at timestamptz
);
create index dead_jobs_died_idx on dead_jobs (died_at desc, job_id desc);
create index dead_jobs_kind_idx on dead_jobs (kind, died_at desc, job_id desc);
create index dead_jobs_halting_idx on dead_jobs (kind, order_key)
    where halts and replayed_as is null and discarded_at is null;

-- What operators have set for a kind; a kind without a row runs as its declaration says.
create table job_kinds (
    kind        text        primary key,
    paused      boolean     not null default false,
    max_running integer     constraint job_kinds_max_running_check check (max_running >= 0),  -- 0: no limit
    version     bigint      not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
create trigger job_kinds_touch before update on job_kinds for each row execute function touch_updated_at();

-- Who moves last_due by compare-and-set enqueues the job that is due then.
create table schedules (
    name       text        primary key,
    kind       text        not null,
    payload    jsonb       not null default '{}',
    cron       text        not null,
    zone       text        not null default 'UTC',
    enabled    boolean     not null default true,
    missed     text        not null default 'once' constraint schedules_missed_check check (missed in ('once', 'skip')),
    last_due   timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create trigger schedules_touch before update on schedules for each row execute function touch_updated_at();
