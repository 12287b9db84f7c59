"""Add users' jobs: imports whose progress, faults and end their user can read."""

from callboard.ops.migrations.sql import execute

revision = "0151"
down_revision = "0150"

TABLES = """
create table user_jobs (
    job_id      uuid        primary key,
    kind        text        not null,
    user_id     uuid        not null references users on delete cascade,
    state       text        not null default 'waiting' constraint user_jobs_state_check
                            check (state in ('waiting', 'running', 'done', 'failed', 'cancelled')),
    done        bigint      not null default 0,
    total       bigint,
    counts      jsonb       not null default '{}',
    faults      jsonb       not null default '[]',
    error       text        not null default '' check (length(error) <= 500),
    queue_id    bigint,
    version     bigint      not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    finished_at timestamptz
);
create index user_jobs_user_idx on user_jobs (user_id);
create index user_jobs_updated_idx on user_jobs (updated_at);
create trigger user_jobs_touch before update on user_jobs for each row execute function touch_updated_at();

create table user_job_inputs (
    job_id  uuid  primary key references user_jobs on delete cascade,
    form    text  not null check (form in ('jsonl', 'csv')),
    content bytea not null
);
"""


def upgrade() -> None:
    """Make the tables."""
    execute(TABLES)


def downgrade() -> None:
    """Drop them; imports in progress end."""
    execute("delete from jobs where kind in ('import_users', 'import_content')")
    execute("drop table user_job_inputs, user_jobs")
